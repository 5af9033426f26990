"""Whether printed numbers can exist: counts of queries, averages of rounded runs, orders of ranks.

A published score is a count or a mean of counts, so most strings of digits are impossible. That
finds typing errors, other protocols and papers that average what they rounded.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from functools import cache
from itertools import combinations_with_replacement, pairwise
from math import ceil, sqrt
from typing import NamedTuple

from reproductions.paper import PERCENTAGES, Cell, Spread
from reproductions.transcript import half_of_last_digit, number

RANKS = ("rank1", "rank5", "rank10", "rank20")
MOST_RUNS = 5  # the number of sets of scores to try grows as a power of the runs,
WIDEST = 80  # and of their range in steps


class Failure(NamedTuple):
    """A cell that fails a check; ``found`` and ``expected`` complete an error message."""

    check: str
    cell: Cell
    found: str
    expected: str


def is_share(value: Decimal, half_step: Decimal, total: int) -> bool:
    """Whether ``value`` percent, give or take ``half_step``, is a whole number out of ``total``.

    The GRIM test (Brown & Heathers, 2017). With 3,368 queries about a third of all two-decimal
    values pass, at one decimal all do.
    """
    return _holds_integer((value - half_step) * total / 100, (value + half_step) * total / 100)


def is_mean(value: Decimal, half_step: Decimal, runs: int, resolution: Decimal) -> bool:
    """Whether scores rounded to ``resolution`` can have the mean ``value``, give or take ``half_step``.

    With four runs rounded to 0.1, every mean is a multiple of 0.025.
    """
    step = resolution / runs
    return _holds_integer((value - half_step) / step, (value + half_step) / step)


def is_spread(mean: Cell, printed: str, form: Spread) -> bool:
    """Whether some scores have the mean of a cell and the ``printed`` deviation, both after rounding.

    The scores lie on the grid of ``mean.resolution``; there are ``mean.runs`` of them. A deviation
    that is very large on this grid passes untried: among so many sets of scores some have it.
    """
    runs, step = mean.runs, mean.resolution
    deviation, half_step = number(printed), half_of_last_digit(printed)
    divisor = runs * runs if form == "population" else runs * (runs - 1)
    low = max(deviation - half_step, Decimal(0)) / step
    high = (deviation + half_step) / step
    width = 20 * ceil(float(high) * sqrt(2 * runs) / 20)  # no range of scores exceeds this
    if width > WIDEST:
        return True
    sums = _sums_of_squares(runs, width)
    first = ((mean.value - mean.half_step) / step * runs).to_integral_value(ROUND_CEILING)
    last = ((mean.value + mean.half_step) / step * runs).to_integral_value(ROUND_FLOOR)
    for total in range(int(first), int(last) + 1):
        possible = sums[total % runs]
        at = bisect_left(possible, low * low * divisor)
        if at < len(possible) and possible[at] <= high * high * divisor:
            return True
    return False


def failures(cells: Iterable[Cell], queries: Mapping[str, int | None]) -> Iterator[Failure]:
    """Every check on every cell that it applies to; ``queries`` gives query counts by data set."""
    cells = list(cells)
    scores = [cell for cell in cells if cell.metric in PERCENTAGES and not cell.is_deviation]
    yield from _outside(scores)
    yield from _out_of_order(scores)
    yield from _no_share(scores, queries)
    yield from _no_mean(scores)
    yield from _no_spread(scores, {cell.id: cell for cell in cells})


def _holds_integer(low: Decimal, high: Decimal) -> bool:
    return low.to_integral_value(ROUND_CEILING) <= high


@cache
def _sums_of_squares(runs: int, width: int) -> tuple[tuple[int, ...], ...]:
    """All runs * sum((x - mean)^2) of ``runs`` integers within ``width``, sorted, by sum modulo runs.

    Neither the expression nor the residue changes when every integer moves by one, so the least
    integer is 0.
    """
    found: list[set[int]] = [set() for _ in range(runs)]
    for others in combinations_with_replacement(range(width + 1), runs - 1):
        total = sum(others)
        found[total % runs].add(runs * sum(x * x for x in others) - total * total)
    return tuple(tuple(sorted(values)) for values in found)


def _outside(scores: Iterable[Cell]) -> Iterator[Failure]:
    for cell in scores:
        if not 0 <= cell.value <= 100:
            yield Failure("percentage", cell, repr(cell.printed), "a percentage, 0 to 100")


def _out_of_order(scores: Iterable[Cell]) -> Iterator[Failure]:
    lines: dict[tuple[str, str, str, str], dict[str, Cell]] = defaultdict(dict)
    for cell in scores:
        lines[cell.table, cell.row, cell.dataset, cell.setting][cell.metric] = cell
    for line in lines.values():
        ranks = [line[metric] for metric in RANKS if metric in line]
        for small, large in pairwise(ranks):
            if small.value > large.value:
                found = f"{small.metric} {small.printed} above {large.metric} {large.printed}"
                yield Failure("order", small, found, "scores that do not fall with the rank")


def _no_share(scores: Iterable[Cell], queries: Mapping[str, int | None]) -> Iterator[Failure]:
    for cell in scores:
        total = queries.get(cell.dataset)
        single = cell.runs == 1 and cell.metric in RANKS and cell.setting == "single-query"
        if total and single and not is_share(cell.value, cell.half_step, total):
            yield Failure("grim", cell, repr(cell.printed), f"a whole number of {total} queries")


def _no_mean(scores: Iterable[Cell]) -> Iterator[Failure]:
    for cell in scores:
        if cell.runs > 1 and not is_mean(cell.value, cell.half_step, cell.runs, cell.resolution):
            expected = f"a mean of {cell.runs} scores in steps of {cell.resolution}"
            yield Failure("mean", cell, repr(cell.printed), expected)


def _no_spread(scores: Iterable[Cell], by_id: Mapping[str, Cell]) -> Iterator[Failure]:
    for cell in scores:
        deviation = by_id.get(f"{cell.id}-std")
        if deviation is None or not 1 < cell.runs <= MOST_RUNS:
            continue
        finer = 2 * deviation.half_step < cell.resolution  # otherwise every deviation is possible
        if finer and not is_spread(cell, deviation.printed, cell.spread):
            expected = f"the {cell.spread} deviation of {cell.runs} scores in steps of {cell.resolution}"
            yield Failure("spread", deviation, f"{cell.printed} {deviation.printed}", expected)
