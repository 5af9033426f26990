"""What a caller hands over: arrays of any kind, and labels and names, one for each row."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retable.errors import RetableError

UNREADABLE = "no array of numbers; are all of its rows of one length?"


class InputError(RetableError, ValueError):
    """Arrays or options that cannot be evaluated; the message names the array and the row."""


def is_torch(array: object) -> bool:
    """Whether ``array`` is a torch tensor; imports no torch."""
    return type(array).__module__.partition(".")[0] == "torch"


def given_array(name: str, array: Any) -> Any:
    """A tensor without its gradients; whatever else as a NumPy array, mapped ones as they are.

    Raises ``InputError`` for lists that are no array, and for a masked array.
    """
    if is_torch(array):
        return array.detach()
    if isinstance(array, np.ma.MaskedArray):
        raise InputError(
            f"{name}: found a masked array, expected values for all rows; fill it, or leave masked rows out"
        )
    try:
        return np.asanyarray(array)
    except ValueError as error:
        raise InputError(f"{name}: {UNREADABLE}") from error


def is_real(array: Any) -> bool:
    """Whether an array or tensor holds integers or real floating-point numbers."""
    if is_torch(array):
        return not array.is_complex() and "bool" not in str(array.dtype)
    return array.dtype.kind in "iuf"


def integers(name: str, values: object) -> NDArray[np.int64]:
    """``values`` as (N,) int64. Raises ``InputError`` unless they are N >= 1 whole numbers."""
    array = given_array(name, values)
    array = array.cpu().numpy() if is_torch(array) else array
    _check_column(name, array)
    if array.dtype.kind not in "iu":
        raise InputError(f"{name}: found {array.dtype}{_why_no_label(name, array)}")
    if array.dtype == np.uint64 and array.max() > np.iinfo(np.int64).max:
        row = int(np.argmax(array))
        raise InputError(f"{name}: found {array[row]} in row {row}, expected less than 2**63; renumber them")
    return np.asarray(array).astype(np.int64)


def strings(name: str, values: object) -> NDArray[np.str_]:
    """``values`` as (N,) strings. Raises ``InputError`` unless they are N >= 1 strings."""
    array = given_array(name, values)
    if is_torch(array) or not (array.dtype.kind == "U" or all(isinstance(x, str) for x in array.flat)):
        raise InputError(f"{name}: found {array.dtype}, expected strings; names of images, one for each row")
    _check_column(name, array)
    return np.asarray(array, np.str_)


def check_lengths(lengths: Mapping[str, int]) -> None:
    """Raise ``InputError`` unless all named arrays have as many rows as the first."""
    (first, expected), *others = lengths.items()
    for name, found in others:
        if found != expected:
            raise InputError(
                f"{name}: found {found:,} rows, but {first} has {expected:,}; give both in the same order, "
                "one row for each image"
            )


def _check_column(name: str, array: NDArray[Any]) -> None:
    if array.ndim != 1:
        raise InputError(
            f"{name}: found the shape {array.shape}, expected one value for each row, (N,); "
            f"flatten it with {name}.ravel() if that is what it holds"
        )
    if not len(array):
        raise InputError(f"{name}: empty, expected one value for each row")


def _why_no_label(name: str, array: NDArray[Any]) -> str:
    """What is wrong with labels of another type; only whole numbers can be converted without a loss."""
    whole = np.isfinite(array) & (array == np.floor(array)) if array.dtype.kind == "f" else np.ones(1, bool)
    if whole.all():
        return (
            f", expected whole numbers; convert them with {name}.astype(np.int64), and check that nothing "
            "was rounded on the way"
        )
    row = int(np.argmin(whole))
    return (
        f" with {array[row]} in row {row}, expected whole numbers; that is no label, so check how they were "
        "read: one may be missing, or another column taken"
    )
