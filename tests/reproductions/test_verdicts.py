import math
from decimal import Decimal
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reproductions.noise import tolerance, usual_noise
from reproductions.paper import Cell
from reproductions.spec import load_paper
from reproductions.transcript import number
from reproductions.verdicts import (
    Verdict,
    chance_within,
    confirmed,
    is_blunt,
    judge,
    judge_cell,
    judge_exact,
    seeds_needed,
    summary,
    surprise,
)

WITHIN, OPEN, BELOW, ABOVE = "within", "open", "below", "above"


def rounds(value: float, printed: str) -> bool:
    """Whether ``value`` prints as ``printed``, a half rounded either way."""
    return abs(value - float(printed)) <= 0.005 + 1e-9


@pytest.mark.parametrize(
    ("dataset", "metric", "printed", "runs", "scores", "within", "shown", "word"),
    [
        ("market1501", "mAP", 88.67, 4, (88.41, 88.55, 88.29, 88.62), 0.5, "-0.20 -0.32 -0.08", WITHIN),
        ("market1501", "mAP", 88.67, 4, (88.05, 88.31, 87.92, 88.24), 0.5, "-0.54 -0.68 -0.40", OPEN),
        ("market1501", "mAP", 88.67, 4, (87.6, 87.9, 87.7, 87.4), 0.5, "-1.02 -1.17 -0.87", BELOW),
        ("market1501", "mAP", 88.67, 4, (89.4, 89.7, 89.3, 89.6), 0.5, "+0.83 +0.69 +0.97", ABOVE),
        ("cuhk03-np-labeled", "mAP", 79.23, 4, (79.3, 78.7, 79.8, 78.9), 0.7, "-0.06 -0.49 +0.38", WITHIN),
        ("cuhk03-np-labeled", "mAP", 79.23, 4, (78.2, 79.1, 77.9, 78.8), 0.7, "-0.73 -1.19 -0.27", OPEN),
        ("market1501/openreid", "mAP", 75.3, 1, (74.9, 75.6, 75.1, 74.4), 1.0, "-0.30 -0.62 +0.02", WITHIN),
        ("market1501/openreid", "mAP", 75.3, 1, (73.6, 74.1, 73.2, 73.9), 1.0, "-1.60 -1.86 -1.34", BELOW),
        ("market1501", "rank1", 90.1, 1, (89.55, 90.02, 89.76, 89.61), 1.0, "-0.37 -0.59 -0.14", WITHIN),
    ],
)  # fmt: skip
def test_worked_examples(dataset, metric, printed, runs, scores, within, shown, word):
    noise = usual_noise(dataset, metric)

    assert tolerance(noise, runs) == within
    verdict = judge(scores, printed, within, 0.1, noise)

    assert verdict.word == word
    for value, digits in zip((verdict.gap, verdict.low, verdict.high), shown.split(), strict=True):
        assert rounds(value, digits), (value, digits)


@pytest.mark.parametrize(
    ("dataset", "metric", "runs", "seeds"),
    [
        ("market1501", "mAP", 4, (2, 2, 2)),
        ("market1501", "rank1", 4, (3, 3, 6)),
        ("dukemtmc", "mAP", 4, (3, 4, 7)),
        ("dukemtmc", "rank1", 4, (4, 5, 9)),
        ("cuhk03-np-labeled", "mAP", 4, (4, 5, 9)),
        ("cuhk03-np-labeled", "rank1", 4, (4, 5, 10)),
        ("cuhk03-np-detected", "mAP", 4, (4, 5, 10)),
        ("cuhk03-np-detected", "rank1", 4, (4, 5, 9)),
        ("market1501", "mAP", 1, (2, 2, 2)),
        ("market1501", "rank1", 1, (2, 2, 2)),
        ("dukemtmc", "mAP", 1, (2, 2, 3)),
        ("cuhk03-np-detected", "rank1", 1, (2, 2, 3)),
    ],
)
def test_seeds_for_an_80_or_90_percent_chance_and_with_half_the_tolerance_gone(dataset, metric, runs, seeds):
    noise = usual_noise(dataset, metric)
    within = tolerance(noise, runs)
    edge = within + 0.05  # half of a rounding step of 0.1

    assert seeds_needed(noise, edge) == seeds[0]
    assert seeds_needed(noise, edge, chance=0.9) == seeds[1]
    assert seeds_needed(noise, edge, within / 2) == seeds[2]


