import json
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

from protocols.crosswalk.dials import Dials
from protocols.crosswalk.errors import StreetError
from protocols.crosswalk.market1501 import Progress, write_market1501
from protocols.crosswalk.names import ROOT
from protocols.crosswalk.sizes import Size, size_named
from protocols.crosswalk.version import STREET_VERSION


def street(
    cache: Path,
    size: Size | str = "default",
    seed: int = 0,
    dials: Dials = Dials(),  # noqa: B008 - frozen
    workers: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """The release folder of a street below ``cache``, rendered now if it is not there.

    Each combination of version, size, seed and dials has a folder of its own, which can serve as a
    data root. Two processes may ask for the same street at once; one rendering is kept. Arguments
    and errors as ``write_market1501``.
    """
    size = size_named(size)
    root = cache / folder_name(size, seed, dials)
    target = root / ROOT
    if not (target / "crosswalk.json").is_file():
        try:
            write_market1501(root, size, seed, dials, workers, progress)
        except (StreetError, OSError):
            if not (target / "crosswalk.json").is_file():  # else another process was faster
                raise
    return target


def folder_name(size: Size, seed: int, dials: Dials) -> str:
    """For example ``street-default-seed0-1f0c5a2e91``."""
    decides = json.dumps([STREET_VERSION, asdict(size), seed, asdict(dials)], sort_keys=True)
    return f"street-{size.name}-seed{seed}-{sha256(decides.encode()).hexdigest()[:10]}"
