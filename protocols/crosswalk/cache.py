import json
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from protocols.crosswalk.dials import Dials
from protocols.crosswalk.errors import StreetError
from protocols.crosswalk.layouts import layout_named
from protocols.crosswalk.version import FILES_VERSION, STREET_VERSION
from protocols.crosswalk.writing import MANIFEST, Progress, write_street


def street(
    cache: Path,
    size: Any = "default",
    seed: int = 0,
    dials: Dials = Dials(),  # noqa: B008 - frozen
    workers: int | None = None,
    progress: Progress | None = None,
    layout: str = "market1501",
) -> Path:
    """The release folder of a street below ``cache``, rendered now if it is not there.

    Each combination of versions, layout, size, seed and dials has a folder of its own, which can
    serve as a data root. Two processes may ask for the same street at once; one rendering is kept.
    Arguments and errors as ``write_street``.
    """
    form = layout_named(layout)
    size = form.size_named(size)
    root = cache / folder_name(layout, size, seed, dials)
    target = root / form.root
    if not (target / MANIFEST).is_file():
        try:
            write_street(root, layout, size, seed, dials, workers, progress)
        except (StreetError, OSError):
            if not (target / MANIFEST).is_file():  # else another process was faster
                raise
    return target


def folder_name(layout: str, size: Any, seed: int, dials: Dials) -> str:
    """For example ``viper-tiny-seed0-1f0c5a2e91``."""
    decides = [STREET_VERSION, FILES_VERSION, layout, asdict(size), seed, asdict(dials)]
    digest = sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
    return f"{layout}-{size.name}-seed{seed}-{digest[:10]}"
