"""Distances from features, a block of queries against the gallery chunk by chunk.

Features are NumPy arrays (in memory or memory-mapped) or torch tensors (on a CPU or a GPU) in any
floating type. Products are made and kept in float32 where the features lie; other types are widened
one chunk at a time. Of a memory-mapped file no more than a chunk is held.
"""

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from protocols.arrays import InputError
from protocols.ranking import BLOCK_BYTES

if TYPE_CHECKING:
    import torch

    Array: TypeAlias = NDArray[np.floating] | torch.Tensor

Metric = Literal["cosine", "euclidean"]

CHUNK_BYTES = 32 * 2**20
"""Memory for one chunk of features in float32."""

MAPPED_BLOCK_BYTES = 4 * BLOCK_BYTES
"""A larger block of queries where the gallery is read from a file for each."""


@dataclass(frozen=True, slots=True)
class Features:
    """Finite features of a list of images.

    Attributes:
        rows: (N, d), as they were given.
        squares: (N,) float64 squared lengths, where ``rows`` lies.
    """

    rows: Any
    squares: Any

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def width(self) -> int:
        """d, the number of values that describe an image."""
        return int(self.rows.shape[1])


def is_torch(array: object) -> bool:
    """Whether ``array`` is a torch tensor; imports no torch."""
    return type(array).__module__.partition(".")[0] == "torch"


def given_array(array: Any) -> Any:
    """A tensor without its gradients; whatever else as a NumPy array, mapped ones as they are."""
    return array.detach() if is_torch(array) else np.asanyarray(array)


def check_matrix(name: str, array: Any) -> Any:
    """``array`` as a matrix of floats, values unread. Raises ``InputError`` saying what it is instead."""
    array = given_array(array)
    if array.ndim != 2:
        raise InputError(
            f"{name}: found the shape {tuple(array.shape)}, expected (N, d), one row for each image; "
            f"reshape it with {name}.reshape(len({name}), -1)"
        )
    if 0 in array.shape:
        raise InputError(
            f"{name}: found the shape {tuple(array.shape)}, expected at least one row and column"
        )
    floating = array.is_floating_point() if is_torch(array) else array.dtype.kind == "f"
    if not floating:
        raise InputError(
            f"{name}: found {array.dtype}, expected floating-point features; convert them to float32"
        )
    return array


def describe_features(name: str, array: object, metric: Metric) -> Features:
    """``array`` with its squared lengths, which takes one reading of it.

    Raises:
        InputError: it is no matrix of floats, a value is not finite in float32, or under the cosine
            distance a row is 0.
    """
    rows = check_matrix(name, array)
    parts = [
        squared_lengths(name, chunk, start, nonzero=metric == "cosine") for start, _, chunk in chunks(rows)
    ]
    if is_torch(rows):
        import torch

        return Features(rows, torch.cat(parts))
    return Features(rows, np.concatenate(parts))


def check_pair(query: Features, gallery: Features) -> None:
    """Raise ``InputError`` unless the two can be multiplied: one width, one library, one device."""
    if query.width != gallery.width:
        raise InputError(
            f"gallery_features: found {gallery.width} columns, but query_features has {query.width}; "
            "describe both lists with the same network"
        )
    query_place, gallery_place = _place(query.rows), _place(gallery.rows)
    if query_place != gallery_place:
        raise InputError(
            f"gallery_features: found {gallery_place}, but query_features is {query_place}; move one to "
            "the other"
        )


