"""Distances of pairs, block by block of queries, as ``protocols.evaluate`` asks for them.

Two ways for methods that score pairs: ``AllPairs`` scores every query with every gallery image, and
``TwoStage`` the few nearest by a coarse distance only. Either goes wherever a matrix of distances would,
under any protocol::

    described = describe_all(method, images, accelerator)      # (N, 3, H, W) uint8 -> stored once
    query, gallery = described.of(query_rows), described.of(gallery_rows)
    protocols.evaluate("market1501", ..., distances=TwoStage(method, query, gallery, 75))

From a trained method and a release on disk, ``reproductions.evaluation.evaluate_release`` does all of it.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from methods.base import PairMethod, squared_euclidean
from protocols.feature_distances import MAPPED_BLOCK_BYTES
from protocols.ranking import BLOCK_BYTES
from reproductions.descriptions import AnyMethod, Descriptions
from reproductions.recipe import Way

TILE_BYTES = 512 * 2**20
"""What descriptions may take on the device while they are compared, beside those that are stored there."""

GPU_SHARE = 0.1
"""Of a GPU's free memory that a pair method may take while it compares."""

SAMPLED_SECONDS = 0.5
"""A sample at least so long tells how long all pairs take."""

Progress = Callable[[int], object]


class AllPairs:
    """Every query with every gallery image, tile by tile; of an embedding method or of a pair method.

    Within a block, gallery images are read once, and queries once for each tile of the gallery.

    Args:
        method: whose ``distance`` is asked; it bounds its own memory.
        query: descriptions of the Q queries.
        gallery: descriptions of the G gallery images.
        tile_bytes: what the descriptions of one tile may take; at least one pair is in a tile.
        progress: called with the number of pairs of each tile.

    Attributes:
        block_bytes: how large a block should be, for ``protocols.ranking.blocks``.
    """

    def __init__(
        self,
        method: AnyMethod,
        query: Descriptions,
        gallery: Descriptions,
        *,
        tile_bytes: int = TILE_BYTES,
        progress: Progress = lambda _: None,
    ) -> None:
        self._method, self._query, self._gallery = method, query, gallery
        self._tile_bytes, self._progress = tile_bytes, progress
        self.block_bytes = block_bytes(gallery)

    @torch.inference_mode()
    def __call__(self, start: int, stop: int) -> Tensor:
        """(stop - start, G) float32 on the device, for queries start..stop-1."""
        with large_tiles(self._method, self._gallery.device):
            return tiled(
                self._method.distance,
                self._query,
                self._gallery,
                (start, stop),
                self._tile_bytes,
                self._progress,
            )


class TwoStage:
    """The K nearest by squared Euclidean distance of ``"pooled"`` are scored; all others come after them.

    So ranks KPM's published code (YantaoShen/kpm_rw_person_reid, ``CascadeEvaluator``; 75 of them). As
    there, the K are the nearest of the whole gallery: images that do not count for a query, junk or its
    own camera's, take places among them, and are left out afterwards by the protocol.

    Numbers that come out keep an order and measure nothing: scored images have -K to -1 in the order of
    their scores, where equal scores share a number; others keep their coarse distance, which is never
    below 0. So nothing is rounded and no tie is made or lost. Of images at the same coarse distance,
    the first in the gallery are taken.

    Args:
        method: whose ``pair_distance`` is asked.
        query: descriptions of the Q queries.
        gallery: descriptions of the G gallery images.
        scored: K; with G or more, distances are those of ``AllPairs``.
        tile_bytes: what the descriptions of the pairs that are scored at a time may take.
        progress: called with the number of pairs scored each time.

    Attributes:
        block_bytes: how large a block should be, for ``protocols.ranking.blocks``.
    """

    def __init__(
        self,
        method: PairMethod,
        query: Descriptions,
        gallery: Descriptions,
        scored: int,
        *,
        tile_bytes: int = TILE_BYTES,
        progress: Progress = lambda _: None,
    ) -> None:
        self._method, self._query, self._gallery = method, query, gallery
        self.scored = min(scored, len(gallery))
        self._tile_bytes, self._progress = tile_bytes, progress
        self.block_bytes = block_bytes(gallery)

    @torch.inference_mode()
    def __call__(self, start: int, stop: int) -> Tensor:
        """(stop - start, G) float32 on the device, for queries start..stop-1."""
        query, gallery, block = self._query, self._gallery, (start, stop)
        if self.scored == len(gallery):
            with large_tiles(self._method, gallery.device):
                return tiled(self._method.distance, query, gallery, block, self._tile_bytes, self._progress)
        query, gallery = query.only("pooled"), gallery.only("pooled")
        distances = tiled(squared_euclidean, query, gallery, block, self._tile_bytes)
        if distances.isnan().any():
            return distances  # whoever ranks says whose they are
        nearest = first_nearest(distances, self.scored)
        distances.scatter_(1, nearest, places(self._scores(start, nearest)) - self.scored)
        return distances

    def _scores(self, start: int, nearest: Tensor) -> Tensor:
        """Distances of queries ``start``, ... to ``nearest`` places in the gallery, (B, K) -> (B, K)."""
        sought, order = nearest.flatten().sort(stable=True)  # gallery images are read once, in their order
        asked = start + order // self.scored
        scores = torch.empty(nearest.numel(), device=nearest.device)
        pairs = self._tile_bytes // (4 * self._gallery.row_bytes)  # two rows each, as read and as repeated
        score: Callable[[Any, Any], Tensor] = self._method.pair_distance
        with large_tiles(self._method, nearest.device):
            for part in _parts(0, len(order), pairs):
                scores[order[part]] = score(self._query.rows(asked[part]), self._gallery.rows(sought[part]))
                self._progress(part.stop - part.start)
        return scores.view_as(nearest)


