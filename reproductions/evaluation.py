"""Describe test images once, rank them and judge the rankings by the rules of one or more protocols.

A trained method and a release on disk are all it takes::

    accelerator = make_accelerator("cuda", "bf16")
    for judged in evaluate_release(method, "market1501", root, 256, 128, accelerator, ways=(75, "all")):
        print(judged.name, judged.result.metrics["mAP"])
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray
from rich.console import Console

from methods.base import EmbeddingMethod, Method, PairMethod
from protocols import PROTOCOLS, Protocol, Record, Split
from protocols import evaluate as judge
from protocols.files import read
from protocols.pooling import Groups
from protocols.ranking import Labels
from protocols.results import Result
from reproductions.descriptions import AnyMethod, Descriptions, describe_all
from reproductions.images import Images, decode
from reproductions.pair_ranking import AllPairs, Progress, ranked_by, seconds_for_all
from reproductions.recipe import Way, way_name
from reproductions.records import RERANKED, score_name
from retable.errors import RetableError, SpecError, UnknownName
from retable.progress import progress_bar

LONGEST_SECONDS = 30 * 60.0
"""Scoring all pairs beside a headline may take so long; see ``evaluate``."""


def labels_of(records: Sequence[Record]) -> Labels:
    """Identities and cameras in the order of ``records``."""
    return Labels(
        np.array([record.pid for record in records], np.int64),
        np.array([record.camid for record in records], np.int64),
    )


@dataclass(frozen=True, eq=False)
class Lists:
    """What one protocol asks about a pool of test images.

    A record stands where its first image does.

    Attributes:
        protocol: whose rules judge.
        query: (Q,) int64 places of records in the pool.
        gallery: (G,) likewise.
        query_labels: of the Q queries, as this protocol has them.
        gallery_labels: of the G gallery records.
        split: its name, where the protocol has several.
        records: (N,) int64 place of the record that each image of the pool belongs to, -1 for images that
            this protocol does not ask about; None where every record is one image.
    """

    protocol: Protocol
    query: NDArray[np.int64]
    gallery: NDArray[np.int64]
    query_labels: Labels
    gallery_labels: Labels
    split: str = ""
    records: NDArray[np.int64] | None = None

    @property
    def images(self) -> int:
        """How many of the pool's first images hold all that this protocol asks about."""
        if self.records is not None:
            return int(np.flatnonzero(self.records >= 0)[-1]) + 1
        return int(max(self.query.max(), self.gallery.max())) + 1


@dataclass(frozen=True, eq=False)
class Judged:
    """One ranking and what it is worth.

    Attributes:
        protocol: name of the protocol that judged.
        way: ``"exhaustive"`` or, for example, ``"top-75"``; of embedding methods ``RERANKED`` or empty.
        result: the numbers.
        part: name of the part of the description that was ranked; empty for the whole.
    """

    protocol: str
    way: str
    result: Result
    part: str = ""

    @property
    def name(self) -> str:
        """All in one, for example ``market1501/openreid top-75`` or ``market1501 global``."""
        return self.named(self.protocol)

    def named(self, protocol: str) -> str:
        """The same with another name for the protocol."""
        return score_name(protocol, self.part, self.way)


def pool(judges: Sequence[tuple[Protocol, Split]]) -> tuple[tuple[Path, ...], tuple[Lists, ...]]:
    """The test images of several protocols, each file once, and what each protocol asks about them.

    Args:
        judges: protocols of one release, each with the split that it judges.

    Returns:
        Files to decode, in order of their first appearance (queries, then gallery; those of a record
        together), and ``Lists`` in the order of ``judges``.

    Raises:
        RetableError: an image belongs to two records that a protocol asks about.
    """
    places: dict[Path, int] = {}
    for _, split in judges:
        for record in (*split.query, *split.gallery):
            for path in record.images():
                places.setdefault(path, len(places))
    return tuple(places), tuple(_asked(protocol, split, places) for protocol, split in judges)


def _asked(protocol: Protocol, split: Split, places: Mapping[Path, int]) -> Lists:
    """What a protocol asks about a pool in which files have these places."""

    def first(records: Sequence[Record]) -> NDArray[np.int64]:
        return np.array([places[record.images()[0]] for record in records], np.int64)

    asked = (*split.query, *split.gallery)
    return Lists(
        protocol,
        first(split.query),
        first(split.gallery),
        labels_of(split.query),
        labels_of(split.gallery),
        split.name,
        _records(asked, places) if any(record.frames for record in asked) else None,
    )


def _records(records: Sequence[Record], places: Mapping[Path, int]) -> NDArray[np.int64]:
    """See ``Lists.records``; raises ``RetableError`` for an image of two records."""
    found = np.full(len(places), -1, np.int64)
    for paths in dict.fromkeys(record.images() for record in records):
        images = np.array([places[path] for path in paths], np.int64)
        if (found[images] >= 0).any():
            path = paths[int(np.argmax(found[images] >= 0))]
            raise RetableError(f"{path}: in two records, expected it in one tracklet or multi-query alone")
        found[images] = images[0]
    return found


