"""MLflow: what lands in the store, and that a dying store stops nothing."""

import os
import socket
import subprocess
import sys
import time

import pytest
from mlflow import MlflowClient

from reproductions.jobs import Changes, make_job
from reproductions.records import load_records
from reproductions.spec import load_paper
from reproductions.track import Store, describe, flatten
from retable.errors import RetableError
from tests.reproductions.test_judgement import PAIRS, recorded


@pytest.fixture
def client(shell):
    return MlflowClient(shell.environment["MLFLOW_TRACKING_URI"])


def runs(client, paper="mini"):
    """All runs of the paper, the row's first."""
    experiment = client.get_experiment_by_name(f"retable/{paper}")
    found = client.search_runs([experiment.experiment_id])
    return sorted(found, key=lambda run: (run.data.tags["retable.kind"] != "row", run.info.run_name))


def test_a_row_is_a_parent_and_each_seed_its_child(shell, client):
    shell.run("--seeds", 2)

    parent, *children = runs(client)
    assert parent.info.run_name == "table1/Net"
    assert [child.info.run_name for child in children] == ["seed=0", "seed=1"]
    assert {child.data.tags["mlflow.parentRunId"] for child in children} == {parent.info.run_id}
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    records = load_records(shell.results)
    assert [record.mlflow_run_id for record in records] == [child.info.run_id for child in children]


def test_metrics_tags_inputs_and_artefacts(shell, client):
    shell.run("--seeds", 2)
    records = load_records(shell.results)

    parent, child, _ = runs(client)
    scores = [record.metrics["mAP"] for record in records]
    assert parent.data.metrics["test/mAP.mean"] == pytest.approx(sum(scores) / 2)
    assert parent.data.metrics["test/mAP.std"] == pytest.approx(abs(scores[0] - scores[1]) / 2**0.5)
    assert parent.data.metrics["test/mAP.n"] == 2
    assert "published/mAP" not in parent.data.metrics  # a proxy compares with nothing
    assert child.data.metrics["test/rank1"] == records[0].metrics["rank1"]
    assert len(client.get_metric_history(child.info.run_id, "train/global_ce")) == 4
    tags = child.data.tags
    assert (tags["retable.paper"], tags["retable.row"], tags["retable.scale"]) == (
        "mini",
        "table1/Net",
        "proxy",
    )
    assert (tags["retable.seed"], tags["retable.row_hash"]) == ("0", records[0].row_hash)
    assert "python -m reproductions.run mini" in tags["mlflow.note.content"]
    assert child.data.params["recipe.height"] == "48"
    inputs = client.get_run(child.info.run_id).inputs.dataset_inputs
    assert {entry.dataset.name for entry in inputs} == {
        "crosswalk/train",
        "crosswalk/query",
        "crosswalk/gallery",
    }
    assert {entry.dataset.digest for entry in inputs} == set(records[0].provenance.split.values())
    files = {file.path for file in client.list_artifacts(child.info.run_id)}
    assert files == {"record.json", "weights.safetensors", "ranks.npz"}


def test_other_rankings_and_the_recipes_fields_are_logged(shell, client):
    shell.run("--seeds", 2, paper="pairs")
    records = load_records(shell.results)

    parent, child, _ = runs(client, "pairs")
    name = "market1501/openreid exhaustive"
    scores = [record.beside[name]["rank1"] for record in records]
    assert child.data.metrics[f"beside/{name}/rank1"] == scores[0]
    assert parent.data.metrics[f"beside/{name}/rank1.mean"] == pytest.approx(sum(scores) / 2)
    assert child.data.params["recipe.sampler"] == "pairs"
    assert child.data.params["recipe.ranking"] == "[5, 'all']"
    assert child.data.tags["retable.protocol"] == "market1501/openreid"


def test_the_note_on_a_run_has_the_dials_that_were_turned():
    job = make_job(load_paper("sona"), "BL", "crosswalk", "proxy", changes=Changes(dials={"occlusion": 0.5}))

    assert "--street default --dial occlusion=0.5 --seeds" in describe(job)


def test_more_seeds_of_a_row_join_its_run(shell, client):
    shell.run("--seed", 0)
    shell.run("--seed", 1)

    parents = [run for run in runs(client) if run.data.tags["retable.kind"] == "row"]
    assert len(parents) == 1
    assert parents[0].data.metrics["test/mAP.n"] == 2


def test_published_value_gap_and_verdict_at_scale_paper(shell, client, data_root):
    shell("run", "mini", "--seeds", 2, "--data-root", data_root, "--results", shell.results)

    parent = runs(client)[0]
    assert parent.data.metrics["published/mAP"] == 75.0
    assert parent.data.metrics["gap/mAP"] == pytest.approx(parent.data.metrics["test/mAP.mean"] - 75.0)
    assert parent.data.tags["retable.verdict.mAP"] == "below"


