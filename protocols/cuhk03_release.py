"""CUHK03 as released, one MATLAB file: unpacked once into image files and a list of test sets."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from protocols.cuhk03_images import KINDS, MAT, PAIRS, SLOTS, TESTSETS, advice, folder_of, read_release
from protocols.matlab import as_integers
from retable.errors import DataError, some
from retable.files import appearing, write_atomically

if TYPE_CHECKING:  # protocols import this module, and what is unpacked is read without it
    import h5py
    import numpy as np
    from numpy.typing import NDArray

    Cells: TypeAlias = Mapping[str, Sequence[NDArray[np.object_]]]

HIGHEST_ROW = 999
"""Names of images have three digits for it."""

LONGEST_SHAPE = 4
"""An empty cell is stored as a list of its dimensions."""


def prepare(root: Path, progress: Callable[[int, int], object] | None = None) -> None:
    """Unpack ``cuhk-03.mat`` into ``images_labeled``, ``images_detected`` and ``testsets.json`` beside it.

    An interrupted run leaves nothing half-made and is simply run again; a whole copy stays as it is.
    Cells without an image are passed over wherever they are, as torchreid does.

    Args:
        root: the release's folder.
        progress: called with the numbers of cells done and in all.

    Raises:
        DataError: the file is missing, truncated, of another data set or of another shape.
    """
    if _is_prepared(root):
        return
    with _opened(root / MAT) as mat:
        cells = {kind: _cells(mat, kind) for kind in KINDS}
        pairs = _pairs(mat, cells)
        testsets = _testsets(mat, pairs)
        _remove_remains(root)
        with ExitStack() as stack:
            folders = {kind: stack.enter_context(appearing(folder_of(root, kind))) for kind in KINDS}
            images = _unpack(mat, cells, folders, progress)
            stated = {"pairs": pairs, "images": images, "testsets": testsets}
            write_atomically(root / TESTSETS, lambda file: file.write(json.dumps(stated).encode()))


def _is_prepared(root: Path) -> bool:
    try:
        release = read_release(root)
        return all(release.records(kind) for kind in KINDS)
    except DataError:
        return False


def _remove_remains(root: Path) -> None:
    """Remove what an earlier run made; the list of test sets, which it writes first, is the proof."""
    folders = [folder for kind in KINDS if (folder := folder_of(root, kind)).exists()]
    if folders and not (root / TESTSETS).is_file():
        raise DataError(
            f"{root}: {TESTSETS} is not there, so that {some([folder.name for folder in folders])} may be "
            f"somebody else's; move that away, then {advice(root)}"
        )
    for folder in folders:
        shutil.rmtree(folder)
    (root / TESTSETS).unlink(missing_ok=True)


@contextmanager
def _opened(path: Path) -> "Iterator[h5py.File]":
    """The file, with what h5py says of damaged ones in words; MATLAB's version 7.3 is HDF5."""
    import h5py

    if not path.is_file():
        raise DataError(f"{path}: no such file; unpack cuhk03_release.zip here")
    if not h5py.is_hdf5(path):
        with path.open("rb") as file:
            found = "a MATLAB 5 file" if file.read(10) == b"MATLAB 5.0" else "no HDF5 file, or a damaged one"
        raise DataError(f"{path}: {found}; the release's is MATLAB 7.3 (HDF5): unpack it again")
    try:
        with h5py.File(path, "r") as mat:
            yield mat
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        if getattr(error, "errno", None):  # the disk's fault
            raise
        raise DataError(f"{path}: truncated or damaged ({error}); unpack cuhk03_release.zip again") from error


def _wrong(mat: "h5py.File", what: str, found: str, expected: str) -> DataError:
    return DataError(
        f"{mat.filename}: {what}: found {found}, expected {expected}; is it the CUHK03 release's?"
    )


def _variable(mat: "h5py.File", name: str) -> Any:
    if name not in mat:
        there = ", ".join(key for key in mat if not key.startswith("#")) or "nothing"
        raise _wrong(mat, "variables", there, "detected, labeled and testsets")
    return mat[name]


def _shape(item: Any) -> tuple[int, ...]:
    """Of an array; () of what is none: a number, a folder, a type, nothing."""
    return getattr(item, "shape", None) or ()


def _references(mat: "h5py.File", item: Any, what: str, rows: int) -> "NDArray[np.object_]":
    """A cell array the way MATLAB shows it, of references; HDF5 holds it transposed, with ``rows`` rows."""
    import h5py

    shape = _shape(item)
    if len(shape) != 2 or shape[0] != rows or h5py.check_ref_dtype(item.dtype) is not h5py.Reference:
        raise _wrong(mat, what, f"an array of shape {shape}", f"a cell array of shape ({rows}, n)")
    references: NDArray[np.object_] = item[()].T
    return references


