"""BDB: the network with a feature dropping branch.

Dai, Chen, Gu, Zhu and Tan, "Batch DropBlock Network for Person Re-identification and Beyond", ICCV 2019,
arXiv:1811.07130. Network, losses and test follow the authors' code, daizuozhuo/batch-dropblock-network.
Shapes: B images, C channels, h x w positions of the last map.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from methods import METHODS
from methods.backbones import bottleneck, build_backbone
from methods.base import EmbeddingMethod, Options, Unstated
from methods.losses import triplet_and_cross_entropy
from methods.sona import BatchFeatureErasing, Ratio, initialise, reduction


class BDBOptions(Options):
    """Settings of the network.

    Attributes:
        global_dim: width of the global feature.
        local_dim: width of the feature of the dropping branch.
        bfe_height: share of the map's rows that are dropped.
        bfe_width: share of the map's columns that are dropped.
        margin: of the triplet loss.
        label_smoothing: epsilon of the cross entropy.
    """

    global_dim: int = Field(512, ge=1)
    local_dim: int = Field(1024, ge=1)
    bfe_height: Ratio = 0.33
    bfe_width: Ratio = 1.0
    margin: Literal["soft"] | Annotated[float, Field(ge=0)] = "soft"
    label_smoothing: float = Field(0.1, ge=0, lt=1)


@METHODS.register("bdb", version=1)
class BDB(EmbeddingMethod):
    """A trunk without its last stride; a global branch, and one from which a rectangle is dropped."""

    Options = BDBOptions
    UNSTATED = (Unstated("bfe_height", (0.5,), "0.33 in the authors' code, 0.5 in its earlier versions"),)
    options: BDBOptions

    def __init__(
        self,
        options: BDBOptions,
        num_pids: int,
        backbone: str,
        weights: str,
        network: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.options = options
        self.backbone = build_backbone(backbone, weights, output_stride=16, dilated=False, **(network or {}))
        channels = self.backbone.channels["layer4"]
        self.bottleneck = bottleneck(channels)
        self.drop = BatchFeatureErasing(options.bfe_height, options.bfe_width)
        dims = {"global": options.global_dim, "local": options.local_dim}
        self.reductions = nn.ModuleDict({branch: reduction(channels, dim) for branch, dim in dims.items()})
        self.classifiers = nn.ModuleDict({branch: nn.Linear(dim, num_pids) for branch, dim in dims.items()})
        initialise(self.reductions["global"], "fan_in")
        initialise(self.reductions["local"], "fan_out")  # a linear layer in the authors' code
        initialise(self.classifiers, "fan_out")

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """What losses and descriptions are made of: "global" (B, global_dim), "local" (B, local_dim)."""
        x = self.backbone(images)  # (B, C, h, w)
        dropped = self.drop(self.bottleneck(x))
        return {
            "global": self.reductions["global"](x.mean((2, 3), keepdim=True)),
            "local": self.reductions["local"](dropped.amax((2, 3), keepdim=True)),
        }

    def losses(self, images: Tensor, pids: Tensor) -> dict[str, Tensor]:
        """Batch-hard triplet and label-smoothed cross entropy of each branch."""
        options = self.options
        return triplet_and_cross_entropy(
            self.features(images), self.classifiers, pids, options.margin, options.label_smoothing
        )

    def describe(self, images: Tensor) -> Tensor:
        """Global and local feature side by side, float32, (B, 3, H, W) -> (B, global_dim + local_dim)."""
        return torch.cat(list(self.features(images).values()), dim=1).float()