def test_the_chance_of_within_is_that_of_simulated_seeds():
    random, noise, edge, n = Random(0), 0.43, 0.75, 4

    def simulated() -> bool:
        scores = [random.gauss(0.2, noise) for _ in range(n)]
        return judge(scores, 0.0, edge - 0.05, 0.1, noise).word == "within"

    share = sum(simulated() for _ in range(1000)) / 1000

    assert share == pytest.approx(chance_within(n, noise, edge, 0.2), abs=0.03)


def test_more_seeds_than_allowed_are_none_and_one_never_suffices():
    assert seeds_needed(1.0, 0.5, most=3) is None
    assert chance_within(1, 0.01, 10.0) == 0.0


@pytest.mark.parametrize(
    ("noise", "runs", "expected"),
    [
        (0.0, 4, 0.5),
        (0.0, 3, 0.5),
        (0.0, 2, 1.0),
        (0.2, 1, 1.0),
        (0.4, 4, 0.6),
        (0.43, 4, 0.7),
        (0.7, 1, 2.1),
    ],
)
def test_tolerance_has_floors_and_is_rounded_up_to_a_tenth(noise, runs, expected):
    assert tolerance(noise, runs) == expected


def test_open_reids_rules_ask_about_the_same_images():
    for dataset in ("market1501", "dukemtmc"):
        for metric in ("mAP", "rank1"):
            assert usual_noise(f"{dataset}/openreid", metric) == usual_noise(dataset, metric)


def test_unmeasured_data_sets_take_the_values_for_elsewhere_and_ranks_those_of_rank_1():
    assert (
        usual_noise("viper", "mAP")
        == usual_noise("market1501/multi-query", "mAP")
        == usual_noise("elsewhere", "mAP")
    )
    assert usual_noise("market1501", "rank10") == usual_noise("market1501", "rank1")
    assert usual_noise("market1501", "mAP_trapezoid") == usual_noise("market1501", "mAP")


def test_no_seeds_are_unrun_and_one_is_open_however_far():
    assert judge([], 50.0, 1.0, 0.1, 0.3).word == "unrun"
    assert math.isnan(judge([], 50.0, 1.0, 0.1, 0.3).gap)
    single = judge([10.0], 50.0, 1.0, 0.1, 0.3)
    assert (single.word, single.n, single.gap) == ("open", 1, -40.0)
    assert single.low < single.gap < single.high
    assert set(single.p.values()) == {1.0}


def test_seeds_without_any_spread_are_decided_by_the_usual_noise():
    assert judge([50.2] * 4, 50.0, 1.0, 0.1, 0.3).word == "within"
    assert judge([50.2] * 4, 50.0, 1.0, 0.1, 3.0).word == "open"
    assert judge([52.0] * 4, 50.0, 1.0, 0.1, 0.0).word == "above"  # no noise at all: the gap decides


def test_exceeding_the_printed_value_is_a_note_beside_within():
    assert judge([50.4, 50.5, 50.3, 50.4], 50.0, 1.0, 0.1, 0.1).exceeds
    assert not judge([50.0, 50.1, 49.9, 50.0], 50.0, 1.0, 0.1, 0.1).exceeds
    above = judge([55.4, 55.5, 55.3, 55.4], 50.0, 1.0, 0.1, 0.1)
    assert above.word == "above" and not above.exceeds


