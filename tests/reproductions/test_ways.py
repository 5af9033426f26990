"""One network judged in several ways: by other protocols and after re-ranking, for rows of their own."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from methods import METHODS
from protocols import PROTOCOLS
from protocols.multi_query import SUFFIX
from reproductions import later_scores
from reproductions.compare import beside_rows, run_rows
from reproductions.jobs import make_job
from reproductions.judgement import Judgement
from reproductions.paper import Dataset
from reproductions.records import WHOLE, ScoreKey, Scoring, load_records
from reproductions.row_scores import unasked_names
from reproductions.spec import load_paper
from reproductions.track import judged_cells
from retable.errors import SpecError
from retable.registry import Source
from tests.reproductions.conftest import MINI
from tests.reproductions.halves import Halves
from tests.reproductions.test_compare import GOOD
from tests.reproductions.test_judgement import recorded

PAPER = load_paper("ways", MINI)
MULTI = f"market1501{SUFFIX}"
ON_STREET = f"crosswalk/{MULTI}"
ROWS = ("Net", "Net, re-ranked")
BOTH = ("--row", ROWS[0], "--row", ROWS[1])
EVERYWHERE = ("--on", "crosswalk", "--on", ON_STREET)


@pytest.fixture(autouse=True)
def halves(monkeypatch):
    """The method is known by its name."""
    monkeypatch.setitem(METHODS._objects, "halves", Halves)
    monkeypatch.setitem(METHODS._sources, "halves", Source("tests.reproductions.halves", "1"))


def job(row, dataset, scale="proxy"):
    return make_job(PAPER, row, dataset, scale)


def shifted(by):
    return {name: score + by for name, score in GOOD["metrics"].items()}


def scored(dataset="market1501", scale="paper", row="Net", seeds=2, names=(), **changes):
    """Records of the network with made-up scores beside its own, each 5 points above the one before."""
    beside = {name: shifted(5 * place) for place, name in enumerate(names, 1)}
    fields = {"metrics": shifted(0), "untrained": {"mAP": 0.5, "rank1": 0.5}, "beside": beside} | changes
    return recorded(row, dataset, scale, [0] * seeds, paper=PAPER, **fields)


def test_rows_that_are_judged_in_other_ways_are_of_one_network():
    for plain, multi, scale in (("crosswalk", ON_STREET, "proxy"), ("market1501", MULTI, "paper")):
        jobs = {(row, on): job(row, on, scale) for row in ROWS for on in (plain, multi)}

        assert len({one.row_hash for one in jobs.values()}) == 1
        assert {at: one.key.beside for at, one in jobs.items()} == {
            ("Net", plain): "",
            ("Net", multi): MULTI,
            ("Net, re-ranked", plain): "market1501 re-ranked",
            ("Net, re-ranked", multi): f"{MULTI} re-ranked",
        }
        assert jobs["Net", plain].key == WHOLE
        assert jobs["Net", multi].key.rules == PROTOCOLS.get(MULTI)().fingerprint()
        assert jobs["Net", multi].network.dataset == plain
        assert jobs["Net", multi].network.row_hash == jobs["Net", plain].row_hash
    upper = job("Upper, re-ranked", MULTI, "paper")
    assert upper.key.beside == f"{MULTI} upper re-ranked"
    assert (
        upper.row_hash == job("Guess", "market1501", "paper").row_hash != job("Net", MULTI, "paper").row_hash
    )


def test_networks_of_another_release_are_refused():
    strange = PAPER.model_copy(
        update={"datasets": PAPER.datasets | {"mars": Dataset(trained_on="market1501")}}
    )

    with pytest.raises(
        SpecError, match="datasets 'mars', trained_on: found protocol 'mars', which reads MARS"
    ):
        make_job(strange, "Net", "mars", "paper")


def test_they_are_trained_once_and_each_shows_its_own_scores(shell, tmp_path):
    outcome = tmp_path / "outcome.json"

    result = shell.run("--seed", 0, *BOTH, *EVERYWHERE, "--json", outcome, paper="ways")

    assert result.returncode == 0, result.stderr
    (one,) = load_records(shell.results)
    names = {MULTI, "market1501 re-ranked", f"{MULTI} re-ranked"}
    assert (one.row, one.dataset, set(one.beside), set(one.scorings)) == ("Net", "crosswalk", names, names)
    assert len({tuple(scores.values()) for scores in (one.metrics, *one.beside.values())}) == 4
    assert result.stdout.count("; trained ") == 1
    lines = [line for line in result.stdout.splitlines() if line.startswith("  table1/")]
    assert lines[0].startswith(f"  table1/Net on crosswalk [{one.row_hash}]: seeds to run 0; recorded none")
    assert lines[1:] == [
        f"  table1/{row} on {on}: the same network as table1/Net, judged by {by}"
        for row, on, by in (
            ("Net", ON_STREET, MULTI),
            ("Net, re-ranked", "crosswalk", "market1501 re-ranked"),
            ("Net, re-ranked", ON_STREET, f"{MULTI} re-ranked"),
        )
    ]
    assert f"Net on crosswalk by {MULTI}, seed 0: mAP {one.beside[MULTI]['mAP']:.2f}, rank-1" in result.stdout
    rows = {(row["row"], row["dataset"]): row for row in json.loads(outcome.read_text())["rows"]}
    for row, on in rows:
        key = job(row, on).key
        assert rows[row, on]["judged_by"] == (key.beside or "market1501")
        assert rows[row, on]["seeds"] == {"0": one.scores(key)}
        assert rows[row, on]["untrained"] == {"0": {} if key.beside else one.untrained}

    again = shell.run("--seed", 0, *BOTH, *EVERYWHERE, paper="ways")
    assert "seeds to run none; recorded 0" in again.stdout
    assert load_records(shell.results) == [one]


def test_lacking_scores_are_made_from_kept_weights(shell, monkeypatch):
    """The network is not trained again: its record keeps what it holds, its run in the store goes on."""
    shell.run("--seed", 0, paper="ways")
    (before,) = load_records(shell.results)
    assert not before.beside

    with monkeypatch.context() as patch:
        patch.setattr("reproductions.execute.train", None)
        added = shell.run("--seed", 0, "--row", ROWS[1], "--on", ON_STREET, paper="ways")
        more = shell.run("--seed", 0, "--row", ROWS[1], "--on", "crosswalk", paper="ways")

    assert added.returncode == more.returncode == 0, added.stderr + more.stderr
    assert "seeds to run none; to judge again from kept weights 0; recorded none" in added.stdout
    (after,) = load_records(shell.results)
    names = {f"{MULTI} re-ranked", "market1501 re-ranked"}
    assert set(after.beside) == set(after.scorings) == names
    assert after.model_copy(update={"beside": {}, "scorings": {}}) == before
    experiment = (client := MlflowClient(shell.environment["MLFLOW_TRACKING_URI"])).get_experiment_by_name(
        "retable/ways"
    )
    (run,) = client.search_runs([experiment.experiment_id], "tags.`retable.seed` = '0'")
    assert run.info.run_id == before.mlflow_run_id
    assert run.data.metrics["beside/market1501 re-ranked/mAP"] == after.beside["market1501 re-ranked"]["mAP"]

    before.save(shell.results)
    (weights,) = Path(shell.environment["RETABLE_CACHE"]).glob(
        f"runs/{before.row_hash}/*/weights.safetensors"
    )
    weights.unlink()
    refused = shell.run("--seed", 0, "--row", ROWS[1], "--on", "crosswalk", paper="ways")

    assert refused.returncode == 2 and "its weights are not in the cache" in " ".join(refused.stderr.split())
    assert load_records(shell.results) == [before]

    shell.run("--seed", 0, "--fresh", *BOTH, *EVERYWHERE, paper="ways")
    (trained,) = load_records(shell.results)
    assert trained.provenance.started >= after.provenance.started
    assert {name: trained.beside[name] for name in names} == after.beside
    assert trained.metrics == before.metrics


def test_only_lacking_scores_are_made(shell, monkeypatch):
    """Neither what the record holds nor, by a protocol that a row needs, what no row asks for."""
    shell.run("--seed", 0, paper="ways")
    made, evaluate = [], later_scores.evaluate

    def spied(method, images, lists, *arguments, **options):
        judged = evaluate(method, images, lists, *arguments, **options)
        made.append(([asked.protocol.name for asked in lists], [one.name for one in judged]))
        return judged

    monkeypatch.setattr(later_scores, "evaluate", spied)
    shell.run("--seed", 0, "--row", ROWS[1], "--on", ON_STREET, paper="ways")
    shell.run("--seed", 0, "--row", ROWS[0], "--on", ON_STREET, paper="ways")
    shell.run("--seed", 0, *BOTH, *EVERYWHERE, paper="ways")

    assert made == [
        (["market1501", MULTI], [f"{MULTI} re-ranked"]),
        (["market1501", MULTI], [MULTI]),
        (["market1501"], ["market1501 re-ranked"]),
    ]
    (record,) = load_records(shell.results)
    assert set(record.beside) == {MULTI, "market1501 re-ranked", f"{MULTI} re-ranked"}


def test_scores_that_cannot_be_added_stop_a_command_before_anything_is_trained(shell):
    shell.run("--seed", 0, paper="ways")
    (before,) = load_records(shell.results)
    (weights,) = shell.runs.glob(f"{before.row_hash}/*/weights.safetensors")
    weights.unlink()

    refused = shell.run("--seeds", 2, *BOTH, paper="ways")

    assert refused.returncode == 2
    assert "seed 0: recorded, without scores that are asked for now" in " ".join(refused.stderr.split())
    assert load_records(shell.results) == [before]
    assert not list(shell.runs.glob("*/seed-1"))
    fitting = shell.run("--seed", 1, "--row", "Guess", "--row", ROWS[0], paper="ways")
    assert fitting.returncode == 0, fitting.stderr


def test_other_ways_of_ranking_pairs_that_no_row_asks_for_are_not_made():
    first, other = "market1501/openreid", "market1501"
    datasets = {first: Dataset(), other: Dataset(trained_on=first)}
    pairs = load_paper("pairs", MINI).model_copy(update={"datasets": datasets})
    asked = [make_job(pairs, "Warp", on, "paper") for on in (first, other)]
    recipe = asked[0].recipe
    method = METHODS.get("kpm")
    network = method(
        method.parse_options(asked[0].options), 4, recipe.backbone, "none", recipe.backbone_options
    )

    assert asked[1].key.beside == f"{other} top-5"
    assert unasked_names(network, asked) == {f"{other} exhaustive"}
    assert unasked_names(network, asked[:1]) == set()
    parted = [job("Net", on, "paper") for on in ("market1501", MULTI)]
    halves = Halves(Halves.parse_options({}), 4, "none", "none")
    assert unasked_names(halves, parted) == {f"{MULTI} upper", f"{MULTI} lower"}


def test_scores_by_rules_that_have_changed_do_not_count():
    key = job("Net", MULTI, "paper").key
    made = Scoring(rules=key.rules, headline="mAP", commit=None, dirty=None, started="", device="")
    (ours,) = scored(seeds=1, names=[MULTI], scorings={MULTI: made})
    (other,) = scored(seeds=1, names=[MULTI], scorings={MULTI: made.model_copy(update={"rules": "0" * 16})})

    assert ours.has(key) and not other.has(key)
    assert other.has(ScoreKey(beside=MULTI))
    made = made.model_copy(update={"headline": "mAP_trapezoid"})
    (trapezoid,) = scored(seeds=1, names=[MULTI], scorings={MULTI: made})
    assert trapezoid.score(key, "mAP") == trapezoid.beside[MULTI]["mAP_trapezoid"]
    assert trapezoid.score(WHOLE, "mAP") == trapezoid.metrics["mAP"]


def test_cells_and_claims_are_judged_by_the_scores_of_their_rows(monkeypatch):
    monkeypatch.setenv("RETABLE_PAPERS", str(MINI))
    names = [MULTI, "market1501 re-ranked", f"{MULTI} re-ranked"]
    records = scored(names=names) + scored(row="Guess")
    judgement = Judgement(PAPER, records)

    answers = {(a.cell.row, a.cell.dataset): a for a in judgement.cells if a.cell.metric == "mAP"}
    gaps = {at: answer.verdict.gap for at, answer in answers.items() if answer.verdict}
    mean = GOOD["metrics"]["mAP"]
    assert gaps == {
        ("Net", "market1501"): pytest.approx(mean - 60),
        ("Net", MULTI): pytest.approx(mean + 5 - 65),
        ("Net, re-ranked", "market1501"): pytest.approx(mean + 10 - 75),
        ("Net, re-ranked", MULTI): pytest.approx(mean + 15 - 80),
    }
    guess = answers["Guess", "market1501"]
    assert (guess.verdict, guess.reason, guess.cell.tolerance) == (None, "what it is, is a guess", None)
    claim = next(answer for answer in judgement.claims if answer.scale == "paper")
    assert claim.verdict.word == "holds"
    assert [part.dataset for part in claim.verdict.parts] == ["market1501", MULTI]
    assert {name for name, _, _ in judged_cells(records[:2])} == {
        "mAP",
        "rank1",
        "market1501 re-ranked/mAP",
        "market1501 re-ranked/rank1",
        f"{MULTI}/mAP",
        f"{MULTI} re-ranked/mAP",
    }


def test_a_comparison_has_a_line_for_each_way(monkeypatch):
    monkeypatch.setenv("RETABLE_PAPERS", str(MINI))
    records = scored("crosswalk", "proxy", names=["market1501 re-ranked", MULTI, "market1501/openreid"])
    judgement = Judgement(PAPER, records)

    runs = {(row["row"], row["judged_by"]): row for row in run_rows(judgement, records)}

    assert set(runs) == {
        ("Net", "market1501"),
        ("Net, re-ranked", "market1501 re-ranked"),
        ("Net", MULTI),
    }
    assert runs["Net", "market1501"]["untrained_rank1"] == "0.50 ± 0.00"
    assert runs["Net", MULTI]["untrained_rank1"] == ""
    (row,) = beside_rows(judgement, records)
    assert (row["row"], row["judged_by"]) == ("Net", "market1501/openreid")


def test_a_network_that_was_run_for_another_way_stands_under_that_row(shell):
    shell.run("--seed", 0, "--row", ROWS[1], "--on", ON_STREET, paper="ways")

    (one,) = load_records(shell.results)
    assert (one.row, one.dataset) == (ROWS[1], "crosswalk")
    judgement = Judgement(PAPER, [one])
    assert judgement.is_present(one)
    assert set(one.beside) == {f"{MULTI} re-ranked"}
    assert list(judgement.shown(one).values()) == ["Net", ROWS[1]]
    assert list(judgement.scores("Net", "crosswalk", "mAP", "proxy")) == [0]
    shown = shell("compare", "ways", "--results", shell.results)
    assert shown.returncode == 0, shown.stderr


def test_pictures_are_of_the_ranking_that_every_network_has(shell, monkeypatch):
    from rich.console import Console

    from reproductions.trained import load
    from retable.errors import RetableError

    shell.run("--seed", 0, paper="ways")
    monkeypatch.setenv("RETABLE_CACHE", shell.environment["RETABLE_CACHE"])

    with pytest.raises(
        RetableError, match=r"Net, re-ranked on crosswalk: .* expected a row without re-ranking"
    ):
        load([job("Net", "crosswalk"), job(ROWS[1], "crosswalk")], 0, "cpu", Console(quiet=True))


def test_printed_rows_are_known_by_the_papers_own_label_and_cells_by_the_printed_one():
    cells = {cell.id: cell for cell in PAPER.cells}

    assert {cell.row for cell in cells.values()} == {"Net", "Net, re-ranked", "Guess"}
    assert cells["ways-table1-Net,_printed-market1501-mAP"].setting == "single-query"
    multi = cells[f"ways-table1-Net,_printed-{MULTI}-mAP"]
    assert (multi.row, multi.setting) == ("Net", "multi-query")
