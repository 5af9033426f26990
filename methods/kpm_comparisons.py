"""What KPM makes of two feature maps of one scale: a vector, by subtraction, after warping, or of matches.

Shen et al., CVPR 2018, sections 3.1, 4.3 and 4.5; see ``methods.kpm``.
Shapes: B images, P pairs, Q queries, G gallery images; C channels, h x w positions, N = h w.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from methods.kronecker import Similarity, matching_confidence, pooled_warps, soft_warp
from retable.errors import SpecError

COPIES = 4
"""Tensors of a size that live at once while pairs are scored: vectors, squares, normalised ones and more."""


class Map(NamedTuple):
    """One scale of some images: ``features`` (B, h, w, C), and ``weights`` (B, h, w), alpha of eq. 4."""

    features: Tensor
    weights: Tensor

    def of(self, images: Tensor | slice) -> "Map":
        """The same of some of the images."""
        return Map(self.features[images], self.weights[images])

    def float(self) -> "Map":
        """The same in float32, in which maps are compared."""
        return Map(self.features.float(), self.weights.float())

    def flat(self) -> tuple[Tensor, Tensor]:
        """Features (B, N, C) and weights (B, N)."""
        return self.features.flatten(1, 2), self.weights.flatten(1)

    def mean(self) -> Tensor:
        """Weighted sum of the features over positions, (B, C)."""
        features, weights = self.flat()
        # No matrix product: autocast would round weights to bfloat16, and so a~ of 512 positions away.
        return (weights[..., None] * features).sum(1)


class Comparison(nn.Module):
    """One scale of two images as one vector, from which a classifier tells whether they show one person.

    Attributes:
        width: length of the vector, D.
    """

    width: int

    def forward(self, x: Map, y: Map) -> Tensor:
        """Vectors of P pairs, image i of ``x`` and image i of ``y``: (P, D)."""
        raise NotImplementedError

    def all_pairs(self, x: Map, y: Map, tile_bytes: int) -> Tensor:
        """Vectors of every image of ``x`` with every image of ``y``: (Q, G, D)."""
        images = len(y.weights)
        pairs = torch.arange(len(x.weights) * images, device=x.weights.device)
        tile = max(1, tile_bytes // (4 * self.numbers(y)))
        vectors = [self(x.of(some // images), y.of(some % images)) for some in torch.split(pairs, tile)]
        return torch.cat(vectors).view(-1, images, self.width)

    def numbers(self, map_: Map) -> int:
        """About how many numbers live at once while two images with such maps are compared."""
        return COPIES * map_.features[0].numel() + 2 * map_.weights[0].numel() ** 2

    def kept(self, map_: Map) -> Map:
        """What has to be stored of an image to compare it later."""
        return Map(map_.features.bfloat16(), map_.weights)


class MeanDifference(Comparison):
    """The baseline (section 4.3, Figure 5): maps are averaged over positions and subtracted."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.width = channels

    def forward(self, x: Map, y: Map) -> Tensor:
        """The mean over positions of x - y, (P, C)."""
        return x.mean() - y.mean()

    def all_pairs(self, x: Map, y: Map, tile_bytes: int) -> Tensor:  # noqa: ARG002 - nothing is in between
        """(Q, G, C)."""
        return x.mean()[:, None] - y.mean()

    def kept(self, map_: Map) -> Map:
        """The mean alone, as a map of one position."""
        mean = map_.mean()
        return Map(mean[:, None, None], torch.ones_like(mean[:, :1, None]))


