"""From features or distances and labels to the numbers that a protocol prints."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from protocols.arrays import InputError, check_lengths, integers
from protocols.base import PROTOCOLS, Pooling, Protocol
from protocols.deviations import check_deviations, deviate
from protocols.features import (
    FeatureDistances,
    Features,
    Metric,
    check_matrix,
    check_pair,
    describe_features,
    drop_pages,
    given_array,
    in_float32,
    is_torch,
)
from protocols.matchless import check_matches
from protocols.metrics import evaluate_ranks
from protocols.pooling import Groups, multi_queries, pool, tracklets
from protocols.ranking import Labels, Ranking, blocks
from protocols.release_notes import differences, label_counts
from protocols.results import Result
from protocols.single_shot import SingleShotRanking

if TYPE_CHECKING:
    from protocols.ranking import Distances

DistanceFunction: TypeAlias = Callable[[int, int], "Distances"]


@dataclass(frozen=True, slots=True)
class Options:
    """How to evaluate, beyond what the protocol says; attributes as the arguments of ``evaluate``."""

    metric: Metric
    pooling: Pooling | None
    rerank: bool
    deviations: tuple[str, ...]
    seed: int
    repeats: int | None
    split: str


def evaluate(
    protocol: str | Protocol,
    *,
    query_pids: object,
    query_camids: object,
    gallery_pids: object,
    gallery_camids: object,
    query_features: object = None,
    gallery_features: object = None,
    distances: object = None,
    query_tracklets: object = None,
    gallery_tracklets: object = None,
    multiquery_features: object = None,
    multiquery_pids: object = None,
    multiquery_camids: object = None,
    metric: Metric = "cosine",
    pooling: Pooling | None = None,
    rerank: bool = False,
    deviations: Collection[str] = (),
    seed: int = 0,
    repeats: int | None = None,
    split: str = "",
) -> Result:
    """Judge features, or distances, of one split by a protocol.

    For example::

        result = evaluate("market1501", **np.load("features.npz"))
        print(result)
        result.metrics["mAP"]

    Arrays are NumPy's (memory-mapped ones are read in pieces) or torch's, on a CPU or a GPU.

    Args:
        protocol: a name of ``PROTOCOLS``, or a protocol of your own.
        query_pids: (Q,) identities, as the release labels them.
        query_camids: (Q,) cameras, as the release numbers them.
        gallery_pids: (G,) likewise, with the labels of junk and distractors; junk may be left out.
        gallery_camids: (G,) likewise.
        query_features: (Q, d) floats.
        gallery_features: (G, d) floats.
        distances: instead of features: (Q, G) numbers, smaller is more alike, or a function from
            (start, stop) to rows start..stop-1 of them.
        query_tracklets: (Q,) tracklet of each row, where rows are frames; pooled before anything else.
        gallery_tracklets: (G,) likewise.
        multiquery_features: (B, d) boxes; those of a query's identity and camera are pooled and asked
            in its place. The rules for its gallery stay the single query's.
        multiquery_pids: (B,) identities of the boxes.
        multiquery_camids: (B,) cameras of the boxes.
        metric: distance of features, ``"cosine"`` or ``"euclidean"``.
        pooling: how rows become one, ``"mean"`` or ``"max"``; as the protocol says unless given.
        rerank: whether to re-rank by k-reciprocal neighbours (k1 = 20, k2 = 6, lambda = 0.3).
        deviations: habits of other evaluators to follow, names of ``protocols.deviations``.
        seed: of the draws of single-shot protocols.
        repeats: number of those draws; as the protocol says unless given.
        split: its name, where a protocol has several; the draws depend on it.

    Raises:
        InputError: what is given cannot be evaluated; the message says which array, row or option.
        UnknownName: no protocol has this name.
    """
    value = PROTOCOLS.get(protocol)() if isinstance(protocol, str) else protocol
    options = Options(metric, pooling, rerank, check_deviations(deviations), seed, repeats, split)
    _check_options(options, value)
    query = labels("query", query_pids, query_camids)
    gallery = labels("gallery", gallery_pids, gallery_camids)
    boxes = {"features": multiquery_features, "pids": multiquery_pids, "camids": multiquery_camids}
    rows = {
        "query_features": query_features,
        "gallery_features": gallery_features,
        "query_tracklets": query_tracklets,
        "gallery_tracklets": gallery_tracklets,
        **{f"multiquery_{name}": array for name, array in boxes.items()},
    }
    given = {name: array for name, array in rows.items() if array is not None}
    source: _FromDistances | _FromFeatures
    if distances is not None:
        _refuse_beside_distances(given, options)
        source = _FromDistances.of(distances, query, gallery, collect=value.reverse)
    else:
        source = _FromFeatures.of(given, query, gallery, options, value)
    return _judge_both_ways(value, source, options)


def labels(side: str, pids: object, camids: object) -> Labels:
    """Checked labels of a list; ``side`` is ``"query"``, ``"gallery"`` or ``"multiquery"``."""
    found = Labels(integers(f"{side}_pids", pids), integers(f"{side}_camids", camids))
    check_lengths({f"{side}_pids": len(found.pids), f"{side}_camids": len(found.camids)})
    return found


@dataclass(frozen=True, slots=True)
class _FromDistances:
    """Distances that the caller made: a matrix, or a function for blocks of its rows."""

    query: Labels
    gallery: Labels
    given: Any

    @classmethod
    def of(cls, given: Any, query: Labels, gallery: Labels, *, collect: bool) -> "_FromDistances":
        """Check a matrix; ``collect`` a function's blocks into one, where both directions are asked."""
        if callable(given):
            matrix = _collected(given, len(query), len(gallery)) if collect else given
            return cls(query, gallery, matrix)
        matrix = given_array(given)
        expected = len(query), len(gallery)
        if tuple(matrix.shape) != expected:
            raise InputError(
                f"distances: found the shape {tuple(matrix.shape)}, expected {expected}, (queries, gallery "
                "images) as the labels have it"
            )
        if not _is_real(matrix):
            raise InputError(f"distances: found {matrix.dtype}, expected real numbers, smaller is more alike")
        return cls(query, gallery, matrix)

    def settings(self) -> dict[str, str | int | bool]:
        return {"given distances": True}

    def forward(self) -> DistanceFunction:
        """Distances of queries to the gallery."""
        return self.given if callable(self.given) else _rows_of(self.given)

    def backward(self) -> DistanceFunction:
        """Distances of gallery images to the queries."""
        return _rows_of(self.given.T)


