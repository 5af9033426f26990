"""A mini paper and the commands on it, each test with folders of its own."""

import importlib
import io
import os
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from retable.cli import execute

MINI = Path(__file__).with_name("papers")


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """The networks here are so small that more threads would mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Result(NamedTuple):
    """What a command answered."""

    returncode: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Shell:
    """Runs commands with an environment and folders of their own."""

    folder: Path
    environment: dict[str, str]

    def __call__(self, verb: str, *arguments: object) -> Result:
        """The command in this process, which has imported everything already."""
        module = importlib.import_module(f"reproductions.{verb}")
        out, err, code = io.StringIO(), io.StringIO(), 0
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.delenv("REID_DATA", raising=False)
            for name, value in self.environment.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", [verb, *map(str, arguments)])
            try:
                execute(module.main)
            except SystemExit as stop:
                code = int(stop.code or 0)
        return Result(code, out.getvalue(), err.getvalue())

    def run(self, *arguments: object, paper: str = "mini") -> Result:
        """``run`` on the tiny street, recording below the test's folder."""
        return self("run", paper, "--results", self.results, *arguments)

    def process(self, *arguments: object) -> tuple[list[str], dict[str, str]]:
        """The same as a process: its command line and environment."""
        command = [sys.executable, "-m", "reproductions.run", "mini"]
        environment = {name: value for name, value in os.environ.items() if name != "REID_DATA"}
        return [*command, "--results", *map(str, (self.results, *arguments))], environment | self.environment

    @property
    def results(self) -> Path:
        """Where records go."""
        return self.folder / "results"

    @property
    def runs(self) -> Path:
        """Where checkpoints and artefacts go."""
        return self.folder / "cache" / "runs"


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory) -> Path:
    """An MLflow database without runs; making one takes seconds, copying it does not."""
    from reproductions.track import Store

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    Store(f"sqlite:///{path}")
    return path


@pytest.fixture
def shell(tmp_path, tiny_street, empty_store) -> Shell:
    """Commands on the mini paper; nothing they write outlives the test."""
    cache = tmp_path / "cache"
    cache.mkdir()
    rendered = tiny_street.parent
    (cache / rendered.name).symlink_to(rendered)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    environment = {
        "RETABLE_PAPERS": str(MINI),
        "RETABLE_CACHE": str(cache),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }
    return Shell(tmp_path, environment)


@pytest.fixture
def data_root(tiny_street, tmp_path, monkeypatch) -> Path:
    """A data root with a copy of the tiny street that passes for the release: its counts are put in place."""
    from protocols import PROTOCOLS
    from protocols.files import count

    release = tmp_path / "data" / PROTOCOLS.get("market1501")().folder
    shutil.copytree(tiny_street, release)
    (release / "crosswalk.json").unlink()
    (release / "names.txt").unlink()
    for name in ("market1501", "market1501/openreid"):
        protocol = PROTOCOLS.get(name)()
        (split,) = protocol.load(release)
        counts = replace(protocol.counts, **count(split, protocol))
        as_it_is = replace(protocol, counts=counts, per_camera={}, explain=lambda *_: [])
        monkeypatch.setitem(PROTOCOLS._objects, name, lambda found=as_it_is: found)
    monkeypatch.setattr("reproductions.jobs.rules_of", lambda name: PROTOCOLS.get(name)())  # not those kept
    return release.parent
