"""Fixtures that several test folders share."""

from pathlib import Path

import pytest

from protocols.crosswalk import street


@pytest.fixture(scope="session")
def street_cache(tmp_path_factory) -> Path:
    """Where this run's streets are rendered."""
    return tmp_path_factory.mktemp("streets")


@pytest.fixture(scope="session")
def tiny_street(street_cache) -> Path:
    """The release folder of a tiny street; tests must not change it."""
    return street(street_cache, "tiny", workers=1)