@dataclass(frozen=True, slots=True)
class _FromFeatures:
    """Distances between features of both lists, after pooling."""

    query: Labels
    gallery: Labels
    query_features: Features
    gallery_features: Features
    options: Options
    pooled: dict[str, str | int | bool]

    @classmethod
    def of(
        cls, given: dict[str, Any], query: Labels, gallery: Labels, options: Options, protocol: Protocol
    ) -> "_FromFeatures":
        """Check and pool what is ``given``."""
        how = options.pooling or protocol.pooling
        if boxes := _multiquery_boxes(given):
            how = how or "mean"
            groups, group = multi_queries(boxes, query)
            query_rows = pool("multiquery_features", given["multiquery_features"], groups, how)[group]
        else:
            query, query_rows = _pooled_side("query", given, query, how)
        gallery, gallery_rows = _pooled_side("gallery", given, gallery, how)
        is_pooled = bool(boxes) or "query_tracklets" in given or "gallery_tracklets" in given
        if options.pooling and not is_pooled:
            raise InputError(
                f"pooling {options.pooling!r}, but every row is an image of its own; give query_tracklets, "
                "gallery_tracklets or multiquery_features, or no pooling"
            )
        query_features = describe_features("query_features", query_rows, options.metric)
        gallery_features = describe_features("gallery_features", gallery_rows, options.metric)
        check_pair(query_features, gallery_features)
        pooled: dict[str, str | int | bool] = {"pooling": how} if is_pooled and how else {}
        return cls(
            query,
            gallery,
            query_features,
            gallery_features,
            options,
            pooled | ({"multi-query": True} if boxes else {}),
        )

    def settings(self) -> dict[str, str | int | bool]:
        reranked = {"re-ranked": True} if self.options.rerank else {}
        return {"metric": self.options.metric} | self.pooled | reranked

    def forward(self) -> DistanceFunction:
        """Distances of queries to the gallery."""
        return self._between(self.query_features, self.gallery_features)

    def backward(self) -> DistanceFunction:
        """Distances of gallery images to the queries."""
        return self._between(self.gallery_features, self.query_features)

    def _between(self, query: Features, gallery: Features) -> DistanceFunction:
        if not self.options.rerank:
            return FeatureDistances(query, gallery, self.options.metric)
        from protocols.reranking import rerank

        rows = (_whole(features, self.options.metric) for features in (query, gallery))
        try:
            return rerank(*rows)
        except ValueError as error:
            raise InputError(f"re-ranking: {error}") from error


