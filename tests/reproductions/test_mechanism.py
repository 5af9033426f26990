"""Does a gain grow with a dial? The rule on made-up scores, then the command on the tiny street."""

import json
import shutil
from random import Random
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from reproductions import conftest
from reproductions.claims import difference
from reproductions.effects import TAIL, Trial, judge_mechanism, line_rise, mechanism_jobs
from reproductions.mechanism import as_data, mechanism_rows
from reproductions.paper import Mechanism
from reproductions.records import load_records
from reproductions.spec import load_paper
from tests.reproductions.conftest import MINI
from tests.reproductions.test_compare import pytest_reproductions
from tests.reproductions.test_records import record

LEVELS = (0.0, 0.15, 0.3)
BLOCK = """
[[mechanism]]
id = "boxes"
rows = ["Net", "Base"]
dial = "misalignment"
levels = [0.0, 0.15, 0.3]
metrics = ["mAP", "rank1"]
statement = "The net is better because it bears bad boxes."
source = "section 2"
"""


def mechanism(levels=LEVELS, metrics=("mAP",)):
    return Mechanism(
        id="boxes",
        rows=("A", "B"),
        dial="misalignment",
        levels=levels,
        metrics=metrics,
        statement="",
        source="",
    )


def judged(first, second, levels=LEVELS):
    """The one effect of scores by level, lists of seeds in the order of levels."""
    sides = {"A": first, "B": second}

    def scores(row, level, _metric):
        return dict(enumerate(sides[row][levels.index(level)]))

    (effect,) = judge_mechanism(mechanism(levels), scores).effects
    return effect


AT_LOW, AT_MIDDLE, AT_HIGH = [50.0, 50.4, 49.8], [52.0, 52.3, 51.9], [54.1, 53.8, 54.0]
FLAT = [[45.0, 45.3, 44.8]] * 3
SCORE = st.floats(0, 100, allow_nan=False).map(lambda x: round(x, 2))
SIDE = st.lists(st.lists(SCORE, min_size=2, max_size=5), min_size=3, max_size=3)
TURNED = {"grows": "shrinks", "shrinks": "grows", "undecided": "undecided"}


def test_a_gain_that_rises_with_the_dial_grows_and_its_mirror_shrinks():
    assert judged([AT_LOW, AT_MIDDLE, AT_HIGH], FLAT).word == "grows"
    assert judged([AT_HIGH, AT_MIDDLE, AT_LOW], FLAT).word == "shrinks"
    assert judged([AT_LOW, AT_LOW, AT_LOW], FLAT).word == "undecided"


def test_a_row_that_only_falls_less_has_a_growing_gain():
    assert judged(FLAT, [AT_HIGH, AT_MIDDLE, AT_LOW]).word == "grows"


def test_without_seeds_it_is_unrun_and_with_one_undecided():
    unrun = judged([AT_LOW, [], AT_HIGH], FLAT)
    assert (unrun.word, unrun.rise) == ("unrun", None)
    assert unrun.levels[0].gain is not None
    assert "0 and 3 at 0.15" in unrun.details
    assert judged([AT_LOW, AT_MIDDLE[:1], AT_HIGH], FLAT).word == "undecided"


def test_one_metric_that_shrinks_decides_and_all_must_grow():
    high, low = dict(enumerate(AT_HIGH)), dict(enumerate(AT_LOW))
    flat = dict(enumerate(FLAT[0]))

    def together(*words):
        metrics = dict(zip(("mAP", "rank1"), words, strict=True))
        moves = {"grows": (low, high), "shrinks": (high, low), "undecided": (low, low)}

        def scores(row, level, metric):
            return flat if row == "B" else moves[metrics[metric]][level > 0]

        return judge_mechanism(mechanism((0.0, 0.3), tuple(metrics)), scores).word

    assert together("grows", "grows") == "grows"
    assert together("grows", "undecided") == "undecided"
    assert together("grows", "shrinks") == "shrinks"


@settings(deadline=None)
@given(SIDE, SIDE)
def test_exchanging_the_rows_turns_the_answer_around(first, second):
    forth, back = judged(first, second), judged(second, first)

    assert back.word == TURNED[forth.word]
    assert back.rise.gap == pytest.approx(-forth.rise.gap, abs=1e-9)
    assert (back.rise.low, back.rise.high) == pytest.approx((-forth.rise.high, -forth.rise.low), abs=1e-9)


