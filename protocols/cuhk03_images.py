"""CUHK03 as image files and test sets, the form in which its protocols read it."""

import json
import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

from protocols.base import Part, Record
from protocols.folders import names_in
from retable.errors import DataError, Unprepared

FOLDER = "cuhk03_release"
ARCHIVES = {"cuhk03_release.zip": "728939e58ad9f0ff53e521857dd8fb43"}
MAT = "cuhk-03.mat"
TESTSETS = "testsets.json"
NEEDS = (Part((MAT, TESTSETS), "cuhk03_release.zip"),)
"""The file as released, or what it was unpacked into."""

LABELED, DETECTED = "labeled", "detected"
KINDS = (LABELED, DETECTED)
"""Boxes drawn by hand and by a detector, of the same people."""

PAIRS = 5
"""Pairs of cameras; each has people of its own."""

SLOTS = 10
"""Places for images of one identity, five of either view; some are empty."""

NAME = re.compile(r"(?P<pair>[1-5])_(?P<row>\d{3})_(?P<view>[12])_(?P<image>0[1-9]|10)\.png")
"""Camera pair, identity within it, view, image: 01..05 of view 1, 06..10 of view 2."""


def folder_of(root: Path, kind: str) -> Path:
    """Where the images of a kind lie."""
    return root / f"images_{kind}"


def advice(root: Path) -> str:
    """The command that unpacks the images of the release at ``root``."""
    return f"run python -m protocols.prepare cuhk03-labeled --data-root {root.parent}"


@dataclass(frozen=True)
class Release:
    """A release with its images unpacked.

    Attributes:
        root: the folder.
        pairs: number of identities of each camera pair.
        testsets: identities tested on, one set for each split.
        images: number of images of each kind.
    """

    root: Path
    pairs: tuple[int, ...]
    testsets: tuple[frozenset[int], ...]
    images: dict[str, int]

    def records(self, kind: str) -> tuple[Record, ...]:
        """All images of a kind by name. Raises ``DataError`` if some are missing or have no valid name."""
        folder = folder_of(self.root, kind)
        found = names_in(folder, ".png")
        if len(found) != self.images[kind]:
            raise DataError(
                f"{folder}: holds {len(found):,} images, expected {self.images[kind]:,}; {advice(self.root)}"
            )
        return tuple(self.parse(folder / name) for name in found)

    def parse(self, path: Path) -> Record:
        """Identity and view from a file name. Raises ``DataError`` when it is none of this release."""
        match = NAME.fullmatch(path.name)
        if match is None or (int(match["image"]) > SLOTS // 2) != (match["view"] == "2"):
            raise DataError(
                f"{path}: not a CUHK03 file name; expected PAIR_ROW_VIEW_IMAGE.png such as 1_001_2_06.png, "
                "images 01..05 of view 1 and 06..10 of view 2; remove it"
            )
        return Record(
            path, pid=self.pid(path, int(match["pair"]), int(match["row"])), camid=int(match["view"])
        )

    def pid(self, source: Path, pair: int, row: int) -> int:
        """1.. over all camera pairs. Raises ``DataError`` naming ``source`` if there is no such identity."""
        if not (1 <= pair <= len(self.pairs) and 1 <= row <= self.pairs[pair - 1]):
            raise DataError(
                f"{source}: names identity {row} of camera pair {pair}, but the pairs have "
                f"{', '.join(map(str, self.pairs))} identities"
            )
        return self.offsets[pair - 1] + row

    def pair(self, pid: int) -> int:
        """The camera pair, 1-based, of an identity."""
        return bisect_right(self.offsets, pid - 1)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Identities before those of each pair: 0, 843, 1283, 1360, 1418 at the release."""
        return (0, *accumulate(self.pairs[:-1]))


def read_release(root: Path) -> Release:
    """The release at ``root``, its images unpacked by ``protocols.cuhk03_release.prepare``.

    Raises ``DataError`` saying which command unpacks them, or that its file of test sets is damaged.
    """
    path = root / TESTSETS
    if not path.is_file():
        if (root / MAT).is_file():
            raise Unprepared(f"{root}: {MAT} is there, but its images are not unpacked; {advice(root)}")
        raise DataError(f"{root}: no {MAT}; unpack the release again, then {advice(root)}")
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
        images = {kind: int(stated["images"][kind]) for kind in KINDS}
        release = Release(root, tuple(stated["pairs"]), (), images)
        sets = (frozenset(release.pid(path, *place) for place in places) for places in stated["testsets"])
        return Release(root, release.pairs, tuple(sets), images)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: damaged ({error!r}); {advice(root)}") from error
