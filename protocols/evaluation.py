"""From features or distances and labels to the numbers that a protocol prints."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from protocols.base import Pooling, Protocol
from protocols.deviations import deviate
from protocols.features import Metric
from protocols.label_notes import differences, label_counts, unsigned_junk
from protocols.matchless import check_matches
from protocols.metrics import evaluate_ranks
from protocols.multi_query import find_protocol
from protocols.options import Options, check_options, refuse_beside_distances
from protocols.ranking import Ranking, blocks, labels
from protocols.results import Result
from protocols.single_shot import SingleShotRanking
from protocols.sources import DistanceFunction, FromDistances, FromFeatures, Side


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
    query_names: object = None,
    gallery_names: object = None,
    multiquery_features: object = None,
    multiquery_pids: object = None,
    multiquery_camids: object = None,
    metric: Metric | None = None,
    pooling: Pooling | None = None,
    rerank: bool = False,
    deviations: str | Collection[str] = (),
    seed: int | None = None,
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
        protocol: a name of ``PROTOCOLS``, or a protocol of your own, whose rules stay as they are.
        query_pids: (Q,) identities, as the release labels them.
        query_camids: (Q,) cameras, as the release numbers them.
        gallery_pids: (G,) likewise, with the labels of junk and distractors; junk may be left out.
        gallery_camids: (G,) likewise.
        query_features: (Q, d) floats.
        gallery_features: (G, d) floats.
        distances: instead of features: (Q, G) numbers, smaller is more alike, or a function from
            (start, stop) to rows start..stop-1 of them.
        query_tracklets: (Q,) tracklet of each row, where rows are frames; pooled before anything else.
        gallery_tracklets: (G,) likewise. Without either, a protocol of tracklets takes rows as pooled
            already, and the result notes that.
        query_names: (Q,) strings, such as file names, for tables of single queries.
        gallery_names: (G,) likewise.
        multiquery_features: (B, d) boxes; those of a query's identity and camera are pooled and asked
            in its place, by the protocol of that name with ``/multi-query``. The rules for its gallery stay
            the single query's.
        multiquery_pids: (B,) identities of the boxes.
        multiquery_camids: (B,) cameras of the boxes.
        metric: distance of features, ``"cosine"`` (unless given) or ``"euclidean"``.
        pooling: how rows become one, ``"mean"`` or ``"max"``; as the protocol says unless given.
        rerank: whether to re-rank by k-reciprocal neighbours (k1 = 20, k2 = 6, lambda = 0.3). Junk is
            dropped before neighbours are sought, as code does that drops junk while it reads files: it is
            nobody's neighbour, so that numbers do not depend on whether it was handed over.
        deviations: habits of other evaluators to follow, names of ``protocols.deviations``, or one name.
        seed: of the draws of single-shot protocols; 0 unless given.
        repeats: number of those draws; as the protocol says unless given.
        split: its name, where a protocol has several; the draws depend on it.

    Raises:
        InputError: what is given cannot be evaluated; the message says which array, row or option.
        UnknownName: no protocol has this name.
    """
    rows = {
        "query_features": query_features,
        "gallery_features": gallery_features,
        "query_tracklets": query_tracklets,
        "gallery_tracklets": gallery_tracklets,
        "multiquery_features": multiquery_features,
        "multiquery_pids": multiquery_pids,
        "multiquery_camids": multiquery_camids,
    }
    given = {name: array for name, array in rows.items() if array is not None}
    judge = find_protocol(protocol, multi_query=any(name.startswith("multiquery") for name in given))
    options = check_options(
        judge,
        metric=metric,
        pooling=pooling,
        rerank=rerank,
        deviations=deviations,
        seed=seed,
        repeats=repeats,
        split=split,
    )
    query = labels("query", query_pids, query_camids)
    gallery = labels("gallery", gallery_pids, gallery_camids)
    names = {"query_names": query_names, "gallery_names": gallery_names}
    named = {name: array for name, array in names.items() if array is not None}
    source: FromDistances | FromFeatures
    if distances is not None:
        refuse_beside_distances(given, metric=metric, pooling=pooling, rerank=rerank)
        source = FromDistances.of(distances, named, query, gallery, collect=judge.reverse)
    else:
        source = FromFeatures.of(given | named, query, gallery, options, judge)
    return _judge_both_ways(judge, source, options)


def _judge_both_ways(protocol: Protocol, source: FromDistances | FromFeatures, options: Options) -> Result:
    """One result with the notes; where the gallery also asks, with its metrics too."""
    query, gallery, settings = source.query, source.gallery, source.settings()
    check_matches(query.labels, gallery.labels, protocol.rules)
    result = _judge(protocol, source.forward(), query, gallery, options, settings)
    if protocol.reverse:
        back = _judge(protocol, source.backward(), gallery, query, options, settings)
        result = replace(
            result,
            metrics=result.metrics | {f"reverse_{key}": value for key, value in back.metrics.items()},
            bounds=result.bounds | {f"reverse_{key}": pair for key, pair in back.bounds.items()},
            reverse=back,
        )
    notes = [
        *differences(result.counts, protocol),
        *unsigned_junk(query.labels, gallery.labels, protocol.rules),
        *_matchless_note(result),
    ]
    return replace(result, notes=(*notes, *source.notes))


def _judge(
    protocol: Protocol,
    distances: DistanceFunction,
    query: Side,
    gallery: Side,
    options: Options,
    settings: dict[str, str | int | bool],
) -> Result:
    """Rank block by block and score what came out."""
    rules = deviate(protocol.rules, options.deviations)
    lists = query.labels, gallery.labels
    # Evaluators with a single-shot CMC let it leave out whole cameras, and average precision never.
    all_shots = replace(rules, same_camera="identity") if protocol.single_shot else rules
    ranking = Ranking(*lists, all_shots)
    unfiltered = single_shot = None
    if "truncate-4000" in options.deviations:
        unfiltered = Ranking(*lists, all_shots, leave_out=False)
    if protocol.single_shot:
        repeats = options.repeats or protocol.single_shot.repeats
        drawing = replace(protocol.single_shot, repeats=repeats)
        names = (protocol.name, options.split, options.seed)
        single_shot = SingleShotRanking(*lists, rules, drawing, names)
        settings = settings | {"seed": options.seed, "repeats": repeats}
    block_bytes = getattr(distances, "block_bytes", None)
    for start, block in blocks(distances, len(query.labels), len(gallery.labels), block_bytes):
        for part in (ranking, unfiltered, single_shot):
            if part:
                part.add(start, block)
    full = unfiltered.ranks() if unfiltered else None
    evaluation = evaluate_ranks(ranking.ranks(), all_shots, options.deviations, full)
    metrics, bounds, cmc = evaluation.metrics, evaluation.bounds, evaluation.cmc
    scores = single_shot.scores() if single_shot else None
    if scores:
        metrics = _beside(metrics, scores.metrics)
        bounds, cmc = _beside(bounds, scores.bounds), scores.cmc
    return Result(
        rules_of=protocol,
        split=options.split,
        metrics=metrics,
        headline=evaluation.headline,
        bounds=bounds,
        cmc=cmc,
        counts=label_counts(*lists, rules),
        queries=evaluation.queries,
        matchless=evaluation.matchless,
        deviations=options.deviations,
        settings=settings,
        notes=(),
        query=query.labels,
        ranks=ranking.ranks(),
        naming=(query.naming, gallery.naming),
        unfiltered=full,
        rank1=scores.rank1 if scores else None,
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
