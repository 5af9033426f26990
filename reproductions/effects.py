"""Cause and effect on the street: does a row's gain over another grow with a dial?

A paper explains why its method gains; if the explanation is right, the gain grows with its cause. The
street has a dial for the cause, so both rows are trained and tested at several levels of the dial
while all else stays: the same people, frames and cameras, drawn from the same random numbers.

For each level the gain is the first row's mean over seeds minus the second's, with Welch's 95 %
interval. Over the levels a straight line is fitted to the gains by least squares, all levels with
equal weight: a few seeds know their spread too badly to weigh by it. Its *rise* from the lowest to the
highest level is a weighted sum of independent means, so the spread of each and the
Welch-Satterthwaite formula give its interval.

=============  ====================================================================================
``grows``      the 95 % interval of the rise is above 0
``shrinks``    it is below 0
``undecided``  it holds 0, or a row has fewer than two seeds at a level
``unrun``      a row has no seed at a level
=============  ====================================================================================

Seeds are paired neither between rows (see ``reproductions.claims``) nor between levels: if a seed's
first weights, the same at all levels, moved its scores alike, the true interval would be narrower. The
street itself is one draw: the intervals speak of other trainings on this street, not of other streets.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Literal

from reproductions.claims import Difference, difference, shown
from reproductions.jobs import STREET, Changes, Job, make_job
from reproductions.paper import Mechanism, Paper
from reproductions.records import SeedRecord, by_row_hash, serving

Word = Literal["grows", "shrinks", "undecided", "unrun"]
Scores = Callable[[str, float, str], Mapping[int, float]]

TAIL = 0.025
"""Chance of a true value beyond either end of a 95 % interval."""


@dataclass(frozen=True, slots=True)
class Level:
    """Scores of both rows by seed at one level of the dial; ``gain`` is None with fewer than two of a row."""

    level: float
    first: Mapping[int, float]
    second: Mapping[int, float]
    gain: Difference | None

    @classmethod
    def of(cls, level: float, first: Mapping[int, float], second: Mapping[int, float]) -> "Level":
        """The level with the gain of ``first`` over ``second``, in points, with its 95 % interval."""
        enough = min(len(first), len(second)) > 1
        gain = difference(list(first.values()), list(second.values()), None, TAIL) if enough else None
        return cls(level, first, second, gain)


@dataclass(frozen=True, slots=True)
class Effect:
    """What came out in one metric; ``rise`` is None unless every level has a gain."""

    metric: str
    word: Word
    levels: tuple[Level, ...]
    rise: Difference | None

    @property
    def details(self) -> str:
        """The rise and the gains behind it, or what is missing, in one line."""
        if self.rise is None:
            return f"{self.metric}: {self.word} ({_seeds(self.levels)})"
        gains = ", ".join(f"{one.gain.gap:+.2f} at {one.level:g}" for one in self.levels if one.gain)
        return f"{self.metric}: {self.word} (rise {shown(self.rise)}; gains {gains})"


@dataclass(frozen=True, slots=True)
class MechanismVerdict:
    """The answer to one mechanism: ``grows`` if all its metrics say so, ``shrinks`` if one does.

    It is ``unrun`` if no metric has seeds everywhere, and ``undecided`` otherwise.
    """

    mechanism: Mechanism
    word: Word
    effects: tuple[Effect, ...]

    @property
    def details(self) -> str:
        """All metrics in one line."""
        return "; ".join(effect.details for effect in self.effects)


class Trial:
    """A mechanism on the street: its jobs by row and level, their records by seed, and what they say.

    Args:
        paper: whose rows they are.
        mechanism: what is tested.
        records: of the paper; those that belong to none of the jobs are passed over.
        street: size of the street, instead of the recipe's.
        seeds: the seeds that count; by default all that are recorded.
    """

    def __init__(
        self,
        paper: Paper,
        mechanism: Mechanism,
        records: Iterable[SeedRecord],
        *,
        street: str | None = None,
        seeds: Collection[int] | None = None,
    ) -> None:
        self.paper, self.mechanism = paper, mechanism
        self.jobs = mechanism_jobs(paper, mechanism, street)
        recorded = by_row_hash(records)
        self.records = {
            key: [
                record
                for seed, record in serving(job.key, recorded.get(job.row_hash, {})).items()
                if seeds is None or seed in seeds
            ]
            for key, job in self.jobs.items()
        }

    @cached_property
    def verdict(self) -> MechanismVerdict:
        """The answer from the records."""
        return judge_mechanism(self.mechanism, self.scores)

    def scores(self, row: str, level: float, metric: str) -> dict[int, float]:
        """``{seed: score}``; mAP is the protocol's headline average precision."""
        key = self.jobs[row, level].key
        return {one.seed: one.score(key, metric) for one in self.records[row, level]}

    def untrained(self, row: str, level: float, metric: str) -> dict[int, float]:
        """The same before the first step; nothing for scores that are not measured then."""
        key = self.jobs[row, level].key
        before = {one.seed: (one, one.untrained_scores(key)) for one in self.records[row, level]}
        return {seed: found[_named(one, metric)] for seed, (one, found) in before.items() if found}


