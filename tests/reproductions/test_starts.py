"""Rows that start from networks of other rows: what is trained before them, when, and what they take over."""

import json
from io import StringIO

import pytest
import torch
from mlflow import MlflowClient
from rich.console import Console
from safetensors.torch import load_file

from methods import METHODS
from methods.base import Options
from reproductions.artefacts import artefacts, checkpoint_file, is_finished
from reproductions.augment import normalise
from reproductions.campaign import networks, planned
from reproductions.execute import build, run_seed
from reproductions.fitting import fit
from reproductions.jobs import Changes, make_job
from reproductions.paper import Dataset
from reproductions.records import load_records
from reproductions.spec import load_paper
from reproductions.trained import load
from reproductions.training import make_accelerator, refuse_misfit
from retable.errors import RetableError, SpecError
from retable.registry import Source
from tests.reproductions.conftest import MINI
from tests.reproductions.halves import Halves
from tests.reproductions.starts import Chained, Colours
from tests.reproductions.test_judgement import recorded

PAPER = load_paper("starts", MINI)
QUIET = Console(quiet=True)


@pytest.fixture(autouse=True)
def methods(monkeypatch):
    """The methods are known by their names."""
    for name, method in (("halves", Halves), ("chained", Chained), ("colours", Colours)):
        monkeypatch.setitem(METHODS._objects, name, method)
        monkeypatch.setitem(METHODS._sources, name, Source(method.__module__, "1"))


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """No weights of other tests."""
    monkeypatch.setenv("RETABLE_CACHE", str(tmp_path / "cache"))


def job(row, dataset="crosswalk", scale="proxy", paper=PAPER, **changes):
    return make_job(paper, row, dataset, scale, changes=Changes(**changes))


def keep_weights(row, seed):
    """A file in the place of the seed's weights."""
    file = artefacts(job(row).row_hash, seed).weights
    file.parent.mkdir(parents=True)
    file.touch()


def records_of(row, *seeds):
    """Records of the present definition of a row."""
    found = recorded(row, "crosswalk", "proxy", [50.0] * (max(seeds) + 1), paper=PAPER)
    return [record for record in found if record.seed in seeds]


class TestJobs:
    def test_what_it_starts_from_decides_a_network(self):
        net, base, half, longer = map(job, ("Net", "Base", "Half", "Longer"))

        assert [one.row for one in net.starts_from] == ["Base", "Half"]
        assert net.identity["starts_from"] == [base.row_hash, half.row_hash]
        assert longer.identity["starts_from"] == [net.row_hash, half.row_hash]
        assert [one.stage for one in (base, half, net, longer)] == [0, 0, 1, 2]
        assert "starts_from" not in base.identity
        assert not net.goes_on

    def test_settings_are_the_rows_own_and_other_changes_are_for_all(self):
        plain = job("Net")
        own = job("Net", options={"split": False}, recipe_fields={"epochs": 2})
        both = job("Net", precision="bf16", dials={"occlusion": 0.5})

        assert own.options["split"] is False and own.recipe.epochs == 2
        assert [one.row_hash for one in own.starts_from] == [one.row_hash for one in plain.starts_from]
        for one in (both, *both.starts_from):
            assert (one.recipe.precision, one.data.dials.occlusion) == ("bf16", 0.5)

    def test_weights_are_for_what_it_starts_from(self):
        net, longer = job("Net", weights="imagenet"), job("Longer", weights="imagenet")

        assert (net.weights, net.identity["weights"]) == ("none", "none")
        assert [one.weights for one in net.starts_from] == ["imagenet", "imagenet"]
        assert net.row_hash != job("Net").row_hash
        assert longer.starts_from[0].row_hash == net.row_hash

    def test_weights_of_its_own_are_refused(self):
        own = PAPER.rows["Net"].model_copy(update={"recipe": {"proxy": {"weights": "street"}}})
        paper = PAPER.model_copy(update={"rows": PAPER.rows | {"Net": own}})

        with pytest.raises(SpecError, match=r"row 'Net': found starts_from and weights = 'street'; expected"):
            job("Net", paper=paper)

    def test_a_network_that_goes_on_has_what_other_rows_gave_it(self):
        datasets = {"market1501": Dataset(), "mars": Dataset(starts_from="market1501")}
        paper = PAPER.model_copy(update={"datasets": datasets})

        (before,) = job("Net", "mars", "paper", paper).starts_from

        assert job("Net", "mars", "paper", paper).goes_on
        assert (before.row, before.dataset) == ("Net", "market1501")
        assert [one.row for one in before.starts_from] == ["Base", "Half"]

    def test_another_street_is_refused(self):
        small = PAPER.rows["Base"].model_copy(update={"recipe": {"proxy": {"street": "default"}}})
        paper = PAPER.model_copy(update={"rows": PAPER.rows | {"Base": small}})

        with pytest.raises(SpecError, match=r"'Net', starts_from: found 'Base'.*default.*expected.*tiny"):
            job("Net", paper=paper)


