"""FC-CNN: a VGG fine-tuned to tell the training identities apart.

Wu et al., arXiv:1707.07074, section 4.3 (1).
Shapes: B images, C channels and h x w positions of pool5's map.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from methods import METHODS
from methods.backbones import load_state
from methods.base import EmbeddingMethod, Options, Unstated
from methods.losses import smoothed_cross_entropy
from methods.vgg import build_vgg, read_vgg
from retable.errors import SpecError


class FCCNNOptions(Options):
    """Settings of FC-CNN. ``description`` is open, see ``FCCNN.UNSTATED``.

    Attributes:
        hidden: width of fc6 and fc7.
        map_size: rows and columns of pool5's map: 7 x 7 for images of 224, and 6 x 6 with VGG-M.
        dropout: share of fc6's and of fc7's output that is dropped in training.
        description: whether fc7's output is scaled to length 1, so that distances rank as cosines do.
    """

    hidden: int = Field(4096, ge=1)
    map_size: tuple[PositiveInt, PositiveInt] = (7, 7)
    dropout: float = Field(0.5, ge=0, lt=1)
    description: Literal["length 1", "as it comes"] = "length 1"


class FullyConnected(nn.Sequential):
    """fc6 and fc7 of a VGG, each with ReLU and dropout, (B, C, h, w) -> (B, hidden).

    Args:
        inputs: C h w.
        hidden: width of both.
        dropout: share that is dropped in training.
    """

    def __init__(self, inputs: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.add_module("flatten", nn.Flatten())
        for name, width in (("fc6", inputs), ("fc7", hidden)):
            linear = nn.Linear(width, hidden)
            nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
            nn.init.zeros_(linear.bias)
            self.add_module(name, linear)
            self.add_module(f"relu_{name}", nn.ReLU(inplace=True))
            self.add_module(f"dropout_{name}", nn.Dropout(dropout))


@METHODS.register("fc-cnn", version=1)
class FCCNN(EmbeddingMethod):
    """Convolutions, pool5, fc6, fc7, and a softmax layer of as many classes as there are identities.

    Attributes:
        backbone: the convolutions, from which other methods start.
    """

    Options = FCCNNOptions
    UNSTATED = (
        Unstated(
            "description",
            ("as it comes",),
            "the paper names the layer (section 4.3) but no distance; cosine is its own model's similarity",
        ),
    )
    options: FCCNNOptions

    def __init__(
        self,
        options: FCCNNOptions,
        num_pids: int,
        backbone: str,
        weights: str,
        network: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.options = options
        self.backbone = build_vgg(backbone, "none", **(network or {}))
        h, w = options.map_size
        self.fc = FullyConnected(self.backbone.channels * h * w, options.hidden, options.dropout)
        self.classifier = nn.Linear(options.hidden, num_pids)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)
        if weights != "none":
            convolutions, fc = read_vgg(backbone, weights)
            load_state(self.backbone, convolutions, f"{weights} ({backbone})")
            load_state(self.fc, fc, f"{weights} ({backbone})")

    def fc7(self, images: Tensor) -> Tensor:
        """What the softmax layer gets, (B, 3, H, W) -> (B, hidden).

        Raises ``SpecError`` when pool5's map is not of ``map_size``, which is fixed by the weights.
        """
        maps: Tensor = self.backbone.pool5(self.backbone(images))
        if maps.shape[2:] != self.options.map_size:
            image, found, expected = (
                "x".join(map(str, size)) for size in (images.shape[2:], maps.shape[2:], self.options.map_size)
            )
            raise SpecError(
                f"images of {image} make maps of {found} after pool5, but option map_size is {expected}; "
                "set map_size to it, or resize images"
            )
        x: Tensor = self.fc(maps)
        return x

    def losses(self, images: Tensor, pids: Tensor) -> dict[str, Tensor]:
        """Cross-entropy over the training identities."""
        return {"softmax": smoothed_cross_entropy(self.classifier(self.fc7(images)), pids, 0.0)}

    def describe(self, images: Tensor) -> Tensor:
        """fc7's output, float32, (B, hidden)."""
        x = self.fc7(images).float()
        return F.normalize(x) if self.options.description == "length 1" else x

    @torch.no_grad()
    def feature_maps(self, images: Tensor) -> Tensor:
        """The last convolution's map, (B, C, h, w); call it in evaluation mode."""
        x: Tensor = self.backbone(images)
        return x
