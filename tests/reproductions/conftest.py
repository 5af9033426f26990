"""A mini paper and its commands, run as a user runs them: in a process of their own."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from reproductions.places import PROJECT

MINI = Path(__file__).with_name("papers")


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """The networks here are so small that more threads would mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Shell:
    """Runs commands with folders of their own."""

    folder: Path
    environment: dict[str, str]

    def command(self, verb: str, *arguments: object) -> list[str]:
        return [sys.executable, "-m", f"reproductions.{verb}", *map(str, arguments)]

    def __call__(
        self, verb: str, *arguments: object, timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(verb, *arguments),
            cwd=PROJECT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def run(self, *arguments: object, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """``run mini`` on the tiny street, recording below the test's folder."""
        return self("run", "mini", "--street", "tiny", "--results", self.results, *arguments, timeout=timeout)

    @property
    def results(self) -> Path:
        return self.folder / "results"


@pytest.fixture
def shell(tmp_path, tiny_street) -> Shell:
    """Commands on the mini paper; nothing they write outlives the test."""
    cache = tmp_path / "cache"
    cache.mkdir()
    rendered = tiny_street.parent
    (cache / rendered.name).symlink_to(rendered)
    environment = {
        **{name: value for name, value in os.environ.items() if name != "REID_DATA"},
        "RETABLE_PAPERS": str(MINI),
        "RETABLE_CACHE": str(cache),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }
    return Shell(tmp_path, environment)
