"""Does what a paper says about its rows show in our own runs of them?

============  =====================================================================================
``greater``   95 % one-sided bound of mean(first) - mean(second) above 0; ``reversed`` if below 0
``step``      the cell rule on the difference, tolerance max(d / 2, 3 s0 sqrt(2 / published runs));
              ``below`` if it is short of the printed size, ``holds`` within it or beyond, and not 0
``monotone``  Page's trend test over seeds x rows, and no step back beyond the tolerance
``peak``      the upper bound of every other row minus the first is below the tolerance
``flat``      every two rows are equivalent within the tolerance
============  =====================================================================================

Seeds are not paired, although rows share them: a seed gives two networks the same order of images,
but other initial weights and other random draws in each layer, so what they share is not known
to move both scores alike. (Rows that are features of one network do move together; unpaired, the
interval of their difference is too wide, on the safe side.) Differences pool the spread of both rows,
steadied by the usual noise, at scale ``paper``; the noise of proxies is unknown, so there they use
Welch's test. scipy is imported where it is used.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from statistics import fmean, variance
from typing import Literal, NamedTuple

from reproductions.noise import noise_table, tolerance, usual_noise
from reproductions.paper import Claim, Paper, RunScale, Target
from reproductions.verdicts import ALPHA, Verdict, is_blunt, judge_gap

Word = Literal["holds", "reversed", "below", "undecided", "unrun"]
Scores = Callable[[str, str, str], Mapping[int, float]]


@dataclass(frozen=True, slots=True)
class ClaimPart:
    """A claim's answer on one data set, in one metric; ``details`` says why, ``cell`` is a step's verdict."""

    dataset: str
    metric: str
    word: Word
    details: str
    cell: Verdict | None = None


@dataclass(frozen=True, slots=True)
class ClaimVerdict:
    """A claim's answer: ``holds`` if all its parts hold, ``reversed`` or ``below`` if one is.

    It is ``unrun`` if no part has seeds, and ``undecided`` otherwise.
    """

    id: str
    word: Word
    parts: tuple[ClaimPart, ...]

    @property
    def details(self) -> str:
        """All parts in one line."""
        return "; ".join(f"{p.dataset} {p.metric}: {p.word} ({p.details})" for p in self.parts)


class Difference(NamedTuple):
    """Mean of the first scores minus mean of the second, with a 90 % interval: each end a 5 % test."""

    gap: float
    error: float
    dof: float
    low: float
    high: float


def judge_claim(
    claim: Claim, scores: Scores, *, scale: RunScale = "paper", datasets: Sequence[str] | None = None
) -> ClaimVerdict:
    """Judge one claim.

    Args:
        claim: what is claimed.
        scores: ``(row, dataset, metric) -> {seed: score}``, empty where nothing was run; higher is better.
        scale: where the scores come from.
        datasets: data sets to judge it on instead of the claim's own, for example the street.
    """
    targets = claim.targets
    if datasets is not None:
        targets = tuple(t._replace(dataset=name) for name in datasets for t in _one_a_metric(targets))
    parts = tuple(_judge_part(claim, target, scores, scale) for target in targets)
    return ClaimVerdict(claim.id, _together([part.word for part in parts]), parts)


def blunt_cells(paper: Paper) -> dict[str, str]:
    """Primary cells too tolerant to show the step that their row is there to show: cell id -> claim id.

    For these the claim decides, which is of kind ``step`` and has the cell's row as its first.
    """
    return {
        cell.id: claim.id
        for claim in paper.claims
        if claim.kind == "step"
        for target in claim.targets
        for cell in paper.select(row=claim.rows[0], dataset=target.dataset, metric=target.metric)
        if cell.is_primary and cell.tolerance is not None and target.size is not None
        if is_blunt(cell.tolerance, float(target.size))
    }


def difference(
    first: Sequence[float], second: Sequence[float], noise: float | None, alpha: float = ALPHA
) -> Difference:
    """Difference of two means of two scores or more each.

    With ``noise`` (the usual deviation between seeds) the spread is pooled and steadied by it,
    without it is Welch's.
    """
    from scipy.stats import t

    gap = fmean(first) - fmean(second)
    error, dof = _welch(first, second) if noise is None else _pooled(first, second, noise)
    reach = float(t.ppf(1 - alpha, dof)) * error
    return Difference(gap, error, dof, gap - reach, gap + reach)


def _pooled(first: Sequence[float], second: Sequence[float], noise: float) -> tuple[float, float]:
    weight, m, n = noise_table().weight, len(first), len(second)
    dof = weight + m + n - 2
    squares = weight * noise**2 + (m - 1) * variance(first) + (n - 1) * variance(second)
    return math.sqrt(squares / dof * (1 / m + 1 / n)), dof


def _welch(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Standard error and Welch-Satterthwaite degrees of freedom."""
    m, n = len(first), len(second)
    a, b = variance(first) / m, variance(second) / n
    if a + b == 0:
        return 0.0, m + n - 2
    return math.sqrt(a + b), (a + b) ** 2 / (a**2 / (m - 1) + b**2 / (n - 1))


def _one_a_metric(targets: Iterable[Target]) -> list[Target]:
    return list({target.metric: target for target in targets}.values())


def _together(words: Sequence[Word]) -> Word:
    for word in ("reversed", "below"):
        if word in words:
            return word
    if all(word == "holds" for word in words):
        return "holds"
    return "unrun" if all(word == "unrun" for word in words) else "undecided"