@pytest.mark.usefixtures("own_cache")
class TestPlanned:
    def plan(self, *rows, seeds=(0, 1), records=(), fresh=False):
        work = planned([job(row) for row in rows], seeds, records, fresh=fresh)
        return {one.network[0].row: one.train for one in work}

    def test_networks_come_before_those_that_start_from_them(self):
        rows = ["Longer", "Net", "Half", "Base"]

        assert [[one.row for one in network] for network in networks(map(job, rows))] == [
            *(["Half"], ["Base"]),
            *(["Net"], ["Longer"]),
        ]
        assert list(self.plan(*rows)) == ["Half", "Base", "Net", "Longer"]

    def test_what_is_started_from_is_added(self):
        assert self.plan("Longer") == {"Half": [0, 1], "Base": [0, 1], "Net": [0, 1], "Longer": [0, 1]}
        assert self.plan("Base") == {"Base": [0, 1]}

    def test_only_where_it_is_needed(self):
        """Of a seed whose weights are here, or of which the row that starts from it is recorded."""
        keep_weights("Base", 0)
        records = records_of("Net", 1)

        assert self.plan("Net", seeds=(0, 1, 2), records=records) == {
            "Base": [2],
            "Half": [0, 2],
            "Net": [0, 2],
        }
        assert self.plan("Net", seeds=(1,), records=records) == {"Net": []}

    def test_weights_of_an_unrecorded_training_do_not_count(self):
        keep_weights("Base", 0)
        checkpoint_file(job("Base").row_hash, 0).touch()

        assert not is_finished(job("Base").row_hash, 0)
        assert self.plan("Net", seeds=(0,))["Base"] == [0]

    @pytest.mark.parametrize("rows", [("Net",), ("Net", "Base")])
    def test_recorded_seeds_without_weights_are_trained_again(self, rows):
        records = records_of("Base", 0)

        work = {one.network[0].row: one for one in planned(map(job, rows), (0, 1), records)}

        assert (work["Base"].train, work["Base"].again) == ([0, 1], [0])
        assert work["Base"].begun_by == ([] if "Base" in rows else ["Net"])
        assert work["Net"].again == []

    def test_lacking_scores_are_made_by_the_training_that_others_need(self):
        """Not from weights that are not here."""
        re_ranked = PAPER.rows["Base"].model_copy(update={"rerank": True})
        paper = PAPER.model_copy(update={"rows": PAPER.rows | {"Base, re-ranked": re_ranked}})
        records = records_of("Base", 0, 1)
        keep_weights("Base", 1)

        asked = [job(row, paper=paper) for row in ("Net", "Base, re-ranked")]
        work = {one.network[0].row: one for one in planned(asked, (0, 1), records)}

        base = work["Base, re-ranked"]
        assert base.network[0].row_hash == job("Base").row_hash
        assert (base.train, base.judge) == ([0], [1])

    def test_fresh_is_about_the_rows_that_are_asked_for(self):
        for row in ("Base", "Half"):
            keep_weights(row, 0)
        records = [*records_of("Net", 0), *records_of("Base", 0)]

        assert self.plan("Net", seeds=(0,), records=records) == {"Net": []}
        assert self.plan("Net", seeds=(0,), records=records, fresh=True) == {
            "Half": [],
            "Base": [],
            "Net": [0],
        }
        assert self.plan("Net", "Base", seeds=(0,), records=records, fresh=True) == {
            "Half": [],
            "Base": [0],
            "Net": [0],
        }


