"""Ranks of the true matches, exactly, without sorting the gallery.

For a query q and a true match m, the rank of m is 1 + the number of gallery images that count
for q and come before m. Counting them takes comparisons alone, so no order of the whole gallery
is computed, and one block of queries is held at a time.

Distances that lie on a GPU are counted there, all others by a compiled loop on the CPU.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from protocols.arrays import InputError, check_lengths, integers, is_real
from protocols.base import Rules

if TYPE_CHECKING:
    import torch

    Distances: TypeAlias = NDArray[np.floating] | torch.Tensor

Ints: TypeAlias = NDArray[np.int64]
Counted: TypeAlias = tuple[Ints, Ints, Ints, NDArray[np.bool_]]
T = TypeVar("T")

BLOCK_BYTES = 128 * 2**20
"""Memory for one block of float32 distances."""

NO_CAMERA = np.iinfo(np.int64).min
"""A camera that took no image."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Identity and camera of every image of a list, two int64 arrays of one length."""

    pids: Ints
    camids: Ints

    def __len__(self) -> int:
        return len(self.pids)


def labels(side: str, pids: object, camids: object) -> Labels:
    """Checked labels of a list; ``side`` is ``"query"``, ``"gallery"`` or ``"multiquery"``, for messages."""
    found = Labels(integers(f"{side}_pids", pids), integers(f"{side}_camids", camids))
    check_lengths({f"{side}_pids": len(found.pids), f"{side}_camids": len(found.camids)})
    return found


@dataclass(frozen=True, slots=True)
class Ranks:
    """Ranks of the M true matches of Q queries, query after query, nearest first.

    Attributes:
        ends: (Q,) int64; the matches of query q are entries ``ends[q - 1]:ends[q]``.
        gallery: (M,) int64; position of each match in the gallery as it was given.
        rank: (M,) int64; 1-based, among the images that count; ties in gallery order.
        best: (M,) int64; the rank if matches came first among images at their distance.
        worst: (M,) int64; the rank if they came last among them.
    """

    ends: Ints
    gallery: Ints
    rank: Ints
    best: Ints
    worst: Ints

    def __len__(self) -> int:
        return len(self.ends)


def rank_matches(
    distances: Callable[[int, int], "Distances"], query: Labels, gallery: Labels, rules: Rules
) -> Ranks:
    """Rank every true match of every query.

    Args:
        distances: ``distances(start, stop)`` gives those of queries start..stop-1 to the whole
            gallery, shape (stop - start, G), smaller is more alike; NumPy or torch, CPU or GPU.
        query: labels of the Q queries.
        gallery: labels of the G gallery images.
        rules: which images are junk or distractors and which a camera leaves out.

    Raises:
        InputError: a block has another shape than asked for, or a distance is not a number.
    """
    ranking = Ranking(query, gallery, rules)
    for start, block in blocks(distances, len(query), len(gallery)):
        ranking.add(start, block)
    return ranking.ranks()