def ranked_by(
    way: Way,
    method: AnyMethod,
    query: Descriptions,
    gallery: Descriptions,
    *,
    progress: Progress = lambda _: None,
) -> AllPairs | TwoStage:
    """Distances by a recipe's way of ranking; an embedding method scores all pairs in any case."""
    if way == "all" or not isinstance(method, PairMethod):
        return AllPairs(method, query, gallery, progress=progress)
    return TwoStage(method, query, gallery, way, progress=progress)


@contextmanager
def large_tiles(method: AnyMethod, device: torch.device) -> Iterator[None]:
    """Within, a pair method on a GPU works in tiles as large as its memory allows."""
    if device.type != "cuda" or not isinstance(method, PairMethod):
        yield
        return
    tile_bytes = method.tile_bytes
    free, _ = torch.cuda.mem_get_info(device)
    method.tile_bytes = max(tile_bytes, int(free * GPU_SHARE))
    try:
        yield
    finally:
        method.tile_bytes = tile_bytes


def tiled(
    distance: Callable[[Any, Any], Tensor],
    query: Descriptions,
    gallery: Descriptions,
    block: tuple[int, int],
    tile_bytes: int = TILE_BYTES,
    progress: Progress = lambda _: None,
) -> Tensor:
    """Distances of queries ``block[0]``..``block[1]``-1 to all gallery images, float32 (B, G)."""
    start, stop = block
    distances = torch.empty((stop - start, len(gallery)), device=gallery.device)
    for images in _parts(0, len(gallery), 3 * tile_bytes // 4 // gallery.row_bytes):
        sought = gallery.rows(images)
        for queries in _parts(start, stop, tile_bytes // 4 // query.row_bytes):
            tile = distance(query.rows(queries), sought)
            distances[queries.start - start : queries.stop - start, images] = tile
            progress(tile.numel())
    return distances


def _parts(start: int, stop: int, size: int) -> Iterator[slice]:
    size = max(1, size)
    return (slice(first, min(first + size, stop)) for first in range(start, stop, size))


def first_nearest(distances: Tensor, count: int) -> Tensor:
    """Places of the ``count`` smallest of each row, (B, G) -> (B, count) int64, rising.

    Of equal values, the first in the row are taken, wherever it is computed. No value may be NaN.
    """
    last = distances.kthvalue(count, dim=1, keepdim=True).values
    nearer, level = distances < last, distances == last
    taken = nearer | (level & (level.cumsum(1, dtype=torch.int32) <= count - nearer.sum(1, keepdim=True)))
    return taken.nonzero()[:, 1].view(len(distances), count)


def places(scores: Tensor) -> Tensor:
    """Number of different smaller values in its row, for each value, (B, K) -> (B, K); NaN stays NaN."""
    values, order = scores.sort(dim=1)
    rises = torch.zeros_like(values)
    rises[:, 1:] = values[:, 1:] != values[:, :-1]
    place = torch.empty_like(values).scatter_(1, order, rises.cumsum(1))
    return place.where(~scores.isnan(), scores)


def block_bytes(gallery: Descriptions) -> int:
    """A larger block of queries where the gallery is read from a file for each."""
    return MAPPED_BLOCK_BYTES if gallery.mapped else BLOCK_BYTES


@torch.inference_mode()
def seconds_for_all(method: AnyMethod, query: Descriptions, gallery: Descriptions) -> float:
    """How long ``AllPairs`` would take here, from a sample of pairs that grows until it takes a while.

    The sample stays in memory: where descriptions are read from a disk, it takes longer still.
    """
    size = 2
    while True:
        parts = query.first(size), gallery.first(size)
        _seconds(method, *parts)  # what only happens the first time
        seconds = _seconds(method, *parts)
        covered = len(parts[0]) * len(parts[1]) / (len(query) * len(gallery))
        if seconds >= SAMPLED_SECONDS or covered == 1:
            return seconds / covered
        size *= 2


def _seconds(method: AnyMethod, query: Descriptions, gallery: Descriptions) -> float:
    started = time.perf_counter()
    float(AllPairs(method, query, gallery)(0, len(query)).sum())  # waits for the device
    return time.perf_counter() - started
