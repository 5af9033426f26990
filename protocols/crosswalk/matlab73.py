"""MATLAB v7.3 files: HDF5 behind a block of 512 bytes that only MATLAB reads.

Arrays lie transposed, because MATLAB stores columns first. The members of a cell array are data
sets of their own below ``#refs#``, and the cell array holds references to them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

USER_BLOCK = 512
TEXT = b"MATLAB 7.3 MAT-file, written by protocols.crosswalk HDF5 schema 1.00 .".ljust(116)
SUBSYSTEM, VERSION, ENDIAN = bytes(8), b"\x00\x02", b"IM"
CLASSES = {"uint8": "uint8", "float64": "double"}  # element type -> MATLAB's name for it

Reference = Any  # h5py has no types


class Matlab73:
    """An open file to which arrays and cell arrays are added, members first."""

    def __init__(self, file: h5py.File) -> None:
        self._file = file
        self._members = file.create_group("#refs#")
        # MATLAB keeps the dimensions of an empty array in place of its elements.
        empty = self._add(np.zeros(2, dtype=np.uint64), "double")
        empty.attrs["MATLAB_empty"] = np.uint8(1)
        self.empty: Reference = empty.ref

    def array(self, values: np.ndarray) -> Reference:
        """Add uint8 or float64 values as the member of a cell array. Raises ``KeyError`` for other types."""
        return self._add(values.T, CLASSES[values.dtype.name]).ref

    def cell(self, members: np.ndarray) -> Reference:
        """Add a cell array, (M, N) references, as the member of another one."""
        return self._add(_transposed(members), "cell").ref

    def variable(self, name: str, members: np.ndarray) -> None:
        """Add a cell array, (M, N) references, under a name."""
        self._store(self._file, name, _transposed(members), "cell")

    def _add(self, values: np.ndarray, kind: str) -> h5py.Dataset:
        return self._store(self._members, str(len(self._members)), values, kind)

    def _store(self, parent: h5py.Group, name: str, values: np.ndarray, kind: str) -> h5py.Dataset:
        stored = parent.create_dataset(name, data=values, track_times=False)
        stored.attrs["MATLAB_class"] = np.bytes_(kind)
        return stored


def _transposed(members: np.ndarray) -> np.ndarray:
    return members.T.astype(h5py.ref_dtype)


@contextmanager
def matlab73(path: Path) -> Iterator[Matlab73]:
    """A new file at ``path``, complete when the context ends; equal content gives equal bytes."""
    with h5py.File(path, "w", userblock_size=USER_BLOCK) as file:
        yield Matlab73(file)
    with path.open("r+b") as file:
        file.write(TEXT + SUBSYSTEM + VERSION + ENDIAN)
