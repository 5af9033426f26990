"""MI-IRNN: two streams of features multiplied, and swept by recurrent layers in four directions.

Wu, Wang, Li and Gao, "Deep Spatially Multiplicative Integration Networks for Person Re-identification",
arXiv:1707.07074. There is no published code.
Shapes: B images, P pairs, Q queries, G gallery images; D channels of conv5 on h x w positions, d of the joint
embedding; N positions that the head compares: h w, or the 5 bins of the pyramid.

Cost at 14 x 14 positions and D = d = 512: 18 products with a 512 x 512 matrix a position and ordered pair
(P^T 1, the two IRNN layers 1 + 4 and 4 + 4, the last convolution 4), 0.90 G multiply-adds, so 1.8 G for a
pair in both orders and 1.8e14 for the 99,856 pairs of VIPeR. What an image alone decides, U^T g and V^T g,
is computed once an image of a tile.

Open in the paper, and settled without an option besides those in ``UNSTATED``: layers start as PyTorch draws
them; F_AB is not F_BA, so both orders are scored at test and their S averaged; where both streams are one
network and the integration is the plain product, both orders are the same. A map of another size than
``map_size`` is resized to it bilinearly, as VGG-M's 13 x 13 has to be beside VGG-D's 14 x 14. For ranking,
conv5 is stored in bfloat16, as every pair method stores its maps; where S is near 1, that moves distances by
some percent. See ``methods.irnn`` for what is open of the recurrent layers.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from methods import METHODS
from methods.base import Options, PairMethod, Unstated, tile_sides
from methods.irnn import DIRECTIONS, Recurrence, StackedIRNN
from methods.losses import binomial_deviance
from methods.precision import at_least_float32, without_autocast
from methods.spatial_pyramid import pyramid_bins, spatial_pyramid
from methods.vgg import build_vgg, start_streams


class MIIRNNOptions(Options):
    """Settings of MI-IRNN; see ``UNSTATED`` for those that the paper leaves open.

    Numbers of channels, ``dropout`` and ``map_size`` are free in every network: recipes give them to all.

    Attributes:
        integration: what makes F of two maps: the "gate" of eq. 1 and 2, or their plain product ("hadamard").
        pooling: what makes F~ of F: two IRNN layers, or max pooling in the 2x2 + 1x1 bins of a pyramid.
        second_backbone: the second stream's network where it is not the first's; it starts at random, as
            ``weights`` are the first's, and gets its own by ``start_from``.
        shared: whether both streams are one network.
        joint: d.
        hidden: hidden units of each IRNN.
        recurrence: whether W_hh of eq. 4 are full matrices or diagonal.
        activation: sigma of eq. 2, or "none", which is eq. 1.
        biases: whether b_A and b_B are there.
        dropout: on the recurrent layers.
        head: what goes into the fully connected layer: the Euclidean distance of g and F~ at each position,
            or their absolute difference at each position and channel.
        output: length of x_A and x_B.
        alpha: of eq. 5.
        beta: of eq. 5.
        map_size: height and width of conv5, of which the fully connected layer has to know.
    """

    integration: Literal["gate", "hadamard"] = "gate"
    pooling: Literal["irnn", "spp"] = "irnn"
    second_backbone: str = ""
    shared: bool = True
    joint: int = Field(512, ge=1)
    hidden: int = Field(512, ge=1)
    recurrence: Recurrence = "dense"
    activation: Literal["sigmoid", "none"] = "sigmoid"
    biases: bool = True
    dropout: float = Field(0.5, ge=0, lt=1)
    head: Literal["per position", "flattened"] = "per position"
    output: int = Field(128, ge=1)
    alpha: float = Field(2.0, gt=0)
    beta: float = 0.5
    map_size: tuple[PositiveInt, PositiveInt] = (14, 14)

    @model_validator(mode="after")
    def _fit_together(self) -> "MIIRNNOptions":
        if self.shared and self.second_backbone:
            raise ValueError(
                f"second_backbone {self.second_backbone!r} is a network of its own, but shared is true; set "
                "shared to false, or leave second_backbone out"
            )
        if self.integration == "hadamard":
            self._refuse("a gate", "integration is 'hadamard'", ("activation", "biases"))
        if self.pooling == "spp":
            self._refuse("recurrent layers", "pooling is 'spp'", ("recurrence",))
        return self


UNSTATED = (
    Unstated(
        "joint",
        (256,),
        "'a hyper-parameter'; as wide as conv5, so that neither U nor V loses anything",
        when={"integration": "gate"},
    ),
    Unstated(
        "biases",
        (False,),
        "eq. 1 has b_A and b_B, eq. 2 omits them 'for brevity', and the text goes on to count them",
        when={"integration": "gate"},
    ),
    Unstated(
        "recurrence",
        ("diagonal",),
        "eq. 4 has a matrix for each direction; public code of such layers has one weight a channel",
        when={"pooling": "irnn"},
    ),
    Unstated(
        "head",
        ("flattened",),
        "section 3.4 has 'the Euclidean distance between g and F~', then a fully connected layer: one "
        "distance would leave nothing for a cosine; one a position keeps both words. Section 3.2 flattens "
        "features before the loss, which speaks for the alternative",
    ),
    Unstated("output", (256,), "the size of the last layer is not given"),
)


class Gate(nn.Module):
    """F = P^T (sigma(U^T g_A + b_A) * sigma(V^T g_B + b_B)) + b at each position (eq. 2, 1 without sigma).

    Parameters: 3 D d + D, and 2 d of b_A and b_B; 787,968 for D = d = 512.
    """

    def __init__(self, channels: int, options: MIIRNNOptions) -> None:
        super().__init__()
        self.u = nn.Linear(channels, options.joint, bias=options.biases)
        self.v = nn.Linear(channels, options.joint, bias=options.biases)
        self.p = nn.Linear(options.joint, channels)
        self.activation = nn.Sigmoid() if options.activation == "sigmoid" else nn.Identity()

    def first(self, g: Tensor) -> Tensor:
        """What of eq. 2 is of g_A alone, (B, h, w, D) -> (B, h, w, d)."""
        embedded: Tensor = self.activation(self.u(g))
        return embedded

    def second(self, g: Tensor) -> Tensor:
        """What of eq. 2 is of g_B alone."""
        embedded: Tensor = self.activation(self.v(g))
        return embedded

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """F of what ``first`` and ``second`` made, (P, h, w, d) -> (P, h, w, D)."""
        f: Tensor = self.p(a * b)
        return f


class Hadamard(nn.Module):
    """F = g_A * g_B, without U, V and P ("MI + SPP", section 4.3)."""

    def first(self, g: Tensor) -> Tensor:
        """The map as it is."""
        return g

    def second(self, g: Tensor) -> Tensor:
        """The map as it is."""
        return g

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(P, h, w, D)."""
        return a * b


