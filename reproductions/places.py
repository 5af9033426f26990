"""Folders that commands use by default; environment variables are read when they are asked for."""

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
RESULTS = PROJECT / "results"


def cache() -> Path:
    """Rendered streets, checkpoints and trained weights: ``RETABLE_CACHE``, else ``.retable``."""
    return Path(os.environ.get("RETABLE_CACHE", PROJECT / ".retable"))


def papers() -> Path:
    """Folders of papers: ``RETABLE_PAPERS`` for papers kept elsewhere, else those of this checkout."""
    return Path(os.environ.get("RETABLE_PAPERS", PROJECT / "reproductions" / "papers"))