@settings(deadline=None)
@given(SIDE, SIDE, st.lists(st.floats(-20, 20), min_size=3, max_size=3))
def test_what_a_level_does_to_both_rows_is_no_gain(first, second, shifts):
    moved = [
        [[score + shift for score in own] for own, shift in zip(side, shifts, strict=True)]
        for side in (first, second)
    ]

    assert judged(*moved).rise.gap == pytest.approx(judged(first, second).rise.gap, abs=1e-6)


@settings(deadline=None)
@given(SIDE, SIDE)
def test_the_rise_is_that_of_the_least_squares_line(first, second):
    from statistics import fmean

    from numpy import polyfit

    levels = (0.0, 0.1, 0.4)  # not evenly spaced: the middle one counts
    gains = [fmean(a) - fmean(b) for a, b in zip(first, second, strict=True)]

    assert judged(first, second, levels).rise.gap == pytest.approx(
        polyfit(levels, gains, 1)[0] * 0.4, abs=1e-9
    )


def test_error_and_freedom_are_welchs_over_all_means():
    from statistics import variance

    sides = ([AT_LOW, [51.0, 53.0], AT_HIGH], [[45.0, 46.0], [44.0, 45.0, 47.0, 44.0], [40.0, 41.0]])
    weights = (-1.0, 0.0, 1.0)  # of three levels at even distances
    parts = [
        (w**2 * variance(own) / len(own), len(own) - 1)
        for side in sides
        for own, w in zip(side, weights, strict=True)
    ]

    rise = judged(*sides).rise

    assert rise.error**2 == pytest.approx(sum(part for part, _ in parts))
    assert rise.dof == pytest.approx(sum(part for part, _ in parts) ** 2 / sum(p**2 / n for p, n in parts))


def test_two_levels_are_a_difference_of_two_gains():
    low, high = (difference(side, FLAT[0], None, TAIL) for side in (AT_LOW, AT_HIGH))

    rise = line_rise([0.1, 0.3], [low, high])

    assert rise.gap == pytest.approx(high.gap - low.gap)
    assert rise.error == pytest.approx((low.error**2 + high.error**2) ** 0.5)


def test_rows_without_spread_do_not_divide_by_zero():
    assert judged([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]], [[0.0, 0.0]] * 3).word == "grows"
    assert judged([[1.0, 1.0]] * 3, [[0.0, 0.0]] * 3).word == "undecided"


def test_the_interval_covers_the_truth_in_nineteen_cases_of_twenty():
    random, truth = Random(5), 3.0

    def covered():
        noise = {"A": 1.0, "B": 0.3}

        def seeds(row, level):
            gain = truth * level / 0.3 if row == "A" else 0.0
            return [random.gauss(60 - 20 * level + gain, noise[row]) for _ in range(4)]

        rise = judged(*([seeds(row, level) for level in LEVELS] for row in "AB")).rise
        return rise.low < truth < rise.high

    assert sum(covered() for _ in range(600)) / 600 == pytest.approx(0.95, abs=0.025)


@pytest.fixture
def paper(shell):
    """The mini paper with a mechanism, where the shell's commands look for papers."""
    folder = shell.folder / "papers" / "mini"
    shutil.copytree(MINI / "mini", folder)
    with (folder / "paper.toml").open("a") as file:
        file.write(BLOCK)
    shell.environment["RETABLE_PAPERS"] = str(folder.parent)
    return load_paper("mini", folder.parent)


def recorded(paper, scores):
    """Records of the paper's one mechanism; ``scores`` gives those of a row at a level, seed by seed."""
    (one,) = paper.mechanisms
    return [
        record(
            seed,
            paper="mini",
            row=row,
            dataset="crosswalk",
            scale="proxy",
            row_hash=job.row_hash,
            identity=job.identity,
            metrics={"mAP": score, "mAP_trapezoid": score - 1, "rank1": score + 10},
            untrained={"mAP": 5.0 + seed, "rank1": 10.0},
        )
        for (row, level), job in mechanism_jobs(paper, one).items()
        for seed, score in enumerate(scores(row, level))
    ]


def growing(row, level):
    gain = 10 * level if row == "Net" else 0.0
    return [50 + gain - 30 * level + wobble for wobble in (-0.2, 0.0, 0.1, 0.1)]


def test_levels_differ_in_the_dial_alone(paper):
    (one,) = paper.mechanisms
    jobs = mechanism_jobs(paper, one)

    assert list(jobs) == [(row, level) for level in LEVELS for row in ("Net", "Base")]
    assert len({job.row_hash for job in jobs.values()}) == 6
    assert {job.data.dials.misalignment for job in jobs.values()} == set(LEVELS)
    assert len({(job.data.size, job.data.seed, job.data.dials.occlusion) for job in jobs.values()}) == 1
    resized = mechanism_jobs(paper, one, street="default")
    assert not {job.row_hash for job in jobs.values()} & {job.row_hash for job in resized.values()}


