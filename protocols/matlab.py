"""Variables of MATLAB 5 files, which many releases use for their lists."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retable.errors import Absent, DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def read_variables(path: Path, names: Sequence[str], source: str) -> "dict[str, NDArray[Any]]":
    """The named variables, each with two dimensions or more.

    Args:
        path: the file.
        names: of the variables, all of which must be there.
        source: where users get the file, for messages.

    Raises:
        Absent: there is no such file.
        DataError: it is damaged or of another version, or lacks a variable.
    """
    from scipy.io import loadmat

    if not path.is_file():
        raise Absent(f"{path}: no such file; put it there, from {source}")
    try:
        found = loadmat(path)
    except Exception as error:  # of damaged bytes scipy raises almost anything
        raise DataError(
            f"{path}: no MATLAB 5 file, or a damaged one ({error}); get it again from {source}"
        ) from error
    if not found.keys() >= set(names):
        there = ", ".join(sorted(key for key in found if not key.startswith("__"))) or "nothing"
        raise DataError(f"{path}: holds {there}, expected {', '.join(names)}; get it again from {source}")
    return {name: found[name] for name in names}


def as_integers(path: Path, name: str, values: "NDArray[Any]") -> "NDArray[np.int64]":
    """Numbers wide enough to compute with: MATLAB stores whole ones in as few bits as hold them.

    Raises ``DataError`` naming the file and the variable when some are not whole.
    """
    import numpy as np

    if values.dtype.kind not in "iuf" or not np.isfinite(values).all() or (values % 1).any():
        raise DataError(f"{path}: {name} is {values.dtype}, expected whole numbers")
    return values.astype(np.int64)
