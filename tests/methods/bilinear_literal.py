"""Bilinear pooling as it is written down: position by position, the tensor sketch by FFTs at each."""

import torch
from torch import Tensor

from methods.bilinear import CompactBilinear


def literal_bilinear(a: Tensor, p: Tensor) -> Tensor:
    """Eq. 3 with the outer products of all positions at once, (B, c_P, c_A)."""
    return torch.einsum("bihw,bjhw->bhwji", a, p).mean((1, 2))


def literal_sketch_then_pool(a: Tensor, p: Tensor, sketch: CompactBilinear) -> Tensor:
    """Count sketches of both vectors of each position, convolved there, and then averaged, (B, D)."""
    spectrum_a, spectrum_p = (torch.fft.fft(x) for x in count_sketches(a, p, sketch))
    return torch.fft.ifft(spectrum_a * spectrum_p).real.mean(1)


def frequency_domain_pooling(a: Tensor, p: Tensor, sketch: CompactBilinear) -> Tensor:
    """The same with the spectra averaged, so that there is one inverse FFT an image."""
    spectrum_a, spectrum_p = (torch.fft.rfft(x) for x in count_sketches(a, p, sketch))
    return torch.fft.irfft((spectrum_a * spectrum_p).mean(1), n=sketch.dimension)


def count_sketches(a: Tensor, p: Tensor, sketch: CompactBilinear) -> list[Tensor]:
    """Of the vectors of each position, by products with the matrices of bins and signs; twice (B, S, D)."""
    sketches = []
    for x, bins, signs in ((a, sketch.h_a, sketch.s_a), (p, sketch.h_p, sketch.s_p)):
        matrix = x.new_zeros(len(bins), sketch.dimension)
        matrix[torch.arange(len(bins), device=x.device), bins] = signs.to(x.dtype)
        sketches.append(x.flatten(2).mT @ matrix)
    return sketches