def test_the_published_value_is_the_reading_that_the_gap_is_by(shell, client, monkeypatch):
    monkeypatch.setenv("RETABLE_PAPERS", shell.environment["RETABLE_PAPERS"])
    records = recorded("Warp", "market1501/openreid", "paper", [50.1, 50.3], paper=PAIRS)
    store = Store(shell.environment["MLFLOW_TRACKING_URI"])
    store.summarise(store.parent(records[0], "campaign"), records)

    metrics = runs(client, "pairs")[0].data.metrics
    assert metrics["published/mAP"] == 50.0  # 40.0 is printed
    assert metrics["gap/mAP"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("stop", "status"), [(KeyboardInterrupt(), "KILLED"), (RetableError("full"), "FAILED")]
)
def test_a_row_ends_as_its_stopped_seed_does_and_goes_on_with_it(shell, client, monkeypatch, stop, status):
    from reproductions import execute

    run_seed, seen = execute.run_seed, []

    def stopped(*_, **__):
        raise stop

    def watched(*arguments, **options):
        seen.extend(run.info.status for run in runs(client))
        return run_seed(*arguments, **options)

    monkeypatch.setattr(execute, "run_seed", stopped)
    shell.run("--seed", 0)
    assert [run.info.status for run in runs(client)] == [status] * 2

    monkeypatch.setattr(execute, "run_seed", watched)
    shell.run("--seed", 0)
    assert seen == ["RUNNING"] * 2
    assert [run.info.status for run in runs(client)] == ["FINISHED"] * 2


def test_an_unreachable_server_stops_nothing_and_sync_logs_later(shell, client):
    result = shell.run("--seeds", 2, "--tracking-uri", "http://127.0.0.1:9")

    assert result.returncode == 0
    assert result.stdout.count("tracking stopped: http://127.0.0.1:9") == 1
    assert "python -m reproductions.sync --tracking-uri http://127.0.0.1:9" in result.stdout
    records = load_records(shell.results)
    assert [record.mlflow_run_id for record in records] == [None, None]

    synced = shell("sync", "mini", "--results", shell.results)
    assert "2 of 2 records were missing and are logged now" in synced.stdout
    parent, child, _ = runs(client)
    assert parent.data.metrics["test/mAP.n"] == 2
    assert child.data.metrics["test/mAP"] == records[0].metrics["mAP"]
    assert len(client.get_metric_history(child.info.run_id, "train/global_ce")) == 4
    assert {file.path for file in client.list_artifacts(child.info.run_id)} >= {"record.json", "ranks.npz"}

    again = shell("sync", "mini", "--results", shell.results)
    assert "0 of 2 records were missing" in again.stdout


def test_sync_to_an_unreachable_store_is_refused(shell):
    shell.run("--seed", 0, "--tracking-uri", "http://127.0.0.1:9")

    result = shell("sync", "--results", shell.results, "--tracking-uri", "http://127.0.0.1:9")

    assert result.returncode == 2
    assert "http://127.0.0.1:9" in result.stderr


@pytest.fixture
def server(shell):
    """A real MLflow server over the test's database; a process that a test may kill."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", shell.environment["MLFLOW_TRACKING_URI"]]
    command += ["--no-serve-artifacts", "--default-artifact-root", str(shell.folder / "artifacts")]
    process = subprocess.Popen(
        command,
        env=os.environ | shell.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.2)
    yield uri, process
    os.killpg(process.pid, 9)
    process.wait()


def test_a_server_that_dies_in_the_middle_stops_nothing(shell, client, server, monkeypatch):
    """It is killed after the second epoch of the first seed; both seeds are recorded all the same."""
    uri, process = server
    from reproductions import track

    log_epoch = track.Store.log_epoch

    def kill_after_two(store, run_id, entry):
        if entry["epoch"] == 3:
            os.killpg(process.pid, 9)
        log_epoch(store, run_id, entry)

    monkeypatch.setattr(track.Store, "log_epoch", kill_after_two)

    result = shell.run("--seeds", 2, "--tracking-uri", uri)

    assert result.returncode == 0
    assert result.stdout.count("tracking stopped") == 1
    assert len(load_records(shell.results)) == 2

    monkeypatch.setattr(track.Store, "log_epoch", log_epoch)
    assert "2 of 2 records were missing" in shell("sync", "mini", "--results", shell.results).stdout
    for run in runs(client)[1:]:
        steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "train/lr")]
        assert steps == [1, 2, 3, 4]


def test_flatten_gives_names_that_mlflow_takes():
    tree = {"recipe": {"height": 96, "schedule": [[1, 0.1]]}, "weights": "none"}

    assert flatten(tree) == {"recipe.height": "96", "recipe.schedule": "[[1, 0.1]]", "weights": "none"}
