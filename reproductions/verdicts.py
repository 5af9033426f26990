"""Is a printed number reproduced? Equivalence tests (TOST) of our seeds against tolerances fixed beforehand.

The printed number is the claim, our seeds are the evidence: ``within`` means that our *expected*
score lies inside the tolerance, at 5 % on each side. "No significant difference" never counts as
agreement, since it would reward few and noisy seeds. Lakens 2017 for the two one-sided tests,
Smyth 2004 for the steadied spread. scipy is imported where it is used: it takes a while.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache
from statistics import fmean, variance
from typing import Literal, NamedTuple

from reproductions.noise import noise_table, tolerance, usual_noise
from reproductions.paper import Cell
from reproductions.transcript import half_of_last_digit, magnitude, number

__all__ = ["Verdict", "judge", "judge_cell", "judge_exact", "tolerance", "usual_noise"]

Word = Literal["within", "above", "below", "open", "unrun", "differs"]

ALPHA = 0.05
FINDINGS: tuple[Word, ...] = ("below", "above")
FAILURES: tuple[Word, ...] = ("below", "differs")


@dataclass(frozen=True, slots=True)
class Verdict:
    """One answer. Numbers are percentage points and unrounded; only reports round.

    Attributes:
        word: ``within`` the tolerance, ``above`` or ``below`` it, ``open`` (more seeds needed), ``unrun``;
            ``differs`` for an exact cell that is wrong.
        n: seeds behind it.
        gap: our mean minus the printed value; ``nan`` without seeds.
        low: lower end of the gap's 90 % interval.
        high: upper end; each end is a 5 % test.
        edge: the interval must lie inside (-edge, edge): the tolerance and half a rounding step.
        p: p-values of ``within``, ``below`` and ``above``; all 1 for fewer than two seeds.
        exceeds: the whole interval is above the printed value, a note beside ``within``.
        reading: the printed value that was compared, where the errata allow more than one.
    """

    word: Word
    n: int
    gap: float
    low: float
    high: float
    edge: float
    p: Mapping[str, float]
    exceeds: bool = False
    reading: str | None = None

    @property
    def fails(self) -> bool:
        """Whether this speaks against the paper or our code: ``below`` or ``differs``."""
        return self.word in FAILURES


class Steadied(NamedTuple):
    """Mean of some scores and a spread for it, with the degrees of freedom of that spread."""

    mean: float
    spread: float
    dof: int


NO_EVIDENCE: Mapping[str, float] = {"within": 1.0, "below": 1.0, "above": 1.0}


def steadied(scores: Sequence[float], noise: float, weight: int | None = None) -> Steadied:
    """Pool the scores' own variance with the usual ``noise``, which counts for ``weight`` degrees.

    Four seeds know their spread badly. Needs one score or more.
    """
    weight = noise_table().weight if weight is None else weight
    own = (len(scores) - 1) * variance(scores) if len(scores) > 1 else 0.0
    dof = weight + len(scores) - 1
    return Steadied(fmean(scores), math.sqrt((weight * noise**2 + own) / dof), dof)


def judge(
    scores: Sequence[float],
    printed: float,
    tolerance: float,
    resolution: float,
    noise: float,
    *,
    weight: int | None = None,
    alpha: float = ALPHA,
    higher_is_better: bool = True,
) -> Verdict:
    """The cell rule.

    Args:
        scores: one per seed, unrounded.
        printed: the paper's value.
        tolerance: distance that counts as reproduced.
        resolution: step to which the authors rounded each run.
        noise: usual deviation between seeds of this data set and metric.
        weight: degrees of freedom that ``noise`` counts for.
        alpha: level of each one-sided test.
        higher_is_better: if not, gap and words are turned round, so that ``below`` is always worse.
    """
    edge = tolerance + resolution / 2
    if not scores:
        return Verdict("unrun", 0, math.nan, math.nan, math.nan, edge, NO_EVIDENCE)
    mean, spread, dof = steadied(scores, noise, weight)
    gap = mean - printed if higher_is_better else printed - mean
    return judge_gap(gap, spread / math.sqrt(len(scores)), dof, edge, resolution, len(scores), alpha)


def judge_gap(
    gap: float, error: float, dof: float, edge: float, resolution: float, n: int, alpha: float = ALPHA
) -> Verdict:
    """The cell rule for a gap with a standard error, for example a difference of two rows.

    Fewer than two seeds are always ``open``; their interval rests on the usual noise alone.
    """
    from scipy.stats import t

    reach = float(t.ppf(1 - alpha, dof)) * error
    low, high = gap - reach, gap + reach
    if n < 2:
        return Verdict("open", n, gap, low, high, edge, NO_EVIDENCE)
    p = {"below": _upper_tail(-(gap + edge), error, dof), "above": _upper_tail(gap - edge, error, dof)}
    p["within"] = max(_upper_tail(gap + edge, error, dof), _upper_tail(edge - gap, error, dof))
    words: tuple[Word, ...] = ("within", "below", "above")
    word: Word = next((word for word in words if p[word] < alpha), "open")
    exceeds = word == "within" and low > resolution / 2
    return Verdict(word, n, gap, low, high, edge, p, exceeds)


def _upper_tail(distance: float, error: float, dof: float) -> float:
    """P(T > distance / error); without any error a distance decides alone."""
    from scipy.stats import t

    if error == 0:
        return float(distance <= 0)
    return float(t.sf(distance / error, dof))


def judge_cell(cell: Cell, scores: Sequence[float]) -> Verdict:
    """The cell rule for a printed score, against every reading that the errata allow.

    It is ``below`` only if it is below under all of them, and so on: the first of ``within``,
    ``open``, ``above``, ``below`` that some reading gives. Raises ``ValueError`` for a cell that
    is not judged as a score (``cell.tolerance`` is ``None``).
    """
    if cell.tolerance is None:
        raise ValueError(f"{cell.id} is no score to be judged")
    noise = usual_noise(cell.dataset, cell.metric)
    verdicts = [
        replace(
            judge(scores, float(number(reading)), cell.tolerance, float(cell.resolution), noise),
            reading=reading if cell.readings else None,
        )
        for reading in (cell.printed, *cell.readings)
    ]
    order = ("unrun", "within", "open", "above", "below")
    return min(verdicts, key=lambda verdict: order.index(verdict.word))


def judge_exact(value: float | Decimal, *readings: str) -> Verdict:
    """An exact cell: ``within`` if ``value`` rounds to the digits of some reading, else ``differs``.

    A half may have been rounded either way. A reading that is an order of magnitude, such as ``≈10^-4``,
    agrees with values of its sign whose first digit stands there: 0.0001 to just below 0.001.
    """
    value = Decimal(str(value))
    found = next((reading for reading in readings if _agrees(value, reading)), None)
    reading = readings[0] if found is None else found
    gap, edge = value - number(reading), half_of_last_digit(reading)
    word: Word = "differs" if found is None else "within"
    return Verdict(word, 1, float(gap), float(gap), float(gap), float(edge), NO_EVIDENCE, reading=reading)


def _agrees(value: Decimal, reading: str) -> bool:
    if (exponent := magnitude(reading)) is not None:
        return value * number(reading) > 0 and value.adjusted() == exponent
    return abs(value - number(reading)) <= half_of_last_digit(reading)


def confirmed(
    verdicts: Mapping[str, Verdict], rate: float = 0.05, method: Literal["bh", "by"] = "bh"
) -> dict[str, Word]:
    """Findings against the papers, ``below`` and ``above``, that survive false discovery control.

    ``verdicts`` are those of *all* primary cells of a campaign, of every paper; each direction is
    controlled over all of them, at ``rate`` expected false findings among those named. Cells
    without seeds are no tests and do not count. ``"by"`` holds under any dependence.
    """
    from scipy.stats import false_discovery_control

    tested = {name: verdict for name, verdict in verdicts.items() if verdict.word != "unrun"}
    found: dict[str, Word] = {}
    for word in FINDINGS if tested else ():
        adjusted = false_discovery_control([v.p[word] for v in tested.values()], method=method)
        found |= {name: word for name, p in zip(tested, adjusted, strict=True) if p <= rate}
    return found


def is_blunt(tolerance: float, step: float) -> bool:
    """Whether a tolerance exceeds half the step that a row is there to show: then its claim decides."""
    return tolerance > abs(step) / 2


def surprise(scores: Sequence[float], printed: float, noise: float, published_runs: int) -> float:
    """How surprising: z of the printed value as a draw from *our* distribution. Shown, never a verdict."""
    mean, spread, _ = steadied(scores, noise)
    return (mean - printed) / (spread * math.sqrt(1 / len(scores) + 1 / published_runs))


def chance_within(seeds: int, noise: float, edge: float, gap: float = 0.0, alpha: float = ALPHA) -> float:
    """Probability that ``seeds`` seeds give ``within`` if the true gap is ``gap`` and the noise as usual.

    Integrates over the spread that the seeds may show: given it, ``within`` is an interval for
    their normally distributed mean.
    """
    from scipy.stats import chi2, norm, t

    if seeds < 2:
        return 0.0
    weight, n = noise_table().weight, seeds
    shares = [(i + 0.5) / 2000 for i in range(2000)]  # midpoints of equally likely slices
    spreads = noise * ((weight + chi2.ppf(shares, n - 1)) / (weight + n - 1)) ** 0.5
    room = edge - t.ppf(1 - alpha, weight + n - 1) * spreads / math.sqrt(n)
    error = noise / math.sqrt(n)
    chances = norm.cdf((room - gap) / error) - norm.cdf((-room - gap) / error)
    return float(chances.clip(min=0).mean())


@lru_cache(maxsize=1024)
def seeds_needed(
    noise: float, edge: float, gap: float = 0.0, chance: float = 0.8, most: int = 1000
) -> int | None:
    """Fewest seeds with at least this chance of ``within``; ``None`` if more than ``most``."""
    return next((n for n in range(2, most + 1) if chance_within(n, noise, edge, gap) >= chance), None)


def summary(words: Iterable[Word], explained: Iterable[Word] = ()) -> str:
    """Counts in a fixed order, for example ``"46 within, 2 below (1 explained), 3 open"``; never one score.

    Args:
        words: of all cells.
        explained: of those among them whose gap an erratum explains.
    """
    words, explained = list(words), list(explained)
    order: tuple[Word, ...] = ("within", "above", "below", "differs", "open", "unrun")
    counts = {word: f"{words.count(word)} {word}" for word in order if word in words}
    counts |= {word: f"{counts[word]} ({explained.count(word)} explained)" for word in set(explained)}
    return ", ".join(counts.values())
