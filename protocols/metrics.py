"""CMC, both average precisions and mINP from the ranks of the true matches, in percent."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.arrays import InputError
from protocols.base import Rules
from protocols.deviations import deviate, reach
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


def evaluate_ranks(
    ranks: Ranks, rules: Rules, deviations: Collection[str] = (), unfiltered: Ranks | None = None
) -> Evaluation:
    """All metrics of ``ranks`` under ``rules``.

    Args:
        ranks: those of the true matches.
        rules: what is printed as mAP, what queries without a match count, how far CMC goes.
        deviations: names of ``protocols.deviations``.
        unfiltered: for ``truncate-4000``, the ranks of the same matches when nothing is left out.

    Raises:
        InputError: no query has a true match.
    """
    rules = deviate(rules, deviations)
    matchless = int((np.diff(ranks.ends, prepend=0) == 0).sum())
    if matchless == len(ranks):
        raise InputError(
            f"none of the {len(ranks)} queries has a true match in the gallery: every image of "
            f"its identity is missing, junk or left out by the same-camera rule "
            f"({rules.same_camera!r})"
        )
    full = unfiltered or ranks
    reached = reach(ranks.rank, full.rank, deviations)
    metrics = _means(ranks.rank, reached, ranks.ends, rules)
    worst = _means(ranks.worst, reach(ranks.worst, full.worst, deviations), ranks.ends, rules)
    best = _means(ranks.best, reach(ranks.best, full.best, deviations), ranks.ends, rules)
    return Evaluation(
        metrics=metrics,
        headline="mAP" if rules.headline_ap == "step" else "mAP_trapezoid",
        bounds=bounds(metrics, worst, best),
        cmc=cmc(first_ranks(reached[0], ranks.ends), rules),
        queries=len(ranks) - (matchless if rules.matchless == "drop" else 0),
        matchless=matchless,
    )


def bounds(
    metrics: Mapping[str, float], worst: Mapping[str, float], best: Mapping[str, float]
) -> dict[str, tuple[float, float]]:
    """The worst and the best value of each metric that has two."""
    return {key: (worst[key], best[key]) for key in metrics if worst[key] != best[key]}


def first_ranks(rank: NDArray[np.number], ends: Ints) -> Floats:
    """(Q,) rank of each query's nearest true match; NaN without one."""
    starts = ends - np.diff(ends, prepend=0)
    first = np.full(len(ends), np.nan)
    first[ends > starts] = rank[starts[ends > starts]]
    return first


def cmc(first: Floats, rules: Rules) -> Floats:
    """(max_rank,) percent of queries whose first true match has rank <= 1..max_rank."""
    if rules.matchless == "drop":
        first = first[~np.isnan(first)]
    curve: Floats = 100 * (first <= np.arange(1, rules.max_rank + 1)[:, None]).mean(1)
    return curve


def reported(curve: Floats, suffix: str = "") -> dict[str, float]:
    """``rank1``, ``rank5``, ... with ``suffix`` behind, from a curve over ranks 1, 2, ..."""
    return {f"rank{k}{suffix}": float(curve[k - 1]) for k in REPORTED_RANKS if k <= len(curve)}


def average_precisions(rank: NDArray[np.number], ends: Ints) -> tuple[Floats, Floats]:
    """Average precision of each query, step and trapezoid rule, in 0-1; NaN without a match.

    With the k-th of n true matches at rank r_k: step (1/n) sum k/r_k; trapezoid, as in the
    Market-1501 MATLAB code, (1/n) sum (k/r_k + (k-1)/(r_k - 1)) / 2, where 0/0 counts as 1.
    A match at an infinite rank adds nothing.
    """
    k = _position(ends)
    precision: Floats = k / rank.astype(np.float64)
    before = np.where(rank > 1, (k - 1) / np.maximum(rank - 1, 1), 1.0)
    return _per_query(precision, ends), _per_query((precision + before) / 2, ends)


def inverse_negative_penalties(rank: Ints, ends: Ints) -> Floats:
    """Of each query n / r_n (Ye et al., TPAMI 2021, section 2.3), in 0-1; NaN without a match."""
    sizes = np.diff(ends, prepend=0)
    last = np.full(len(ends), np.nan)
    last[sizes > 0] = rank[ends[sizes > 0] - 1]
    penalties: Floats = sizes / last
    return penalties


def _means(rank: Ints, reached: tuple[Floats, Floats], ends: Ints, rules: Rules) -> dict[str, float]:
    listed, summed = reached
    step, trapezoid = average_precisions(summed, ends)
    per_query = {
        "mAP": step,
        "mAP_trapezoid": trapezoid,
        "mINP": inverse_negative_penalties(rank, ends),
    }
    mean = np.nanmean if rules.matchless == "drop" else _mean_with_zeros
    means = {name: 100 * float(mean(values)) for name, values in per_query.items()}
    return means | reported(cmc(first_ranks(listed, ends), rules))


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
