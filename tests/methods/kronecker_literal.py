"""Kronecker-product matching as it is printed: the reference for ``methods.kronecker`` and its benchmark.

Shen et al., CVPR 2018, section 3.1, equations 5 to 10. Maps are (P, h, w, C) for P pairs.
"""

import torch
from torch import Tensor


def literal_product(x: Tensor, y: Tensor, similarity: str) -> Tensor:
    """K(i, j, p, q) = x(i, j) . y(p, q) (eq. 6), of features of length 1 for "cosine", (P, h, w, h', w')."""
    if similarity == "cosine":
        x, y = (m / m.square().sum(-1, keepdim=True).sqrt().clamp_min(1e-12) for m in (x, y))
    return torch.einsum("bijc,bpqc->bijpq", x, y)


def literal_confidence(x: Tensor, y: Tensor, tau: float, similarity: str) -> Tensor:
    """K~(i, j) = softmax of K(i, j, :, :) / tau over all of y's positions (eq. 7), (P, h, w, h', w')."""
    scaled = literal_product(x, y, similarity) / tau
    powers = (scaled - scaled.amax((3, 4), keepdim=True)).exp()
    return powers / powers.sum((3, 4), keepdim=True)


def literal_warp(x: Tensor, y: Tensor, tau: float, similarity: str) -> Tensor:
    """Y K~^T, what the features of y are where x expects them (in eq. 8), (P, h, w, C)."""
    return torch.einsum("bijpq,bpqc->bijc", literal_confidence(x, y, tau, similarity), y)


def literal_difference(x: Tensor, y: Tensor, weights: Tensor, tau: float, similarity: str) -> Tensor:
    """Sum over (i, j) of weights(i, j) (X - Y K~^T)(i, j), eq. 8 and 10.

    Args:
        x: (P, h, w, C).
        y: (P, h', w', C), warped to ``x``.
        weights: (P, h, w), 1 + a~ in the paper.
        tau: temperature of the softmax.
        similarity: "cosine" or "dot".

    Returns:
        (P, C).
    """
    delta = x - literal_warp(x, y, tau, similarity)
    return torch.einsum("bij,bijc->bc", weights, delta)
