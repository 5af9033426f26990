"""Pyramidal: features of every run of neighbouring stripes, from single stripes to the whole body.

Zheng, Deng, Sun, Jiang, Guo, Yu, Huang and Ji, "Pyramidal Person Re-IDentification via Multi-Loss Dynamic
Training", CVPR 2019, arXiv:1810.12193. Network, losses and test follow the authors' code,
TencentYoutuResearch/PersonReID-Pyramid, which names a longer backbone (ResNet-101) than the paper.
Shapes: B images, C channels, h x w positions of the last map, n stripes, n (n + 1) / 2 branches.
"""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from methods import METHODS
from methods.backbones import build_backbone
from methods.base import EmbeddingMethod, Options, Unstated
from methods.losses import batch_hard_triplet
from methods.sona import reduction
from retable.errors import SpecError


class PyramidalOptions(Options):
    """Settings of the network. Those from ``dropout`` on are the values of the authors' code.

    Attributes:
        stripes: n, equal horizontal stripes of the last map.
        dim: width of each branch's feature.
        dropout: chance that a feature's value is 0 in front of the classifiers.
        margin: of the triplet loss.
        memory: alpha, weight of a new batch in the running losses.
        focus: gamma of the focal measure.
        threshold: sigma; below it, as a share of the identity loss' measure, triplets are left out.
    """

    stripes: int = Field(6, ge=1)
    dim: int = Field(128, ge=1)
    dropout: float = Field(0.2, ge=0, lt=1)
    margin: float = Field(1.4, ge=0)
    memory: float = Field(0.25, gt=0, le=1)
    focus: float = Field(2.0, ge=0)
    threshold: float = Field(0.16, ge=0)


class DynamicTraining(nn.Module):
    """Whether a batch is trained by both losses or by the identity loss alone.

    Each loss l has a running mean k <- alpha l + (1 - alpha) k and, where it falls, a ratio
    p = min(k_t, k_(t-1)) / k_(t-1); -(1 - p)^gamma ln p is large for the loss that is learned fast. Triplets
    are left out while theirs is below sigma times that of the identity loss.

    Attributes:
        running: k of identity and triplet loss, (2,); 0 before the first batch.
    """

    running: Tensor

    def __init__(self, options: PyramidalOptions) -> None:
        super().__init__()
        self.options = options
        self.register_buffer("running", torch.zeros(2))

    @torch.no_grad()
    def forward(self, identity: Tensor, triplet: Tensor) -> Tensor:
        """1 for both losses, 0 for the identity loss alone, from two scalars; moves the running means."""
        alpha, gamma, sigma = self.options.memory, self.options.focus, self.options.threshold
        before = self.running.clone()
        self.running.lerp_(torch.stack([identity, triplet]).to(before.dtype), alpha)
        p = torch.where(before > 0, torch.minimum(self.running, before) / before, 0.5)
        measure = -((1 - p) ** gamma) * p.log()
        return (measure[1] >= sigma * measure[0]).to(identity.dtype)


@METHODS.register("pyramidal", version=1)
class Pyramidal(EmbeddingMethod):
    """A trunk without its last stride, and a small branch for each run of neighbouring stripes."""

    Options = PyramidalOptions
    UNSTATED = (
        Unstated("dropout", (0.0,), "0.2 in the authors' code"),
        Unstated("margin", (0.3,), "1.4 in the authors' code; 0.3 is usual for this loss"),
    )
    options: PyramidalOptions

    def __init__(
        self,
        options: PyramidalOptions,
        num_pids: int,
        backbone: str,
        weights: str,
        network: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.options = options
        self.backbone = build_backbone(backbone, weights, output_stride=16, dilated=False, **(network or {}))
        channels = self.backbone.channels["layer4"]
        branches = options.stripes * (options.stripes + 1) // 2
        self.reductions = nn.ModuleList(reduction(channels, options.dim) for _ in range(branches))
        self.dropout = nn.Dropout(options.dropout)
        classifiers = [nn.Linear(options.dim, num_pids) for _ in range(branches)]
        for classifier in classifiers:
            nn.init.normal_(classifier.weight, std=0.001)
            nn.init.zeros_(classifier.bias)
        self.classifiers = nn.ModuleList(classifiers)
        self.dynamic = DynamicTraining(options)

    def pooled(self, images: Tensor) -> list[Tensor]:
        """Mean plus maximum over each run of stripes, (B, C, 1, 1) each: short runs first, from the top down.

        Raises ``SpecError`` when the map has no ``stripes`` equal stripes.
        """
        x = self.backbone(images)  # (B, C, h, w)
        height, stripes = x.shape[2], self.options.stripes
        if height % stripes:
            raise SpecError(
                f"a feature map of {height} rows has no {stripes} equal stripes; "
                "set stripes, or the image's height"
            )
        stripe = height // stripes
        levels = []
        for length in range(1, stripes + 1):
            window, step = (length * stripe, x.shape[3]), (stripe, x.shape[3])
            levels.append(F.avg_pool2d(x, window, step) + F.max_pool2d(x, window, step))
        return [run[:, :, None] for run in torch.cat(levels, dim=2).unbind(2)]

    def features(self, images: Tensor) -> list[Tensor]:
        """A feature of each branch, (B, dim) each."""
        return [reduce(x) for reduce, x in zip(self.reductions, self.pooled(images), strict=True)]

    def losses(self, images: Tensor, pids: Tensor) -> dict[str, Tensor]:
        """Sums over the branches of cross entropy and batch-hard triplet loss; see ``DynamicTraining``."""
        features = self.features(images)
        pairs = zip(self.classifiers, features, strict=True)
        logits = [classify(self.dropout(feature)) for classify, feature in pairs]
        identity = torch.stack([F.cross_entropy(one.float(), pids) for one in logits]).sum()
        margin = self.options.margin
        triplet = torch.stack([batch_hard_triplet(one, pids, margin) for one in features]).sum()
        return {"identity": identity, "triplet": self.dynamic(identity, triplet) * triplet}

    def describe(self, images: Tensor) -> Tensor:
        """The features of all branches side by side, float32, (B, 3, H, W) -> (B, branches * dim)."""
        return torch.cat(self.features(images), dim=1).float()
