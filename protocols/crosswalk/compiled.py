"""Compilation with numba, kept beside the source until any compiled module changes."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TypeVar, cast

from numba import config, njit

F = TypeVar("F", bound=Callable[..., object])

HERE = Path(__file__).parent
# Modules with compiled functions, and those whose constants are compiled into them.
MODULES = ("compiled", "develop", "ground", "materials", "raster", "shade", "texture")


def _cache() -> str:
    """A folder per state of the sources: numba alone looks at one file, not at what that file calls."""
    sources = b"".join((HERE / f"{module}.py").read_bytes() for module in MODULES)
    base = Path(config.CACHE_DIR) if config.CACHE_DIR else HERE / "__pycache__"
    return str(base / f"crosswalk-{sha256(sources).hexdigest()[:12]}")


CACHE = _cache()


def compiled(function: F) -> F:
    """Compile on first use, with IEEE arithmetic in the order written; numba finds another folder
    where this package's own cannot be written to.
    """
    usual, config.CACHE_DIR = config.CACHE_DIR, CACHE
    try:
        return cast(F, njit(cache=True, error_model="numpy")(function))
    finally:
        config.CACHE_DIR = usual