def _judge_part(claim: Claim, target: Target, scores: Scores, scale: RunScale) -> ClaimPart:
    seeds = {row: dict(scores(row, target.dataset, target.metric)) for row in claim.rows}
    part = (target.dataset, target.metric)
    if missing := [row for row, own in seeds.items() if not own]:
        return ClaimPart(*part, "unrun", f"no seeds of {', '.join(missing)}")
    if short := [row for row, own in seeds.items() if len(own) < 2]:
        return ClaimPart(*part, "undecided", f"one seed only of {', '.join(short)}")
    noise = usual_noise(*part) if scale == "paper" else None
    if claim.kind == "step":
        return _step(claim, target, seeds, usual_noise(*part))
    margin = claim.tolerance
    if margin is None:
        margin = tolerance(noise, target.runs) if noise is not None else 0.0
    if claim.kind == "monotone":
        return ClaimPart(*part, *_monotone(claim.rows, seeds, margin))
    sides = {row: [own[seed] for seed in sorted(own)] for row, own in seeds.items()}
    rule = {"greater": _greater, "peak": _peak, "flat": _flat}[claim.kind]
    return ClaimPart(*part, *rule(claim.rows, sides, noise, margin))


def _greater(
    rows: Sequence[str], sides: Mapping[str, Sequence[float]], noise: float | None, _margin: float
) -> tuple[Word, str]:
    found = difference(sides[rows[0]], sides[rows[1]], noise)
    word: Word = "holds" if found.low > 0 else "reversed" if found.high < 0 else "undecided"
    return word, _shown(rows[0], rows[1], found)


def _peak(
    rows: Sequence[str], sides: Mapping[str, Sequence[float]], noise: float | None, margin: float
) -> tuple[Word, str]:
    found = {row: difference(sides[row], sides[rows[0]], noise) for row in rows[1:]}
    word: Word = "undecided"
    if all(other.high < margin for other in found.values()):
        word = "holds"
    elif any(other.low > margin for other in found.values()):
        word = "reversed"
    best = max(found, key=lambda row: found[row].high)
    return word, f"{_shown(best, rows[0], found[best])}, tolerance {margin:.2f}"


def _flat(
    rows: Sequence[str], sides: Mapping[str, Sequence[float]], noise: float | None, margin: float
) -> tuple[Word, str]:
    found = {(a, b): difference(sides[a], sides[b], noise) for a, b in combinations(rows, 2)}
    word: Word = "undecided"
    if all(-margin < pair.low and pair.high < margin for pair in found.values()):
        word = "holds"
    elif any(pair.low > margin or pair.high < -margin for pair in found.values()):
        word = "reversed"
    (a, b), widest = max(found.items(), key=lambda item: max(-item[1].low, item[1].high))
    return word, f"{_shown(a, b, widest)}, tolerance {margin:.2f}"


def _monotone(
    rows: Sequence[str], seeds: Mapping[str, Mapping[int, float]], margin: float
) -> tuple[Word, str]:
    """Page's test over the seeds that all rows have; a reversal is the same claim read backwards."""
    from scipy.stats import page_trend_test

    common = sorted(set.intersection(*(set(seeds[row]) for row in rows)))
    if len(common) < 2:
        return "undecided", f"{len(common)} seeds in common"
    table = [[seeds[row][seed] for row in rows] for seed in common]
    steps = [b - a for a, b in pairwise(fmean(level) for level in zip(*table, strict=True))]
    rising = float(page_trend_test(table).pvalue)
    falling = float(page_trend_test([line[::-1] for line in table]).pvalue)
    word: Word = "undecided"
    if rising < ALPHA and min(steps) >= -margin:
        word = "holds"
    elif falling < ALPHA and max(steps) <= margin:
        word = "reversed"
    return word, f"steps {' '.join(f'{step:+.2f}' for step in steps)}, trend p {rising:.3f}"


def _step(claim: Claim, target: Target, seeds: Mapping[str, Mapping[int, float]], noise: float) -> ClaimPart:
    """The cell rule on the difference: short of the printed size is ``below``, beyond it still holds.

    A difference that may be none at all never holds, whatever the tolerance. Both printed means were
    rounded, so the edge is a whole rounding step beyond the tolerance.
    """
    if target.size is None:
        raise ValueError(f"claim {claim.id}: a step without two printed cells")
    size, resolution = float(target.size), 2 * float(target.resolution)
    first, second = ([own[seed] for seed in sorted(own)] for own in seeds.values())
    found = difference(first, second, noise)
    margin = max(abs(size) / 2, noise_table().tolerance.deviations * noise * math.sqrt(2 / target.runs))
    n = min(len(first), len(second))
    cell = judge_gap(found.gap - size, found.error, found.dof, margin + resolution / 2, resolution, n)
    words: dict[str, Word] = {"within": "holds", "above": "holds", "below": "below", "open": "undecided"}
    word = words[cell.word]
    if word == "holds" and found.low <= 0 <= found.high:
        word = "undecided"  # the tolerance is so wide that no step at all would do
    details = (
        f"{_shown(claim.rows[0], claim.rows[1], found)}, printed {size:+.2f}: {cell.word} {cell.edge:.2f}"
    )
    return ClaimPart(target.dataset, target.metric, word, details, cell)


def _shown(first: str, second: str, found: Difference) -> str:
    return f"{first} - {second} = {shown(found)}"


def shown(found: Difference) -> str:
    """For example ``+1.20 [+0.31, +2.09]``."""
    return f"{found.gap:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"
