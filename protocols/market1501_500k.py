"""Market-1501 with up to 500,000 more gallery images that show nobody who is asked for.

The release of these distractors has no list of the 100,000 and 200,000 that papers also evaluate with,
so that those two are drawn here; their scores compare with published ones as those of any other draw do.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from protocols.base import PROTOCOLS, Part, Protocol, Record, Split
from protocols.folders import file_names
from protocols.market1501 import DISTRACTOR, load, market1501
from protocols.splits import Drawing, DrawnSplits, shuffled
from retable.errors import Absent, DataError

FOLDER = "distractors_500k"

PLACES = (FOLDER, "images", f"../{FOLDER}")
"""Below Market-1501's folder: where users put them, where the archive and torchreid have them, or beside."""

NAME = re.compile(r"0000_c(?P<camid>[1-3])s\d+_\d+_\d+\.jpg(?:\.jpg)?")
"""Names as in Market-1501. No list of them is public, so that nothing is assumed of the numbers' lengths."""

PER_CAMERA = (165_225, 321_255, 13_520)
RELEASED = sum(PER_CAMERA)

DRAWN = "gallery"
"""The part of the drawing that names distractors."""


@PROTOCOLS.register("market1501+100k")
def market1501_100k() -> Protocol:
    """100,000 of the distractors, drawn at random."""
    return _protocol("market1501+100k", 100_000, some_distractors("market1501+100k", 100_000))


@PROTOCOLS.register("market1501+200k")
def market1501_200k() -> Protocol:
    """200,000 of the distractors, drawn at random; those of ``market1501+100k`` are among them."""
    return _protocol("market1501+200k", 200_000, some_distractors("market1501+200k", 200_000))


@PROTOCOLS.register("market1501+500k")
def market1501_500k() -> Protocol:
    """All distractors."""
    return _protocol("market1501+500k", RELEASED, load_all)


def _protocol(name: str, amount: int, load: Callable[[Path], tuple[Split, ...]]) -> Protocol:
    official = market1501()
    more = {count: getattr(official.counts, count) + amount for count in ("gallery", "distractors", "images")}
    return replace(
        official,
        name=name,
        source=f"{official.source}; {FOLDER} of the same authors",
        counts=replace(official.counts, **more),
        load=load,
        needs=(*official.needs, Part(PLACES, f"{FOLDER}.zip")),
    )


def some_distractors(protocol: str, amount: int, per_camera: tuple[int, ...] = PER_CAMERA) -> DrawnSplits:
    """Loads Market-1501 with ``amount`` of the distractors, of which there must be ``per_camera``."""
    return DrawnSplits(partial(_draw, protocol, amount, per_camera), _load_drawn)


def _draw(protocol: str, amount: int, per_camera: tuple[int, ...], root: Path) -> Drawing:
    names = distractor_names(root, per_camera)
    rule = "file names by the SHA-256 of market1501+500k and the name, a line each; the first are taken"
    chosen = tuple(sorted(shuffled(names, "market1501+500k")[:amount]))
    return Drawing(protocol, rule, names, {"": {DRAWN: chosen}})


def _load_drawn(root: Path, drawing: Drawing) -> tuple[Split, ...]:
    return _with(root, map(str, drawing.splits[""][DRAWN]))


def load_all(root: Path, per_camera: tuple[int, ...] = PER_CAMERA) -> tuple[Split, ...]:
    """Market-1501 with all distractors, of which there must be ``per_camera``; raises ``DataError``."""
    return _with(root, distractor_names(root, per_camera))


def _with(root: Path, names: Iterable[str]) -> tuple[Split, ...]:
    """Market-1501, its gallery followed by the named distractors."""
    folder = distractor_folder(root)
    more = tuple(Record(folder / name, DISTRACTOR, parse_camid(folder, name)) for name in names)
    return tuple(replace(split, gallery=split.gallery + more) for split in load(root))


def distractor_names(root: Path, per_camera: tuple[int, ...] = PER_CAMERA) -> list[str]:
    """Names of all distractors, sorted.

    Args:
        root: Market-1501's own folder.
        per_camera: how many there must be of cameras 1, 2, ...

    Raises:
        DataError: they are not there or not all there, or another file is among them.
    """
    folder = distractor_folder(root)
    names = file_names(folder, ".jpg")
    cameras = Counter(parse_camid(folder, name) for name in names)
    found = tuple(cameras[camid] for camid in range(1, len(per_camera) + 1))
    if found != per_camera:
        raise DataError(
            f"{folder}: found {len(names):,} distractors, {_listed(found)} of cameras 1, 2, 3; expected "
            f"{sum(per_camera):,}, {_listed(per_camera)}; unpack {FOLDER}.zip again"
        )
    return names


def _listed(numbers: tuple[int, ...]) -> str:
    return " + ".join(f"{number:,}" for number in numbers)


def distractor_folder(root: Path) -> Path:
    """Where the distractors lie: inside Market-1501's folder or beside it, below ``images`` or not.

    Raises ``Absent`` saying what is expected where.
    """
    for folder in (root / FOLDER, root / "images", root.parent / FOLDER):
        if folder.is_dir():
            return folder / "images" if (folder / "images").is_dir() else folder
    raise Absent(
        f"{root}: no folder {FOLDER} or images, and no {FOLDER} beside {root.name}; run python -m "
        f"protocols.prepare market1501+500k {FOLDER}.zip --data-root {root.parent} ({RELEASED:,} images)"
    )


def parse_camid(folder: Path, name: str) -> int:
    """The camera in a distractor's name. Raises ``DataError`` when it is another file's name."""
    match = NAME.fullmatch(name)
    if match is None:
        raise DataError(
            f"{folder / name}: not the name of a distractor; expected 0000_cCAMERAsSEQUENCE_FRAME_BOX.jpg, "
            "camera 1..3; remove it"
        )
    return int(match["camid"])