def evaluate(
    method: Method,
    images: Images,
    lists: Sequence[Lists],
    accelerator: Accelerator,
    ways: Sequence[Way] = ("all",),
    console: Console | None = None,
    *,
    reranked: Collection[str] = (),
    known: Collection[str] = (),
) -> list[Judged]:
    """Describe the pool once, rank it for every list and judge each ranking by its protocol's rules.

    Where a method's descriptions have ``parts``, each is ranked like the whole, from the same descriptions.
    Descriptions of the images of a record are pooled into one of length 1 by the protocol's ``pooling``.
    Re-ranking is that of ``protocols.evaluate``: without junk, by the cosine.

    Scoring all pairs as a further way than the first is left out of a list where it would take longer than
    ``LONGEST_SECONDS`` here, by a timed sample; ``console`` says so.

    Args:
        method: an embedding method, or one that scores pairs.
        images: the pool, (N, 3, H, W) uint8 or files.
        lists: what is asked about it, see ``pool``.
        accelerator: device and precision.
        ways: how a pair method ranks; an embedding method has one way.
        console: where progress, and what is left out, is shown; None shows nothing.
        reranked: names of results to make after re-ranking as well, see ``Judged.name``.
        known: names of results that are not wanted.

    Returns:
        For each list in turn, one result for each way that ran, in the order of ``ways``, or the whole
        description's and then one for each part, in the method's order, each followed by its re-ranked one.

    Raises:
        RetableError: descriptions have room nowhere.
        SpecError: a part is no stretch of the description; or the method cannot be re-ranked, or cannot
            describe records of several images.
        InputError: the method gave a distance that is not a number.
    """
    refuse_lists(method, lists, reranked)
    scorer = cast(AnyMethod, method)
    count = max(asked.images for asked in lists)
    with _bar(console, "describing", count) as advance:
        described = describe_all(scorer, images, accelerator, count=count, progress=advance)
    wanted = Wanted(frozenset(reranked), frozenset(known))
    if isinstance(scorer, EmbeddingMethod):
        found = [_judge_embedding(scorer, described, asked, wanted, console) for asked in lists]
    else:
        found = [_judge_pairs(scorer, described, asked, tuple(ways), wanted, console) for asked in lists]
    return [judged for of_list in found for judged in of_list]


def refuse_lists(method: Method, lists: Sequence[Lists], reranked: Collection[str] = ()) -> None:
    """Raise ``SpecError`` when a method has no vectors to pool, or none whose distance re-ranking takes."""
    name = type(method).__name__
    several = [asked.protocol.name for asked in lists if asked.records is not None]
    if several and not isinstance(method, EmbeddingMethod):
        raise SpecError(
            f"{name} on {several[0]}: found records of several images, whose descriptions are pooled; "
            "expected a method that describes an image by one vector"
        )
    if reranked and getattr(type(method), "distance", None) is not EmbeddingMethod.distance:
        raise SpecError(
            f"{name}: found a distance of its own, and re-ranking goes by that of plain vectors; expected no "
            f"rerank = true for its rows, which asks for {next(iter(reranked))!r}"
        )


def evaluate_release(
    method: Method,
    protocol: str,
    root: Path,
    height: int,
    width: int,
    accelerator: Accelerator,
    *,
    ways: Sequence[Way] = ("all",),
    split: str = "",
    console: Console | None = None,
) -> list[Judged]:
    """Judge a trained method by a protocol, from the files of a release (or rendered street) at ``root``.

    Args:
        method: on the accelerator's device.
        protocol: a name of ``PROTOCOLS``.
        root: the release's folder.
        height: pixels, after resizing.
        width: pixels, after resizing.
        accelerator: device and precision, for example ``make_accelerator("cuda", "bf16")`` of
            ``reproductions.training``.
        ways: as for ``evaluate``.
        split: which one, where a protocol has several.
        console: as for ``evaluate``.

    Raises:
        UnknownName: no such protocol or split.
        DataError: the release is missing or damaged.
        RetableError: as for ``evaluate`` and ``pool``.
    """
    rules = PROTOCOLS.get(protocol)()
    splits = {found.name: found for found in read(rules, root)}
    if split not in splits:
        raise UnknownName("split", split, splits)
    files, lists = pool([(rules, splits[split])])
    with _bar(console, "decoding", len(files)) as advance:
        images = decode(files, height, width, accelerator.device, advance)
    return evaluate(method, images, lists, accelerator, ways, console)


class Wanted(NamedTuple):
    """Which results are made, by name: re-ranked ones of embedding methods, and which others are not."""

    reranked: frozenset[str]
    known: frozenset[str]