class BothMeans(MeanDifference):
    """The baseline without subtraction: the means of both maps side by side (section 4.3)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.width = 2 * channels

    def forward(self, x: Map, y: Map) -> Tensor:
        """(P, 2 C)."""
        return torch.cat([x.mean(), y.mean()], 1)

    def all_pairs(self, x: Map, y: Map, tile_bytes: int) -> Tensor:  # noqa: ARG002 - as above
        """(Q, G, 2 C)."""
        shape = len(x.weights), len(y.weights), -1
        return torch.cat([x.mean()[:, None].expand(shape), y.mean().expand(shape)], 2)


class MeanSquaredDifference(Comparison):
    """The baseline with its square before the mean over positions (Table 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.width = channels

    def forward(self, x: Map, y: Map) -> Tensor:
        """The mean over positions of (x - y)^2, (P, C)."""
        return Map((x.features - y.features).square(), x.weights).mean()


class WarpedDifference(Comparison):
    """delta~ = sum_ij alpha(i, j) (x(i, j) - (Y K~^T)(i, j)), eq. 8 and 10."""

    def __init__(self, channels: int, tau: float, similarity: Similarity) -> None:
        super().__init__()
        self.width = channels
        self.tau, self.similarity = tau, similarity

    def forward(self, x: Map, y: Map) -> Tensor:
        """(P, C)."""
        warped = soft_warp(x.flat()[0], y.flat()[0], self.tau, self.similarity)
        return Map(x.features - warped.view_as(x.features), x.weights).mean()

    def all_pairs(self, x: Map, y: Map, tile_bytes: int) -> Tensor:
        """(Q, G, C)."""
        (asking, weights), (asked, _) = x.flat(), y.flat()
        warped = pooled_warps(asking, asked, weights, self.tau, self.similarity, tile_bytes)
        return x.mean()[:, None] - warped


class ConfidenceVector(Comparison):
    """Matching confidence straight into convolutions, without the features ("w/o warp", section 4.5).

    The confidence of a position lies over the other image; it is rearranged by relative offset, so that
    a channel means the same everywhere: (2h - 1) (2w - 1) channels.
    """

    channel: Tensor

    def __init__(self, hidden: int, size: tuple[int, int], tau: float, similarity: Similarity) -> None:
        super().__init__()
        self.width = hidden
        self.size, self.tau, self.similarity = size, tau, similarity
        height, width = size
        self.offsets = (2 * height - 1) * (2 * width - 1)
        self.register_buffer("channel", _relative_offsets(height, width), persistent=False)
        self.convolutions = nn.Sequential(
            nn.Conv2d(self.offsets, hidden, 3, padding=1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
        )

    def forward(self, x: Map, y: Map) -> Tensor:
        """(P, hidden). Raises ``SpecError`` for maps of another size than the network was built for."""
        if x.features.shape[1:3] != self.size:
            found = " x ".join(map(str, x.features.shape[1:3]))
            raise SpecError(
                f"matching 'confidence' needs maps of {self.size[0]} x {self.size[1]}, found {found}; "
                "set map_size to 1/32 of the images' height and width"
            )
        (asking, _), (asked, _) = x.flat(), y.flat()
        confidence = matching_confidence(asking, asked, self.tau, self.similarity)  # (P, N, N)
        by_offset = confidence.new_zeros(*confidence.shape[:2], self.offsets)
        by_offset = by_offset.scatter(2, self.channel.expand_as(confidence), confidence)  # (P, N, offsets)
        images = by_offset.mT.reshape(-1, self.offsets, *self.size)  # (P, offsets, h, w)
        vectors: Tensor = self.convolutions(images).mean((2, 3))
        return vectors

    def numbers(self, map_: Map) -> int:
        """As of every comparison, and the confidence by offset, as it is made, filled and turned."""
        return super().numbers(map_) + 3 * map_.weights[0].numel() * self.offsets


def _relative_offsets(height: int, width: int) -> Tensor:
    """Channel of the offset from position i to position j, (N, N)."""
    rows = torch.arange(height).repeat_interleave(width)
    columns = torch.arange(width).repeat(height)
    down = rows - rows[:, None] + height - 1  # (N, N), 0..2h-2
    right = columns - columns[:, None] + width - 1
    return down * (2 * width - 1) + right
