from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., object])


def compiled(function: F) -> F:
    """Compile on first use and keep the result beside the source; IEEE arithmetic in the order written."""
    return cast(F, njit(cache=True, error_model="numpy")(function))
