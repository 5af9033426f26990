"""KPM: pairs of feature maps, matched position by position, warped onto each other and subtracted.

Shen, Xiao, Li, Yi and Wang, "End-to-End Deep Kronecker-Product Matching for Person Re-identification",
CVPR 2018. The code that its authors published is of a later paper and has neither the residual
self-attention nor the hourglass ("later code" below: YantaoShen/kpm_rw_person_reid; "prototype": the
deleted first version in the history of Cysu/open-reid).
Also open, and settled without an option: the baseline has the BN of section 3.1.3, too; BN for each scale,
then one classifier over all; two logits and their softmax, as in the later code; one fully connected layer
after the convolutions of "w/o warp"; plain 1x1 convolutions with bias in the hourglass; confidence
rearranged by relative offset, as in the prototype; the losses of several classifiers are summed; the
attention's BN learns from all images of a batch, although only those that ask are weighted.
Shapes: B images, P pairs, Q queries, G gallery images; C channels, h x w positions, N = h w.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from methods import METHODS
from methods.backbones import build_backbone
from methods.base import Options, PairMethod, Unstated, tile_sides
from methods.kpm_comparisons import (
    COPIES,
    BothMeans,
    Comparison,
    ConfidenceVector,
    Map,
    MeanDifference,
    MeanSquaredDifference,
    WarpedDifference,
)
from methods.kronecker import Similarity, matching_confidence

STAGES = {"scale1": "layer4", "scale2": "layer3", "scale3": "layer2"}
"""The paper's scales, and the ResNet stages whose maps have their size: 1/32, 1/16 and 1/8 of the image."""

Difference = Literal["square after pooling", "square before pooling", "absolute", "signed", "concatenated"]

Size = Annotated[int, Field(ge=1)]


