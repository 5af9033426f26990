import math
from decimal import Decimal
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reproductions.claims import Scores, blunt_cells, difference, judge_claim
from reproductions.paper import Claim, ClaimKind, Target
from reproductions.spec import load_paper

STREET = "street"


def claim(
    kind: ClaimKind, rows: tuple[str, ...], *, size: str | None = None, tolerance: float | None = None
) -> Claim:
    return Claim(
        id="c",
        kind=kind,
        rows=rows,
        datasets=(STREET,),
        source="",
        statement="",
        tolerance=tolerance,
        targets=(Target(STREET, "mAP", None if size is None else Decimal(size), 4, Decimal("0.1")),),
    )


def scores(**rows: list[float]) -> Scores:
    return lambda row, _dataset, _metric: dict(enumerate(rows.get(row, [])))


def word(claim_: Claim, **rows: list[float]) -> str:
    return judge_claim(claim_, scores(**rows)).word


GREATER = claim("greater", ("A", "B"))
LOW, HIGH = [70.0, 70.4, 69.8, 70.2], [75.1, 74.8, 75.0, 75.3]
SCORE = st.floats(0, 100, allow_nan=False).map(lambda x: round(x, 2))
SEEDS = st.lists(SCORE, min_size=2, max_size=6)
TURNED = {"holds": "reversed", "reversed": "holds", "undecided": "undecided"}


def test_a_clear_difference_holds_and_its_mirror_is_reversed():
    assert word(GREATER, A=HIGH, B=LOW) == "holds"
    assert word(GREATER, A=LOW, B=HIGH) == "reversed"
    assert word(GREATER, A=LOW, B=LOW) == "undecided"


def test_missing_seeds_are_unrun_and_single_ones_undecided():
    verdict = judge_claim(GREATER, scores(A=HIGH))

    assert verdict.word == "unrun"
    assert "no seeds of B" in verdict.details
    assert word(GREATER, A=HIGH, B=LOW[:1]) == "undecided"


@settings(deadline=None)
@given(SEEDS, SEEDS, st.sampled_from(["paper", "proxy"]))
def test_greater_is_antisymmetric(a, b, scale):
    forth = judge_claim(GREATER, scores(A=a, B=b), scale=scale).word
    back = judge_claim(GREATER, scores(A=b, B=a), scale=scale).word

    assert back == TURNED[forth]


@settings(deadline=None)
@given(st.sampled_from(["greater", "peak", "flat", "step"]), SEEDS, SEEDS, st.randoms())
def test_the_order_of_seeds_is_irrelevant(kind, a, b, random):
    claimed = claim(kind, ("A", "B"), size="1.0")
    shuffled = {"A": random.sample(a, len(a)), "B": random.sample(b, len(b))}

    assert word(claimed, A=a, B=b) == word(claimed, **shuffled)


@settings(deadline=None)
@given(SEEDS, SEEDS, st.floats(-50, 50))
def test_only_the_difference_counts(a, b, shift):
    here = judge_claim(GREATER, scores(A=a, B=b)).parts[0]
    there = judge_claim(GREATER, scores(A=[x + shift for x in a], B=[x + shift for x in b])).parts[0]

    assert here.word == there.word or "undecided" in (here.word, there.word)  # rounding on the very edge
    assert difference(a, b, 0.5).gap == pytest.approx(
        difference([x + shift for x in a], [x + shift for x in b], 0.5).gap, abs=1e-6
    )


def test_welch_is_the_textbook_formula():
    found = difference([1.0, 2.0, 3.0], [4.0, 8.0], None)
    a, b = 1 / 3, 8 / 2

    assert found.error == pytest.approx(math.sqrt(a + b))
    assert found.dof == pytest.approx((a + b) ** 2 / (a**2 / 2 + b**2 / 1))
    assert found.gap == -4.0


def test_usual_noise_steadies_a_pooled_spread():
    found = difference([1.0, 2.0, 3.0], [4.0, 8.0], 0.5)

    assert found.dof == 4 + 2 + 1
    assert found.error == pytest.approx(math.sqrt((4 * 0.25 + 2 + 8) / 7 * (1 / 3 + 1 / 2)))