def test_where_lower_is_better_more_is_below():
    assert judge([12.0, 12.1, 12.0], 10.0, 1.0, 0.1, 0.1, higher_is_better=False).word == "below"


SCORE = st.floats(0, 100, allow_nan=False).map(lambda x: round(x, 2))
SEEDS = st.lists(SCORE, min_size=2, max_size=8)
TURNED = {"within": "within", "open": "open", "above": "below", "below": "above"}


@settings(deadline=None)
@given(SEEDS, SCORE, st.floats(0.1, 5), st.floats(0.05, 3), st.randoms())
def test_the_order_of_seeds_is_irrelevant(scores, printed, within, noise, random):
    shuffled = random.sample(scores, len(scores))

    one, other = judge(scores, printed, within, 0.1, noise), judge(shuffled, printed, within, 0.1, noise)

    assert (one.word, one.gap) == (other.word, pytest.approx(other.gap))


@settings(deadline=None)
@given(SEEDS, SCORE, st.floats(0.1, 5), st.floats(0.05, 3))
def test_mirrored_scores_get_the_mirrored_word(scores, printed, within, noise):
    one = judge(scores, printed, within, 0.1, noise)
    mirrored = judge([-x for x in scores], -printed, within, 0.1, noise)

    assert mirrored.word == TURNED[one.word]
    assert (mirrored.low, mirrored.high) == (pytest.approx(-one.high), pytest.approx(-one.low))


@settings(deadline=None)
@given(SEEDS, SCORE, st.floats(0.1, 5), st.floats(0.05, 3))
def test_words_say_where_the_interval_lies(scores, printed, within, noise):
    verdict = judge(scores, printed, within, 0.1, noise)
    inside = -verdict.edge < verdict.low and verdict.high < verdict.edge
    outside = {"above": verdict.low > verdict.edge, "below": verdict.high < -verdict.edge}

    assert (verdict.word == "within") == inside
    for word, holds in outside.items():
        assert (verdict.word == word) == holds


@settings(deadline=None)
@given(SEEDS, SCORE, st.floats(0.1, 5), st.floats(0, 5), st.floats(0.05, 3))
def test_more_tolerance_never_turns_a_cell_against_the_paper(scores, printed, within, more, noise):
    before = judge(scores, printed, within, 0.1, noise).word
    after = judge(scores, printed, within + more, 0.1, noise).word

    assert after == "within" if before == "within" else after in {before, "open", "within"}


def a_cell(*readings: str) -> Cell:
    """A printed score of the SONA paper on Market-1501, with further readings."""
    (cell,) = load_paper("sona").select(table="table2", row="SONA2-Net", metric="mAP", kind="proposed")
    return cell.model_copy(update={"readings": readings})


def test_a_cell_brings_its_own_tolerance_noise_and_rounding():
    cell = a_cell()
    scores = [float(cell.value) - 0.3 + d for d in (-0.1, 0.0, 0.1)]

    assert judge_cell(cell, scores) == judge(scores, float(cell.value), 0.5, 0.1, 0.11)


def test_a_cell_with_readings_fails_only_under_all_of_them():
    far, other = [70.0, 70.1, 69.9], "70.0"

    assert judge_cell(a_cell(), far).word == "below"
    excused = judge_cell(a_cell(other), far)
    assert (excused.word, excused.reading) == ("within", other)
    assert judge_cell(a_cell("80.0"), far).word == "below"
    assert judge_cell(a_cell("60.0"), far).word == "above"
    assert judge_cell(a_cell(other), []).word == "unrun"


