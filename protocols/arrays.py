"""What a caller hands over as labels: whole numbers, one for each row, of one length."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from retable.errors import RetableError


class InputError(RetableError, ValueError):
    """Arrays or options that cannot be evaluated; the message names the array and the row."""


def integers(name: str, values: object) -> NDArray[np.int64]:
    """``values`` as (N,) int64. Raises ``InputError`` unless they are N >= 1 whole numbers."""
    array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    if array.ndim != 1:
        raise InputError(
            f"{name}: found the shape {array.shape}, expected one number for each row, (N,); "
            f"flatten it with {name}.ravel() if that is what it holds"
        )
    if not len(array):
        raise InputError(f"{name}: empty, expected one number for each row")
    if array.dtype.kind not in "iu":
        raise InputError(
            f"{name}: found {array.dtype}{_first_fraction(array)}, expected whole numbers; convert them "
            f"with {name}.astype(np.int64), and check that nothing was rounded on the way"
        )
    if array.dtype == np.uint64 and array.max() > np.iinfo(np.int64).max:
        row = int(np.argmax(array))
        raise InputError(f"{name}: found {array[row]} in row {row}, expected less than 2**63; renumber them")
    return array.astype(np.int64)


def check_lengths(lengths: Mapping[str, int]) -> None:
    """Raise ``InputError`` unless all named arrays have as many rows as the first."""
    (first, expected), *others = lengths.items()
    for name, found in others:
        if found != expected:
            raise InputError(
                f"{name}: found {found:,} rows, but {first} has {expected:,}; give both in the same order, "
                "one row for each image"
            )


def _first_fraction(array: NDArray[np.generic]) -> str:
    if array.dtype.kind != "f" or (whole := array == np.floor(array)).all():
        return ""
    row = int(np.argmin(whole))
    return f" with {array[row]} in row {row}"
