"""B-CNN: outer products of a VGG's last convolution with itself, pooled over a pyramid or by IRNNs.

Wu et al., arXiv:1707.07074, section 4.3 (4) and (5), after Lin, RoyChowdhury and Maji, "Bilinear CNN Models
for Fine-grained Visual Recognition", ICCV 2015.
Shapes: B images, C channels and h x w positions of the map, D channels of a sketch.

Open in the paper, and settled without an option: both streams are one network, as FC-CNN leaves it; the loss
is eq. 5 over all pairs of a batch, of the cosine of two descriptions, as in the paper's own model.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from methods import METHODS
from methods.base import EmbeddingMethod, Options, Unstated
from methods.bilinear import SEEDS, TensorSketch
from methods.irnn import Recurrence, StackedIRNN
from methods.losses import binomial_deviance
from methods.precision import at_least_float32, without_autocast
from methods.spatial_pyramid import pyramid_bins
from methods.vgg import build_vgg, start_streams

EPSILON = 1e-5
"""Keeps the gradient of a square root finite at 0; of values that are far larger it changes nothing."""


class BCNNOptions(Options):
    """Settings of B-CNN. ``signed_sqrt``, ``dimension`` and ``recurrence`` are open, see ``BCNN.UNSTATED``.

    Those of the pooling that is not taken keep their defaults.

    Attributes:
        pooling: sums over a pyramid of 2 x 2 and 1 x 1 bins, or two IRNN layers.
        signed_sqrt: whether sums of the pyramid are replaced by their signed square roots.
        dimension: D of the IRNNs' input, and of their output.
        hidden: hidden units of the IRNNs.
        recurrence: of the IRNNs, see ``methods.irnn``.
        dropout: on the IRNNs' hidden states.
        alpha: of eq. 5.
        beta: of eq. 5.
    """

    pooling: Literal["spp", "irnn"] = "spp"
    signed_sqrt: bool = True
    dimension: int = Field(512, ge=1)
    hidden: int = Field(512, ge=1)
    recurrence: Recurrence = "dense"
    dropout: float = Field(0.5, ge=0, lt=1)
    alpha: float = Field(2.0, gt=0)
    beta: float = 0.5

    @model_validator(mode="after")
    def _fit_together(self) -> "BCNNOptions":
        if self.pooling == "spp":
            of_irnns = ("dimension", "hidden", "recurrence", "dropout")
            self._refuse("recurrent layers", "pooling is 'spp'", of_irnns)
        else:
            self._refuse("a pyramid", "pooling is 'irnn'", ("signed_sqrt",))
        return self


@METHODS.register("b-cnn", version=1)
class BCNN(EmbeddingMethod):
    """The convolutions, and the pooling of their outer products.

    With the pyramid and 512 channels, a description has 5 x 512 x 513 / 2 = 656,640 columns: outer products
    are symmetric, so one triangle is kept, and what stands for two entries is multiplied by the root of 2,
    which gives the inner products of all 5 x 512^2 = 1.31 M. The 19,732 + 3,368 images of Market-1501's test
    are 61 GB of float32; a training step takes 30 MB an image beyond the convolutions (128 images: 3.9 GB).
    With the IRNNs a description has D h w columns, 100,352 for maps of 14 x 14 (9 GB).

    Attributes:
        backbone: the convolutions.
        sketch: D channels for the C^2 of each outer product, with the IRNNs only.
        irnn: the two layers, with the IRNNs only.
    """

    Options = BCNNOptions
    UNSTATED = (
        Unstated(
            "signed_sqrt",
            (False,),
            "section 4.3 names no normalisation; Lin et al. have it, before they scale to length 1",
            when={"pooling": "spp"},
        ),
        Unstated(
            "dimension",
            (2048,),
            "C^2 = 262,144 channels are too many for IRNNs, a tensor sketch makes as few as there were",
            when={"pooling": "irnn"},
        ),
        Unstated(
            "recurrence",
            ("diagonal",),
            "eq. 4 has a matrix W_hh; public implementations have a weight a channel",
            when={"pooling": "irnn"},
        ),
    )
    options: BCNNOptions

    def __init__(
        self,
        options: BCNNOptions,
        num_pids: int,  # noqa: ARG002 - nothing classifies
        backbone: str,
        weights: str,
        network: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.options = options
        self.backbone = build_vgg(backbone, weights, **(network or {}))
        if options.pooling == "irnn":
            channels = self.backbone.channels
            self.sketch = TensorSketch((channels, channels), options.dimension, SEEDS)
            self.irnn = StackedIRNN(options.dimension, options.hidden, options.dropout, options.recurrence)

    def start_from(self, trained: Sequence[Mapping[str, Tensor]]) -> None:
        """Take the convolutions of one FC-CNN."""
        start_streams([self.backbone], trained)

    def embed(self, images: Tensor) -> Tensor:
        """The description: at length 1, float32 or better, (B, columns)."""
        maps: Tensor = self.backbone(images)
        if self.options.pooling == "irnn":
            x = self.irnn(self.sketch(maps, maps)).flatten(1)
        else:
            x = pyramid_of_outer_products(maps, self.options.signed_sqrt)
        return F.normalize(at_least_float32(x))

    def losses(self, images: Tensor, pids: Tensor) -> dict[str, Tensor]:
        """Binomial deviance (eq. 5) over all pairs of different images."""
        x = self.embed(images)
        i, j = torch.triu_indices(len(x), len(x), offset=1, device=x.device)
        with without_autocast(x.device):
            s = (x @ x.mT)[i, j]
        deviance = binomial_deviance(s, pids[i] == pids[j], self.options.alpha, self.options.beta)
        return {"deviance": deviance}

    def describe(self, images: Tensor) -> Tensor:
        """The description, float32, (B, columns); its squared distances rank as cosines do."""
        return self.embed(images).float()

    @torch.no_grad()
    def feature_maps(self, images: Tensor) -> Tensor:
        """The last convolution's map, (B, C, h, w); call it in evaluation mode."""
        maps: Tensor = self.backbone(images)
        return maps


def pyramid_of_outer_products(maps: Tensor, signed_sqrt: bool) -> Tensor:
    """Sums of x x^T over the positions of 2 x 2 and 1 x 1 bins, one triangle of each, not yet of length 1.

    Args:
        maps: (B, C, h, w), from a ReLU, so that no outer product is negative.
        signed_sqrt: whether entries are replaced by their square roots.

    Returns:
        (B, 5 C (C + 1) / 2), float32 or better; entries off the diagonal are times the root of 2.
    """
    channels = maps.shape[1]
    i, j = torch.triu_indices(channels, channels, device=maps.device)
    with without_autocast(maps.device):
        maps = at_least_float32(maps)
        parts = [maps[..., rows, columns].flatten(2) for rows, columns in pyramid_bins(*maps.shape[2:])]
        sums = torch.stack([(x @ x.mT).flatten(1)[:, i * channels + j] for x in parts], 1)
    if signed_sqrt:
        sums = sums / (sums + EPSILON).sqrt()
    return (sums * torch.where(i == j, 1.0, 2**0.5)).flatten(1)