class KPMOptions(Options):
    """Settings of KPM. Those from ``similarity`` on are not in the paper, see ``KPM.UNSTATED``.

    Attributes:
        matching: what becomes of two maps: "none" subtracts their means over positions (the baseline);
            "warp" warps one onto the other first (eq. 5 to 8); "confidence" gives the matching confidence
            to convolutions and never looks at the features again ("w/o warp").
        attention: whether residual self-attention weights the positions (eq. 9 and 10).
        scales: the backbone's last map alone, or three maps of an hourglass (section 3.2).
        combine: "concatenate" has one classifier over the vectors of all scales, "average" one a scale, each
            with its loss, and averages their confidence ("HG ML").
        difference: what the mean difference goes through on its way to the classifier; "signed" is
            nothing at all, and "concatenated" has both means side by side instead of a difference.
        tau_kpm: temperature of the matching.
        tau_rsa: temperature of the attention.
        map_size: height and width of the backbone's last map, on which "confidence" depends.
        similarity: whether features are scaled to length 1 before they are matched.
        direction: who is warped; "both" averages the scores of both directions.
        pooling: whether weighted differences are averaged or summed over positions.
        attention_channels: width of the attention's first convolution.
        hidden: width of the convolutions over the matching confidence.
        dropout: before the classifier.
        classifier_deviation: of the classifier's initial weights.
    """

    matching: Literal["none", "warp", "confidence"] = "none"
    attention: bool = False
    scales: Literal["layer4", "hourglass"] = "layer4"
    combine: Literal["concatenate", "average"] = "concatenate"
    difference: Difference = "square after pooling"
    tau_kpm: float = Field(0.05, gt=0)
    tau_rsa: float = Field(1.0, gt=0)
    map_size: tuple[Size, Size] = (8, 4)

    similarity: Similarity = "cosine"
    direction: Literal["gallery to query", "query to gallery", "both"] = "gallery to query"
    pooling: Literal["mean", "sum"] = "mean"
    attention_channels: int = Field(256, ge=1)
    hidden: int = Field(128, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    classifier_deviation: float = Field(0.001, gt=0)

    @model_validator(mode="after")
    def _fit_together(self) -> "KPMOptions":
        if self.attention and self.matching != "warp":
            raise ValueError(
                f"attention weights warped differences: it needs matching 'warp', not {self.matching!r}"
            )
        if self.difference in ("square before pooling", "concatenated") and self.matching != "none":
            raise ValueError(f"difference {self.difference!r} is a setting of the baseline: matching 'none'")
        return self


UNSTATED = (
    Unstated(
        "similarity",
        ("dot",),
        "the later code scales both maps to length 1; plain products of ReLU features, in the hundreds, "
        "would make the softmax at 0.05 one-hot, against the graded maps of Figure 6",
        when={"matching": "warp"},
    ),
    Unstated(
        "direction",
        ("query to gallery", "both"),
        "eq. 8 warps Y onto X and the text introduces the query first; the later code warps the query",
        when={"matching": "warp"},
    ),
    Unstated(
        "similarity",
        ("dot",),
        "as with warping, for the row that leaves warping out",
        when={"matching": "confidence"},
    ),
    Unstated(
        "direction",
        ("query to gallery", "both"),
        "as with warping, for the row that leaves warping out",
        when={"matching": "confidence"},
    ),
    Unstated(
        "pooling",
        ("sum",),
        "eq. 10 sums, section 4.3 and the later code average; batch normalisation takes the factor away but "
        "for its epsilon",
    ),
    Unstated(
        "attention_channels",
        (64,),
        "both convolutions are said to have 256 channels, but the map has one: 256, then 1",
        when={"matching": "warp", "attention": True},
    ),
    Unstated(
        "hidden",
        (256,),
        "'a few' convolutions; the prototype has a 3x3 and a 1x1 one of 128 channels over relative offsets",
        when={"matching": "confidence"},
    ),
    Unstated("dropout", (0.8,), "not mentioned; 0.8 in a command of the later code"),
    Unstated("classifier_deviation", (0.01,), "later code"),
)


class SelfAttention(nn.Module):
    """Residual self-attention: weights alpha = 1 + a~ of the positions of X (eq. 9 and 10)."""

    def __init__(self, channels: int, options: KPMOptions) -> None:
        super().__init__()
        self.tau = options.tau_rsa
        inner = options.attention_channels
        self.layers = nn.Sequential(
            *(nn.Conv2d(channels, inner, 1), nn.BatchNorm2d(inner), nn.ReLU()),
            *(nn.Conv2d(inner, 1, 1), nn.BatchNorm2d(1), nn.ReLU()),
        )

    def forward(self, x: Tensor) -> Tensor:
        """a~, the softmax of a / tau over positions: (B, C, h, w) to (B, h, w)."""
        a: Tensor = self.layers(x)[:, 0]
        return (a.flatten(1) / self.tau).softmax(1).view_as(a)


class Hourglass(nn.Module):
    """Maps of three sizes, each with what the smaller ones know (section 3.2, Figure 4).

    A step: halve the channels of the smaller map by a 1x1 convolution, double its size, and add the
    backbone's map of that size after a 1x1 convolution of its own.
    """

    def __init__(self, channels: Mapping[str, int]) -> None:
        super().__init__()
        self.channels = dict(channels)
        larger = ("scale2", "scale3")
        smaller = dict(zip(larger, ("scale1", "scale2"), strict=True))
        self.halve = nn.ModuleDict({s: nn.Conv2d(channels[smaller[s]], channels[s], 1) for s in larger})
        self.lateral = nn.ModuleDict({s: nn.Conv2d(channels[s], channels[s], 1) for s in larger})

    def forward(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Maps of the backbone by scale, (B, C, h, w), to maps of the same shapes."""
        out = {"scale1": maps["scale1"]}
        for scale, before in (("scale2", "scale1"), ("scale3", "scale2")):
            size = maps[scale].shape[2:]
            upper = F.interpolate(self.halve[scale](out[before]), size, mode="bilinear", align_corners=False)
            out[scale] = upper + self.lateral[scale](maps[scale])
        return out


class Verification(nn.Module):
    """Vectors of some scales to the logits of "different" and "same" (sections 3.1.3 and 3.2).

    Differences are squared, or their absolute value is taken; then come BN, concatenation and one FC layer.
    """

    def __init__(self, widths: Mapping[str, int], options: KPMOptions) -> None:
        super().__init__()
        self.options = options
        self.norms = nn.ModuleDict({scale: nn.BatchNorm1d(width) for scale, width in widths.items()})
        self.dropout = nn.Dropout(options.dropout)
        self.classifier = nn.Linear(sum(widths.values()), 2)
        nn.init.normal_(self.classifier.weight, std=options.classifier_deviation)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, vectors: Mapping[str, Tensor]) -> Tensor:
        """(.., D) of each scale to (.., 2)."""
        normal = [norm(self._even(vectors[scale]).flatten(0, -2)) for scale, norm in self.norms.items()]
        logits: Tensor = self.classifier(self.dropout(torch.cat(normal, 1)))
        shape = next(iter(vectors.values())).shape[:-1]
        return logits.view(*shape, 2)

    def _even(self, vectors: Tensor) -> Tensor:
        """The square or absolute value of differences; what is none, or squared already, stays as it is."""
        if self.options.matching == "confidence":
            return vectors
        match self.options.difference:
            case "square after pooling":
                return vectors.square()
            case "absolute":
                return vectors.abs()
            case _:
                return vectors


@METHODS.register("kpm")
class KPM(PairMethod):
    """The whole network and its ablations: backbone, hourglass, matching, attention, verification."""

    Options = KPMOptions
    UNSTATED = UNSTATED
    options: KPMOptions

    def __init__(
        self,
        options: KPMOptions,
        num_pids: int,  # noqa: ARG002 - pairs know no identities
        backbone: str,
        weights: str,
        network: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.options = options
        self.backbone = build_backbone(backbone, weights, **(network or {}))
        scales = tuple(STAGES) if options.scales == "hourglass" else ("scale1",)
        self.channels = {scale: self.backbone.channels[STAGES[scale]] for scale in scales}
        self.hourglass = Hourglass(self.channels) if options.scales == "hourglass" else None
        self.attention = nn.ModuleDict(
            {scale: SelfAttention(c, options) for scale, c in self.channels.items() if options.attention}
        )
        self.comparisons = nn.ModuleDict(
            {scale: _comparison(scale, c, options) for scale, c in self.channels.items()}
        )
        widths = {scale: comparison.width for scale, comparison in self._comparisons().items()}
        groups = {"verification": widths}
        if options.combine == "average":
            groups = {f"verification_{scale}": {scale: width} for scale, width in widths.items()}
        self.verifications = nn.ModuleDict({n: Verification(g, options) for n, g in groups.items()})

    def maps(self, images: Tensor) -> dict[str, Map]:
        """The map of each scale with the weights of its positions."""
        return {
            scale: Map(x.permute(0, 2, 3, 1), self._weights(scale, x))
            for scale, x in self._scales(images).items()
        }

    def _scales(self, images: Tensor) -> dict[str, Tensor]:
        """Maps (B, C, h, w) of the backbone, or of the hourglass on it."""
        scales = {STAGES[scale]: scale for scale in self.channels}
        maps, x = {}, images
        for name, stage in self.backbone.stages.items():
            x = stage(x)
            if name in scales:
                maps[scales[name]] = x
        return self.hourglass(maps) if self.hourglass else maps

    def losses(self, images: Tensor, pids: Tensor, pairs: Tensor) -> dict[str, Tensor]:
        """Cross entropy of "same" and "different" of each classifier, mean over the pairs (section 4.3)."""
        maps = self.maps(images)
        asking, asked = ({s: m.of(side) for s, m in maps.items()} for side in pairs.unbind(1))
        same = (pids[pairs[:, 0]] == pids[pairs[:, 1]]).long()
        logits = self._logits(asking, asked)
        return {name: F.cross_entropy(logits[name].float(), same) for name in logits}

    def describe(self, images: Tensor) -> dict[str, Tensor]:
        """The last map's mean, (B, C) as "pooled", and of each scale what its comparison needs.

        That is ``SCALE`` (B, h, w, C) and ``SCALE_weights`` (B, h, w).
        """
        maps = self.maps(images)
        kept = {scale: comparison.kept(maps[scale]) for scale, comparison in self._comparisons().items()}
        described = {"pooled": maps["scale1"].features.mean((1, 2), dtype=torch.float32)}
        for scale, (features, weights) in kept.items():
            described |= {scale: features, f"{scale}_weights": weights.float()}
        return described

    def distance(self, queries: Mapping[str, Tensor], gallery: Mapping[str, Tensor]) -> Tensor:
        """How surely every query and gallery image show different people, log-odds, (Q, G)."""
        asking, asked = self._kept_maps(queries), self._kept_maps(gallery)
        total_q, total_g = len(queries["pooled"]), len(gallery["pooled"])
        width = sum(comparison.width for comparison in self._comparisons().values())
        per_query, per_image = tile_sides(max(1, self.tile_bytes // (4 * COPIES * width)), total_q)
        out = gallery["pooled"].new_empty(total_q, total_g)
        for i in range(0, total_q, per_query):
            some = {scale: map_.of(slice(i, i + per_query)).float() for scale, map_ in asking.items()}
            for j in range(0, total_g, per_image):
                others = {scale: map_.of(slice(j, j + per_image)).float() for scale, map_ in asked.items()}
                logits = self._logits(some, others, all_pairs=True)
                out[i : i + per_query, j : j + per_image] = _different(list(logits.values()))
        return out

    def pair_distance(self, queries: Mapping[str, Tensor], gallery: Mapping[str, Tensor]) -> Tensor:
        """The same of pair after pair, (P,)."""
        asking, asked = self._kept_maps(queries), self._kept_maps(gallery)
        numbers = sum(c.numbers(asked[scale]) for scale, c in self._comparisons().items())
        size = max(1, self.tile_bytes // (4 * numbers))
        out = gallery["pooled"].new_empty(len(gallery["pooled"]))
        for i in range(0, len(out), size):
            pairs = slice(i, i + size)
            logits = self._logits(
                {scale: map_.of(pairs).float() for scale, map_ in asking.items()},
                {scale: map_.of(pairs).float() for scale, map_ in asked.items()},
            )
            out[pairs] = _different(list(logits.values()))
        return out

    @torch.no_grad()
    def feature_maps(self, images: Tensor) -> Tensor:
        """The backbone's last map, (B, C, h, w); call it in evaluation mode."""
        return self._scales(images)["scale1"]

    @torch.no_grad()
    def attention_maps(self, images: Tensor) -> dict[str, Tensor]:
        """a~ of eq. 9 at each scale, (B, h, w), which sums to 1; nothing without attention.

        Call it in evaluation mode.
        """
        maps = self._scales(images)
        return {scale: attention(maps[scale]) for scale, attention in self.attention.items()}

    @torch.no_grad()
    def confidence_maps(
        self, queries: Tensor, gallery: Tensor, tau: float | None = None
    ) -> dict[str, Tensor]:
        """K~ of eq. 7 at each scale for pairs of images, (B, h, w, h, w); call it in evaluation mode.

        ``[b, i, j]`` says where position (i, j) of query b finds itself in gallery image b, at the
        network's own temperature or at ``tau``.
        """
        asking, asked = self.maps(queries), self.maps(gallery)
        tau = tau or self.options.tau_kpm
        found = {}
        for scale, map_ in asking.items():
            x, y = map_.flat()[0], asked[scale].flat()[0]
            sizes = (*map_.weights.shape, *asked[scale].weights.shape[1:])
            found[scale] = matching_confidence(x, y, tau, self.options.similarity).view(sizes)
        return found

    def _comparisons(self) -> dict[str, Comparison]:
        return cast("dict[str, Comparison]", dict(self.comparisons.items()))

    def _weights(self, scale: str, x: Tensor) -> Tensor:
        """Importance alpha of eq. 4 and 10, (B, h, w): 1 + a~ or 1, divided by N where means are taken."""
        ones = torch.ones_like(x[:, 0], dtype=torch.promote_types(x.dtype, torch.float32))
        alpha = ones + self.attention[scale](x) if scale in self.attention else ones
        return alpha / ones[0].numel() if self.options.pooling == "mean" else alpha

    def _kept_maps(self, described: Mapping[str, Tensor]) -> dict[str, Map]:
        return {s: Map(described[s], described[f"{s}_weights"]) for s in self.channels}

    def _logits(
        self, asking: Mapping[str, Map], asked: Mapping[str, Map], *, all_pairs: bool = False
    ) -> dict[str, Tensor]:
        """Logits of each classifier, (P, 2) of given pairs or (Q, G, 2), by the name of its loss."""
        if self.options.direction == "gallery to query":
            return self._one_way(asking, asked, all_pairs)
        back = self._one_way(asked, asking, all_pairs)
        if all_pairs:
            back = {name: logits.transpose(0, 1) for name, logits in back.items()}
        if self.options.direction == "query to gallery":
            return back
        return {name: (way + back[name]) / 2 for name, way in self._one_way(asking, asked, all_pairs).items()}

    def _one_way(self, x: Mapping[str, Map], y: Mapping[str, Map], all_pairs: bool) -> dict[str, Tensor]:
        """Both in the paper's roles: y is warped to x."""
        vectors = {
            scale: comparison.all_pairs(x[scale], y[scale], self.tile_bytes)
            if all_pairs
            else comparison(x[scale], y[scale])
            for scale, comparison in self._comparisons().items()
        }
        return {name: verification(vectors) for name, verification in self.verifications.items()}


def _comparison(scale: str, channels: int, options: KPMOptions) -> Comparison:
    matching = options.tau_kpm, options.similarity
    if options.matching == "confidence":
        finer = 2 ** list(STAGES).index(scale)
        height, width = options.map_size
        return ConfidenceVector(options.hidden, (height * finer, width * finer), *matching)
    if options.matching == "warp":
        return WarpedDifference(channels, *matching)
    if options.difference == "square before pooling":
        return MeanSquaredDifference(channels)
    if options.difference == "concatenated":
        return BothMeans(channels)
    return MeanDifference(channels)


def _different(logits: list[Tensor]) -> Tensor:
    """Log-odds of "different" by the mean probability of one classifier or more, from logits (.., 2).

    They order as the probability does, but float32 tells them apart where that is all but 0 or 1.
    """
    odds = torch.stack([one[..., 0] - one[..., 1] for one in logits]).float()
    if len(odds) == 1:
        return odds[0]  # as below, unrounded
    return F.logsigmoid(odds).logsumexp(0) - F.logsigmoid(-odds).logsumexp(0)
