"""Losses that several methods share, computed in float32 or better whatever the features come in."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def batch_hard_triplet(features: Tensor, pids: Tensor, margin: float | Literal["soft"] = "soft") -> Tensor:
    """Mean over anchors of the triplet loss with the batch's hardest positive and negative.

    Hermans, Beyer and Leibe, "In Defense of the Triplet Loss", arXiv:1703.07737, section 2: "batch
    hard", with a hinge or the soft margin. Distances are Euclidean between features as they are.

    An anchor counts among its own positives, at distance 0, which matters only when it has no other:
    it then still pushes its nearest negative away. An anchor without any negative costs nothing. At
    distance 0 the gradient is 0, not NaN.

    Args:
        features: (B, D).
        pids: labels, (B,).
        margin: ``"soft"`` for ln(1 + exp(d_ap - d_an)), a number m for max(0, m + d_ap - d_an).
    """
    features = _at_least_float32(features)
    # Without matrix products: those cancel digits exactly where the hardest negatives are.
    d = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")  # (B, B)
    same = pids[:, None] == pids  # (B, B)
    d_ap = d.masked_fill(~same, 0).max(1).values  # (B,)
    d_an = d.masked_fill(same, torch.inf).min(1).values  # (B,)
    if margin == "soft":
        return F.softplus(d_ap - d_an).mean()
    return F.relu(margin + d_ap - d_an).mean()


def smoothed_cross_entropy(logits: Tensor, pids: Tensor, epsilon: float) -> Tensor:
    """Cross entropy with targets (1 - epsilon) onehot + epsilon / K, mean over the batch.

    Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, section 7.

    Args:
        logits: (B, K).
        pids: labels 0..K-1, (B,).
        epsilon: 0 to 1; 0 is the plain cross entropy.
    """
    return F.cross_entropy(_at_least_float32(logits), pids, label_smoothing=epsilon)


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
