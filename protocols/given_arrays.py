"""The arrays of one split on disk: a ``.npz`` file, or a folder of ``.npy`` files, which are mapped."""

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from protocols.arrays import InputError
from protocols.multi_query import ARRAYS as MULTIQUERY

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[np.generic]]

LABELS = ("query_pids", "query_camids", "gallery_pids", "gallery_camids")
FEATURES = ("query_features", "gallery_features", "query_tracklets", "gallery_tracklets")
NAMES = ("query_names", "gallery_names")
DISTANCES = "distances"


def read_arrays(path: Path) -> "Arrays":
    """Arrays by the names that ``protocols.evaluate`` has for them.

    Raises:
        InputError: there is no such file, it is damaged, labels are missing, or a name is none of those
            known.
    """
    arrays = _read_folder(path) if path.is_dir() else _read_file(path)
    for name in arrays:
        _check_name(path, name)
    if missing := [name for name in LABELS if name not in arrays]:
        raise InputError(
            f"{path}: missing {', '.join(missing)}; found {', '.join(sorted(arrays)) or 'no array'}; "
            "write the labels beside the features, one for each row"
        )
    return arrays


def read_array(path: Path) -> Any:
    """One memory-mapped ``.npy`` file. Raises ``InputError`` if it is none."""
    import numpy as np

    try:
        return np.load(path, mmap_mode="r")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file, expected a NumPy array in .npy") from error
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"{path}: no readable .npy array ({_why(error)}); write it with np.save") from error


def _read_folder(path: Path) -> "Arrays":
    return {file.stem: read_array(file) for file in sorted(path.glob("*.npy"))}


def _read_file(path: Path) -> "Arrays":
    import numpy as np

    if path.suffix != ".npz" or not path.is_file():
        raise InputError(f"{path}: expected an .npz file, or a folder of .npy files; found {_what_is(path)}")
    try:
        with np.load(path) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, EOFError, OSError, BadZipFile) as error:
        raise InputError(
            f"{path}: not readable ({_why(error)}); write it with np.savez, numbers and strings only"
        ) from error


def _why(error: Exception) -> str:
    """NumPy's own words, without its advice to run whatever code a stranger's file holds."""
    text = str(error)
    return "it is damaged, or holds Python objects" if "pickle" in text else text


def _what_is(path: Path) -> str:
    return f"a {path.suffix or 'nameless'} file" if path.is_file() else "nothing there"


def _check_name(path: Path, name: str) -> None:
    known = (*LABELS, *FEATURES, *MULTIQUERY, *NAMES, DISTANCES)
    if name in known:
        return
    near = get_close_matches(name.lower(), known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise InputError(f"{path}: unknown array {name!r}: {hint}known: {', '.join(known)}")
