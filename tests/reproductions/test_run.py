"""``run`` from the command line: what it writes, what it refuses, and what an interruption costs."""

import json
import shutil
import signal
import subprocess
import time

import pytest
from PIL import Image

from protocols.market1501 import market1501
from reproductions.jobs import Changes, make_job
from reproductions.places import PROJECT
from reproductions.records import load_records
from reproductions.spec import load_paper
from tests.reproductions.conftest import MINI


def only_record(shell, seed=0):
    (record,) = [record for record in load_records(shell.results) if record.seed == seed]
    return record


def test_a_run_records_every_seed_and_does_not_repeat_it(shell):
    first = shell.run("--seeds", 2, "--json", shell.folder / "outcome.json")

    assert first.returncode == 0, first.stderr
    records = load_records(shell.results)
    assert [record.seed for record in records] == [0, 1]
    assert {len(record.history) for record in records} == {4}
    assert records[0].metrics != records[1].metrics
    assert "scores compare with no published value" in first.stdout
    assert "90.1" not in first.stdout  # the published value
    outcome = json.loads((shell.folder / "outcome.json").read_text())
    assert outcome["rows"][0]["seeds"]["1"] == records[1].metrics
    assert outcome["cells"] == []

    before = only_record(shell).provenance
    again = shell.run("--seeds", 2)
    assert "seeds to run none; recorded 0, 1" in again.stdout
    assert only_record(shell).provenance == before


def test_a_record_holds_what_decided_and_what_came_out(shell):
    shell.run("--seed", 3)

    record = only_record(shell, 3)
    assert (record.paper, record.table, record.row, record.dataset) == ("mini", "table1", "Net", "crosswalk")
    assert record.scale == "proxy"
    assert record.identity["recipe"]["ids_per_batch"] == 4
    assert record.options["slope"] == 0.1  # a default that the spec does not state
    assert set(record.metrics) == set(record.untrained) >= {"mAP", "mAP_trapezoid", "mINP", "rank1", "rank20"}
    assert record.provenance.versions["torch"]
    assert record.mlflow_run_id
    assert record.path(shell.results).is_file()


def test_dry_run_runs_nothing(shell):
    result = shell.run("--dry-run")

    assert result.returncode == 0
    assert "table1/Net on crosswalk" in result.stdout
    assert not shell.results.exists()


def start(shell, *arguments):
    """Start a run in a process and wait for its first checkpoint."""
    command, environment = shell.process("--seed", 0, *arguments)
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    while not (checkpoints := list(shell.runs.glob("*/seed-0/checkpoint.pt"))):
        assert process.poll() is None, "it ended before a checkpoint was seen"
        time.sleep(0.001)
    return process, checkpoints[0]


def timeless(history):
    return [{k: v for k, v in entry.items() if k not in ("seconds", "images_per_s")} for entry in history]


def test_kill_9_loses_at_most_the_epoch_in_flight_and_resumes_to_the_same_bits(shell):
    shell.run("--seed", 0)
    straight = only_record(shell)
    shutil.rmtree(shell.results)
    shutil.rmtree(shell.runs)

    process, checkpoint = start(shell)
    process.kill()
    process.wait()
    assert not load_records(shell.results)
    command, environment = shell.process("--seed", 0)  # anew: nothing that a process remembers helps it
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, timeout=300)

    resumed = only_record(shell)
    assert resumed.metrics == straight.metrics
    assert resumed.untrained == straight.untrained
    assert timeless(resumed.history) == timeless(straight.history)
    assert not checkpoint.exists()


def test_an_interrupt_exits_with_130_and_keeps_the_last_epoch(shell):
    process, checkpoint = start(shell)
    process.send_signal(signal.SIGINT)

    assert process.wait(60) == 130
    assert checkpoint.exists()


def test_two_processes_never_train_one_seed(shell):
    from filelock import FileLock

    shell.run("--seed", 0)
    folder = next(shell.runs.glob("*/seed-0"))
    with FileLock(f"{folder.parent}/seed-1.lock"):
        result = shell.run("--seed", 1)

    assert result.returncode == 2
    assert "seed 1: another process runs it" in result.stderr