def test_what_is_no_score_is_not_judged():
    with pytest.raises(ValueError, match="no score"):
        judge_cell(load_paper("sona").select(kind="cited")[0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("value", "printed", "word"),
    [
        *[(31.1209, "31.12", "within"), (31.125, "31.12", "within"), (31.1251, "31.12", "differs")],
        *[(751, "751", "within"), (750, "751", "differs"), (12_936, "12,936", "within")],
    ],
)
def test_exact_cells_round_to_the_printed_digits(value, printed, word):
    verdict = judge_exact(value, printed)

    assert (verdict.word, verdict.fails) == (word, word == "differs")


@pytest.mark.parametrize(
    ("value", "printed", "word"),
    [
        ("0.0001", "+≈10^-4", "within"),
        ("0.000349", "+≈10^-4", "within"),
        ("0.000999", "≈10^-4", "within"),
        ("0.001", "+≈10^-4", "differs"),
        ("0.0000999", "+≈10^-4", "differs"),
        ("-0.0002", "+≈10^-4", "differs"),
        ("-0.0002", "-≈10^-4", "within"),
        ("0", "≈10^-4", "differs"),
        ("4321", "≈10^3", "within"),
    ],
)
def test_an_order_of_magnitude_is_where_the_first_digit_stands(value, printed, word):
    verdict = judge_exact(Decimal(value), printed)

    assert verdict.word == word
    assert verdict.gap == pytest.approx(float(value) - float(number(printed)))


def test_exact_cells_may_fit_any_reading():
    assert judge_exact(15_913, "19732", "15913").reading == "15913"
    assert judge_exact(15_914, "19732", "15913").word == "differs"


def test_findings_are_few_and_true_among_a_thousand_cells():
    random = Random(1)
    gaps = [-1.5] * 60 + [1.5] * 40 + [0.0] * 900
    cells = {
        f"{i}": judge([random.gauss(gap, 0.3) for _ in range(4)], 0.0, 0.45, 0.1, 0.3)
        for i, gap in enumerate(gaps)
    }

    found = confirmed(cells)
    true = {name for name, word in found.items() if word == ("below" if gaps[int(name)] < 0 else "above")}
    wrong = [name for name in found if gaps[int(name)] == 0]

    assert len(true) >= 95
    assert len(wrong) <= 1
    assert confirmed(cells, method="by").items() <= found.items()


def test_cells_on_the_edge_are_named_at_no_more_than_the_agreed_rate():
    random = Random(2)
    edge = 0.5
    cells = {
        f"{i}": judge([random.gauss(-edge, 0.3) for _ in range(4)], 0.0, edge - 0.05, 0.1, 0.3)
        for i in range(300)
    }

    plain = sum(cell.word == "below" for cell in cells.values())

    assert 0 < plain <= 0.08 * 300  # each plain test errs in up to 5 % there
    assert len(confirmed(cells)) <= plain / 2


def test_cells_that_were_not_run_do_not_dilute_the_findings():
    unrun = {f"u{i}": judge([], 0.0, 0.5, 0.1, 0.3) for i in range(500)}
    seen = {"a": judge([-1.2, -1.3, -1.1, -0.8], 0.0, 0.45, 0.1, 0.3)}

    assert confirmed(seen | unrun) == confirmed(seen) == {"a": "below"}
    assert confirmed(unrun) == confirmed({}) == {}


def test_blunt_tolerances_exceed_half_the_step():
    assert is_blunt(0.6, 1.0) and is_blunt(0.6, -1.0)
    assert not is_blunt(0.5, 1.0)


def test_surprise_is_a_plain_z():
    scores = [80.0, 81.0]
    spread = math.sqrt((4 * 0.5**2 + 0.5) / 5)

    assert surprise(scores, 79.0, 0.5, 4) == pytest.approx(1.5 / (spread * math.sqrt(1 / 2 + 1 / 4)))


def test_summaries_count_and_never_score():
    verdicts = [judge([50.0, 50.1], 50.0, 1.0, 0.1, 0.1), judge([], 50.0, 1.0, 0.1, 0.1)]
    words = [verdict.word for verdict in verdicts]

    assert summary(words + words[:1]) == "2 within, 1 unrun"
    assert summary(["differs", "differs", "below"], ["differs"]) == "1 below, 2 differs (1 explained)"
    assert isinstance(verdicts[0], Verdict)
