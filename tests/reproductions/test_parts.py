"""Several features of one network: trained once, each ranked, recorded and judged as its own row."""

import json
import shutil

import pytest
import torch
from mlflow import MlflowClient

from methods import METHODS
from reproductions.effects import Trial, mechanism_jobs
from reproductions.jobs import make_job
from reproductions.judgement import Judgement
from reproductions.records import ScoreKey, load_records
from reproductions.spec import load_paper
from reproductions.track import Store
from retable.registry import Source
from tests.reproductions.conftest import MINI
from tests.reproductions.halves import Halves
from tests.reproductions.test_compare import BESIDE, GOOD
from tests.reproductions.test_judgement import recorded

PAPER = load_paper("halves", MINI)
THREE = ("--row", "Upper", "--row", "Both", "--row", "Lower")


@pytest.fixture(autouse=True)
def halves(monkeypatch):
    """The method is known by its name."""
    monkeypatch.setitem(METHODS._objects, "halves", Halves)
    monkeypatch.setitem(METHODS._sources, "halves", Source("tests.reproductions.halves", "1"))


def of_parts(shift=0.0):
    """Metrics of a record: the whole at 75, the upper half at 65, the lower at 55."""

    def moved(by):
        return {name: score + by + shift for name, score in GOOD["metrics"].items()}

    untrained = {part: {"mAP": score, "rank1": score} for part, score in (("upper", 1.5), ("lower", 2.5))}
    return {
        "metrics": moved(0),
        "parts": {"upper": moved(-10), "lower": moved(-20)},
        "untrained": {"mAP": 0.5, "rank1": 0.5},
        "untrained_parts": untrained,
    }


def made_up(row="Both", dataset="crosswalk", scale="proxy", seeds=2, **changes):
    return recorded(row, dataset, scale, [0] * seeds, paper=PAPER, **(of_parts() | changes))


def test_rows_of_several_parts_are_one_network():
    jobs = {row: make_job(PAPER, row, "crosswalk", "proxy") for row in ("Both", "Upper", "Lower", "Whole")}

    assert [job.part for job in jobs.values()] == ["", "upper", "lower", ""]
    assert len({jobs[row].row_hash for row in ("Both", "Upper", "Lower")}) == 1
    assert jobs["Whole"].row_hash != jobs["Both"].row_hash
    assert "upper" not in json.dumps(jobs["Upper"].identity)


def test_they_are_trained_once_and_each_shows_its_own_scores(shell, tmp_path):
    outcome = tmp_path / "outcome.json"
    result = shell.run("--seeds", 2, *THREE, "--json", outcome, paper="halves")

    assert result.returncode == 0, result.stderr
    records = load_records(shell.results)
    assert [(one.row, one.seed, list(one.parts)) for one in records] == [
        ("Both", seed, ["upper", "lower"]) for seed in (0, 1)
    ]
    one = records[0]
    assert len({tuple(one.scores(ScoreKey(part)).values()) for part in ("", "upper", "lower")}) == 3
    assert set(one.parts["upper"]) == set(one.untrained_parts["lower"]) == set(one.metrics)
    assert set(one.beside) == {f"market1501/openreid{part}" for part in ("", " upper", " lower")}
    announced = [line for line in result.stdout.splitlines() if line.startswith("  table1/")]
    assert announced[0].startswith(f"  table1/Both on crosswalk [{records[0].row_hash}]: seeds to run 0, 1")
    assert announced[1:] == [
        f"  table1/{name} on crosswalk: the same network as table1/Both, part {name.lower()}"
        for name in ("Upper", "Lower")
    ]
    assert result.stdout.count("; trained ") == 2
    for row in json.loads(outcome.read_text())["rows"]:
        part = {"Both": "", "Upper": "upper", "Lower": "lower"}[row["row"]]
        key = ScoreKey(part)
        assert row["judged_by"] == ("market1501" + (part and f", part {part}"))
        assert row["seeds"] == {str(each.seed): each.scores(key) for each in records}
        assert row["untrained"] == {str(each.seed): each.untrained_scores(key) for each in records}
        assert set(row["beside"]["0"]) == {f"market1501/openreid {part}".strip()}
        line = f"{row['row']} on crosswalk, seed 0: mAP {one.scores(key)['mAP']:.2f}, rank-1"
        assert line in result.stdout

    again = shell.run("--seeds", 2, "--row", "Lower", paper="halves")
    assert f"table1/Lower on crosswalk [{one.row_hash}], part lower: seeds to run none" in again.stdout
    assert load_records(shell.results) == records