def test_weights_that_cannot_be_written_leave_the_seed_to_be_finished(shell, monkeypatch):
    from reproductions import execute

    def full(*_):
        raise OSError(28, "No space left on device", "weights.safetensors")

    with monkeypatch.context() as patch:
        patch.setattr(execute, "to_safetensors", full)
        result = shell.run("--seed", 0)
    assert result.returncode == 2
    assert "weights.safetensors: No space left on device" in result.stderr
    assert not load_records(shell.results)

    assert shell.run("--seed", 0).returncode == 0
    assert len(only_record(shell).history) == 4


def test_fresh_runs_again(shell):
    shell.run("--seed", 0)
    first = only_record(shell)

    assert shell.run("--seed", 0, "--fresh").returncode == 0
    assert only_record(shell).metrics == first.metrics
    assert only_record(shell).mlflow_run_id != first.mlflow_run_id


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--row", "Nett"), "unknown row of mini 'Nett': did you mean 'Net'"),
        (("--table", "table2"), "unknown table of mini 'table2': did you mean 'table1'"),
        (("--on", "market"), "unknown data set of mini 'market': did you mean 'market1501'"),
        (("--street", "large"), "unknown street size 'large'"),
        (("--scale", "paper"), "no data set of mini is here"),
        (("--seeds", "2", "--seed", "5"), "--seeds N and --seed S name seeds twice"),
        (("--set", "slope"), "--set slope: expected KEY=VALUE"),
        (("--set", "slop=0.1"), "options of SONA: unknown option 'slop': did you mean 'drop'"),
        (("--set", "recipe.flipp=1"), "unknown field of a recipe 'flipp': did you mean 'flip'"),
        (
            ("--set", "recipe.flip=2"),
            "mini, row 'Net' on crosswalk: --set recipe.flip: found 2, expected: Input should be less than",
        ),
        (
            ("--set", "recipe.ranking=[5, 'every']"),
            "recipe.ranking: found [5, 'every'], expected: Input should be 'all' or Input should be a valid",
        ),
        (("--set", "recipe.cutout_size=99"), "--set recipe.cutout_size=99: a cutout of 99 exceeds images"),
        (("--set", "recipe.street=tiny"), "--set recipe.street: expected --street, which changes that"),
        (("--on", "market1501", "--scale", "proxy"), "proxies run on the street alone"),
        (("--on", "crosswalk", "--scale", "paper"), "the street compares with no published value"),
        (("--data-root", "/nowhere"), "/nowhere: no such folder"),
        (("--weights", "/nowhere.pt"), "--weights /nowhere.pt: No such file"),
        (("--device", "cuda"), "torch sees no GPU"),
        (("--dial", "misalign=0.3"), "unknown dial 'misalign': did you mean 'misalignment'"),
        (("--dial", "misalignment"), "--dial misalignment: expected KEY=VALUE"),
        (("--dial", "occlusion=much"), "--dial occlusion=much: expected a number in 0..1"),
        (("--dial", "occlusion=1.5"), "dial occlusion is 1.5; it must lie in 0..1"),
    ],
)
def test_requests_that_cannot_be_met(shell, arguments, message):
    if "cuda" in arguments:
        torch = pytest.importorskip("torch")
        if torch.cuda.is_available():
            pytest.skip("this machine has a GPU")

    result = shell.run("--seed", 0, *arguments)

    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not load_records(shell.results)


def test_a_data_root_without_a_data_set(shell, tmp_path):
    (tmp_path / "data" / "market1501").mkdir(parents=True)

    for root, found in (
        (tmp_path / "data", "found market1501"),
        (tmp_path / "data" / "market1501", "nothing"),
    ):
        result = shell.run("--dry-run", "--data-root", root)
        assert result.returncode == 2
        assert found in result.stderr
        assert "expected one of Market-1501-v15.09.15" in result.stderr


