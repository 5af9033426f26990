"""Fixtures that several test folders share."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from protocols.crosswalk import street


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests marked ``gpu`` where there is none; with ``RETABLE_REQUIRE_GPU=1`` they fail instead."""
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        if os.environ.get("RETABLE_REQUIRE_GPU") == "1":
            pytest.fail("RETABLE_REQUIRE_GPU=1, but torch sees no CUDA device", pytrace=False)
        pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session")
def street_cache(tmp_path_factory) -> Path:
    """Where this run's streets are rendered."""
    return tmp_path_factory.mktemp("streets")


@pytest.fixture(scope="session")
def layout_street(street_cache) -> Callable[[str], Path]:
    """Gives the release folder of a tiny street in a layout, rendered once; tests must not change it."""
    return lambda layout: street(street_cache, "tiny", workers=1, layout=layout)


@pytest.fixture(scope="session")
def tiny_street(layout_street) -> Path:
    """The release folder of a tiny street; tests must not change it."""
    return layout_street("market1501")
