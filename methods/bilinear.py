"""Bilinear pooling of two maps, exact and compact.

Eq. 3 of Suh et al., ECCV 2018 (PABR), and the tensor sketch of Pham and Pagh, KDD 2013, by which Gao et
al., "Compact Bilinear Pooling", CVPR 2016, make it short.
Shapes: B images, c_A and c_P channels of the maps, h x w positions, D columns.
"""

import numpy as np
import torch
from torch import Tensor, nn

from methods.precision import at_least_float32, without_autocast

SEEDS = (1, 3, 5, 7)
"""Of numpy's generator: bins and signs of a's channels, then of p's, as PABR's code draws them."""


def bilinear(a: Tensor, p: Tensor) -> Tensor:
    """Mean over positions of the outer products of a and p (eq. 3), in the order of eq. 5.

    One matrix product an image, in float32 or better: no outer product of a single position is made.

    Args:
        a: (B, c_A, h, w).
        p: (B, c_P, h, w).

    Returns:
        (B, c_P, c_A); row i is the mean of p_i a.
    """
    with without_autocast(a.device):
        a, p = at_least_float32(a).flatten(2), at_least_float32(p).flatten(2)
        return (p / p.shape[2]) @ a.mT


class CompactBilinear(nn.Module):
    """``bilinear`` projected to D columns, so that inner products are the same in expectation.

    The tensor sketch of p and a is the circular convolution of their count sketches, usually computed by
    FFTs at each position. It also is a count sketch of their outer product, whose entry (j, i) goes to bin
    h_P[j] + h_A[i] mod D with sign s_P[j] s_A[i]. That is linear, so it is taken once an image, of the
    pooled outer product, and needs no FFT; the tests hold both forms together, in value and in gradient.

    PABR's code sums over positions and has a factor D besides; eq. 4 takes both away.

    Args:
        channels: c_A and c_P.
        dimension: D.
        seeds: of bins and signs, which are fixed from then on.
    """

    h_a: Tensor
    s_a: Tensor
    h_p: Tensor
    s_p: Tensor

    def __init__(
        self, channels: tuple[int, int], dimension: int, seeds: tuple[int, int, int, int] = SEEDS
    ) -> None:
        super().__init__()
        self.dimension = dimension
        for name, count, bins, signs in zip("ap", channels, seeds[::2], seeds[1::2], strict=True):
            self.register_buffer(f"h_{name}", torch.tensor(_draw(bins, dimension, count)))
            self.register_buffer(f"s_{name}", 2.0 * torch.tensor(_draw(signs, 2, count)) - 1.0)

    def forward(self, a: Tensor, p: Tensor) -> Tensor:
        """(B, c_A, h, w) and (B, c_P, h, w) -> (B, D), float32 or better."""
        m = bilinear(a, p)
        bins = (self.h_p[:, None] + self.h_a) % self.dimension  # (c_P, c_A)
        # What has a negative sign goes to bins of its own: one pass over m less than to multiply it by signs.
        bins = bins + self.dimension * (self.s_p[:, None] * self.s_a < 0)
        sums = m.new_zeros(len(m), 2 * self.dimension).index_add(1, bins.flatten(), m.flatten(1))
        positive, negative = sums.chunk(2, dim=1)
        return positive - negative


class TensorSketch(CompactBilinear):
    """The same projection of each position's outer product on its own, by FFTs: no outer product is made."""

    def forward(self, a: Tensor, p: Tensor) -> Tensor:
        """(B, c_A, h, w) and (B, c_P, h, w) -> (B, D, h, w), float32 or better."""
        # Autocast lowers none of these operations.
        sketch_a = self._count_sketch(a, self.h_a, self.s_a)
        sketch_p = self._count_sketch(p, self.h_p, self.s_p)
        product = torch.fft.rfft(sketch_a, dim=1) * torch.fft.rfft(sketch_p, dim=1)
        sketch: Tensor = torch.fft.irfft(product, n=self.dimension, dim=1)
        return sketch

    def _count_sketch(self, x: Tensor, bins: Tensor, signs: Tensor) -> Tensor:
        """(B, c, h, w) -> (B, D, h, w): each channel, with its sign, goes to its bin."""
        x = at_least_float32(x)
        signed = x * signs.to(x.dtype)[:, None, None]
        return x.new_zeros(len(x), self.dimension, *x.shape[2:]).index_add(1, bins, signed)


def _draw(seed: int, bound: int, count: int) -> list[int]:
    """``count`` integers below ``bound`` from numpy's old generator, whose streams never change."""
    drawn: list[int] = np.random.RandomState(seed).randint(bound, size=count).tolist()
    return drawn