def test_a_store_holds_the_metrics_of_parts_and_sync_logs_them(shell, empty_store):
    shell.run("--seed", 0, "--row", "Upper", paper="halves")
    (one,) = load_records(shell.results)
    expected = {
        "test/mAP": one.metrics["mAP"],
        "test/lower/mAP": one.parts["lower"]["mAP"],
        "untrained/upper/rank1": one.untrained_parts["upper"]["rank1"],
        "beside/market1501/openreid upper/mAP": one.beside["market1501/openreid upper"]["mAP"],
    }
    other = f"sqlite:///{shutil.copy(empty_store, shell.folder / 'other.db')}"
    shell("sync", "halves", "--results", shell.results, "--tracking-uri", other)

    for uri in (shell.environment["MLFLOW_TRACKING_URI"], other):
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name("retable/halves").experiment_id
        (run,) = client.search_runs([experiment], "tags.`retable.seed` = '0'")
        assert run.data.metrics.items() >= expected.items()


def test_published_values_of_every_part_are_logged(shell, monkeypatch):
    monkeypatch.setenv("RETABLE_PAPERS", str(MINI))
    records = made_up("Lower", "market1501", "paper")
    store = Store(shell.environment["MLFLOW_TRACKING_URI"])
    run_id = store.parent(records[0], "campaign")
    store.summarise(run_id, records)

    data = MlflowClient(shell.environment["MLFLOW_TRACKING_URI"]).get_run(run_id).data
    printed = {name: data.metrics[f"published/{name}mAP"] for name in ("", "upper/", "lower/")}
    assert printed == {"": 60.0, "upper/": 40.0, "lower/": 30.0}
    assert data.metrics["gap/lower/mAP"] == pytest.approx(55.0 - 30.0)
    assert data.metrics["test/upper/mAP.mean"] == pytest.approx(65.0)
    assert data.tags["retable.verdict.lower/mAP"] == "above"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("Misspelt",), "halves, row 'Misspelt' on crosswalk: found part 'uppr' of halves"),
        (("Both", "Misspelt"), "with its options; expected one of upper, lower, or no part"),
        (("Whole, upper",), "expected no part: only the whole is ranked"),
    ],
)
def test_a_part_that_a_network_does_not_have_stops_before_training(shell, rows, message):
    labels = [word for row in rows for word in ("--row", row)]

    result = shell.run("--seed", 0, *labels, paper="halves")

    assert result.returncode == 2
    assert message in result.stderr
    assert not list(shell.runs.glob("*/*/*"))
    assert not load_records(shell.results)


def test_a_record_without_the_part_is_not_that_rows(shell):
    """As of a time when the method had no parts yet: the whole is recorded, the part is run."""
    for one in made_up(seeds=1, parts={}, untrained_parts={}):
        one.save(shell.results)

    whole, both = (shell.run("--dry-run", "--seeds", 1, *rows, paper="halves") for rows in ((), THREE))

    assert "seeds to run none; recorded 0" in whole.stdout
    assert "seeds to run 0; recorded none" in both.stdout
    judgement = Judgement(PAPER, load_records(shell.results))
    assert list(judgement.scores("Both", "crosswalk", "mAP", "proxy")) == [0]
    assert not judgement.scores("Upper", "crosswalk", "mAP", "proxy")
    assert shell("compare", "halves", "--results", shell.results).returncode == 0


