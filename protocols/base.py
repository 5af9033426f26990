"""What a protocol is: the files of a data set, its split, and every rule that changes a number."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Literal

from retable.registry import Registry

APRule = Literal["step", "trapezoid"]
Pooling = Literal["mean", "max"]


@dataclass(frozen=True, slots=True, order=True)
class Record:
    """What is described as one: an image, or several images of one person before one camera.

    Attributes:
        path: the image; with ``frames``, the folder that holds them.
        pid: as the release labels it, junk and distractor labels included.
        camid: 1-based, as the release numbers cameras (or views).
        frames: file names below ``path``, of a tracklet in order of time or of a multi-query's
            boxes; their descriptions are pooled into one. Empty for a single image.
    """

    path: Path
    pid: int
    camid: int
    frames: tuple[str, ...] = ()

    def images(self) -> tuple[Path, ...]:
        """The files to decode, at least one."""
        return tuple(self.path / frame for frame in self.frames) or (self.path,)


@dataclass(frozen=True, slots=True)
class Split:
    """The lists of one evaluation, each in the order of file names (or of the release's own list).

    Labels of ``train`` (and ``val``) and those of ``query`` and ``gallery`` are spaces of their
    own: in some releases both start at 0.

    Attributes:
        train: what is trained on.
        query: what is looked for.
        gallery: where it is looked for.
        val: identities that are neither trained nor tested on; most protocols hold none out.
        name: tells the splits of a protocol apart; empty where there is only one.
    """

    train: tuple[Record, ...]
    query: tuple[Record, ...]
    gallery: tuple[Record, ...]
    val: tuple[Record, ...] = ()
    name: str = ""

    def lists(self) -> dict[str, tuple[Record, ...]]:
        """The lists by name; ``val`` only where there is one."""
        lists = {"train": self.train, "query": self.query, "gallery": self.gallery}
        return lists | ({"val": self.val} if self.val else {})

    def records(self) -> Iterator[Record]:
        """Those of all lists; one that stands in two of them comes twice."""
        return chain.from_iterable(self.lists().values())

    def digests(self) -> dict[str, str]:
        """32 hexadecimal digits over names and labels of each list, wherever the data lies."""
        return {name: _digest(records) for name, records in self.lists().items()}


def _digest(records: Iterable[Record]) -> str:
    sha = hashlib.sha256()
    for record in records:
        name = "/".join((record.path.parent.name, record.path.name, *record.frames))
        sha.update(f"{name} {record.pid} {record.camid}\n".encode())
    return sha.hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Rules:
    """How ranked lists become numbers.

    Attributes:
        headline_ap: the average precision printed as mAP; the other one is always reported beside it.
        junk_pids: gallery images with these labels take no rank at all.
        distractor_pids: gallery images with these labels take ranks and match nobody.
        same_camera: what is left out for a query besides junk: ``"identity"``, images of its own
            person from its own camera; ``"all"``, every image from its own camera.
        matchless: queries without a true match are left out of all means (``"drop"``) or count
            as misses with AP 0 (``"zero"``).
        ties: equal distances are ordered by position in the gallery; bounds over the best and the
            worst order are reported where they differ.
        max_rank: CMC is reported for ranks 1..max_rank.
    """

    headline_ap: APRule
    junk_pids: tuple[int, ...] = ()
    distractor_pids: tuple[int, ...] = ()
    same_camera: Literal["identity", "all"] = "identity"
    matchless: Literal["drop", "zero"] = "drop"
    ties: Literal["gallery-index"] = "gallery-index"
    max_rank: int = 50


@dataclass(frozen=True, slots=True)
class SingleShot:
    """CMC over a gallery of one image for each identity, drawn at random from those that count.

    It is reported twice: sampled, as papers do, and as the exact expectation over all draws. Average
    precision is computed over all images of the gallery all the same, and leaves out those of the
    query's own identity in its camera even where the CMC leaves out the whole camera, as the evaluators
    of open-reid and torchreid do.

    Attributes:
        probe: ``"every"``, each query image is asked and has one voice; ``"drawn"``, one query image
            of each identity is drawn too, so that each identity has one voice.
        repeats: number of draws whose mean and deviation the sampled form reports.
    """

    probe: Literal["every", "drawn"]
    repeats: int = 10


@dataclass(frozen=True, slots=True)
class Counts:
    """How many images and identities a correct copy of a release has in each split.

    None where splits differ or the release does not say. A tracklet counts as one image.

    Attributes:
        train: training images.
        query: query images.
        gallery: all of the gallery, junk and distractors among them.
        junk: images of the gallery that take no rank.
        distractors: images of the gallery that are no junk and show nobody who is asked for.
        train_pids: identities trained on.
        query_pids: identities asked for.
        test_pids: identities of query and gallery, without the labels of junk and distractors.
        cameras: number of cameras or views.
        images: the data set's size as its authors count it; may leave out hand-drawn queries.
    """

    train: int | None = None
    query: int | None = None
    gallery: int | None = None
    junk: int | None = None
    distractors: int | None = None
    train_pids: int | None = None
    query_pids: int | None = None
    test_pids: int | None = None
    cameras: int | None = None
    images: int | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A file or folder without which a protocol cannot be read.

    Attributes:
        names: below the release's folder; one of them is enough.
        source: the published archive that holds it, or where else it is found.
    """

    names: tuple[str, ...]
    source: str


def _nothing_to_explain(root: Path, split: Split) -> list[str]:  # noqa: ARG001
    return []


@dataclass(frozen=True)
class Protocol:
    """One data set as a benchmark, as a value.

    Registered through a function that returns it::

        @PROTOCOLS.register("market1501")
        def market1501() -> Protocol: ...

    Attributes:
        name: key used everywhere, for example ``"market1501"``; variants that give other numbers
            have a suffix, ``"market1501/openreid"``.
        title: the data set's own name.
        source: publication or code that states the rules.
        folder: the folder's name as the release unpacks, below the data root.
        rules: how ranked lists become numbers.
        counts: what each split of a correct copy holds.
        load: reads the unpacked release at a folder into its splits (most have one); raises
            ``DataError`` naming the folder or file that is missing or has no valid name.
        explain: what is wrong with a copy beyond its counts, in words; nothing for a whole one.
        per_camera: number of images from cameras 1, 2, ... in the lists of a correct copy.
        pooling: how the descriptions of a record with several images become one.
        single_shot: how galleries of one image an identity are drawn; None ranks all images.
        reverse: whether gallery and query also change places, reported apart.
        archives: the release's archives as published, file name to MD5 (empty if none is known).
        authors_ap: the average precision that the code of the data set's authors prints, None where it
            prints none; what is printed here as mAP is ``rules.headline_ap``. Changes no number.
        prepare: (folder, progress) turns an unpacked release into what ``load`` reads, in place, and
            calls ``progress`` with the numbers of images done and in all; None if it is that already.
        needs: what must be there before that, wherever archives hold it; empty if the release is one
            archive whose parts have no names to go by.
    """

    name: str
    title: str
    source: str
    folder: str
    rules: Rules
    counts: Counts
    load: Callable[[Path], tuple[Split, ...]]
    explain: Callable[[Path, Split], list[str]] = _nothing_to_explain
    per_camera: Mapping[str, tuple[int, ...]] = field(default_factory=dict, hash=False)
    pooling: Pooling | None = None
    single_shot: SingleShot | None = None
    reverse: bool = False
    archives: Mapping[str, str] = field(default_factory=dict, hash=False)
    authors_ap: APRule | None = None
    prepare: Callable[[Path, Callable[[int, int], object]], None] | None = None
    needs: tuple[Part, ...] = ()

    def fingerprint(self) -> str:
        """16 hexadecimal digits over everything stated here that can change a number.

        What a protocol does not have adds nothing, so that new kinds of rules leave it as it is.
        """
        stated: dict[str, object] = {"name": self.name, "rules": asdict(self.rules)}
        stated["counts"] = {name: count for name, count in asdict(self.counts).items() if count is not None}
        if self.pooling:
            stated["pooling"] = self.pooling
        if self.single_shot:
            stated["single_shot"] = asdict(self.single_shot)
        if self.reverse:
            stated["reverse"] = True
        return hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()[:16]


PROTOCOLS: Registry[Callable[[], Protocol]] = Registry("protocol", "protocols", "PROTOCOLS")