class Stream(NamedTuple):
    """What a pair needs of each image in one of both places.

    Attributes:
        embedded: the image's part of the product, (B, h, w, d).
        positions: g at the positions that the head compares, (B, N, D).
    """

    embedded: Tensor
    positions: Tensor

    def of(self, images: Tensor | slice) -> "Stream":
        """The same of some of the images."""
        return Stream(self.embedded[images], self.positions[images])


@METHODS.register("mi-irnn", version=1)
class MIIRNN(PairMethod):
    """Two streams, their integration, spatial pooling, the head and its loss.

    Attributes:
        backbone: the first stream.
        second: the second stream, where it is a network of its own.
    """

    Options = MIIRNNOptions
    UNSTATED = UNSTATED
    options: MIIRNNOptions

    def __init__(
        self,
        options: MIIRNNOptions,
        num_pids: int,  # noqa: ARG002 - pairs know no identities
        backbone: str,
        weights: str,
        network: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.options = options
        self.backbone = build_vgg(backbone, weights, **(network or {}))
        channels = self.backbone.channels
        self.second: nn.Module | None = None
        if not options.shared:
            own = options.second_backbone
            self.second = build_vgg(own or backbone, "none" if own else weights, **(network or {}))
        self.integration = Gate(channels, options) if options.integration == "gate" else Hadamard()
        self.pooling: StackedIRNN | None = None
        if options.pooling == "irnn":
            self.pooling = StackedIRNN(channels, options.hidden, options.dropout, options.recurrence)
        positions = math.prod(options.map_size) if self.pooling else len(pyramid_bins(*options.map_size))
        inputs = positions * (channels if options.head == "flattened" else 1)
        self.fc = nn.Linear(inputs, options.output)

    def start_from(self, trained: Sequence[Mapping[str, Tensor]]) -> None:
        """Both streams take over the convolutions of trained FC-CNNs: one for both, or one for each.

        Raises:
            SpecError: there are more networks than streams, or only one for two that differ.
            WeightsError: a network's convolutions are not the stream's.
        """
        streams = [self.backbone, *([self.second] if self.second else [])]
        if len(trained) == 1 and not self.options.second_backbone:
            trained = [*trained] * len(streams)
        start_streams(streams, trained)

    def conv5(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """g_A and g_B of images in the first and in the second place, (B, h, w, D) at ``map_size``."""
        first = self._resized(self.backbone(images))
        return first, first if self.second is None else self._resized(self.second(images))

    def losses(self, images: Tensor, pids: Tensor, pairs: Tensor) -> dict[str, Tensor]:
        """Eq. 5 over the pairs, each in the order given."""
        g_a, g_b = self.conv5(images)
        x_a, x_b = self._outputs(self._first(g_a).of(pairs[:, 0]), self._second(g_b).of(pairs[:, 1]))
        similarity = F.cosine_similarity(x_a, x_b)
        same = pids[pairs[:, 0]] == pids[pairs[:, 1]]
        return {"deviance": binomial_deviance(similarity, same, self.options.alpha, self.options.beta)}

    def describe(self, images: Tensor) -> dict[str, Tensor]:
        """The first stream's mean over positions, of length 1, (B, D) as "pooled", and conv5 (B, h, w, D).

        "conv5" is the first stream's; a second stream's is "conv5_second".
        """
        first, second = self.conv5(images)
        described = {
            "pooled": F.normalize(first.mean((1, 2), dtype=torch.float32)),
            "conv5": first.bfloat16(),
        }
        return described if self.second is None else described | {"conv5_second": second.bfloat16()}

    def distance(self, queries: Mapping[str, Tensor], gallery: Mapping[str, Tensor]) -> Tensor:
        """1 - S of all pairs, S the mean of both orders, 0 to 2, (Q, G)."""
        total_q, total_g = len(queries["pooled"]), len(gallery["pooled"])
        per_query, per_image = tile_sides(self._pairs_of_a_tile(), total_q)
        out = gallery["pooled"].new_empty(total_q, total_g)
        for i in range(0, total_q, per_query):
            some = self._kept(queries, slice(i, i + per_query))
            for j in range(0, total_g, per_image):
                others = self._kept(gallery, slice(j, j + per_image))
                tile = out[i : i + per_query, j : j + per_image]
                pair = torch.arange(tile.numel(), device=out.device)
                asking, asked = pair // tile.shape[1], pair % tile.shape[1]
                tile[:] = self._both_orders(some, others, asking, asked).view_as(tile)
        return out

    def pair_distance(self, queries: Mapping[str, Tensor], gallery: Mapping[str, Tensor]) -> Tensor:
        """The same of pair after pair, (P,)."""
        out = gallery["pooled"].new_empty(len(gallery["pooled"]))
        size = self._pairs_of_a_tile()
        for i in range(0, len(out), size):
            pairs = slice(i, i + size)
            some, others = self._kept(queries, pairs), self._kept(gallery, pairs)
            out[pairs] = self._both_orders(some, others, slice(None), slice(None))
        return out

    @torch.no_grad()
    def feature_maps(self, images: Tensor) -> Tensor:
        """Conv5 of the first stream, (B, D, h, w); call it in evaluation mode."""
        return self.conv5(images)[0].permute(0, 3, 1, 2)

    @torch.no_grad()
    def gate_maps(self, queries: Tensor, gallery: Tensor) -> dict[str, Tensor]:
        """How strong F and F~ are at each position of pairs of images (Figure 9a and 9b), (B, h, w).

        Strength is the length of the vector at a position. "recurrent" is there only with recurrent layers.
        Call it in evaluation mode.
        """
        a, b = self._first(self.conv5(queries)[0]), self._second(self.conv5(gallery)[1])
        f = self.integration(a.embedded, b.embedded)
        found = {"gate": f.float().norm(dim=3)}
        if self.pooling:
            found["recurrent"] = self._pooled(f).float().norm(dim=2).view(f.shape[:3])
        return found

    def _resized(self, maps: Tensor) -> Tensor:
        """(B, D, h, w) of any size to (B, h, w, D) at ``map_size``."""
        if tuple(maps.shape[2:]) != self.options.map_size:
            maps = F.interpolate(maps, self.options.map_size, mode="bilinear", align_corners=False)
        return maps.permute(0, 2, 3, 1).contiguous()

    def _first(self, g: Tensor) -> Stream:
        return Stream(self.integration.first(g), self._positions(g))

    def _second(self, g: Tensor) -> Stream:
        return Stream(self.integration.second(g), self._positions(g))

    def _positions(self, x: Tensor) -> Tensor:
        """What the head compares, (B, h, w, D) -> (B, N, D)."""
        return x.flatten(1, 2) if self.pooling else spatial_pyramid(x.permute(0, 3, 1, 2)).mT

    def _pooled(self, f: Tensor) -> Tensor:
        """F~, (P, h, w, D) -> (P, N, D)."""
        return self._positions(self.pooling(f.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) if self.pooling else f)

    def _outputs(self, a: Stream, b: Stream) -> tuple[Tensor, Tensor]:
        """x_A and x_B of pairs (section 3.4), (P, output) each, float32 or better."""
        pooled = self._pooled(self.integration(a.embedded, b.embedded))
        return self._output(a.positions, pooled), self._output(b.positions, pooled)

    def _output(self, g: Tensor, pooled: Tensor) -> Tensor:
        """FC of the distances |g - F~|_2, one a position, or of the absolute differences."""
        # Both outputs are much alike, and bfloat16 would round away what tells them apart.
        with without_autocast(g.device):
            difference = at_least_float32(g) - at_least_float32(pooled)  # (P, N, D)
            flattened = self.options.head == "flattened"
            x: Tensor = self.fc(difference.abs().flatten(1) if flattened else difference.norm(dim=2))
        return x

    def _kept(self, described: Mapping[str, Tensor], images: slice) -> tuple[Stream, Stream]:
        """Some images in the first and in the second place, of what is stored of them."""
        first = described["conv5"][images].to(self.fc.weight.dtype)
        second = first if self.second is None else described["conv5_second"][images].to(self.fc.weight.dtype)
        return self._first(first), self._second(second)

    def _both_orders(
        self,
        some: tuple[Stream, Stream],
        others: tuple[Stream, Stream],
        asking: Tensor | slice,
        asked: Tensor | slice,
    ) -> Tensor:
        """1 - S of pairs of images of two lists, the mean of S(A, B) and S(B, A), (P,)."""
        way = self._distance(some[0].of(asking), others[1].of(asked))
        if self.second is None and isinstance(self.integration, Hadamard):
            return way  # F_AB is F_BA
        return (way + self._distance(others[0].of(asked), some[1].of(asking))) / 2

    def _distance(self, a: Stream, b: Stream) -> Tensor:
        """1 - S of pairs in one order, (P,), by a difference, which keeps its digits where S is near 1."""
        x_a, x_b = self._outputs(a, b)
        return (F.normalize(x_a) - F.normalize(x_b)).square().sum(1) / 2

    def _pairs_of_a_tile(self) -> int:
        """As many as ``tile_bytes`` allows; at least one."""
        options, channels = self.options, self.backbone.channels
        numbers = 8 * channels
        if options.integration == "gate":
            numbers += 6 * options.joint
        if self.pooling:
            numbers += 4 * len(DIRECTIONS) * options.hidden
        return max(1, self.tile_bytes // (4 * numbers * math.prod(options.map_size)))
