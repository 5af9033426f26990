"""Describe test images once, rank them and judge the rankings by the rules of one or more protocols.

A trained method and a release on disk are all it takes::

    accelerator = make_accelerator("cuda", "bf16")
    for judged in evaluate_release(method, "market1501", root, 256, 128, accelerator, ways=(75, "all")):
        print(judged.name, judged.result.metrics["mAP"])
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from methods.base import EmbeddingMethod, Method, PairMethod
from protocols import PROTOCOLS, Protocol, Record, Split
from protocols import evaluate as judge
from protocols.files import read
from protocols.ranking import Labels
from protocols.results import Result
from reproductions.descriptions import AnyMethod, Descriptions, describe_all
from reproductions.images import decode
from reproductions.pair_ranking import AllPairs, Progress, TwoStage, ranked_by, seconds_for_all
from reproductions.recipe import Way, way_name
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

    Attributes:
        protocol: whose rules judge.
        query: (Q,) int64 places in the pool.
        gallery: (G,) likewise.
        query_labels: of the Q queries, as this protocol has them.
        gallery_labels: of the G gallery images.
        split: its name, where the protocol has several.
    """

    protocol: Protocol
    query: NDArray[np.int64]
    gallery: NDArray[np.int64]
    query_labels: Labels
    gallery_labels: Labels
    split: str = ""


@dataclass(frozen=True, eq=False)
class Judged:
    """One ranking and what it is worth.

    Attributes:
        protocol: name of the protocol that judged.
        way: ``"exhaustive"`` or, for example, ``"top-75"``; empty for embedding methods.
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
        return " ".join(filter(None, (protocol, self.part, self.way)))


def pool(judges: Sequence[tuple[Protocol, Split]]) -> tuple[tuple[Record, ...], tuple[Lists, ...]]:
    """The test images of several protocols, each file once, and what each protocol asks about them.

    Args:
        judges: protocols of one release, each with the split that it judges.

    Returns:
        Records to decode, in order of their first appearance (queries, then gallery), and ``Lists`` in
        the order of ``judges``.

    Raises:
        RetableError: a record has several images, whose descriptions would have to be pooled.
    """
    places: dict[Path, int] = {}
    records: list[Record] = []

    def place(record: Record) -> int:
        if record.frames:
            raise RetableError(f"{record.path}: {len(record.frames)} images, expected one a record")
        if record.path not in places:
            places[record.path] = len(records)
            records.append(record)
        return places[record.path]

    lists = tuple(
        Lists(
            protocol,
            np.array([place(record) for record in split.query], np.int64),
            np.array([place(record) for record in split.gallery], np.int64),
            labels_of(split.query),
            labels_of(split.gallery),
            split.name,
        )
        for protocol, split in judges
    )
    return tuple(records), lists


def evaluate(
    method: Method,
    images: Tensor,
    lists: Sequence[Lists],
    accelerator: Accelerator,
    ways: Sequence[Way] = ("all",),
    console: Console | None = None,
) -> list[Judged]:
    """Describe the pool once, rank it for every list and judge each ranking by its protocol's rules.

    Where a method's descriptions have ``parts``, each is ranked like the whole, from the same descriptions.

    The first way always runs. Scoring all pairs as a further way is left out of a list where it would
    take longer than ``LONGEST_SECONDS`` here, by a timed sample; ``console`` says so.

    Args:
        method: an embedding method, or one that scores pairs.
        images: (N, 3, H, W) uint8, the pool.
        lists: what is asked about it, see ``pool``.
        accelerator: device and precision.
        ways: how a pair method ranks; an embedding method has one way.
        console: where progress, and what is left out, is shown; None shows nothing.

    Returns:
        For each list in turn, one result for each way that ran, in the order of ``ways``, or the whole
        description's and then one for each part, in the method's order.

    Raises:
        RetableError: descriptions have room nowhere.
        SpecError: a part is no stretch of the description.
        InputError: the method gave a distance that is not a number.
    """
    scorer = cast(AnyMethod, method)
    with _bar(console, "describing", len(images)) as advance:
        described = describe_all(scorer, images, accelerator, progress=advance)
    return [
        judged for asked in lists for judged in _judge_list(scorer, described, asked, tuple(ways), console)
    ]


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
    records, lists = pool([(rules, splits[split])])
    with _bar(console, "decoding", len(records)) as advance:
        images = decode(records, height, width, accelerator.device, advance)
    return evaluate(method, images, lists, accelerator, ways, console)


def _judge_list(
    method: AnyMethod, described: Descriptions, asked: Lists, ways: tuple[Way, ...], console: Console | None
) -> Iterator[Judged]:
    """Each way's result, unless it is left out."""
    if isinstance(method, EmbeddingMethod):
        for part, stretch in {"": slice(None), **_checked_parts(method, described.width)}.items():
            yield _judge_part(method, described.columns(stretch), asked, part, console)
        return
    query, gallery = described.of(asked.query), described.of(asked.gallery)
    name = asked.protocol.name
    for way in ways:
        if way == "all" and way != ways[0] and (why := _too_long(method, query, gallery)):
            if console:
                told = f"{name} exhaustive: left out, {why}"
                console.print(told, markup=False, highlight=False, soft_wrap=True)
            continue
        scored = len(gallery) if way == "all" else min(way, len(gallery))
        with _bar(console, f"ranking {name} {way_name(way)}", len(query), scored) as advance:
            distances = ranked_by(way, method, query, gallery, progress=advance)
            yield Judged(name, way_name(way), _judge(asked, distances))


def _judge_part(
    method: EmbeddingMethod, described: Descriptions, asked: Lists, part: str, console: Console | None
) -> Judged:
    """The result of one part of the descriptions, or of the whole; ``described`` holds its columns alone."""
    query, gallery, name = described.of(asked.query), described.of(asked.gallery), asked.protocol.name
    with _bar(console, f"ranking {name} {part}".strip(), len(query), len(gallery)) as advance:
        distances = AllPairs(method, query, gallery, progress=advance)
        return Judged(name, "", _judge(asked, distances), part)


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


def _judge(asked: Lists, distances: AllPairs | TwoStage) -> Result:
    return judge(
        asked.protocol,
        query_pids=asked.query_labels.pids,
        query_camids=asked.query_labels.camids,
        gallery_pids=asked.gallery_labels.pids,
        gallery_camids=asked.gallery_labels.camids,
        distances=distances,
        split=asked.split,
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