def test_they_are_trained_and_recorded_before(shell, tmp_path, monkeypatch):
    outcome = tmp_path / "outcome.json"

    result = shell.run("--seed", 1, "--json", outcome, paper="starts")

    assert result.returncode == 0, result.stderr
    hashes = {row: job(row).row_hash for row in ("Base", "Half", "Net")}
    told = [line for line in result.stdout.splitlines() if line.startswith("  ")]
    assert told[:3] == [
        f"  {place}/{row} on crosswalk [{hashes[row]}]{mark}: seeds to run 1; recorded none"
        for place, row, mark in (
            ("table1", "Base", ", for Net to start from"),
            ("prose", "Half", ", for Net to start from"),
            ("table1", "Net", ""),
        )
    ]
    assert [line.split(" on ")[0] for line in result.stdout.splitlines() if "; trained " in line] == [
        *("Base", "Half", "Net")
    ]
    records = {record.row: record for record in load_records(shell.results)}
    assert {row: (one.row_hash, one.seed) for row, one in records.items()} == {
        row: (name, 1) for row, name in hashes.items()
    }
    assert len({one.provenance.split["train"] for one in records.values()}) == 1
    assert [row["row"] for row in json.loads(outcome.read_text())["rows"]] == ["Net"]
    client = MlflowClient(shell.environment["MLFLOW_TRACKING_URI"])
    for record in records.values():
        run = client.get_run(record.mlflow_run_id)
        assert run.data.tags["retable.row_hash"] == record.row_hash
        assert run.info.status == "FINISHED"

    monkeypatch.setenv("RETABLE_CACHE", shell.environment["RETABLE_CACHE"])
    states = {row: load_file(artefacts(name, 1).weights) for row, name in hashes.items()}
    for layer, before in (("upper", "Base"), ("lower", "Half")):
        torch.testing.assert_close(states["Net"][f"{layer}.weight"], states[before][f"{layer}.weight"])
    (shown,) = load([job("Net")], 1, "cpu", QUIET)
    untrained = shown.untrained.state_dict()
    torch.testing.assert_close(untrained["upper.weight"], states["Base"]["upper.weight"])
    own = build(job("Net"), 1, shown.data.num_pids).state_dict()
    torch.testing.assert_close(untrained["classifier.weight"], own["classifier.weight"])
    assert not torch.equal(own["upper.weight"], untrained["upper.weight"])

    again = shell.run("--seed", 1, paper="starts")
    assert "Half" not in again.stdout and "seeds to run none; recorded 1" in again.stdout
    artefacts(hashes["Half"], 1).weights.unlink()
    (shown,) = load([job("Net")], 1, "cpu", QUIET)
    assert shown.untrained is None

    forgotten = []
    monkeypatch.setattr("reproductions.execute.forget", lambda one, _: forgotten.append(one.row))
    fresh = shell.run("--seed", 1, "--fresh", paper="starts")
    assert forgotten == ["Net"]
    assert "Half on crosswalk" in fresh.stdout
    assert "seeds to run 1; 1 again, for weights that are not here; recorded none" in fresh.stdout
    assert "for Net to start from: seeds to run none; recorded 1" in fresh.stdout
    after = {record.row: record for record in load_records(shell.results)}
    assert after["Base"] == records["Base"]
    assert after["Half"].mlflow_run_id != records["Half"].mlflow_run_id
    assert after["Net"].mlflow_run_id != records["Net"].mlflow_run_id
    assert after["Net"].metrics == records["Net"].metrics


def test_a_method_that_takes_over_nothing_says_so(shell):
    result = shell.run("--seed", 0, "--row", "Stranger", paper="starts")

    assert result.returncode == 2
    assert "Halves: found starts_from in its row, with 1 networks; expected none" in " ".join(
        result.stderr.split()
    )


@pytest.mark.usefixtures("own_cache")
def test_a_seed_without_what_it_starts_from_is_refused(tmp_path, shell, monkeypatch):
    monkeypatch.setenv("RETABLE_CACHE", shell.environment["RETABLE_CACHE"])

    with pytest.raises(RetableError, match=r"Net on crosswalk starts from Base .*, seed 0: no .*"):
        run_seed(job("Net"), 0, "cpu", tmp_path, Console(file=StringIO()))