def test_a_street_never_passes_for_a_real_data_set(shell, tiny_street):
    result = shell.run("--seed", 0, "--data-root", tiny_street.parent)

    assert result.returncode == 2
    assert "a rendered street, not Market-1501" in result.stderr
    assert not load_records(shell.results)


def test_changed_rows_have_records_of_their_own_and_are_not_judged(shell):
    shell.run("--seed", 0)
    options = ("--recipe", "paper", "--precision", "fp32", "--set", "slope=0.2", "--set", "recipe.flip=0")
    changed = shell.run("--seed", 0, *options)

    assert changed.returncode == 0
    named = "--recipe paper --precision fp32 --set slope=0.2 --set recipe.flip=0: rows that this changes"
    assert f"{named} have records of their own and are not judged" in changed.stdout
    one, other = sorted(load_records(shell.results), key=lambda record: record.options["slope"])
    assert one.row_hash != other.row_hash
    assert [record.options["slope"] for record in (one, other)] == [0.1, 0.2]
    assert [record.identity["recipe"]["flip"] for record in (one, other)] == [0.5, 0.0]
    compared = shell("compare", "mini", "--results", shell.results)
    assert compared.stdout.count("changed") == 1


@pytest.mark.parametrize("key", ["kpm", "sona"])
def test_alternatives_of_a_recipes_open_choices_can_be_selected(key):
    paper = load_paper(key)
    row = next(label for label, row in paper.rows.items() if row.headline)
    printed = make_job(paper, row, "crosswalk", "paper").row_hash
    hashes = [
        make_job(paper, row, "crosswalk", "paper", changes=Changes(recipe_fields=fields)).row_hash
        for choice in paper.unstated
        for fields in ({choice.key: alternative} for alternative in choice.alternatives)
        if choice.key != "schedule"  # too long to be written out: said in words
    ]

    assert len({printed, *hashes}) == 1 + len(hashes)


def test_what_is_changed_into_a_printed_row_is_that_row(shell):
    result = shell.run("--dry-run", "--row", "Subtract", "--set", "matching=warp", paper="pairs")

    warp = make_job(load_paper("pairs", MINI), "Warp", "crosswalk", "proxy").row_hash
    assert f"table1/Subtract on crosswalk [{warp}]: seeds to run" in result.stdout
    assert "not judged" not in result.stdout


def test_the_announcement_says_whether_the_printed_recipe_runs(shell, data_root):
    as_printed = shell.run("--dry-run", "--data-root", data_root)
    assert "real data and the printed recipe; compared with the published values" in as_printed.stdout

    changed = shell.run("--dry-run", "--data-root", data_root, "--set", "recipe.weight_decay=0")
    assert "printed recipe" not in changed.stdout
    assert "--set recipe.weight_decay=0: rows that this changes have records of their own" in changed.stdout
    assert "] (changed): seeds to run" in changed.stdout

    same = shell.run("--dry-run", "--data-root", data_root, "--set", "recipe.weight_decay=5e-4")
    assert same.stdout == as_printed.stdout


def test_the_announcement_names_the_table_that_was_asked_for(shell):
    shell.environment["RETABLE_PAPERS"] = str(PROJECT / "reproductions" / "papers")
    label, row = next((label, row) for label, row in load_paper("kpm").rows.items() if len(row.tables) > 1)

    for table in row.tables:
        asked = shell.run("--dry-run", "--row", label, "--table", table, paper="kpm")
        assert f"{table}/{label} on crosswalk" in asked.stdout


@pytest.mark.parametrize(
    ("rows", "setting", "message"),
    [
        (("Warp", "Softmax"), "similarity=dot", "options of SONA: unknown option 'similarity'"),
        (("Warp",), "similarity=foo", "options of KPM: similarity = 'foo': Input should be"),
        (("Subtract",), "attention=true", "options of KPM: attention weights warped differences"),
    ],
)
def test_options_that_a_method_does_not_take_stop_before_the_first_seed(
    shell, monkeypatch, rows, setting, message
):
    from reproductions import track

    monkeypatch.setattr(track, "Tracker", None)  # no run is opened in the store either
    labels = [word for row in rows for word in ("--row", row)]
    result = shell.run("--seed", 0, *labels, "--set", setting, paper="pairs")

    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {message}")
    assert not shell.runs.exists()


