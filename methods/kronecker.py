"""Kronecker-product matching: where each position of one feature map finds itself in another.

Shen, Xiao, Li, Yi and Wang, "End-to-End Deep Kronecker-Product Matching for Person Re-identification",
CVPR 2018, section 3.1. Maps lie as (.., N, C): N = H W positions in rows of W, C channels.

The paper's K = X (x) Y holds H x W x H x W dot products a pair of images. ``soft_warp`` never builds it;
``pooled_warps`` builds it for a few pairs at a time and needs half the products of the equations.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Similarity = Literal["cosine", "dot"]


def comparable(features: Tensor, similarity: Similarity) -> Tensor:
    """What dot products are taken of, (.., N, C): features of length 1 for ``"cosine"``, else as they are."""
    return F.normalize(features, dim=-1) if similarity == "cosine" else features


def matching_confidence(x: Tensor, y: Tensor, tau: float, similarity: Similarity) -> Tensor:
    """K~(i, j, p, q) = softmax over (p, q) of x(i, j) . y(p, q) / tau (eq. 5 to 7).

    From (.., N, C) and (.., M, C) to (.., N, M); row i W + j is the map of position (i, j) and sums to 1.
    """
    products = comparable(x, similarity) @ comparable(y, similarity).mT
    return (products / tau).softmax(-1)


def soft_warp(x: Tensor, y: Tensor, tau: float, similarity: Similarity) -> Tensor:
    """Y K~^T, the features of y where those of x expect them (eq. 8), for pairs: (P, N, C), (P, M, C).

    This is dot-product attention of x to y with scale 1 / tau. Returns (P, N, C).
    """
    ask, key = (comparable(features, similarity)[:, None] for features in (x, y))  # one head
    return F.scaled_dot_product_attention(ask, key, y[:, None], scale=1 / tau)[:, 0]


def pooled_warps(
    x: Tensor, y: Tensor, weights: Tensor, tau: float, similarity: Similarity, tile_bytes: int
) -> Tensor:
    """Sum_i weights_i (Y K~^T)_i, the weighted sum over positions of every y warped to every x.

    Summing comes first: sum_i a_i sum_j beta_ij y_j = sum_j (sum_i a_i beta_ij) y_j, so that the products
    of eq. 8 shrink from N M C to M C a pair, and only those of eq. 6 remain.

    Args:
        x: (Q, N, C), to be matched.
        y: (G, M, C), to be warped.
        weights: (Q, N), a of eq. 4 and 10.
        tau: temperature of eq. 7.
        similarity: see ``comparable``.
        tile_bytes: memory that the confidence of the pairs at hand may take; one pair is always taken.

    Returns:
        (Q, G, C).
    """
    ask, key = comparable(x, similarity) / tau, comparable(y, similarity)
    pooled = y.new_empty(len(x), len(y), y.shape[2])
    for queries, images in _tiles(x, y, tile_bytes):
        with _tf32(x.device):
            products = ask[queries].flatten(0, 1) @ key[images].flatten(0, 1).mT  # (q N, g M), eq. 6
        confidence = products.view(-1, x.shape[1], len(y[images]), y.shape[1]).softmax(-1)  # (q, N, g, M)
        landed = weights[queries, None] @ confidence.flatten(2)  # (q, 1, g M): sum_i a_i beta_ij
        shares = landed.view(-1, len(y[images]), y.shape[1])  # (q, g, M)
        pooled[queries, images] = (shares.transpose(0, 1) @ y[images]).transpose(0, 1)
    return pooled


@contextmanager
def _tf32(device: torch.device) -> Iterator[None]:
    """Within, a GPU multiplies float32 as TF32, whose error is below that of maps stored as bfloat16."""
    if device.type != "cuda":
        yield
        return
    setting: Any = torch.backends.cuda.matmul
    precision, setting.fp32_precision = setting.fp32_precision, "tf32"
    try:
        yield
    finally:
        setting.fp32_precision = precision


def _tiles(x: Tensor, y: Tensor, tile_bytes: int) -> Iterator[tuple[slice, slice]]:
    """Queries and gallery images whose products fit; few images at a time, as long rows multiply fastest."""
    positions = 512
    images = max(1, positions // y.shape[1])
    pair = 2 * x.shape[1] * y.shape[1] * x.element_size()  # products, and their softmax beside them
    queries = max(1, tile_bytes // (pair * images))
    images = max(1, min(images, tile_bytes // pair))
    for i in range(0, len(x), queries):
        for j in range(0, len(y), images):
            yield slice(i, i + queries), slice(j, j + images)
