"""``compare`` and the tables-as-tests: what they show and how they exit."""

import json
import subprocess
import sys
from contextlib import nullcontext
from decimal import Decimal

import pytest

from reproductions.compare import cell_row, run_rows, summary_line
from reproductions.conftest import Verdicts
from reproductions.effects import mechanism_jobs
from reproductions.judgement import Judgement
from reproductions.places import PROJECT
from reproductions.verdicts import surprise, usual_noise
from tests.reproductions.test_judgement import PAIRS, SONA, recorded


@pytest.fixture
def results(shell):
    """Saves records where the shell's commands look."""

    def save(*groups):
        for group in groups:
            for one in group:
                one.save(shell.results)

    return save


GOOD = {"metrics": {"mAP": 75.0, "rank1": 90.1, "mAP_trapezoid": 74.0, "rank5": 95.0, "rank10": 97.0}}


def seeds(row, dataset, scale, shift=0.0):
    changed = {name: score + shift for name, score in GOOD["metrics"].items()}
    return recorded(row, dataset, scale, [0, 0], metrics=changed, untrained={"rank1": 1.0})


def test_within_exits_with_0_and_below_with_1(shell, results):
    results(seeds("Net", "market1501", "paper"))
    assert shell("compare", "mini", "--results", shell.results).returncode == 0

    results(seeds("Base", "market1501", "paper", shift=-40))
    outcome = shell("compare", "mini", "--results", shell.results)
    assert outcome.returncode == 1
    assert "2 within, 2 below" in outcome.stdout


@pytest.mark.parametrize("form", ["table", "csv", "markdown", "json"])
def test_every_format_shows_runs_and_cells(shell, results, form):
    results(seeds("Net", "market1501", "paper"))

    outcome = shell("compare", "mini", "--results", shell.results, "--format", form)

    assert "75.00" in outcome.stdout
    assert "within" in outcome.stdout
    if form == "json":
        data = json.loads(outcome.stdout)["mini"]
        assert [cell["verdict"] for cell in data["cells"]] == ["within", "within"]


def test_a_proxy_score_never_stands_beside_a_published_value(shell, results):
    results(seeds("Net", "crosswalk", "proxy"), seeds("Base", "crosswalk", "proxy", shift=-20))

    data = json.loads(shell("compare", "mini", "--results", shell.results, "--format", "json").stdout)["mini"]

    assert data["cells"] == []
    assert [(claim["scale"], claim["verdict"]) for claim in data["claims"]] == [("proxy", "holds")]
    assert not any("published" in run for run in data["runs"])


def test_gap_and_z_are_against_the_reading_that_the_verdict_is_by():
    judgement = Judgement(PAIRS, recorded("Warp", "market1501/openreid", "paper", [50.1, 50.3], paper=PAIRS))
    (answer,) = (a for a in judgement.cells if a.cell.row == "Warp" and a.cell.readings)

    row = cell_row(judgement, answer)

    assert (row["published"], row["verdict"], row["gap"]) == ("40.0", "within", "+0.20")
    noise = usual_noise(answer.cell.dataset, "mAP")
    assert row["z"] == f"{surprise([50.1, 50.3], 50.0, noise, answer.cell.runs):+.1f}"


def test_a_run_on_a_turned_dial_says_so_and_is_judged_by_its_mechanism():
    (mechanism,) = PAIRS.mechanisms
    job = mechanism_jobs(PAIRS, mechanism)["Warp", 0.4]
    (turned,) = recorded(
        "Warp",
        "crosswalk",
        "proxy",
        [40.0],
        paper=PAIRS,
        **GOOD,
        untrained={"rank1": 1.0},
        row_hash=job.row_hash,
        identity=job.identity,
    )

    (row,) = run_rows(Judgement(PAIRS, [turned]), [turned])

    assert (row["row"], row["note"]) == ("Warp (misalignment 0.4)", "")


def test_what_a_count_measures_does_not_depend_on_its_readings():
    judgement = Judgement(SONA, [])
    right = next(a for a in judgement.cells if a.cell.scale == "exact" and a.verdict)
    misprint = {"printed": "7", "value": Decimal(7), "readings": (right.cell.printed,)}
    wrong = judgement.answer(right.cell.model_copy(update=misprint))

    assert wrong.verdict.word == "within"
    assert cell_row(judgement, wrong)["measured"] == cell_row(judgement, right)["measured"]


BESIDE = {"market1501 exhaustive": {"mAP": 31.25, "rank1": 41.0, "rank5": 51.0, "rank10": 61.0}}


