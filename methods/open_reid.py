"""The baselines of the open-reid library: ResNet-50 with softmax, OIM or triplet loss.

Code and benchmark page: Cysu/open-reid (examples/*_loss.py, reid/models/resnet.py, reid/loss,
docs/examples/benchmarks.rst). Papers quote its results instead of training such networks themselves.
Shapes: B images, C channels of the backbone.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from methods import METHODS
from methods.backbones import build_backbone
from methods.base import EmbeddingMethod, Options, Unstated
from methods.losses import batch_hard_triplet, smoothed_cross_entropy
from methods.oim import OnlineInstanceMatching


class OpenReIDOptions(Options):
    """Settings of the baselines. All but ``loss`` are the library's defaults, see ``OpenReID.UNSTATED``.

    Attributes:
        loss: what the network is trained with, which decides its last layers too.
        features: width of the embedding.
        hidden: width of the layer before the embedding, which only the triplet network has.
        dropout: share of the embedding that softmax and OIM drop in training.
        scalar: 1 / tau of OIM, what cosines are multiplied by.
        momentum: gamma of OIM, how much of an identity's feature stays when a new image of it is seen.
        margin: of the triplet loss.
        description: what the softmax network describes an image by: its scores for the training
            identities, before the softmax, or the embedding.
    """

    loss: Literal["softmax", "oim", "triplet"] = "softmax"
    features: int = Field(128, ge=1)
    hidden: int = Field(1024, ge=1)
    dropout: float = Field(0.5, ge=0, lt=1)
    scalar: float = Field(30.0, gt=0)
    momentum: float = Field(0.5, ge=0, lt=1)
    margin: Literal["soft"] | Annotated[float, Field(ge=0)] = 0.5
    description: Literal["logits", "embedding"] = "logits"


UNSTATED = (
    Unstated("features", (256,), "default of all three scripts (examples/*_loss.py)"),
    Unstated(
        "hidden",
        (2048,),
        "examples/triplet_loss.py, as the head of Hermans et al., arXiv:1703.07737",
        when={"loss": "triplet"},
    ),
    Unstated("dropout", (0.0,), "default of examples/softmax_loss.py", when={"loss": "softmax"}),
    Unstated(
        "dropout",
        (0.0,),
        "default of examples/oim_loss.py; it comes after the features are scaled to length 1",
        when={"loss": "oim"},
    ),
    Unstated(
        "scalar",
        (10.0, 20.0),
        "benchmark page: 30 for CUHK03 and DukeMTMC, which is the script's default, but 20 for Market-1501",
        when={"loss": "oim"},
    ),
    Unstated("momentum", (0.9,), "default of examples/oim_loss.py", when={"loss": "oim"}),
    Unstated(
        "margin",
        ("soft",),
        "default of examples/triplet_loss.py; Hermans et al. prefer the soft margin",
        when={"loss": "triplet"},
    ),
    Unstated(
        "description",
        ("embedding",),
        "the library's evaluator takes the network's output, classifier included (issues 31 and 62)",
        when={"loss": "softmax"},
    ),
)


def _embedding_layer(channels: int, width: int) -> nn.Sequential:
    """Fully connected, then batch normalised, (B, channels) -> (B, width)."""
    linear = nn.Linear(channels, width)
    nn.init.kaiming_normal_(linear.weight, mode="fan_out")
    nn.init.zeros_(linear.bias)
    return nn.Sequential(linear, nn.BatchNorm1d(width))


def _last_layer(width: int, outputs: int) -> nn.Linear:
    linear = nn.Linear(width, outputs)
    nn.init.normal_(linear.weight, std=0.001)
    nn.init.zeros_(linear.bias)
    return linear


@METHODS.register("open-reid", version=1)
class OpenReID(EmbeddingMethod):
    """A backbone of output stride 32, the mean over positions, and the layers that the loss asks for.

    softmax: embedding, ReLU, dropout, classifier. OIM: embedding, scaled to length 1, dropout, table.
    triplet: hidden layer, ReLU, embedding as it comes.
    """

    Options = OpenReIDOptions
    UNSTATED = UNSTATED
    options: OpenReIDOptions

    def __init__(
        self,
        options: OpenReIDOptions,
        num_pids: int,
        backbone: str,
        weights: str,
        network: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.options = options
        self.backbone = build_backbone(backbone, weights, **(network or {}))
        *_, channels = self.backbone.channels.values()
        width = options.hidden if options.loss == "triplet" else options.features
        self.embedding = _embedding_layer(channels, width)
        self.head: nn.Module
        match options.loss:
            case "softmax":
                self.head = nn.Sequential(nn.Dropout(options.dropout), _last_layer(width, num_pids))
            case "oim":
                self.head = nn.Dropout(options.dropout)
                self.matching = OnlineInstanceMatching(num_pids, width, options.scalar, options.momentum)
            case "triplet":
                self.head = _last_layer(width, options.features)

    def embed(self, images: Tensor) -> Tensor:
        """What the last layer gets, (B, 3, H, W) -> (B, features), with the triplet loss (B, hidden)."""
        x: Tensor = self.embedding(self.backbone(images).mean((2, 3)))
        return F.normalize(x.float()) if self.options.loss == "oim" else F.relu(x)

    @torch.no_grad()
    def feature_maps(self, images: Tensor) -> Tensor:
        """The backbone's last map, (B, C, h, w); call it in evaluation mode."""
        x: Tensor = self.backbone(images)
        return x

    def losses(self, images: Tensor, pids: Tensor) -> dict[str, Tensor]:
        """The one loss, under its own name; in training OIM's table then moves too."""
        output = self.head(self.embed(images))
        match self.options.loss:
            case "softmax":
                loss = smoothed_cross_entropy(output, pids, 0.0)
            case "oim":
                loss = self.matching(output, pids)
            case "triplet":
                loss = batch_hard_triplet(output, pids, self.options.margin)
        return {self.options.loss: loss}

    def describe(self, images: Tensor) -> Tensor:
        """The network's output, float32: (B, num_pids) scores with softmax, else (B, features).

        The softmax network gives its embedding, (B, features), with ``description="embedding"``.
        """
        x = self.embed(images)
        if self.options.loss == "softmax" and self.options.description == "embedding":
            return x.float()
        output: Tensor = self.head(x)
        return output.float()