def test_rows_without_spread_do_not_divide_by_zero():
    assert difference([1.0, 1.0], [1.0, 1.0], None).error == 0
    assert judge_claim(GREATER, scores(A=[2.0, 2.0], B=[1.0, 1.0]), scale="proxy").word == "holds"


@pytest.mark.parametrize(("step", "seeds"), [(1.0, 13), (1.5, 7), (2.0, 4), (3.0, 2), (1.9, 4)])
def test_seeds_for_an_80_percent_chance_to_see_a_step(step, seeds):
    random, noise = Random(3), 0.5

    def seen() -> bool:
        first = [random.gauss(step * noise, noise) for _ in range(seeds)]
        return difference(first, [random.gauss(0, noise) for _ in range(seeds)], noise).low > 0

    assert sum(seen() for _ in range(800)) / 800 == pytest.approx(0.82, abs=0.05)


def test_a_false_claim_holds_in_one_case_of_twenty():
    random, noise = Random(4), 0.5

    def held() -> bool:
        a, b = ([random.gauss(70, noise) for _ in range(4)] for _ in "AB")
        return difference(a, b, noise).low > 0

    assert sum(held() for _ in range(1500)) / 1500 == pytest.approx(0.045, abs=0.015)


def test_a_step_may_be_missed_by_half_of_it_or_by_both_sides_luck():
    large, small = claim("step", ("A", "B"), size="5.0"), claim("step", ("A", "B"), size="0.2")

    assert word(large, A=[75.1, 74.9, 75.0], B=[70.1, 69.9, 70.0]) == "holds"
    assert word(large, A=[71.1, 70.9, 71.0], B=[70.1, 69.9, 70.0]) == "below"
    assert word(small, A=[70.9, 70.8, 70.7], B=[70.1, 69.9, 70.0]) == "holds"


def test_a_step_smaller_than_its_tolerance_does_not_hold_without_any_gain():
    small = claim("step", ("A", "B"), size="0.2")

    assert word(small, A=[70.1, 69.9, 70.0], B=[70.1, 69.9, 70.0]) == "undecided"


def test_a_step_carries_the_cell_verdict_and_more_than_printed_still_holds():
    part = judge_claim(claim("step", ("A", "B"), size="2.0"), scores(A=HIGH, B=LOW)).parts[0]

    assert part.word == "holds"
    assert part.cell is not None and part.cell.word == "above"
    assert part.cell.gap == pytest.approx(75.05 - 70.1 - 2.0)
    assert part.cell.edge == pytest.approx(3 * 0.5 * math.sqrt(2 / 4) + 0.1)


MONOTONE = claim("monotone", ("A", "B", "C"))


def test_a_trend_needs_two_seeds_and_three_rows():
    rising = {"A": [1.0, 2.0], "B": [3.0, 4.0], "C": [5.0, 6.0]}

    verdict = judge_claim(MONOTONE, scores(**rising))

    assert verdict.word == "holds"
    assert "p 0.028" in verdict.details
    assert word(MONOTONE, A=rising["C"], B=rising["B"], C=rising["A"]) == "reversed"
    assert word(MONOTONE, A=[1.0, 2.0], B=[3.0, 4.0], C=[2.5]) == "undecided"


def test_four_rows_give_a_smaller_p_value():
    four = claim("monotone", ("A", "B", "C", "D"))
    verdict = judge_claim(four, scores(A=[1, 1], B=[2, 2], C=[3, 3], D=[4, 4]))

    assert "p 0.002" in verdict.details


def test_a_trend_with_a_step_back_beyond_the_tolerance_does_not_hold():
    rows = {"A": [50.0] * 6, "B": [62.0] * 6, "C": [60.0] * 6, "D": [70.0] * 6}
    four = ("A", "B", "C", "D")

    assert word(claim("monotone", four, tolerance=1.0), **rows) == "undecided"
    assert word(claim("monotone", four, tolerance=3.0), **rows) == "holds"


