"""Where distances come from: a caller's own, or features, pooled and re-ranked as asked."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from protocols.arrays import InputError, check_lengths, given_array, integers, is_real, is_torch
from protocols.base import Pooling, Protocol, Rules
from protocols.feature_distances import FeatureDistances
from protocols.features import Features, check_matrix, describe_pair, drop_pages, joined
from protocols.multi_query import asks_multiple, box_labels
from protocols.naming import Naming, given_names, of_tracklets
from protocols.options import Options
from protocols.pooling import multi_queries, pool, tracklets
from protocols.ranking import Ints, Labels, blocks

if TYPE_CHECKING:
    from protocols.ranking import Distances

DistanceFunction: TypeAlias = Callable[[int, int], "Distances"]


@dataclass(frozen=True, slots=True)
class Side:
    """A list that asks or is asked: labels of its images or tracklets, and what they are called."""

    labels: Labels
    naming: Naming


@dataclass(frozen=True, slots=True)
class FromDistances:
    """Distances that the caller made: a matrix, or a function for blocks of its rows."""

    query: Side
    gallery: Side
    matrix: Any
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, distances: Any, given: dict[str, Any], query: Labels, gallery: Labels, *, collect: bool
    ) -> "FromDistances":
        """Check a matrix; ``collect`` a function's blocks into one, where both directions are asked."""
        sides = (
            Side(query, given_names("query", given, len(query))),
            Side(gallery, given_names("gallery", given, len(gallery))),
        )
        if callable(distances):
            return cls(*sides, _collected(distances, len(query), len(gallery)) if collect else distances)
        matrix = given_array("distances", distances)
        expected = len(query), len(gallery)
        if tuple(matrix.shape) != expected:
            raise InputError(
                f"distances: found the shape {tuple(matrix.shape)}, expected {expected}, (queries, gallery "
                "images) as the labels have it"
            )
        if not is_real(matrix):
            raise InputError(f"distances: found {matrix.dtype}, expected real numbers, smaller is more alike")
        return cls(*sides, matrix)

    def settings(self) -> dict[str, str | int | bool]:
        """What a result says of how distances were made."""
        return {"given distances": True}

    def forward(self) -> DistanceFunction:
        """Distances of queries to the gallery."""
        return self.matrix if callable(self.matrix) else _rows_of(self.matrix)

    def backward(self) -> DistanceFunction:
        """Distances of gallery images to the queries."""
        return _rows_of(self.matrix.T)


@dataclass(frozen=True, slots=True)
class FromFeatures:
    """Distances between features of both lists, after pooling."""

    query: Side
    gallery: Side
    features: tuple[Features, Features]
    rules: Rules
    options: Options
    pooled: dict[str, str | int | bool]
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls, given: dict[str, Any], query: Labels, gallery: Labels, options: Options, protocol: Protocol
    ) -> "FromFeatures":
        """Check and pool what is ``given``."""
        how = options.pooling or protocol.pooling
        boxes = box_labels(given)
        if boxes:
            how = how or "mean"
            groups, group = multi_queries(boxes, query)
            asking = Side(query, given_names("query", given, len(query)))
            query_rows = pool("multiquery_features", given["multiquery_features"], groups, how)[group]
        else:
            asking, query_rows = _pooled_side("query", given, query, how)
        asked, gallery_rows = _pooled_side("gallery", given, gallery, how)
        is_pooled = bool(boxes) or "query_tracklets" in given or "gallery_tracklets" in given
        if options.pooling and not is_pooled:
            raise InputError(
                f"pooling {options.pooling!r}, but every row is an image of its own; give query_tracklets, "
                "gallery_tracklets or multiquery_features, or no pooling"
            )
        pooled: dict[str, str | int | bool] = {"pooling": how} if is_pooled and how else {}
        pooled |= {"multi-query": True} if boxes else {}
        features = describe_pair(query_rows, gallery_rows, options.metric)
        notes = _pooled_before(given, protocol) if protocol.pooling else []
        return cls(asking, asked, features, protocol.rules, options, pooled, tuple(notes))

    def settings(self) -> dict[str, str | int | bool]:
        """What a result says of how distances were made."""
        reranked = {"re-ranked": True} if self.options.rerank else {}
        return {"metric": self.options.metric} | self.pooled | reranked

    def forward(self) -> DistanceFunction:
        """Distances of queries to the gallery."""
        query, gallery = self.features
        return self._between(query, gallery, (self.query.labels, self.gallery.labels))

    def backward(self) -> DistanceFunction:
        """Distances of gallery images to the queries."""
        query, gallery = self.features
        return self._between(gallery, query, (self.gallery.labels, self.query.labels))

    def _between(self, query: Features, gallery: Features, labels: tuple[Labels, Labels]) -> DistanceFunction:
        if not self.options.rerank:
            return FeatureDistances(query, gallery, self.options.metric)
        from protocols.reranking import rerank_joined

        kept = [~np.isin(side.pids, self.rules.junk_pids) for side in labels]
        images = joined((query, gallery), kept, unit=self.options.metric == "cosine")
        try:
            reranked = rerank_joined(images, int(kept[0].sum()))
        except ValueError as error:
            raise InputError(f"re-ranking: {error}") from error
        return _WithoutJunk(reranked, np.flatnonzero(kept[0]), np.flatnonzero(kept[1]), len(gallery))


