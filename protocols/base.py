"""What a protocol is: the files of a data set, its split, and every rule that changes a number."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from retable.registry import Registry

APRule = Literal["step", "trapezoid"]


@dataclass(frozen=True, slots=True, order=True)
class Record:
    """One image: where it lies, who it shows and which camera took it.

    ``pid`` as the release labels it (junk and distractor labels included), ``camid`` 1-based as
    the release numbers cameras.
    """

    path: Path
    pid: int
    camid: int


@dataclass(frozen=True, slots=True)
class Split:
    """The three image lists of one evaluation, each sorted by file name."""

    train: tuple[Record, ...]
    query: tuple[Record, ...]
    gallery: tuple[Record, ...]

    def digests(self) -> dict[str, str]:
        """32 hexadecimal digits over names and labels of each list, wherever the data lies."""
        return {part: _digest(getattr(self, part)) for part in ("train", "query", "gallery")}


def _digest(records: Iterable[Record]) -> str:
    sha = hashlib.sha256()
    for record in records:
        name = f"{record.path.parent.name}/{record.path.name}"
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
class Counts:
    """How many images and identities a correct copy of a release has.

    ``gallery`` counts all files of the gallery folder, ``junk`` and ``distractors`` among them;
    ``images`` is the data set's size as its authors count it, and may leave out hand-drawn queries.
    """

    train: int
    query: int
    gallery: int
    junk: int
    distractors: int
    train_pids: int
    query_pids: int
    test_pids: int
    cameras: int
    images: int


@dataclass(frozen=True)
class Protocol:
    """One data set as a benchmark, as a value.

    Registered through a function that returns it::

        @PROTOCOLS.register("market1501")
        def market1501() -> Protocol: ...

    Attributes:
        name: key used everywhere, for example ``"market1501"``.
        title: the data set's own name.
        source: publication or code that states the rules.
        folder: the folder's name as the release unpacks, below the data root.
        rules: how ranked lists become numbers.
        counts: what a correct copy holds.
        load: reads the unpacked release at a folder into its splits (most have one); raises
            ``DataError`` naming the folder or file that is missing or has no valid name.
        explain: what is wrong with a copy beyond its counts, in words; nothing for a whole one.
    """

    name: str
    title: str
    source: str
    folder: str
    rules: Rules
    counts: Counts
    load: Callable[[Path], tuple[Split, ...]]
    explain: Callable[[Path, Split], list[str]] = lambda root, split: []  # noqa: ARG005

    def fingerprint(self) -> str:
        """16 hexadecimal digits over everything stated here that can change a number."""
        stated = {"name": self.name, "rules": asdict(self.rules), "counts": asdict(self.counts)}
        return hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()[:16]


PROTOCOLS: Registry[Callable[[], Protocol]] = Registry("protocol", "protocols", "PROTOCOLS")