def test_an_unknown_paper(shell):
    result = shell("run", "min")

    assert result.returncode == 2
    assert "unknown paper 'min': did you mean 'mini'" in result.stderr


def test_weights_of_another_network(shell, tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"layer9.weight": torch.zeros(3)}, tmp_path / "other.pt")

    result = shell.run("--seed", 0, "--weights", tmp_path / "other.pt")

    assert result.returncode == 2
    assert "other.pt" in result.stderr
    assert "layer9.weight" in result.stderr


@pytest.mark.parametrize("damage", ["empty", "truncated", "name", "folder", "count"])
def test_a_damaged_data_set_is_refused_before_training(shell, data_root, damage):
    release = data_root / market1501().folder
    train = release / "bounding_box_train"
    image = sorted(train.glob("*.jpg"))[3]
    expected = image.name
    match damage:
        case "empty":
            shutil.rmtree(release)
            release.mkdir()
            expected = "bounding_box_train: no such folder"
        case "truncated":
            image.write_bytes(image.read_bytes()[:300])
        case "name":
            image.rename(train / "photo 7.jpg")
            expected = "photo 7.jpg: not a Market-1501 file name"
        case "folder":
            shutil.rmtree(release / "query")
            expected = "query: no such folder"
        case "count":
            image.unlink()
            expected = "train: found 43, expected 44"

    result = shell("run", "mini", "--seed", 0, "--data-root", data_root, "--results", shell.results)

    assert result.returncode == 2
    assert expected in result.stderr
    assert not load_records(shell.results)


def test_scale_paper_shows_published_values_and_verdicts(shell, data_root):
    result = shell("run", "mini", "--seeds", 2, "--data-root", data_root, "--results", shell.results)

    assert result.returncode == 0, result.stderr
    assert "scale paper: real data" in result.stdout
    assert "90.1" in result.stdout
    assert "below" in result.stdout
    compared = shell("compare", "mini", "--results", shell.results)
    assert compared.returncode == 1
    assert "2 below" in compared.stdout


def test_a_full_disk_keeps_the_previous_checkpoint_and_says_so(shell):
    """A limit on the size of files stands in for the full disk."""
    command, environment = shell.process("--seed", 0, "--tracking-uri", "http://127.0.0.1:9")
    limited = ["bash", "-c", 'trap "" XFSZ; ulimit -f 40; exec "$@"', "bash"]

    result = subprocess.run(
        [*limited, *command], env=environment, capture_output=True, text=True, timeout=300
    )

    assert result.returncode == 2
    assert "cannot write the checkpoint of epoch 1" in result.stderr
    assert "Make room and run the same command" in result.stderr
    assert not list(shell.runs.glob("*/*/*"))


def test_dials_render_another_street_and_another_hash(shell):
    assert shell.run("--seed", 0).returncode == 0
    turned = shell.run("--seed", 0, "--dial", "misalignment=0.9", "--dial", "occlusion=0")

    assert turned.returncode == 0, turned.stderr
    one, other = sorted(load_records(shell.results), key=lambda record: record.provenance.started)
    assert one.row_hash != other.row_hash
    changed = {"misalignment": 0.9, "occlusion": 0.0}
    assert other.identity["data"] == one.identity["data"] | {"dials": one.identity["data"]["dials"] | changed}
    assert one.metrics != other.metrics


def test_real_data_have_no_dials(shell, data_root):
    result = shell.run("--seed", 0, "--data-root", data_root, "--dial", "misalignment=0.3")

    assert result.returncode == 2
    assert "--dial misalignment with market1501: only the street has dials" in result.stderr


