"""Losses that several methods share, computed in float32 or better whatever the features come in."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.precision import at_least_float32, without_autocast

Similarity = Literal["squared distance", "inner product"]
MeanOver = Literal["violating", "all"]


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
    features = at_least_float32(features)
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
    return F.cross_entropy(at_least_float32(logits), pids, label_smoothing=epsilon)


def triplet_and_cross_entropy(
    features: Mapping[str, Tensor],
    classifiers: nn.ModuleDict,
    pids: Tensor,
    margin: float | Literal["soft"],
    epsilon: float,
) -> dict[str, Tensor]:
    """Batch-hard triplet loss and smoothed cross entropy of each branch of a network, as BDB has it.

    Args:
        features: branch -> (B, D).
        classifiers: branch -> what makes logits of its feature.
        pids: labels 0..K-1, (B,).
        margin: of the triplet loss.
        epsilon: of the cross entropy.

    Returns:
        ``"BRANCH_triplet"`` and ``"BRANCH_ce"`` for each branch.
    """
    losses = {}
    for branch, feature in features.items():
        losses[f"{branch}_triplet"] = batch_hard_triplet(feature, pids, margin)
        losses[f"{branch}_ce"] = smoothed_cross_entropy(classifiers[branch](feature), pids, epsilon)
    return losses


def ranked_list(features: Tensor, pids: Tensor, alpha: float, margin: float, temperature: float) -> Tensor:
    """Mean over anchors of the ranked list loss L_P + L_N, on features that are scaled to length 1.

    Wang, Hua, Kodirov, Hu, Garnier and Robertson, "Ranked List Loss for Deep Metric Learning", CVPR 2019.
    Distances d are Euclidean, 0 to 2.

    L_P is the mean of d - (alpha - margin) over an anchor's positives farther than alpha - margin; the
    anchor is not its own positive. L_N is the mean of alpha - d over its negatives nearer than alpha,
    with weights in proportion to exp(temperature (alpha - d)) that are constants to the gradient. An
    anchor without such images costs nothing. At distance 0 the gradient is 0 but for rounding, not NaN.

    Which images count, and how much among those of their anchor (T_p = 0), is as in the authors' code
    (XinshaoAmosWang/Ranked-List-Loss-for-DML). The rest is not: that code halves both parts, weights anchors
    by their share of all weights of the batch, and moves an anchor while its positives and negatives
    stay. Here the parts are added, anchors averaged and both images of a pair moved, as in
    Qidian213/Ranked_Person_ReID (which averages over all positives, and differentiates the weights).

    Args:
        features: (B, D).
        pids: labels, (B,).
        alpha: the distance that negatives are pushed beyond.
        margin: how much less positives may be apart.
        temperature: T_n of the negatives' weights, at least 0; 0 weights all alike, as the positives are.
    """
    with without_autocast(features.device):
        features = F.normalize(at_least_float32(features))
        # By a matrix product. Its rounding shows for d below about 0.01, in the gradient of negatives that
        # near (and of positives, if margin exceeds alpha). The bound keeps the gradient of d = 0 finite.
        d = (2 - 2 * features @ features.mT).clamp_min(1e-12).sqrt()  # (B, B)
    same = pids[:, None] == pids  # (B, B)
    too_far, too_near = F.relu(d - (alpha - margin)), F.relu(alpha - d)  # (B, B)
    others = same & ~torch.eye(len(pids), dtype=torch.bool, device=pids.device)
    return (
        _weighted(too_far, others & (too_far > 0), 0.0)
        + _weighted(too_near, ~same & (too_near > 0), temperature)
    ).mean()


def all_triplets(
    features: Tensor, pids: Tensor, margin: float, similarity: Similarity, mean_over: MeanOver
) -> Tensor:
    """Triplet loss over all triplets (q, p, n) of the batch, on features that are scaled to length 1.

    Suh et al., ECCV 2018, eq. 6 and 7: the mean of max(margin + sim(q, n) - sim(q, p), 0), where sim is the
    inner product. With squared distances, -|x - y|^2 = 2 <x, y> - 2 takes its place.

    Images q and p are two of one person, n is of another. A batch without such triplets costs nothing.
    Memory is that of pairs (q, p) x B numbers.

    Args:
        features: (B, D).
        pids: labels, (B,).
        margin: at least 0.
        similarity: "inner product" as in the paper, or "squared distance" as in its code.
        mean_over: "all" triplets as in the paper, or those "violating" the margin as in its code.
    """
    with without_autocast(features.device):
        features = F.normalize(at_least_float32(features))
        sim = features @ features.mT  # (B, B)
    if similarity == "squared distance":
        sim = 2 * sim  # the 2 that is subtracted cancels
    same = pids[:, None] == pids  # (B, B)
    q, p = (same & ~torch.eye(len(pids), dtype=torch.bool, device=pids.device)).nonzero(as_tuple=True)
    costs = F.relu(margin + sim[q] - sim[q, p][:, None]).masked_fill(same[q], 0)  # (pairs, B)
    counted = costs > 0 if mean_over == "violating" else ~same[q]
    return costs.sum() / counted.sum().clamp_min(1)


def binomial_deviance(similarity: Tensor, same: Tensor, alpha: float, beta: float) -> Tensor:
    """Sum over pairs of W ln(exp(-alpha (S - beta) M) + 1), M being 1 for one person and -1 for two.

    Yi, Lei and Li, "Deep Metric Learning for Practical Person Re-Identification", arXiv:1407.4979, as eq. 5
    of Wu et al., arXiv:1707.07074, has it. W is 1 / n1 for the n1 pairs of one person and 1 / n2 for the n2
    others, so that both kinds weigh alike; a kind that no pair is of costs nothing.

    Args:
        similarity: S, any shape.
        same: which pairs show one person, bool, of the same shape.
        alpha: slope, above 0.
        beta: the similarity at which a pair costs ln 2.
    """
    margins = alpha * (at_least_float32(similarity) - beta)
    costs = F.softplus(torch.where(same, -margins, margins))
    n1 = same.sum().to(costs.dtype)
    weights = torch.where(same, 1 / n1, 1 / (same.numel() - n1))  # infinite only where no pair takes it
    return (weights * costs).sum()


def _weighted(violations: Tensor, active: Tensor, temperature: float) -> Tensor:
    """Each row's mean over its active entries, (B, B) -> (B,), 0 where there are none.

    Weights are in proportion to exp(temperature violation), and constants.
    """
    logits = (temperature * violations.detach()).masked_fill(~active, -torch.inf)
    weights = logits.softmax(1).nan_to_num(0.0)  # a row without active entries is NaN
    return (weights * violations).sum(1)