def _judge_pairs(
    method: PairMethod,
    described: Descriptions,
    asked: Lists,
    ways: tuple[Way, ...],
    wanted: Wanted,
    console: Console | None,
) -> Iterator[Judged]:
    """Each way's result, unless it is known or left out."""
    query, gallery = described.of(asked.query), described.of(asked.gallery)
    name = asked.protocol.name
    for way in ways:
        if score_name(name, way=way_name(way)) in wanted.known:
            continue
        if way == "all" and way != ways[0] and (why := _too_long(method, query, gallery)):
            if console:
                told = f"{name} exhaustive: left out, {why}"
                console.print(told, markup=False, highlight=False, soft_wrap=True)
            continue
        scored = len(gallery) if way == "all" else min(way, len(gallery))
        with _bar(console, f"ranking {name} {way_name(way)}", len(query), scored) as advance:
            distances = ranked_by(way, method, query, gallery, progress=advance)
            yield Judged(name, way_name(way), _judge(asked, distances=distances))


def _judge_embedding(
    method: EmbeddingMethod, described: Descriptions, asked: Lists, wanted: Wanted, console: Console | None
) -> Iterator[Judged]:
    """The result of the whole description and of each part, each followed by its re-ranked one."""
    name = asked.protocol.name
    for part, stretch in {"": slice(None), **_checked_parts(method, described.width)}.items():
        plain, reranked = score_name(name, part), score_name(name, part, RERANKED)
        if plain in wanted.known and reranked not in wanted.reranked:
            continue
        query, gallery = sides(described.columns(stretch), asked)
        if plain not in wanted.known:
            with _bar(console, f"ranking {plain}", len(query), len(gallery)) as advance:
                distances = AllPairs(method, query, gallery, progress=advance)
                yield Judged(name, "", _judge(asked, distances=distances), part)
        if reranked in wanted.reranked:
            with _bar(console, f"re-ranking {plain}", len(query)) as advance:
                features = {"query_features": query.vectors(), "gallery_features": gallery.vectors()}
                yield Judged(name, RERANKED, _judge(asked, rerank=True, **features), part)
                advance(len(query))


def sides(described: Descriptions, asked: Lists) -> tuple[Descriptions, Descriptions]:
    """Descriptions of a list's queries and of its gallery, pooled where records have several images.

    Args:
        described: all images of the pool, or as many of its first as the list asks about.
        asked: the list.
    """
    if asked.records is None:
        return described.of(asked.query), described.of(asked.gallery)
    if asked.protocol.pooling is None:
        raise RetableError(f"{asked.protocol.name}: records of several images, and no rule to pool them by")
    places = np.unique(np.concatenate((asked.query, asked.gallery)))
    records = asked.records[: len(described)]
    of = np.where(records < 0, -1, np.searchsorted(places, records))
    pooled = described.pooled(Groups(of, _labels_at(places, asked)), asked.protocol.pooling)
    return pooled.of(np.searchsorted(places, asked.query)), pooled.of(np.searchsorted(places, asked.gallery))


def _labels_at(places: NDArray[np.int64], asked: Lists) -> Labels:
    """Labels of the records at some places, which are all that a list asks about."""
    pids, camids = np.empty_like(places), np.empty_like(places)
    sides = (asked.query, asked.query_labels), (asked.gallery, asked.gallery_labels)
    for records, labels in sides:
        there = np.searchsorted(places, records)
        pids[there], camids[there] = labels.pids, labels.camids
    return Labels(pids, camids)


def _checked_parts(method: EmbeddingMethod, width: int) -> Mapping[str, slice]:
    """The method's parts. Raises ``SpecError`` unless they are named stretches of ``width`` columns."""
    for name, part in method.parts.items():
        start, stop = part.start or 0, width if part.stop is None else part.stop
        if not name.isidentifier() or part.step not in (None, 1) or not 0 <= start < stop <= width:
            raise SpecError(
                f"{type(method).__name__}: found part {name!r} with {part}; expected an identifier and some "
                f"of the description's {width} columns, as in slice(0, {width})"
            )
    return method.parts


def _too_long(method: PairMethod, query: Descriptions, gallery: Descriptions) -> str:
    """Why scoring all pairs is not for today; empty if it is."""
    seconds = seconds_for_all(method, query, gallery)
    if seconds <= LONGEST_SECONDS:
        return ""
    return (
        f"{len(query) * len(gallery):,} pairs would take about {seconds / 3600:,.1f} h here (by a timed "
        f"sample), more than {LONGEST_SECONDS / 3600:,.1f} h; ranked that way first, it runs all the same"
    )


def _judge(asked: Lists, **found: Any) -> Result:
    """Judge distances, or features, by the rules of a list."""
    return judge(
        asked.protocol,
        query_pids=asked.query_labels.pids,
        query_camids=asked.query_labels.camids,
        gallery_pids=asked.gallery_labels.pids,
        gallery_camids=asked.gallery_labels.camids,
        split=asked.split,
        **found,
    )


@contextmanager
def _bar(console: Console | None, what: str, images: int, pairs: int = 1) -> Iterator[Progress]:
    """A bar over images, advanced by steps of which each image has ``pairs``."""
    if console is None:
        yield lambda _: None
        return
    done = 0
    with progress_bar(console, what, images) as bar:

        def advance(steps: int) -> None:
            nonlocal done
            done += steps
            bar.update(done // pairs, images)

        yield advance
