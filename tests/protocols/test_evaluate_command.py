"""``python -m protocols.evaluate``: arrays from files, numbers on the screen and in files."""

import json
import os
import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest
from typer.testing import CliRunner

from protocols import evaluate
from retable.cli import application
from tests.protocols.problems import featured


@pytest.fixture(scope="module")
def app():
    """The command as a program."""
    return application(import_module("protocols.evaluate").main)


@pytest.fixture
def run(app):
    def invoke(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return invoke


@pytest.fixture
def npz(tmp_path):
    np.savez(tmp_path / "features.npz", **featured())
    return tmp_path / "features.npz"


def boxes(arrays):
    return {f"multiquery_{key}": arrays[f"query_{key}"] for key in ("features", "pids", "camids")}


def test_a_file_gives_the_numbers_of_the_function(run, npz, tmp_path):
    done = run(npz, "--protocol", "market1501", "--json", tmp_path / "out.json")

    expected = evaluate("market1501", **featured())
    assert done.exit_code == 0, done.output
    assert str(expected) in done.output
    assert json.loads((tmp_path / "out.json").read_text()) == json.loads(json.dumps(expected.to_dict()))


def test_a_folder_of_arrays_is_the_same(run, tmp_path):
    for name, array in featured().items():
        np.save(tmp_path / f"{name}.npy", array)

    done = run(tmp_path, "--protocol", "market1501")

    assert str(evaluate("market1501", **featured())) in done.output


def test_several_files_are_splits(run, tmp_path):
    for seed in range(3):
        np.savez(tmp_path / f"{seed}.npz", **featured(seed=seed))
    files = [tmp_path / f"{seed}.npz" for seed in range(3)]

    done = run(*files, "--protocol", "market1501", "--per-query", tmp_path / "rows.csv")

    mean = np.mean([evaluate("market1501", **featured(seed=seed)).metrics["mAP"] for seed in range(3)])
    assert "3 splits" in done.output
    assert f"{mean:.2f}" in done.output
    rows = (tmp_path / "rows.csv").read_text().splitlines()
    assert len(rows) == 1 + 3 * 40
    assert rows[-1].endswith(",2")


def test_one_split_may_be_judged_alone_as_in_a_list(run, tmp_path):
    """So that its draws are those of the list."""
    files = [tmp_path / f"{seed}.npz" for seed in range(2)]
    for seed, path in enumerate(files):
        np.savez(path, **featured(seed=seed, noise=1.5))

    run(*files, "--protocol", "cuhk01-100", "--json", tmp_path / "list.json")
    run(files[1], "--protocol", "cuhk01-100", "--split", "1", "--json", tmp_path / "alone.json")

    listed = json.loads((tmp_path / "list.json").read_text())["results"][1]
    assert json.loads((tmp_path / "alone.json").read_text()) == listed


def test_names_and_both_files_are_written(run, npz, tmp_path):
    np.savez(npz, **featured(), query_names=[f"q{row}.jpg" for row in range(40)])

    run(npz, "--protocol", "market1501", "--per-query", tmp_path / "rows.csv", "--json", tmp_path / "o.json")

    assert (tmp_path / "rows.csv").read_text().splitlines()[40].startswith("39,q39.jpg,")
    assert json.loads((tmp_path / "o.json").read_text())["fingerprint"] == "95cbb6615451fece"


def test_options_reach_the_function(run, npz):
    done = run(
        *(npz, "--protocol", "market1501", "--metric", "euclidean", "--rerank"),
        *("--deviation", "ap-top-50", "--deviation", "zero-matchless", "--ap", "trapezoid"),
    )
    expected = evaluate(
        "market1501",
        **featured(),
        metric="euclidean",
        rerank=True,
        deviations=["ap-top-50", "zero-matchless"],
    )

    assert expected.table("trapezoid") in done.output
    assert "mAP_trapezoid" in done.output


def test_draws_follow_seed_and_repeats(run, npz):
    done = run(npz, "--protocol", "cuhk01-100", "--seed", 3, "--repeats", 7)

    assert str(evaluate("cuhk01-100", **featured(), seed=3, repeats=7)) in done.output


def test_boxes_are_asked_on_request_only(run, tmp_path):
    arrays = featured()
    np.savez(tmp_path / "all.npz", **arrays, **boxes(arrays))

    single = run(tmp_path / "all.npz", "--protocol", "market1501")
    multi = run(tmp_path / "all.npz", "--protocol", "market1501", "--multi-query", "--pooling", "max")

    assert str(evaluate("market1501", **arrays)) in single.output
    expected = evaluate("market1501/multi-query", **arrays, **boxes(arrays), pooling="max")
    assert str(expected) in multi.output


def test_the_protocol_s_name_asks_for_boxes_too(run, npz, tmp_path):
    arrays = featured()
    np.savez(tmp_path / "all.npz", **arrays, **boxes(arrays))

    by_name = run(tmp_path / "all.npz", "--protocol", "market1501/multi-query")
    without = run(npz, "--protocol", "market1501/multi-query")

    expected = evaluate("market1501", **arrays, **boxes(arrays))
    assert str(expected) in by_name.output
    assert str(evaluate("market1501/multi-query", **arrays)) in without.output
    assert "taken as pooled already" in without.output


def test_distances_take_the_place_of_features(run, npz, tmp_path):
    distances = np.random.default_rng(0).random((40, 333))
    np.save(tmp_path / "d.npy", distances)
    labels = {key: array for key, array in featured().items() if array.ndim == 1}

    done = run(npz, "--protocol", "market1501", "--distances", tmp_path / "d.npy")

    assert str(evaluate("market1501", **labels, distances=distances)) in done.output


def refusal(done) -> str:
    assert done.exit_code == 2, done.output
    return done.output


def test_what_cannot_be_read_is_refused(run, npz, tmp_path):
    (tmp_path / "torn.npz").write_bytes(npz.read_bytes()[:500])
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "typo.npz", **featured(), query_feature=np.ones(3))
    np.savez(tmp_path / "few.npz", query_pids=[1])
    np.savez(tmp_path / "objects.npz", **(featured() | {"query_pids": np.array([None] * 40)}))

    def said(path, *options):
        return refusal(run(path, "--protocol", "market1501", *options))

    assert "torn.npz: not readable" in said(tmp_path / "torn.npz")
    assert "text.npz: not readable" in said(tmp_path / "text.npz")
    assert "objects.npz: not readable" in said(tmp_path / "objects.npz")
    assert "unknown array 'query_feature': did you mean 'query_features'?" in said(tmp_path / "typo.npz")
    assert "missing query_camids, gallery_pids, gallery_camids; found query_pids" in said(
        tmp_path / "few.npz"
    )
    assert "expected an .npz file, or a folder of .npy files; found nothing there" in said(
        tmp_path / "no.npz"
    )
    assert "d.npy: no such file" in said(npz, "--distances", tmp_path / "d.npy")
    assert "--multi-query needs the arrays" in said(npz, "--multi-query")
    assert "found the suffix '.txt'" in said(npz, "--per-query", tmp_path / "rows.txt")
    assert "unknown deviation 'x'" in said(npz, "--deviation", "x")
    assert "2 splits" in said(npz, tmp_path / "few.npz", "--distances", tmp_path / "d.npy")