@pytest.mark.parametrize("form", ["table", "markdown", "json"])
def test_other_rankings_have_a_table_of_their_own(shell, results, form):
    results(
        recorded(
            "Full w/ all",
            "crosswalk",
            "proxy",
            [0, 0],
            paper=PAIRS,
            beside=BESIDE,
            **GOOD,
            untrained={"rank1": 1.0},
        ),
        seeds("Net", "crosswalk", "proxy"),
    )

    shown, without = (
        shell("compare", paper, "--results", shell.results, "--format", form).stdout
        for paper in ("pairs", "mini")
    )

    if form == "json":
        (row,) = json.loads(shown)["pairs"]["beside"]
        assert (row["row"], row["judged_by"]) == ("Warp = Full w/ all", "market1501 exhaustive")
        assert json.loads(without)["mini"]["beside"] == []
        return
    assert "beside: the same networks under other protocols and rankings: not compared" in shown
    (line,) = (line for line in shown.splitlines() if "market1501 exhaustive" in line)
    assert "Warp = Full w/ all" in line and "31.25 ± 0.00" in line
    assert "beside" not in without


def test_a_summary_says_how_many_gaps_are_explained():
    judgement = Judgement(SONA, [])
    right = next(a for a in judgement.cells if a.cell.scale == "exact" and a.verdict)
    misprint = {"printed": "7", "value": Decimal(7)}
    explained, wrong = (
        judgement.answer(right.cell.model_copy(update=misprint | {"erratum": erratum}))
        for erratum in ("E1", "")
    )

    judgement.cells = [right, explained, wrong]

    assert [answer.fails for answer in judgement.cells] == [False, False, True]
    assert explained.note == "explained by erratum E1"
    assert summary_line(judgement).startswith("1 within, 2 differs (1 explained); claims at paper: ")


@pytest.mark.parametrize(
    ("word", "explained", "outcome", "message"),
    [
        ("within", "", None, ""),
        ("holds", "", None, ""),
        ("differs", "", pytest.fail, "differs: 3 printed"),
        ("differs", "erratum E1", pytest.xfail, "differs: 3 printed; explained: erratum E1"),
        ("below", "erratum E1", pytest.xfail, "below: 3 printed; explained: erratum E1"),
        ("reversed", "too short", pytest.xfail, "reversed: 3 printed; explained: too short"),
        ("within", "erratum E1", pytest.fail, r"a gap that is no longer there \(erratum E1\): take it out"),
        ("above", "erratum E1", pytest.fail, "a gap that is no longer there"),
        ("holds", "too short", pytest.fail, r"a gap that is no longer there \(too short\)"),
        ("unrun", "erratum E1", pytest.skip, "unrun: 3 printed"),
        ("open", "erratum E1", pytest.skip, "open: 3 printed"),
        ("undecided", "too short", pytest.skip, "undecided: 3 printed"),
    ],
)
def test_an_explained_gap_is_an_expected_failure_and_a_closed_one_a_failure(
    word, explained, outcome, message
):
    words = {}
    settled = nullcontext() if outcome is None else pytest.raises(outcome.Exception, match=message)

    with settled as caught:
        Verdicts(words, "the cell", strict=False).settle(word, "3 printed", explained)

    assert outcome is None or caught.type is outcome.Exception  # an xfail is a kind of failure to pytest
    assert words == {word: ["the cell"]}


def pytest_reproductions(shell, *arguments):
    command = [sys.executable, "-m", "pytest", "reproductions", "-q", "--results", str(shell.results)]
    environment = shell.environment | {"PATH": "/usr/bin:/bin"}
    return subprocess.run(
        [*command, *arguments], cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=300
    )


def test_tables_as_tests(shell, results):
    results(seeds("Net", "market1501", "paper"), seeds("Base", "market1501", "paper", shift=-40))

    outcome = pytest_reproductions(shell, "-m", "mini")

    assert outcome.returncode == 1
    assert "2 below" in outcome.stdout
    assert "below      mini-table1-Base-market1501-mAP" in outcome.stdout
    lines = outcome.stdout.splitlines()
    assert any("2 failed" in line and "passed" in line and "skipped" in line for line in lines)


def test_what_has_no_answer_skips_or_fails_if_strict(shell):
    assert pytest_reproductions(shell, "-m", "mini and table1").returncode == 0
    strict = pytest_reproductions(shell, "-m", "mini and table1", "--strict-open")
    assert strict.returncode == 1
    assert "no seeds at scale paper: python -m reproductions.run mini" in strict.stdout


def test_a_mistyped_marker_is_an_error(shell):
    assert pytest_reproductions(shell, "-m", "mimi").returncode == 4


def test_train_missing_runs_what_the_selected_tests_need(shell):
    outcome = pytest_reproductions(shell, "-m", "mini and proxy", "--train", "missing", "--seeds", "2")

    assert "net-helps-proxy" in outcome.stdout or "1 holds" in outcome.stdout
    assert len(list(shell.results.glob("mini/proxy/*/seed-*.json"))) == 4