@pytest.mark.parametrize("known", [True, False])
def test_what_was_measured_before_training_outlives_an_interruption(shell, monkeypatch, known):
    """A checkpoint of a time when the method had no parts yet lacks theirs: they are measured then."""
    from reproductions.checkpoint import Checkpoint

    save = Checkpoint.save

    def save_and_stop(checkpoint, path):
        save(checkpoint, path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", save_and_stop)
        assert shell.run("--seed", 0, paper="halves").returncode == 130
    if not known:
        (path,) = shell.runs.glob("*/seed-0/checkpoint.pt")
        fields = torch.load(path, weights_only=True)
        assert fields.pop("untrained_parts").keys() == {"upper", "lower"}
        torch.save(fields, path)
    assert shell.run("--seed", 0, paper="halves").returncode == 0

    (resumed,) = load_records(shell.results)
    shell.run("--seed", 0, "--fresh", paper="halves")
    (straight,) = load_records(shell.results)
    for name in ("metrics", "untrained", "parts", "untrained_parts"):
        assert getattr(resumed, name) == getattr(straight, name)


def test_cells_and_claims_are_judged_by_their_parts():
    judgement = Judgement(PAPER, made_up(dataset="market1501", scale="paper", seeds=3) + made_up(seeds=3))

    def gap(row):
        (answer,) = (a for a in judgement.cells if (a.cell.row, a.cell.metric) == (row, "mAP"))
        return answer.verdict.gap

    assert [gap(row) for row in ("Both", "Upper", "Lower")] == pytest.approx([15, 25, 25])
    ((claim,),) = (answer.verdict.parts for answer in judgement.claims)
    assert (claim.word, claim.details) == ("holds", "Both - Lower = +20.00 [+20.00, +20.00]")


@pytest.mark.parametrize("first", ["Both", "Lower"])
def test_a_comparison_has_a_line_for_each_part(shell, first):
    beside = {f"market1501/openreid{part}": BESIDE["market1501 exhaustive"] for part in ("", " upper")}
    for one in made_up(first, beside=beside):
        one.save(shell.results)

    shown = shell("compare", "halves", "--results", shell.results, "--format", "json")
    data = json.loads(shown.stdout)["halves"]

    assert {(run["row"], run["judged_by"], run["mAP"], run["untrained_rank1"]) for run in data["runs"]} == {
        ("Both", "market1501", "75.00 ± 0.00", "0.50 ± 0.00"),
        ("Upper", "market1501, part upper", "65.00 ± 0.00", "1.50 ± 0.00"),
        ("Lower = Lower again", "market1501, part lower", "55.00 ± 0.00", "2.50 ± 0.00"),
    }
    assert [(row["row"], row["judged_by"]) for row in data["beside"]] == [
        ("Upper", "market1501/openreid upper"),
        ("Both", "market1501/openreid"),
    ]


def test_a_changed_network_is_shown_under_the_row_that_was_run():
    judgement = Judgement(PAPER, stale := made_up("Lower", row_hash="0" * 12))

    assert judgement.shown(stale[0]) == {ScoreKey("lower"): "Lower"}
    assert not judgement.is_present(stale[0])


def test_a_mechanism_compares_parts_of_one_network():
    (mechanism,) = PAPER.mechanisms
    jobs = mechanism_jobs(PAPER, mechanism)
    records = [
        one
        for (row, level), job in jobs.items()
        if row == "Lower"
        for one in made_up(row, row_hash=job.row_hash, identity=job.identity, **of_parts(-100 * level))
    ]

    trial = Trial(PAPER, mechanism, records)

    assert trial.scores("Lower", 0.4, "mAP") == {0: pytest.approx(15), 1: pytest.approx(15)}
    assert trial.scores("Upper", 0.0, "mAP") == {0: 65, 1: 65}
    assert trial.untrained("Upper", 0.0, "rank1") == {0: 1.5, 1: 1.5}
    assert [level.gain.gap for effect in trial.verdict.effects for level in effect.levels] == [-10, -10]
    turned = next(one for one in records if one.metrics["mAP"] < 50)
    shown = {ScoreKey(name.lower()): f"{name} (occlusion 0.4)" for name in ("Lower", "Upper")}
    assert Judgement(PAPER, records).shown(turned) == shown