def mechanism_jobs(
    paper: Paper, mechanism: Mechanism, street: str | None = None
) -> dict[tuple[str, float], Job]:
    """The jobs behind a mechanism by row and level, level by level.

    Args:
        paper: whose rows they are.
        mechanism: what is tested.
        street: size of the street, instead of the recipe's.
    """
    return {
        (row, level): make_job(
            paper, row, STREET, "proxy", changes=Changes(street=street, dials={mechanism.dial: level})
        )
        for level in mechanism.levels
        for row in mechanism.rows
    }


def judge_mechanism(mechanism: Mechanism, scores: Scores) -> MechanismVerdict:
    """Judge one mechanism; ``scores`` is ``(row, level, metric) -> {seed: score}``, higher is better."""
    effects = tuple(_effect(mechanism, metric, scores) for metric in mechanism.metrics)
    return MechanismVerdict(mechanism, _together([effect.word for effect in effects]), effects)


def line_rise(levels: Sequence[float], gains: Sequence[Difference]) -> Difference:
    """Rise of the least-squares line through the gains from the lowest to the highest level, 95 % interval.

    Its weights are the same whatever the gains: w_l = range (x_l - mean x) / sum (x - mean x)^2. Summing the
    squared errors and their degrees of freedom level by level is the Welch-Satterthwaite formula over
    all single means, as each gain's own are that for its two.
    """
    from scipy.stats import t

    centre, reach = fmean(levels), max(levels) - min(levels)
    scale = reach / sum((level - centre) ** 2 for level in levels)
    weights = [scale * (level - centre) for level in levels]
    rise = sum(w * gain.gap for w, gain in zip(weights, gains, strict=True))
    squares = [(w * gain.error) ** 2 for w, gain in zip(weights, gains, strict=True)]
    doubt = sum(square**2 / gain.dof for square, gain in zip(squares, gains, strict=True))
    dof = sum(squares) ** 2 / doubt if doubt else sum(gain.dof for gain in gains)
    error = math.sqrt(sum(squares))
    margin = float(t.ppf(1 - TAIL, dof)) * error
    return Difference(rise, error, dof, rise - margin, rise + margin)


def _named(record: SeedRecord, metric: str) -> str:
    return record.headline if metric == "mAP" else metric


def _effect(mechanism: Mechanism, metric: str, scores: Scores) -> Effect:
    sides = [[scores(row, level, metric) for row in mechanism.rows] for level in mechanism.levels]
    levels = tuple(Level.of(level, *side) for level, side in zip(mechanism.levels, sides, strict=True))
    if any(not own for side in sides for own in side):
        return Effect(metric, "unrun", levels, None)
    gains = [one.gain for one in levels if one.gain]
    if len(gains) < len(levels):
        return Effect(metric, "undecided", levels, None)
    rise = line_rise(mechanism.levels, gains)
    word: Word = "grows" if rise.low > 0 else "shrinks" if rise.high < 0 else "undecided"
    return Effect(metric, word, levels, rise)


def _together(words: Sequence[Word]) -> Word:
    if "shrinks" in words:
        return "shrinks"
    if all(word == "grows" for word in words):
        return "grows"
    return "unrun" if all(word == "unrun" for word in words) else "undecided"


def _seeds(levels: Sequence[Level]) -> str:
    """Seeds of both rows at each level, where some are missing."""
    return "seeds " + ", ".join(f"{len(one.first)} and {len(one.second)} at {one.level:g}" for one in levels)
