"""Features as they are given, and as products of float32 can take them.

Features are NumPy arrays (in memory or memory-mapped) or torch tensors (on a CPU or a GPU) in any
floating type. They are read chunk by chunk and widened there; of a memory-mapped file no more than a
chunk is held.

Products of float32 would lose bits of rows that are tiny, huge or far from the origin. Such rows are
multiplied by powers of two, or moved by what they have in common, which changes no order.
"""

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from protocols.arrays import InputError, given_array, is_torch

Metric = Literal["cosine", "euclidean"]

Mask: TypeAlias = NDArray[np.bool_]

CHUNK_BYTES = 32 * 2**20
"""Memory for one chunk of features in float32."""

SAFE_SQUARES = 2.0**-60, 2.0**60
"""Squared lengths whose products neither overflow float32 nor fall below its smallest normal number."""

SAMPLE = 1000
"""About so many rows say what all rows have in common."""

COMMON = 16
"""What rows have in common is subtracted where its square is so many times that of what they differ by;
it would cost more than 4 of 24 bits."""

ZERO_COSINE = "check that it was filled, or use the Euclidean distance"


@dataclass(frozen=True, slots=True)
class Features:
    """Finite features of a list of images.

    Attributes:
        rows: (N, d), as they were given.
        squares: (N,) float64 squared lengths of the rows that ``part`` gives, where ``rows`` lies.
        centre: (d,) float64 that ``part`` subtracts; None for nothing.
        factors: (N,) float64 powers of two that ``part`` multiplies by; None for nothing.
    """

    rows: Any
    squares: Any
    centre: Any = None
    factors: Any = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def width(self) -> int:
        """d, the number of values that describe an image."""
        return int(self.rows.shape[1])

    def part(self, start: int, stop: int) -> Any:
        """(stop - start, d) float32; no copy where they are that already."""
        rows = self.rows[start:stop]
        if self.centre is not None:
            rows = rows - self.centre
        if self.factors is not None:
            rows = rows * self.factors[start:stop, None]
        return in_float32(rows)

    def chunks(self) -> Iterator[tuple[int, int, Any]]:
        """First row, end and ``part`` of one chunk after the other; each is valid until the next."""
        for start, stop in _spans(self.rows):
            yield start, stop, self.part(start, stop)
            drop_pages(self.rows)


def check_matrix(name: str, array: Any) -> Any:
    """``array`` as a matrix of floats, values unread. Raises ``InputError`` saying what it is instead."""
    array = given_array(name, array)
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
        is_complex = "complex" in str(array.dtype)
        advice = "complex ones have no such distance" if is_complex else "convert them to float32"
        raise InputError(f"{name}: found {array.dtype}, expected floating-point features; {advice}")
    return array


def describe_pair(query: object, gallery: object, metric: Metric) -> tuple[Features, Features]:
    """Both lists, ready to be multiplied; takes one reading of them.

    Raises:
        InputError: as for ``describe_features``, or the two differ in width, library or device.
    """
    lists = check_matrix("query_features", query), check_matrix("gallery_features", gallery)
    check_pair(*lists)
    centre = _in_common(lists[1]) if metric == "euclidean" else None
    queries = describe_features("query_features", lists[0], metric, centre)
    images = describe_features("gallery_features", lists[1], metric, centre)
    if metric == "cosine":
        return queries, images
    # Distances between lists need one factor for both.
    top = max(float(queries.squares.max()), float(images.squares.max()))
    return (_multiplied(queries, np.array([top])), _multiplied(images, np.array([top])))


def describe_features(name: str, array: object, metric: Metric, centre: Any = None) -> Features:
    """``array`` with its squared lengths, which takes one reading of it.

    Args:
        name: of the array, for messages.
        array: (N, d) floats.
        metric: by what distance; under the cosine rows that are tiny or huge get a factor.
        centre: (d,) float64 to subtract from all rows.

    Raises:
        InputError: it is no matrix of floats, a value is not finite in float32, or under the cosine
            distance a row is 0.
    """
    rows = check_matrix(name, array)
    advice = ZERO_COSINE if metric == "cosine" else None
    parts = [
        squared_lengths(name, chunk, start, advice)
        for start, _, chunk in Features(rows, None, centre).chunks()
    ]
    if is_torch(rows):
        import torch

        squares: Any = torch.cat(parts)
    else:
        squares = np.concatenate(parts)
    features = Features(rows, squares, centre)
    return _multiplied(features, _plain(squares)) if metric == "cosine" else features


def check_pair(query: Any, gallery: Any) -> None:
    """Raise ``InputError`` unless two matrices can be multiplied: one width, one library, one device."""
    if query.shape[1] != gallery.shape[1]:
        raise InputError(
            f"gallery_features: found {gallery.shape[1]} columns, but query_features has {query.shape[1]}; "
            "describe both lists with the same network"
        )
    query_place, gallery_place = _place(query), _place(gallery)
    if query_place != gallery_place:
        raise InputError(
            f"gallery_features: found {gallery_place}, but query_features is {query_place}; move one to "
            "the other"
        )