class TestFitted:
    def run(self, shell, *arguments):
        return shell.run("--seed", 0, "--row", "Colours", *arguments, paper="starts")

    def test_it_is_fitted_and_recorded(self, shell, monkeypatch):
        result = self.run(shell, "--json", shell.folder / "outcome.json")

        assert result.returncode == 0, result.stderr
        (record,) = load_records(shell.results)
        (entry,) = record.history
        assert entry.keys() == {"epoch", "seconds", "images_per_s"} and entry["images_per_s"] > 0
        assert (record.untrained, record.untrained_parts) == ({}, {"top": {}})
        assert record.parts.keys() == {"top"}
        stated = {"backbone": "none", "sampler": "fitted", "height": 32, "width": 16, "precision": "fp32"}
        assert record.identity["recipe"] == stated
        assert "untrained" not in result.stdout.split("\nColours on")[1].splitlines()[0]
        (row,) = json.loads((shell.folder / "outcome.json").read_text())["rows"]
        assert row["untrained"] == {"0": {}}
        run = MlflowClient(shell.environment["MLFLOW_TRACKING_URI"]).get_run(record.mlflow_run_id)
        assert run.data.metrics["train/seconds"] == entry["seconds"]
        assert not any(name.startswith("untrained") for name in run.data.metrics)
        for verb in ("compare", "list"):
            shown = shell(verb, "starts", *(("--results", shell.results) if verb == "compare" else ()))
            assert shown.returncode == 0, shown.stderr

        monkeypatch.setenv("RETABLE_CACHE", shell.environment["RETABLE_CACHE"])
        (seed,) = load([job("Colours")], 0, "cpu", QUIET)
        images = normalise(seed.data.train[:])
        torch.testing.assert_close(seed.method.mean, seed.method.bands(images).mean(0))
        assert seed.method.noise != 0
        assert "seeds to run none; recorded 0" in self.run(shell).stdout

    def test_no_other_sampler_will_do(self):
        refuse_misfit(Colours, PAPER.recipe("proxy", "Colours", "crosswalk"))

        with pytest.raises(SpecError, match=r'Colours learns from all .* "pk"; expected sampler = "fitted"$'):
            refuse_misfit(Colours, PAPER.recipe("proxy", "Net", "crosswalk"))

    def test_the_seed_decides_what_it_draws(self):
        images = torch.zeros(300, 3, 12, 4, dtype=torch.uint8)
        accelerator = make_accelerator("cpu", "fp32")
        noise = []
        for seed in (0, 0, 1):
            method = Colours(Options(), 4, "none", "none")
            fit(method, images, seed, accelerator, QUIET)
            noise.append(float(method.noise))

        assert noise[0] == noise[1] != noise[2]

    def test_it_describes_images_as_it_will_when_it_is_fitted(self):
        """Averages of batches do not move, and no gradients are kept."""

        class Watched(Colours):
            def fit(self, batches, progress):
                self.found = (self.training, torch.is_grad_enabled())
                super().fit(batches, progress)

        method = Watched(Options(), 4, "none", "none").train()
        images = torch.zeros(2, 3, 12, 4, dtype=torch.uint8)
        fit(method, images, 0, make_accelerator("cpu", "fp32"), QUIET)

        assert method.found == (False, False)

    def test_what_was_fitted_is_kept_when_the_disk_is_full(self, shell, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device", "weights.safetensors")

        with monkeypatch.context() as patch:
            patch.setattr("reproductions.execute.to_safetensors", full)
            assert self.run(shell).returncode == 2
        with monkeypatch.context() as patch:
            patch.setattr(Colours, "fit", None)
            assert self.run(shell).returncode == 0

        (record,) = load_records(shell.results)
        run = MlflowClient(shell.environment["MLFLOW_TRACKING_URI"]).get_run(record.mlflow_run_id)
        with monkeypatch.context() as patch:
            patch.setenv("RETABLE_CACHE", shell.environment["RETABLE_CACHE"])
            kept = load_file(artefacts(record.row_hash, 0).weights)
        assert kept["noise"] != 0
        history = MlflowClient(shell.environment["MLFLOW_TRACKING_URI"]).get_metric_history(
            run.info.run_id, "train/seconds"
        )
        assert len(history) == 1