@settings(deadline=None)
@given(st.lists(st.tuples(SCORE, SCORE, SCORE), min_size=2, max_size=5))
def test_monotone_is_antisymmetric_up_to_ties(table):
    a, b, c = (list(column) for column in zip(*table, strict=True))
    forth, back = word(MONOTONE, A=a, B=b, C=c), word(MONOTONE, A=c, B=b, C=a)

    assert back == TURNED[forth]


def test_only_seeds_in_common_enter_a_trend():
    def one(row: str, _dataset: str, _metric: str) -> dict[int, float]:
        return {"A": {0: 1.0, 1: 1.1, 2: 99.0}, "B": {0: 2.0, 1: 2.1}, "C": {0: 3.0, 1: 3.1}}[row]

    assert judge_claim(MONOTONE, one).word == "holds"


PEAK = claim("peak", ("A", "B", "C"), tolerance=0.5)
FLAT = claim("flat", ("A", "B", "C"), tolerance=3.0)


def test_a_peak_is_not_beaten_by_more_than_the_tolerance():
    assert word(PEAK, A=HIGH, B=LOW, C=LOW) == "holds"
    assert word(PEAK, A=LOW, B=HIGH, C=LOW) == "reversed"
    assert word(PEAK, A=LOW, B=LOW, C=[70.0, 72.0]) == "undecided"


def test_flat_rows_are_equivalent_two_by_two():
    assert word(FLAT, A=LOW, B=LOW[::-1], C=[70.3, 70.0, 70.1]) == "holds"
    assert word(FLAT, A=LOW, B=LOW, C=HIGH) == "reversed"
    assert word(FLAT, A=LOW, B=LOW, C=[68.0, 72.0, 75.0]) == "undecided"


@settings(deadline=None)
@given(st.lists(SEEDS, min_size=3, max_size=3), st.permutations([0, 1, 2]))
def test_flat_does_not_depend_on_the_order_of_rows(rows, order):
    other = [rows[i] for i in order]

    assert word(FLAT, A=rows[0], B=rows[1], C=rows[2]) == word(FLAT, A=other[0], B=other[1], C=other[2])


def test_a_claim_holds_only_if_all_its_parts_hold():
    two = GREATER.model_copy(
        update={"targets": (GREATER.targets[0], GREATER.targets[0]._replace(dataset="square"))}
    )

    def on(square_a: list[float], square_b: list[float]) -> str:
        def both(row: str, dataset: str, _metric: str) -> dict[int, float]:
            seeds = {"A": HIGH, "B": LOW} if dataset == STREET else {"A": square_a, "B": square_b}
            return dict(enumerate(seeds[row]))

        return judge_claim(two, both).word

    assert on(HIGH, LOW) == "holds"
    assert on(LOW, HIGH) == "reversed"
    assert on([], []) == "undecided"
    assert on(LOW, LOW) == "undecided"


def test_blunt_cells_cannot_show_the_step_of_their_row():
    sona = load_paper("sona")
    cells = {cell.id: cell for cell in sona.cells}
    claims = {claim.id: claim for claim in sona.claims}

    blunt = blunt_cells(sona)

    assert {cells[id_].dataset for id_ in blunt} == {"market1501"}
    for id_, claim_id in blunt.items():
        (size,) = (t.size for t in claims[claim_id].targets if t.dataset == cells[id_].dataset)
        assert size is not None
        assert 2 * (cells[id_].tolerance or 0) > float(size)


def test_a_claim_can_be_tried_on_another_data_set():
    two = GREATER.model_copy(
        update={"targets": (GREATER.targets[0], GREATER.targets[0]._replace(dataset="square"))}
    )
    asked = []

    def crosswalk(row: str, dataset: str, _metric: str) -> dict[int, float]:
        asked.append(dataset)
        return dict(enumerate(HIGH if row == "A" else LOW))

    verdict = judge_claim(two, crosswalk, scale="proxy", datasets=["crosswalk"])

    assert verdict.word == "holds"
    assert [part.dataset for part in verdict.parts] == ["crosswalk"]
    assert set(asked) == {"crosswalk"}
