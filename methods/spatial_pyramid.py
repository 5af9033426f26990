"""Spatial pyramid pooling of He, Zhang, Ren and Sun, "Spatial Pyramid Pooling in Deep CNNs", ECCV 2014."""

import torch
from torch import Tensor

LEVELS = (2, 1)
"""Bins along each side at each level: 2 x 2 and 1 x 1, as "B-CNN + SPP" of arXiv:1707.07074 has them."""


def pyramid_bins(height: int, width: int) -> list[tuple[slice, slice]]:
    """Rows and columns of each of the 5 bins, level by level, in a level row by row.

    A bin of a level of n x n reaches from floor(i a / n) to ceil((i + 1) a / n) on a side of a positions, so
    that bins overlap by one where n does not divide a.
    """

    def sides(length: int, n: int) -> list[slice]:
        return [slice(i * length // n, -(-(i + 1) * length // n)) for i in range(n)]

    return [(rows, columns) for n in LEVELS for rows in sides(height, n) for columns in sides(width, n)]


def spatial_pyramid(maps: Tensor) -> Tensor:
    """Each bin's maximum, (B, C, h, w) -> (B, C, 5)."""
    return torch.stack([maps[..., i, j].amax((2, 3)) for i, j in pyramid_bins(*maps.shape[2:])], 2)