def chunks(rows: Any) -> Iterator[tuple[int, int, Any]]:
    """First row, end and float32 values of one chunk after the other; each is valid until the next."""
    size = max(1, CHUNK_BYTES // (4 * rows.shape[1]))
    for start in range(0, len(rows), size):
        yield start, min(start + size, len(rows)), in_float32(rows[start : start + size])
        drop_pages(rows)


def in_float32(part: Any) -> Any:
    """A few rows in float32; no copy if they are already."""
    return part.float() if is_torch(part) else np.ascontiguousarray(part, np.float32)


def squared_lengths(name: str, chunk: Any, first_row: int, *, nonzero: bool) -> Any:
    """(n,) float64 squared length of each row.

    Raises ``InputError`` naming the first row that holds a value that is not finite, or only 0s
    where ``nonzero`` is wanted.
    """
    if is_torch(chunk):
        squares = chunk.double().square().sum(1)
        plain = squares.cpu().numpy()
    else:
        squares = plain = np.einsum("ij,ij->i", chunk, chunk, dtype=np.float64)
    if not np.isfinite(plain).all():
        row = int(np.argmin(np.isfinite(plain)))
        raise InputError(
            f"{name}: row {first_row + row} holds values that are not finite in float32; check its image "
            "and the network's output (half precision overflows at 65,504)"
        )
    if nonzero and not plain.all():
        raise InputError(
            f"{name}: row {first_row + int(np.argmin(plain != 0))} is 0 everywhere and so has no direction; "
            "check that it was filled, or use the Euclidean distance"
        )
    return squares


def drop_pages(array: Any) -> None:
    """Give back the memory of a mapped file that was read, where nothing can get lost by it."""
    base = array
    while base is not None and not isinstance(base, mmap.mmap):
        if isinstance(base, np.memmap) and base.mode == "c":  # changes live in memory alone
            return
        base = getattr(base, "base", None)
    if base is not None and hasattr(base, "madvise"):
        base.madvise(mmap.MADV_DONTNEED)


class FeatureDistances:
    """Distances of queries to a gallery up to a constant of each query, which changes no order.

    Cosine: minus the cosine times the query's length. Euclidean: the squared distance less the query's
    squared length. Without the constant there is one rounding less, and so fewer ties.

    Args:
        query: the Q queries.
        gallery: the G gallery images, as wide and on the same device.
        metric: by what distance.

    Attributes:
        block_bytes: how large a block should be, for ``protocols.ranking.blocks``.
    """

    def __init__(self, query: Features, gallery: Features, metric: Metric) -> None:
        self._query, self._gallery = query, gallery
        self._scaled = metric == "cosine"
        self._factor = -1 if self._scaled else -2
        self._term = in_float32(gallery.squares**-0.5 if self._scaled else gallery.squares)
        self._buffer: Any = None
        self.block_bytes = MAPPED_BLOCK_BYTES if is_mapped(gallery.rows) else BLOCK_BYTES

    def __call__(self, start: int, stop: int) -> "Array":
        """(stop - start, G) float32 for queries start..stop-1; valid until the next call."""
        own = in_float32(self._query.rows[start:stop]) * self._factor
        block = self._block(stop - start)
        with _full_products(own) as product:
            for first, end, chunk in chunks(self._gallery.rows):
                part = block[:, first:end]
                product(own, chunk.T, out=part)
                if self._scaled:
                    part *= self._term[first:end]
                else:
                    part += self._term[first:end]
        return block  # type: ignore[no-any-return]

    def _block(self, rows: int) -> Any:
        """The one block that is filled again and again."""
        if self._buffer is None:
            shape = rows, len(self._gallery)
            term = self._term
            self._buffer = term.new_empty(shape) if is_torch(term) else np.empty(shape, np.float32)
        if rows > len(self._buffer):
            self._buffer = None
            return self._block(rows)
        return self._buffer[:rows]


def is_mapped(array: Any) -> bool:
    """Whether ``array`` lies in a memory-mapped file."""
    base = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None)
    return base is not None


@contextmanager
def _full_products(features: Any) -> Iterator[Any]:
    """The matrix product of float32 that keeps all of its bits, whatever else the process wants."""
    if not is_torch(features):
        yield np.matmul
        return
    import torch

    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.no_grad():
            yield torch.matmul
    finally:
        torch.set_float32_matmul_precision(precision)


def _place(array: Any) -> str:
    return f"torch on {array.device}" if is_torch(array) else "NumPy"
