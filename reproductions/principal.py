"""Principal components of local descriptors as colours, so that alike descriptors have alike colours.

Suh et al., ECCV 2018, section 4 (footnote 3) and appendix A.1, after SIFT flow (Liu, Yuen and Torralba,
TPAMI 2011): of all local descriptors of the test images, the three leading principal components become those
of RGB. Neither says how strongly: here each component counts by its own standard deviation.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reproductions.tiles import Pixels

RGB = np.array([[1, 1, 1], [1, -1, 0], [1, 1, -2]]) / np.sqrt([[3], [2], [6]])
"""Principal components of the colours of pictures, in rows: light, red against green, yellow against blue."""

REACH = 2.0
"""Standard deviations from grey to the ends of a channel of RGB."""


@dataclass(frozen=True, eq=False)
class Components:
    """The three leading principal components of descriptors of c channels.

    Attributes:
        mean: (c,).
        directions: (3, c) of length 1; the largest number of each is positive.
        deviations: (3,) standard deviation along each.
        share: of the descriptors' variance that lies along them, 0..1.
    """

    mean: NDArray[np.float64]
    directions: NDArray[np.float64]
    deviations: NDArray[np.float64]
    share: float

    def colours(self, maps: Tensor) -> Pixels:
        """Descriptors (B, c, h, w) as colours (B, h, w, 3); the mean is grey."""
        descriptors = maps.double().cpu().movedim(1, -1).numpy()
        along = (descriptors - self.mean) @ self.directions.T
        scaled = np.divide(along, self.deviations, out=np.zeros_like(along), where=self.deviations > 0)
        return np.asarray(255 * (0.5 + scaled @ RGB / (2 * REACH)).clip(0, 1)).round().astype(np.uint8)


class _Moments:
    """Mean and scatter of descriptors that come in batches."""

    def __init__(self) -> None:
        self._count, self._mean, self._scatter = 0, torch.zeros(()), torch.zeros(())

    def add(self, maps: Tensor) -> None:
        """Descriptors at all positions of (B, c, h, w)."""
        x = maps.movedim(1, -1).flatten(0, -2).double()  # (n, c)
        n, before = len(x), self._count
        self._count += n
        own = x.mean(0)
        away = own - self._mean.to(own)
        self._mean = self._mean.to(own) + away * (n / self._count)
        # Chan et al.'s update: of large means, sums of squares would lose digits.
        between = torch.outer(away, away) * (before * n / self._count)
        self._scatter = self._scatter.to(own) + (x - own).mT @ (x - own) + between

    def components(self) -> Components:
        variances, directions = torch.linalg.eigh(self._scatter.cpu() / self._count)  # ascending
        variances, directions = variances.flip(0).clamp_min(0), directions.mT.flip(0)[:3]
        largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
        deviations, total = variances[:3].sqrt(), variances.sum()
        share = float(variances[:3].sum() / total) if total > 0 else 1.0
        turned = (directions * largest.sign()).numpy()
        return Components(self._mean.cpu().numpy(), turned, deviations.numpy(), share)


def principals(batches: Iterable[Mapping[str, Tensor]]) -> dict[str, Components]:
    """Components of several kinds of descriptors.

    Args:
        batches: of images, each kind's maps (B, c, h, w) by name, c at least 3; never are two held.
    """
    moments: defaultdict[str, _Moments] = defaultdict(_Moments)
    for batch in batches:
        for name, maps in batch.items():
            moments[name].add(maps)
    return {name: of.components() for name, of in moments.items()}