def blocks(
    distances: Callable[[int, int], "Distances"], queries: int, images: int, block_bytes: int | None = None
) -> Iterator[tuple[int, "Distances"]]:
    """Distances of ``queries`` queries to ``images`` images, a block of queries at a time.

    Args:
        distances: as for ``rank_matches``.
        queries: Q.
        images: G.
        block_bytes: what a block of float32 distances may take; ``BLOCK_BYTES`` unless given.

    Yields:
        The first query of each block, and the block.

    Raises:
        InputError: a block is no array of real numbers, or has another shape than asked for.
    """
    rows = max(1, (block_bytes or BLOCK_BYTES) // (4 * max(1, images)))
    for start in range(0, queries, rows):
        stop = min(start + rows, queries)
        block = distances(start, stop)
        _check_block(f"distances({start}, {stop})", block, (stop - start, images))
        yield start, block


def _check_block(name: str, block: Any, expected: tuple[int, int]) -> None:
    if not hasattr(block, "dtype") or isinstance(block, np.ma.MaskedArray) or not is_real(block):
        dtype = f" of {block.dtype}" if hasattr(block, "dtype") else ""
        raise InputError(
            f"{name} gave a {type(block).__name__}{dtype}, expected a NumPy array or torch tensor of real "
            "numbers, smaller is more alike"
        )
    if tuple(block.shape) != expected:
        raise InputError(
            f"{name} has the shape {tuple(block.shape)}, expected {expected} (queries, gallery images)"
        )


class Ranking:
    """Ranks the true matches of one block of queries after the other.

    Args:
        query: labels of the Q queries.
        gallery: labels of the G gallery images.
        rules: which images are junk or distractors and which a camera leaves out.
        leave_out: whether those images take no rank; else every image of the gallery takes one.
    """

    def __init__(self, query: Labels, gallery: Labels, rules: Rules, leave_out: bool = True) -> None:
        self._gallery = gallery
        self._ends, self._matches = true_matches(query, gallery, rules)
        self._found = np.empty((4, len(self._matches)), np.int64)
        self._usable = ~np.isin(gallery.pids, rules.junk_pids) | (not leave_out)
        self._query = query if leave_out else Labels(query.pids, np.full(len(query), NO_CAMERA))
        self._all_cameras = rules.same_camera == "all"

    def add(self, start: int, block: "Distances") -> None:
        """Rank the matches of queries ``start``, ... by their rows of distances, (B, G)."""
        stop = start + len(block)
        first = self._ends[start - 1] if start else 0
        part = slice(first, self._ends[stop - 1])
        problem = Block(
            Labels(self._query.pids[start:stop], self._query.camids[start:stop]),
            self._gallery,
            self._usable,
            self._all_cameras,
            self._ends[start:stop] - first,
            self._matches[part],
        )
        self._found[:, part] = problem.count(block, start)

    def ranks(self) -> Ranks:
        """The result, once every query was added."""
        gallery, rank, best, worst = self._found
        return Ranks(self._ends, gallery, rank, best, worst)


def true_matches(query: Labels, gallery: Labels, rules: Rules) -> tuple[Ints, Ints]:
    """Gallery positions that show a query's identity from another camera.

    Returns:
        ``ends`` (Q,) and ``matches`` (M,) int64; those of query q are
        ``matches[ends[q - 1]:ends[q]]`` in gallery order.
    """
    nobody = np.isin(gallery.pids, (*rules.junk_pids, *rules.distractor_pids))
    by_pid = np.argsort(gallery.pids, kind="stable")
    sorted_pids = gallery.pids[by_pid]
    low = np.searchsorted(sorted_pids, query.pids, "left")
    size = np.searchsorted(sorted_pids, query.pids, "right") - low
    owner = np.repeat(np.arange(len(query)), size)
    offset = np.arange(len(owner)) - np.repeat(np.cumsum(size) - size, size)
    candidate = by_pid[np.repeat(low, size) + offset]
    good = ~nobody[candidate] & (gallery.camids[candidate] != query.camids[owner])
    ends = np.cumsum(np.bincount(owner[good], minlength=len(query)))
    return ends.astype(np.int64), candidate[good].astype(np.int64)


def counted(query: Labels, gallery: Labels, rules: Rules) -> NDArray[np.bool_]:
    """Which gallery images take a rank for each query, (Q, G): no junk, and none that a camera leaves out."""
    left_out = query.camids[:, None] == gallery.camids
    if rules.same_camera == "identity":
        left_out &= query.pids[:, None] == gallery.pids
    return np.asarray(~left_out & ~np.isin(gallery.pids, rules.junk_pids))


@dataclass(frozen=True, slots=True)
class Block:
    """One block of queries: labels, and the true matches whose ranks are wanted.

    Attributes:
        query: labels of the block's B queries.
        gallery: labels of all G gallery images.
        usable: (G,) bool; not junk.
        all_cameras: whether every image of the query's camera is left out, or its person's only.
        ends: (B,) int64; as in ``Ranks``, from the block's first match on.
        matches: (M,) int64; gallery positions of the matches, in gallery order for each query.
    """

    query: Labels
    gallery: Labels
    usable: NDArray[np.bool_]
    all_cameras: bool
    ends: Ints
    matches: Ints

    def count(self, distances: "Distances", first_query: int) -> Ints:
        """(4, M) int64: gallery position, rank, best and worst rank, nearest match first."""
        distances = in_full_precision(distances)
        if isinstance(distances, np.ndarray) or not distances.is_cuda:
            nearer, equal, equal_before, not_a_number = self._count_numpy(distances)
        else:
            nearer, equal, equal_before, not_a_number = self._count_torch(distances)
        if not_a_number.any():
            raise InputError(
                f"the distances of query {first_query + int(np.argmax(not_a_number))} hold "
                "values that are not a number; check its features and the gallery's"
            )
        return self._ordered(nearer, equal, equal_before)

    def _ordered(self, nearer: Ints, equal: Ints, equal_before: Ints) -> Ints:
        """Sort each query's matches by rank and place them in the best and worst tie order."""
        rank = 1 + nearer + equal_before
        owner, _ = self._owner_and_slot()
        order = np.lexsort((rank, owner))
        owner, rank, nearer, equal = owner[order], rank[order], nearer[order], equal[order]
        # Matches of one query at one distance share `nearer`: number them 1..k from the front.
        opens = np.ones(len(order), bool)
        opens[1:] = (owner[1:] != owner[:-1]) | (nearer[1:] != nearer[:-1])
        group = np.cumsum(opens) - 1
        nth = np.arange(len(order)) - np.flatnonzero(opens)[group] + 1
        tied = np.bincount(group, minlength=1)[group] if len(group) else group
        return np.stack((self.matches[order], rank, nearer + nth, nearer + equal - tied + nth))

    def _owner_and_slot(self) -> tuple[Ints, Ints]:
        """(M,) query of each match, and its position among that query's matches."""
        sizes = np.diff(self.ends, prepend=0)
        owner = np.repeat(np.arange(len(sizes)), sizes)
        return owner, np.arange(len(owner)) - np.repeat(self.ends - sizes, sizes)

    def _count_numpy(self, distances: "Distances") -> Counted:
        """Each thread counts for a share of the queries."""
        rows = np.ascontiguousarray(distances)
        parts = in_shares(lambda start, stop: self._count_share(rows, start, stop), len(self.query))
        nearer, equal, equal_before, not_a_number = (
            np.concatenate(arrays) for arrays in zip(*parts, strict=True)
        )
        return nearer, equal, equal_before, not_a_number

    def _count_share(self, rows: NDArray[np.floating], start: int, stop: int) -> Counted:
        """The counts of queries start..stop-1 of the block."""
        from protocols.ranking_loops import count_nearer  # compiles on first use

        first = self.ends[start - 1] if start else 0
        counted: Counted = count_nearer(
            rows[start:stop],
            (self.query.pids[start:stop], self.query.camids[start:stop]),
            (self.gallery.pids, self.gallery.camids, self.usable),
            self.all_cameras,
            self.ends[start:stop] - first,
            self.matches[first : self.ends[stop - 1]],
        )
        return counted

    def _count_torch(self, distances: "torch.Tensor") -> Counted:
        """The same counts by sorting values on the GPU and searching the matches in them."""
        import torch

        def on_device(array: NDArray[np.generic]) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(distances.device)

        own_camera = on_device(self.query.camids)[:, None] == on_device(self.gallery.camids)
        if not self.all_cameras:
            own_camera &= on_device(self.query.pids)[:, None] == on_device(self.gallery.pids)
        kept = on_device(self.usable) & ~own_camera
        values, order = torch.where(kept, distances, torch.nan).sort(dim=1, stable=True)
        place = torch.empty_like(order)  # of each gallery image among those that count
        place.scatter_(1, order, torch.arange(len(self.gallery), device=order.device).expand_as(order))
        most = int(np.diff(self.ends, prepend=0).max())
        matches, owner, slot = map(on_device, (self.matches, *self._owner_and_slot()))
        targets = distances.new_full((len(kept), most), torch.inf)
        targets[owner, slot] = distances[owner, matches]
        values.masked_fill_(values.isnan(), torch.inf)  # a binary search needs an ordered row
        nearer = torch.searchsorted(values, targets)[owner, slot]
        reach = torch.searchsorted(values, targets, right=True)[owner, slot]
        equal = torch.minimum(reach, kept.sum(1)[owner]) - nearer
        equal_before = place[owner, matches] - nearer
        return (
            nearer.cpu().numpy(),
            equal.cpu().numpy(),
            equal_before.cpu().numpy(),
            distances.isnan().any(1).cpu().numpy(),
        )


def in_shares(function: Callable[[int, int], T], queries: int) -> Sequence[T]:
    """``function(start, stop)`` of one share of the queries for each thread, in their order.

    Threads of our own, as numba's change the number of OpenMP threads, and torch's with it.
    """
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    bounds = np.linspace(0, queries, min(threads, queries) + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, bounds[:-1], bounds[1:]))


def in_full_precision(distances: "Distances") -> "Distances":
    """Half precision as float32 and integers as float64, which changes no order; others as they are."""
    if isinstance(distances, np.ndarray):
        if distances.dtype in (np.float32, np.float64):
            return distances
        return distances.astype(np.float32 if distances.dtype.kind == "f" else np.float64)
    if distances.element_size() >= 4 and distances.is_floating_point():
        return distances
    return distances.float() if distances.is_floating_point() else distances.double()