def test_numpy_s_advice_to_run_a_file_s_code_is_not_passed_on(run, npz, tmp_path):
    np.savez(tmp_path / "objects.npz", **(featured() | {"query_pids": np.array([None] * 40)}))
    np.save(tmp_path / "d.npy", np.array([[None]]), allow_pickle=True)
    (tmp_path / "text.npz").write_text("no archive")

    for arguments in (
        [tmp_path / "objects.npz"],
        [npz, "--distances", tmp_path / "d.npy"],
        [tmp_path / "text.npz"],
    ):
        said = refusal(run(*arguments, "--protocol", "market1501"))
        assert "Python objects" in said
        assert "allow_pickle" not in said


def test_one_of_several_files_is_named_in_its_errors(run, npz, tmp_path):
    labels = {key: array for key, array in featured().items() if array.ndim == 1}
    np.savez(tmp_path / "bad.npz", **(featured() | {"query_features": np.ones((39, 16))}))
    np.savez(tmp_path / "other.npz", **labels, distances=np.ones((40, 333)))

    bad = refusal(run(npz, tmp_path / "bad.npz", "--protocol", "market1501"))
    other = refusal(run(npz, tmp_path / "other.npz", "--protocol", "market1501"))

    assert f"{tmp_path / 'bad.npz'}: query_features: found 39 rows" in bad
    assert "result 1 (split '1'): found the settings {'given distances': True}" in other
    assert f"1 is {tmp_path / 'other.npz'}" in other


def test_senseless_combinations_are_refused(run, npz, tmp_path):
    np.save(tmp_path / "d.npy", np.ones((40, 333)))

    def said(*arguments, protocol="market1501"):
        return refusal(run(*arguments, "--protocol", protocol))

    assert "given twice" in said(npz, npz.parent / "." / npz.name)
    assert "--split 3: 2 files are the splits 0, 1" in said(npz, tmp_path / "x.npz", "--split", "3")
    assert "metric 'euclidean', which is for features" in said(
        npz, "--distances", tmp_path / "d.npy", "--metric", "euclidean"
    )
    assert "seed: market1501 ranks the whole gallery" in said(npz, "--seed", 0)
    assert "msmt17 has no multiple queries" in said(npz, "--multi-query", protocol="msmt17")


def test_paths_to_write_are_checked_before_anything_is_read(run, tmp_path, monkeypatch):
    def said(*options):
        return refusal(run(tmp_path / "no.npz", "--protocol", "market1501", *options))

    assert "a folder, expected the name of a file" in said("--json", tmp_path)
    assert f"no folder {tmp_path / 'a'}; make it" in said("--json", tmp_path / "a" / "o.json")
    assert f"no folder {tmp_path / 'a'}; make it" in said("--per-query", tmp_path / "a" / "o.csv")
    assert "found the suffix '.txt'" in said("--per-query", tmp_path / "o.txt")
    monkeypatch.setattr("protocols.per_query.find_spec", lambda _: None)
    assert "Parquet needs pyarrow" in said("--per-query", tmp_path / "o.parquet")


def test_an_unknown_protocol_is_refused_before_anything_is_read(run, tmp_path):
    assert "did you mean 'market1501'" in refusal(run(tmp_path / "no.npz", "--protocol", "market151"))


def test_help_needs_neither_numpy_nor_torch_and_nothing_warns():
    """runpy warns when a module that it runs was imported before under its own name."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-X", "importtime", "-m", "protocols.evaluate", "--help"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )

    assert ran.returncode == 0, ran.stderr
    assert "--multi-query" in ran.stdout
    assert "numpy" not in ran.stderr
    assert "torch" not in ran.stderr