def _cells(mat: "h5py.File", kind: str) -> "list[NDArray[np.object_]]":
    """The cells of each camera pair, (identities, 10) references to images."""
    pairs = _references(mat, _variable(mat, kind), kind, 1).ravel()
    if len(pairs) != PAIRS:
        raise _wrong(mat, kind, f"{len(pairs)} cells", f"{PAIRS}, one for each camera pair")
    return [_references(mat, mat[ref], f"{kind}{{{pair}}}", SLOTS) for pair, ref in enumerate(pairs, 1)]


def _pairs(mat: "h5py.File", cells: "Cells") -> list[int]:
    """Number of identities of each camera pair."""
    labeled, detected = ([len(pair) for pair in cells[kind]] for kind in KINDS)
    if labeled != detected or max(labeled) > HIGHEST_ROW:
        found = f"{labeled} labeled and {detected} detected"
        raise _wrong(mat, "identities of the camera pairs", found, f"the same, at most {HIGHEST_ROW}")
    return labeled


def _testsets(mat: "h5py.File", pairs: Sequence[int]) -> list[list[tuple[int, int]]]:
    """Camera pair and row, 1-based, of each identity of each test set; any pair may be named."""
    references = _references(mat, _variable(mat, "testsets"), "testsets", 1).ravel()
    return [_testset(mat, mat[ref], f"testsets{{{i}}}", pairs) for i, ref in enumerate(references, 1)]


def _testset(mat: "h5py.File", item: Any, what: str, pairs: Sequence[int]) -> list[tuple[int, int]]:
    shape = _shape(item)
    if len(shape) != 2 or shape[0] != 2:
        raise _wrong(mat, what, f"an array of shape {shape}", "(2, n): camera pairs and rows")
    places = [(pair, row) for pair, row in as_integers(Path(mat.filename), what, item[()]).T.tolist()]
    for pair, row in places:
        if not (1 <= pair <= PAIRS and 1 <= row <= pairs[pair - 1]):
            there = f"camera pairs 1..{PAIRS} of {', '.join(map(str, pairs))} identities"
            raise _wrong(mat, what, f"identity {row} of camera pair {pair}", there)
    if len(set(places)) != len(places):
        raise _wrong(mat, what, "an identity twice", "each once")
    return places


def _unpack(
    mat: "h5py.File",
    cells: "Cells",
    folders: Mapping[str, Path],
    progress: Callable[[int, int], object] | None,
) -> dict[str, int]:
    """Write all images, one in memory at a time; returns how many there are of each kind."""
    total = sum(pair.size for kind in KINDS for pair in cells[kind])
    images = dict.fromkeys(KINDS, 0)
    for done, (kind, pair, row, slot, reference) in enumerate(_places(cells), 1):
        path = folders[kind] / f"{pair}_{row:03d}_{1 if slot <= SLOTS // 2 else 2}_{slot:02d}.png"
        images[kind] += _write_image(mat, reference, f"{kind}{{{pair}}}{{{row},{slot}}}", path)
        if progress:
            progress(done, total)
    return images


def _places(cells: "Cells") -> Iterator[tuple[str, int, int, int, "h5py.Reference"]]:
    """Kind, camera pair, row and slot (from 1) and reference of each cell."""
    for kind in KINDS:
        for pair, rows in enumerate(cells[kind], 1):
            for row, slots in enumerate(rows, 1):
                for slot, reference in enumerate(slots, 1):
                    yield kind, pair, row, slot, reference


def _write_image(mat: "h5py.File", reference: "h5py.Reference", what: str, path: Path) -> bool:
    """Write one cell's image; False if the cell is empty.

    MATLAB writes an empty cell as its own shape, a short list of numbers, never as an empty array.
    """
    from PIL import Image

    item = mat[reference]
    shape = _shape(item)
    if len(shape) == 1 and shape[0] <= LONGEST_SHAPE:
        return False
    if len(shape) != 3 or shape[0] != 3 or item.dtype != "uint8":
        found = f"{getattr(item, 'dtype', type(item).__name__)} of shape {shape}"
        raise _wrong(mat, what, found, "uint8 of shape (3, width, height)")
    Image.fromarray(item[()].transpose(2, 1, 0).copy()).save(path)
    return True
