from decimal import Decimal
from itertools import product
from statistics import fmean, pstdev, stdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reproductions.checks import failures, is_mean, is_share, is_spread
from reproductions.paper import Cell
from reproductions.transcript import half_of_last_digit, number

TENTH = Decimal("0.1")
CENT = Decimal("0.005")


def cell(
    printed: str, metric: str = "rank1", *, runs: int = 1, resolution: str = "0.01", id_: str = "c"
) -> Cell:
    return Cell(
        id=id_,
        paper="p",
        table="t",
        row="r",
        group="",
        dataset="street",
        setting="single-query",
        metric=metric,
        printed=printed,
        value=number(printed),
        std=None,
        runs=runs,
        kind="proposed",
        method="m",
        scale="paper",
        tolerance=1.0,
        resolution=Decimal(resolution),
        spread="population",
        bold=False,
    )


def names(*cells: Cell, queries: int | None = None) -> list[tuple[str, str]]:
    return [(failure.check, failure.cell.id) for failure in failures(cells, {"street": queries})]


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.integers(0, 3))
def test_every_share_of_queries_passes_however_it_is_rounded(hits, places):
    found, total = hits
    share = 100 * Decimal(found) / total
    printed = f"{share:.{places}f}"

    assert is_share(number(printed), half_of_last_digit(printed), total)


@given(st.decimals(0, 100, places=2), st.integers(1, 300))
def test_a_share_is_found_exactly_when_some_count_gives_it(value, total):
    exists = any(abs(100 * Decimal(k) / total - value) <= CENT for k in range(total + 1))

    assert is_share(value, CENT, total) == exists


@pytest.mark.parametrize(("queries", "share"), [(3368, 0.34), (1400, 0.14)])
def test_how_many_two_decimal_values_exist(queries, share):
    possible = sum(is_share(Decimal(i) / 100, CENT, queries) for i in range(10_000))

    assert possible / 10_000 == pytest.approx(share, abs=0.006)


def test_one_decimal_says_nothing_about_a_thousand_queries():
    assert all(is_share(Decimal(i) / 10, Decimal("0.05"), 1400) for i in range(1000))


SCORES = st.lists(st.integers(600, 640).map(lambda tenths: Decimal(tenths) / 10), min_size=2, max_size=5)


@settings(deadline=None)  # the first call of each size lists all sets of scores
@given(SCORES)
def test_means_and_deviations_of_rounded_scores_pass(scores):
    mean = f"{sum(scores) / len(scores):.2f}"
    measured = cell(mean, runs=len(scores), resolution="0.1")

    assert is_mean(number(mean), CENT, len(scores), TENTH)
    assert is_spread(measured, f"±{pstdev(scores):.2f}", "population")
    assert is_spread(measured, f"±{stdev(scores):.2f}", "sample")


@settings(deadline=None)
@given(st.decimals(60, 61, places=2), st.decimals(0, Decimal("0.3"), places=2), st.sampled_from([2, 3]))
def test_a_deviation_is_found_exactly_when_some_scores_have_it(mean, deviation, runs):
    grid = [59.5 + i / 10 for i in range(21)]
    slack = 0.005 + 1e-9
    exists = any(
        abs(fmean(scores) - float(mean)) <= slack and abs(pstdev(scores) - float(deviation)) <= slack
        for scores in product(grid, repeat=runs)
    )

    assert is_spread(cell(str(mean), runs=runs, resolution="0.1"), str(deviation), "population") == exists


def test_means_of_four_rounded_runs_are_multiples_of_a_fortieth():
    possible = [i for i in range(100) if is_mean(Decimal(i) / 100, CENT, 4, TENTH)]

    assert possible[:12] == [0, 2, 3, 5, 7, 8, 10, 12, 13, 15, 17, 18]  # either way from .025 and .075


def test_a_huge_deviation_on_a_fine_grid_passes_untried():
    assert is_spread(cell("50.00", runs=4, resolution="0.1"), "±9.99", "population")


def test_percentages_end_at_100():
    assert names(cell("100.01"), cell("100.0"), cell("0", "mAP")) == [("percentage", "c")]
    assert names(cell("12936", "train_images")) == []


def test_scores_may_not_fall_with_the_rank():
    first, fifth = cell("80.0", "rank1", id_="1"), cell("79.9", "rank5", id_="5")
    tenth = cell("79.9", "rank10", id_="10")

    assert names(first, fifth, tenth) == [("order", "1")]
    assert names(first.model_copy(update={"value": fifth.value}), fifth, tenth) == []


def test_counts_of_queries_bind_single_runs_of_rank_k_only():
    impossible = cell("50.01")

    assert names(impossible, queries=1400) == [("grim", "c")]
    assert names(impossible) == []
    assert names(cell("50.01", "mAP"), queries=1400) == []
    assert names(cell("50.01", runs=4), queries=1400) == []


def test_averages_of_rounded_runs_are_checked_with_their_deviations():
    mean = cell("88.67", "mAP", runs=4, resolution="0.1")
    deviation = mean.model_copy(
        update={"id": "c-std", "printed": "±0.01", "value": Decimal("0.01"), "kind": "statistic"}
    )

    assert names(mean, deviation) == [("spread", "c-std")]
    assert names(cell("88.66", "mAP", runs=4, resolution="0.1")) == [("mean", "c")]
