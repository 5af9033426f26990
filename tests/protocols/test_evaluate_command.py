"""``python -m protocols.evaluate``: arrays from files, numbers on the screen and in files."""

import json
import os
import runpy
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from protocols import evaluate
from retable.cli import application
from tests.protocols.problems import featured


@pytest.fixture(scope="module")
def app():
    """The command as a program; run and not imported, as its name is the function's."""
    return application(runpy.run_module("protocols.evaluate", run_name="command")["main"])


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
    assert "multi-query" in multi.output
    assert "pooling max" in multi.output


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
    assert "2 splits" in said(npz, npz, "--distances", tmp_path / "d.npy")


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