def joined(lists: Sequence[Features], kept: Sequence[Mask], *, unit: bool) -> Any:
    """(n, d) float32: the rows of ``lists`` that are ``kept``, one list after the other.

    Args:
        lists: features that can be multiplied with each other.
        kept: (N,) for each list, which of its rows.
        unit: whether to scale rows to length 1.
    """
    rows = lists[0].rows
    shape = int(sum(mask.sum() for mask in kept)), lists[0].width
    if is_torch(rows):
        import torch

        images: Any = rows.new_empty(shape, dtype=torch.float32)
    else:
        images = np.empty(shape, np.float32)
    end = 0
    for features, mask in zip(lists, kept, strict=True):
        for start, stop, chunk in features.chunks():
            part = unit_rows(chunk, features.squares[start:stop]) if unit else chunk
            wanted = np.flatnonzero(mask[start:stop])
            images[end : end + len(wanted)] = part[wanted]
            end += len(wanted)
    return images


def unit_rows(chunk: Any, squares: Any) -> Any:
    """(n, d) float32, ``chunk`` with rows of length 1, by way of float64: no length is out of reach."""
    return in_float32(chunk / squares[:, None] ** 0.5)


def chunks(rows: Any) -> Iterator[tuple[int, int, Any]]:
    """First row, end and float32 values of one chunk after the other; each is valid until the next."""
    return Features(rows, None).chunks()


def in_float32(part: Any) -> Any:
    """A few rows in float32; no copy if they are already."""
    if is_torch(part):
        return part.float()
    with np.errstate(over="ignore"):  # what becomes infinite is refused by name and row
        return np.ascontiguousarray(part, np.float32)


def squared_lengths(name: str, chunk: Any, first_row: int, zero_advice: str | None) -> Any:
    """(n,) float64 squared length of each row.

    Raises ``InputError`` naming the first row that holds a value that is not finite, or only 0s
    where there is advice for that.
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
    if zero_advice and not plain.all():
        raise InputError(
            f"{name}: row {first_row + int(np.argmin(plain != 0))} is 0 everywhere in float32 and so has no "
            f"direction; {zero_advice}"
        )
    return squares


def drop_pages(array: Any) -> None:
    """Give back the memory of a mapped file that was read, where nothing can get lost by it."""
    owners = list(_owners(array))
    if any(isinstance(owner, np.memmap) and owner.mode == "c" for owner in owners):
        return  # changes live in memory alone
    for owner in owners:
        if isinstance(owner, mmap.mmap) and hasattr(owner, "madvise"):
            owner.madvise(mmap.MADV_DONTNEED)


def is_mapped(array: Any) -> bool:
    """Whether ``array`` lies in a memory-mapped file."""
    return any(isinstance(owner, mmap.mmap) for owner in _owners(array))


def _owners(array: Any) -> Iterator[Any]:
    """``array``, what it is a view of, and so on, to the file that is mapped if one is."""
    while array is not None:
        yield array
        array = getattr(array, "base", None)


def _spans(rows: Any) -> Iterator[tuple[int, int]]:
    size = max(1, CHUNK_BYTES // (4 * rows.shape[1]))
    return ((start, min(start + size, len(rows))) for start in range(0, len(rows), size))


def _in_common(rows: Any) -> Any:
    """(d,) float64 mean of some rows, where it dwarfs what they differ by; else None.

    It is rounded to steps about as wide as rows differ by, so that subtracting it rounds hardly anything.
    """
    sample = rows[:: -(-len(rows) // SAMPLE)]
    wide = sample.double() if is_torch(sample) else np.asarray(sample, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused later
        mean = wide.mean(0)
        spread = float(((wide - mean) ** 2).mean())
        if not float((mean**2).mean()) > COMMON * spread:
            return None
    least = float(abs(mean).max()) * np.finfo(np.float32).eps
    step = 2.0 ** np.floor(np.log2(max(spread**0.5, least)))
    return (mean / step).round() * step


def _multiplied(features: Features, squares: NDArray[np.float64]) -> Features:
    """``features`` with the powers of two that bring ``squares`` near 1, if one of them is far from it.

    Args:
        features: the list.
        squares: (N,) squared lengths, or (1,) for one factor of all rows.
    """
    low, high = SAFE_SQUARES
    if ((squares > low) & (squares < high)).all() or not squares.all():
        return features
    factors: Any = np.broadcast_to(np.ldexp(1.0, -np.frexp(np.sqrt(squares))[1]), len(features)).copy()
    if is_torch(features.rows):
        import torch

        factors = torch.from_numpy(factors).to(features.rows.device)
    return replace(features, squares=features.squares * factors**2, factors=factors)


def _plain(array: Any) -> NDArray[np.float64]:
    plain: NDArray[np.float64] = array.cpu().numpy() if is_torch(array) else array
    return plain


def _place(array: Any) -> str:
    return f"torch on {array.device}" if is_torch(array) else "NumPy"