def _multiquery_boxes(given: dict[str, Any]) -> Labels | None:
    """Labels of the boxes of multi-queries. Raises ``InputError`` if only some of the arrays are there."""
    names = ("multiquery_features", "multiquery_pids", "multiquery_camids")
    there = [name for name in names if name in given]
    if not there:
        return None
    if len(there) < len(names) or "query_tracklets" in given:
        raise InputError(
            f"multi-query: found {', '.join(sorted(there))}, expected {', '.join(names)} and no "
            "query_tracklets; give all three, or none"
        )
    boxes = labels("multiquery", given["multiquery_pids"], given["multiquery_camids"])
    check_lengths({"multiquery_pids": len(boxes), names[0]: len(check_matrix(names[0], given[names[0]]))})
    return boxes


def _pooled_side(side: str, given: dict[str, Any], own: Labels, how: Pooling | None) -> tuple[Labels, Any]:
    """Labels and features of a list, of tracklets where they are given."""
    name = f"{side}_features"
    if name not in given:
        raise InputError(
            f"{name}: missing, expected query_features and gallery_features, or distances; found "
            f"{', '.join(sorted(given)) or 'neither'}"
        )
    rows = check_matrix(name, given[name])
    check_lengths({f"{side}_pids": len(own), name: len(rows)})
    if f"{side}_tracklets" not in given:
        return own, rows
    groups: Groups = tracklets(side, given[f"{side}_tracklets"], own)
    if how is None:
        raise InputError(
            f"{side}_tracklets: the protocol does not say how frames become one; give pooling='mean' or 'max'"
        )
    return groups.labels, pool(name, rows, groups, how)


def _whole(features: Features, metric: Metric) -> Any:
    """All rows in float32, of length 1 for the cosine distance."""
    rows = in_float32(features.rows)
    return rows * in_float32(features.squares**-0.5)[:, None] if metric == "cosine" else rows


def _is_real(matrix: Any) -> bool:
    if is_torch(matrix):
        return not matrix.is_complex() and "bool" not in str(matrix.dtype)
    return matrix.dtype.kind in "iuf"


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


