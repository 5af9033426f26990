from collections.abc import Iterator
from concurrent.futures import Executor
from types import SimpleNamespace

import pytest

from protocols.crosswalk import render


@pytest.fixture(scope="session")
def started() -> Iterator[list[Executor]]:
    """The pool of processes that ``write_shots`` starts first; it outlives its street, to save time."""
    pools: list[Executor] = []
    yield pools
    for pool in pools:
        pool.shutdown()


@pytest.fixture
def asked_for(started, monkeypatch) -> list[int]:
    """Lets other processes render few images too; gets the numbers of processes that were asked for."""
    asked: list[int] = []
    executor = render.ProcessPoolExecutor

    def lend(workers: int, **options: object) -> SimpleNamespace:
        asked.append(workers)
        if not started:
            started.append(executor(workers, **options))
        return SimpleNamespace(submit=started[0].submit, shutdown=lambda **_: None)

    monkeypatch.setattr(render, "ALONE", 0)
    monkeypatch.setattr(render, "CHUNK", 5)
    monkeypatch.setattr(render, "ProcessPoolExecutor", lend)
    return asked
