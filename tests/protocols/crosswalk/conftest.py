from pathlib import Path

import pytest

from protocols.crosswalk import Dials, write_market1501


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny street on disk, with truth."""
    return write_market1501(tmp_path_factory.mktemp("street"), "tiny", seed=3, dials=Dials(), truth=True)