def _check_options(options: Options, protocol: Protocol) -> None:
    for name, choices in (("metric", ("cosine", "euclidean")), ("pooling", ("mean", "max", None))):
        value = getattr(options, name)
        if value not in choices:
            words = [choice for choice in choices if choice]
            near = get_close_matches(str(value), words, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InputError(f"{name}: found {value!r}, expected {' or '.join(map(repr, words))}{hint}")
    if options.repeats is None:
        return
    if protocol.single_shot is None:
        raise InputError(f"repeats: {protocol.name} ranks the whole gallery and draws nothing; leave it out")
    if options.repeats < 1:
        raise InputError(f"repeats: found {options.repeats}, expected at least 1")


def _refuse_beside_distances(given: dict[str, Any], options: Options) -> None:
    if given:
        raise InputError(
            f"distances: given beside {', '.join(sorted(given))}; give either distances, or features with "
            "what belongs to them"
        )
    if options.rerank or options.pooling:
        raise InputError(
            "distances: re-ranking and pooling need features, as they look at more than queries and gallery; "
            "give features, or leave both out"
        )


def _judge_both_ways(protocol: Protocol, source: _FromDistances | _FromFeatures, options: Options) -> Result:
    """One result with the notes; where the gallery also asks, with its metrics too."""
    query, gallery = source.query, source.gallery
    settings = source.settings()
    result = _judge(protocol, source.forward(), query, gallery, options, settings)
    if protocol.reverse:
        back = _judge(protocol, source.backward(), gallery, query, options, settings)
        result = replace(
            result,
            metrics=result.metrics | {f"reverse_{key}": value for key, value in back.metrics.items()},
            bounds=result.bounds | {f"reverse_{key}": pair for key, pair in back.bounds.items()},
            reverse=back,
        )
    return replace(result, notes=(*differences(result.counts, protocol), *_matchless_note(result)))


def _judge(
    protocol: Protocol,
    distances: DistanceFunction,
    query: Labels,
    gallery: Labels,
    options: Options,
    settings: dict[str, str | int | bool],
) -> Result:
    """Rank block by block and score what came out."""
    rules = deviate(protocol.rules, options.deviations)
    check_matches(query, gallery, rules)
    # Evaluators with a single-shot CMC let it leave out whole cameras, and average precision never.
    all_shots = replace(rules, same_camera="identity") if protocol.single_shot else rules
    ranking = Ranking(query, gallery, all_shots)
    unfiltered = single_shot = None
    if "truncate-4000" in options.deviations:
        unfiltered = Ranking(query, gallery, all_shots, leave_out=False)
    if protocol.single_shot:
        repeats = options.repeats or protocol.single_shot.repeats
        drawing = replace(protocol.single_shot, repeats=repeats)
        names = (protocol.name, options.split, options.seed)
        single_shot = SingleShotRanking(query, gallery, rules, drawing, names)
        settings = settings | {"seed": options.seed, "repeats": repeats}
    for start, block in blocks(distances, len(query), len(gallery), getattr(distances, "block_bytes", None)):
        for part in (ranking, unfiltered, single_shot):
            if part:
                part.add(start, block)
    full = unfiltered.ranks() if unfiltered else None
    evaluation = evaluate_ranks(ranking.ranks(), all_shots, options.deviations, full)
    metrics, bounds, cmc = evaluation.metrics, evaluation.bounds, evaluation.cmc
    if single_shot:
        scores = single_shot.scores()
        metrics = _beside(metrics, scores.metrics)
        bounds, cmc = _beside(bounds, scores.bounds), scores.cmc
    return Result(
        protocol=protocol.name,
        title=protocol.title,
        source=protocol.source,
        split=options.split,
        metrics=metrics,
        headline=evaluation.headline,
        bounds=bounds,
        cmc=cmc,
        counts=label_counts(query, gallery, rules),
        queries=evaluation.queries,
        matchless=evaluation.matchless,
        deviations=options.deviations,
        settings=settings,
        notes=(),
        query=query,
        ranks=ranking.ranks(),
        unfiltered=full,
    )


def _beside(all_shots: dict[str, Any], single_shot: dict[str, Any]) -> dict[str, Any]:
    """Both in one: ranks are the single-shot ones, those of all shots say so in their keys."""
    others = {key: value for key, value in all_shots.items() if not key.startswith("rank")}
    ranks = {f"{key}_all_shots": value for key, value in all_shots.items() if key.startswith("rank")}
    return others | single_shot | ranks


def _matchless_note(result: Result) -> list[str]:
    if not result.matchless:
        return []
    dropped = result.queries < result.counts["queries"]
    what = "they are in no mean" if dropped else "they count as misses"
    return [f"{result.matchless:,} of {result.counts['queries']:,} queries have no true match; {what}"]
