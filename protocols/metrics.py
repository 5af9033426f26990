"""CMC, both average precisions and mINP from the ranks of the true matches, in percent."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.base import Rules
from protocols.ranking import Ints, Ranks

Floats = NDArray[np.float64]

REPORTED_RANKS = (1, 5, 10, 20)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a protocol says of one ranking; all values are percent, 0-100.

    Attributes:
        metrics: ``mAP`` (step rule), ``mAP_trapezoid``, ``mINP``, ``rank1``, ``rank5``, ...
        headline: the key of the average precision that the protocol prints as mAP.
        bounds: for each metric that depends on the order of equal distances, its value under the
            worst and under the best order; empty when ties change nothing.
        cmc: (max_rank,) share of queries with a true match at or before ranks 1..max_rank.
        queries: number of queries in the means.
        matchless: number of queries without any true match (dropped or zero, as the rules say).
    """

    metrics: dict[str, float]
    headline: str
    bounds: dict[str, tuple[float, float]]
    cmc: Floats
    queries: int
    matchless: int


def evaluate_ranks(ranks: Ranks, rules: Rules) -> Evaluation:
    """All metrics of ``ranks`` under ``rules``.

    Raises:
        ValueError: no query has a true match.
    """
    matchless = int((np.diff(ranks.ends, prepend=0) == 0).sum())
    if matchless == len(ranks):
        raise ValueError(
            f"none of the {len(ranks)} queries has a true match in the gallery: every image of "
            f"its identity is missing, junk or left out by the same-camera rule "
            f"({rules.same_camera!r})"
        )
    metrics = _means(ranks.rank, ranks.ends, rules)
    worst = _means(ranks.worst, ranks.ends, rules)
    best = _means(ranks.best, ranks.ends, rules)
    return Evaluation(
        metrics=metrics,
        headline="mAP" if rules.headline_ap == "step" else "mAP_trapezoid",
        bounds={key: (worst[key], best[key]) for key in metrics if worst[key] != best[key]},
        cmc=cmc(first_ranks(ranks.rank, ranks.ends), rules),
        queries=len(ranks) - (matchless if rules.matchless == "drop" else 0),
        matchless=matchless,
    )


def first_ranks(rank: Ints, ends: Ints) -> Floats:
    """(Q,) rank of each query's nearest true match; infinite without one."""
    starts = ends - np.diff(ends, prepend=0)
    first = np.full(len(ends), np.inf)
    first[ends > starts] = rank[starts[ends > starts]]
    return first


def cmc(first: Floats, rules: Rules) -> Floats:
    """(max_rank,) percent of queries whose first true match has rank <= 1..max_rank."""
    if rules.matchless == "drop":
        first = first[np.isfinite(first)]
    curve: Floats = 100 * (first <= np.arange(1, rules.max_rank + 1)[:, None]).mean(1)
    return curve


def average_precisions(rank: Ints, ends: Ints) -> tuple[Floats, Floats]:
    """Average precision of each query, step and trapezoid rule, in 0-1; NaN without a match.

    With the k-th of n true matches at rank r_k: step (1/n) sum k/r_k; trapezoid, as in the
    Market-1501 MATLAB code, (1/n) sum (k/r_k + (k-1)/(r_k - 1)) / 2, where 0/0 counts as 1.
    """
    k = _position(ends)
    precision = k / rank
    before = np.where(rank > 1, (k - 1) / np.maximum(rank - 1, 1), 1.0)
    return _per_query(precision, ends), _per_query((precision + before) / 2, ends)


def inverse_negative_penalties(rank: Ints, ends: Ints) -> Floats:
    """Of each query n / r_n (Ye et al., TPAMI 2021, section 2.3), in 0-1; NaN without a match."""
    sizes = np.diff(ends, prepend=0)
    last = np.full(len(ends), np.nan)
    last[sizes > 0] = rank[ends[sizes > 0] - 1]
    penalties: Floats = sizes / last
    return penalties


def _means(rank: Ints, ends: Ints, rules: Rules) -> dict[str, float]:
    step, trapezoid = average_precisions(rank, ends)
    curve = cmc(first_ranks(rank, ends), rules)
    per_query = {
        "mAP": step,
        "mAP_trapezoid": trapezoid,
        "mINP": inverse_negative_penalties(rank, ends),
    }
    mean = np.nanmean if rules.matchless == "drop" else _mean_with_zeros
    return {name: 100 * float(mean(values)) for name, values in per_query.items()} | {
        f"rank{k}": float(curve[k - 1]) for k in REPORTED_RANKS if k <= rules.max_rank
    }


def _mean_with_zeros(values: Floats) -> float:
    return float(np.nan_to_num(values).mean())


def _position(ends: Ints) -> Ints:
    """(M,) 1-based position of each match among its query's matches."""
    sizes = np.diff(ends, prepend=0)
    return np.arange(1, sizes.sum() + 1) - np.repeat(ends - sizes, sizes)


def _per_query(values: Floats, ends: Ints) -> Floats:
    """(Q,) mean over each query's matches; NaN without one."""
    sizes = np.diff(ends, prepend=0)
    owner = np.repeat(np.arange(len(ends)), sizes)
    with np.errstate(invalid="ignore"):
        mean: Floats = np.bincount(owner, values, len(ends)) / sizes
    return mean