def test_records_of_the_levels_decide_and_others_do_not(paper):
    (one,) = paper.mechanisms
    records = recorded(paper, growing)
    stray = record(9, paper="mini", row="Net", row_hash="0" * 12)

    trial = Trial(paper, one, [*records, stray])
    assert trial.verdict.word == "grows"
    rows = mechanism_rows(trial)
    assert [row["gain"] for row in rows["levels"]] == ["+0.00", "+1.50", "+3.00"] * 2
    assert rows["levels"][0]["first"] == "50.00 ± 0.14"
    assert rows["levels"][0]["first_untrained"] == "6.50 ± 1.29"
    assert rows["trends"][0]["rise"] == "+3.00"
    assert Trial(paper, one, records, seeds=[7]).verdict.word == "unrun"
    assert len(as_data(Trial(paper, one, records, seeds=[1, 2]))["metrics"]["mAP"]["levels"][0]["first"]) == 2


def test_no_run_judges_what_is_recorded(shell, paper):
    for one in recorded(paper, growing):
        one.save(shell.results)
    arguments = ("mini", "--no-run", "--results", shell.results)

    shown = shell("mechanism", *arguments, "--figures", shell.folder / "figures")
    assert shown.returncode == 0, shown.stderr
    assert "mini, boxes: grows" in shown.stdout
    assert "First is Net, second Base" in shown.stdout
    data = json.loads(shell("mechanism", *arguments, "--format", "json").stdout)["mechanisms"][0]
    assert data["verdict"] == "grows"
    assert data["metrics"]["mAP"]["rise"]["gap"] == pytest.approx(3.0)
    assert data["metrics"]["rank1"]["levels"][1]["second"]["0"] == pytest.approx(55.3)
    with Image.open(shell.folder / "figures" / "mini-boxes.png") as image:
        assert image.width > 2 * image.height / 1.5  # two panels side by side


@pytest.mark.usefixtures("paper")
def test_absent_seeds_are_run_at_every_level_and_only_once(shell):
    arguments = ("mini", "--seeds", 1, "--results", shell.results, "--format", "json")

    first = shell("mechanism", *arguments)

    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["mechanisms"][0]["verdict"] == "undecided"  # one seed
    records = load_records(shell.results)
    assert len(records) == 6
    dials = {record.identity["data"]["dials"]["misalignment"] for record in records}
    assert dials == set(LEVELS)
    again = shell("mechanism", *arguments)
    assert again.stdout == first.stdout
    assert again.stderr.count("seeds to run none") == 6
    assert load_records(shell.results) == records


@pytest.mark.parametrize(
    ("direction", "word", "code"), [(1, "grows", 0), (-1, "shrinks", 1), (0, "undecided", 0)]
)
def test_a_mechanism_is_a_test_that_fails_when_the_gain_shrinks(shell, paper, direction, word, code):
    def scores(row, level):
        return [score + (row == "Net") * (10 * direction - 10) * level for score in growing(row, level)]

    for one in recorded(paper, scores):
        one.save(shell.results)

    outcome = pytest_reproductions(shell, "-k", "mini-boxes")

    assert outcome.returncode == code, outcome.stdout
    assert f"1 {word}" in outcome.stdout


def test_train_missing_runs_every_level_of_a_selected_mechanism(paper, monkeypatch):
    (one,) = paper.mechanisms
    session = SimpleNamespace(items=[], config=SimpleNamespace(getoption=lambda _: None))
    monkeypatch.setattr(conftest, "_arguments", lambda _: [{"paper": paper, "mechanism": one}])

    jobs = conftest._jobs_of(session)["mini"]

    assert {job.row_hash for job in jobs} == {job.row_hash for job in mechanism_jobs(paper, one).values()}


@pytest.mark.usefixtures("paper")
def test_what_is_not_there_is_refused(shell):
    assert "did you mean 'boxes'" in shell("mechanism", "mini", "--id", "box").stderr
    assert "name seeds twice" in shell("mechanism", "mini", "--seeds", 2, "--seed", 3).stderr
    shell.environment["RETABLE_PAPERS"] = str(MINI)
    refused = shell("mechanism", "mini")
    assert refused.returncode == 2
    assert "no [[mechanism]]" in refused.stderr