def test_pairs_are_judged_by_every_protocol_and_ranking(shell):
    result = shell.run("--seed", 0, "--json", shell.folder / "outcome.json", paper="pairs")

    assert result.returncode == 0, result.stderr
    record = only_record(shell)
    first, second = "market1501/openreid", "market1501"
    assert record.identity["protocol"][0] == first
    assert [name for name, _ in record.identity["beside"]] == [second]
    assert set(record.beside) == {f"{first} exhaustive", f"{second} top-5", f"{second} exhaustive"}
    assert all(set(metrics) == set(record.metrics) for metrics in record.beside.values())
    assert set(record.untrained) == set(record.metrics)
    assert "not compared with printed values" in result.stdout
    (row,) = json.loads((shell.folder / "outcome.json").read_text())["rows"]
    assert row["beside"]["0"] == record.beside


def test_an_embedding_has_one_way_to_rank(shell):
    result = shell.run("--seed", 0, "--row", "Softmax", paper="pairs")

    assert result.returncode == 0, result.stderr
    record = only_record(shell)
    assert set(record.beside) == {"market1501"}
    assert record.identity["recipe"]["images_per_batch"] == 8


def test_a_recipe_that_does_not_fit_its_method_stops_before_anything_is_trained(shell):
    result = shell.run("--seed", 0, "--row", "Unfit", paper="pairs")

    assert result.returncode == 2
    assert 'KPM learns from pairs of images, the recipe has sampler = "shuffled"' in result.stderr
    assert not list(shell.runs.glob("*/*/*"))


def test_pairs_resume_to_the_same_bits(shell, monkeypatch):
    from reproductions.checkpoint import Checkpoint

    shell.run("--seed", 0, paper="pairs")
    straight = only_record(shell)
    shutil.rmtree(shell.results)
    shutil.rmtree(shell.runs)
    save = Checkpoint.save

    def save_and_stop(checkpoint, path):
        save(checkpoint, path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", save_and_stop)
        assert shell.run("--seed", 0, paper="pairs").returncode == 130
    assert shell.run("--seed", 0, paper="pairs").returncode == 0

    resumed = only_record(shell)
    assert (resumed.metrics, resumed.beside) == (straight.metrics, straight.beside)
    assert timeless(resumed.history) == timeless(straight.history)
    assert len(resumed.history) == 2


def test_a_network_with_two_labels_is_trained_once(shell):
    both = ("--row", "Warp", "--row", "Full w/ all")
    result = shell.run("--seed", 0, *both, paper="pairs")

    assert result.returncode == 0, result.stderr
    assert "prose/Full w/ all on crosswalk: the same network as table1/Warp" in result.stdout
    first = only_record(shell)
    assert first.row == "Warp"
    again = shell.run("--seed", 0, "--row", "Full w/ all", paper="pairs")
    assert "seeds to run none; recorded 0" in again.stdout
    compared = shell("compare", "pairs", "--format", "csv", "--results", shell.results).stdout
    assert compared.count("Warp = Full w/ all") == 1 + len(first.beside)

    shell.run("--seed", 0, "--row", "Full w/ all", "--fresh", paper="pairs")
    assert only_record(shell).row == "Full w/ all"  # in place of the other label's
    assert only_record(shell).metrics == first.metrics


def test_data_sets_change_the_recipe_of_real_data(shell, data_root):
    result = shell.run("--seed", 0, "--data-root", data_root, paper="pairs")

    assert result.returncode == 0, result.stderr
    record = only_record(shell)
    assert record.dataset == "market1501/openreid"
    assert record.identity["recipe"]["negatives"] == 3
    assert record.path(shell.results).is_file()
    assert len(record.path(shell.results).relative_to(shell.results).parts) == 4
    judged = shell("compare", "pairs", "--format", "csv", "--results", shell.results).stdout
    assert "as printed 40.0: open; read as 50.0, see errata: open" in judged


def test_images_of_the_street_are_real_files(tiny_street):
    with Image.open(next((tiny_street / "query").glob("*.jpg"))) as image:
        assert (image.format, image.size) == ("JPEG", (64, 128))