@dataclass(frozen=True, slots=True)
class _WithoutJunk:
    """Distances between images that are no junk, where they stood in both lists; others are infinite."""

    distances: DistanceFunction
    query: NDArray[np.intp]
    gallery: NDArray[np.intp]
    images: int

    def __call__(self, start: int, stop: int) -> NDArray[np.float32]:
        first, end = np.searchsorted(self.query, (start, stop)).tolist()
        found: Any = self.distances(first, end)
        if found.shape == (stop - start, self.images):
            return found  # type: ignore[no-any-return]
        block = np.full((stop - start, self.images), np.inf, np.float32)
        block[np.ix_(self.query[first:end] - start, self.gallery)] = found
        return block


def _pooled_side(side: str, given: dict[str, Any], own: Labels, how: Pooling | None) -> tuple[Side, Any]:
    """A list and its features, of tracklets where they are given."""
    name = f"{side}_features"
    if name not in given:
        raise InputError(
            f"{name}: missing, expected query_features and gallery_features, or distances; found "
            f"{', '.join(sorted(given)) or 'neither'}"
        )
    rows = check_matrix(name, given[name])
    check_lengths({f"{side}_pids": len(own), name: len(rows)})
    naming = given_names(side, given, len(own))
    if f"{side}_tracklets" not in given:
        return Side(own, naming), rows
    ids: Ints = integers(f"{side}_tracklets", given[f"{side}_tracklets"])
    groups = tracklets(side, ids, own)
    if how is None:
        raise InputError(
            f"{side}_tracklets: the protocol does not say how frames become one; give pooling='mean' or 'max'"
        )
    return Side(groups.labels, of_tracklets(naming, ids, groups)), pool(name, rows, groups, how)


def _pooled_before(given: dict[str, Any], protocol: Protocol) -> list[str]:
    """Which rows the protocol pools, and nothing was given to pool them by."""
    boxes = "multiquery_features" in given
    if boxes or asks_multiple(protocol):
        expected = {"query": "multiquery_features or query_tracklets"}
    else:
        expected = {side: f"{side}_tracklets" for side in ("query", "gallery")}
    return [
        f"{side}_features: without {arrays}, rows are taken as pooled already, which {protocol.name} does by "
        f"the {protocol.pooling}"
        for side, arrays in expected.items()
        if f"{side}_tracklets" not in given and not (side == "query" and boxes)
    ]


def _rows_of(matrix: Any) -> DistanceFunction:
    def rows(start: int, stop: int) -> Any:
        drop_pages(matrix)  # of the block before
        return matrix[start:stop]

    return rows


def _collected(function: DistanceFunction, queries: int, images: int) -> Any:
    parts = [block for _, block in blocks(function, queries, images)]
    if is_torch(parts[0]):
        import torch

        return torch.cat(parts)  # type: ignore[arg-type]
    return np.concatenate(parts)
