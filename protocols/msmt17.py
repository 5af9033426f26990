"""MSMT17 (Wei et al., CVPR 2018): fifteen cameras at three times of four days.

Version 2 has the same lists as version 1, and faces in its images are blurred; scores of one do not
compare with those of the other. Neither do those of a model that was trained on ``list_train.txt`` and
``list_val.txt`` with those of one trained on ``list_train.txt`` alone: both are called MSMT17 in papers.
"""

import os
import re
from functools import partial
from pathlib import Path

from protocols.base import PROTOCOLS, Counts, Part, Protocol, Record, Rules, Split
from protocols.folders import names_in, read_lines
from retable.errors import DataError, some

IMAGES = {"V1": ("train", "test"), "V2": ("mask_train_v2", "mask_test_v2")}
"""Folders of a version: images of the identities trained on, and of those tested on."""

TRAIN, VAL, QUERY, GALLERY = LISTS = tuple(
    f"list_{name}.txt" for name in ("train", "val", "query", "gallery")
)
LINES = {TRAIN: 30_248, VAL: 2_373}
CAMERAS = 15

LINE = re.compile(
    r"(?P<path>(?P<pid>\d{4})/(?P=pid)_(?P<nth>\d+)_(?P<camid>\d{2})"
    r"_(?P<day>\d+)(?P<time>morning|noon|afternoon)_(?P<frame>\d+)_(?P<box>\d+)(?:_ex)?\.jpg)"
    r" (?P<label>\d+)"
)
"""path below the folder of images, then the identity once more; some released names end in ``_ex``."""


@PROTOCOLS.register("msmt17")
def msmt17() -> Protocol:
    """Trained on ``list_train.txt`` and ``list_val.txt``, 32,621 images as the data set's paper counts."""
    return _protocol("msmt17", "V1", (TRAIN, VAL))


@PROTOCOLS.register("msmt17/train")
def msmt17_train() -> Protocol:
    """Trained on ``list_train.txt`` alone, as torchreid and fast-reid do."""
    return _protocol("msmt17/train", "V1", (TRAIN,))


@PROTOCOLS.register("msmt17-v2")
def msmt17_v2() -> Protocol:
    """``msmt17`` with blurred faces."""
    return _protocol("msmt17-v2", "V2", (TRAIN, VAL))


@PROTOCOLS.register("msmt17-v2/train")
def msmt17_v2_train() -> Protocol:
    """``msmt17/train`` with blurred faces."""
    return _protocol("msmt17-v2/train", "V2", (TRAIN,))


def _protocol(name: str, version: str, train: tuple[str, ...]) -> Protocol:
    return Protocol(
        name=name,
        title=f"MSMT17 {version}",
        source="Wei et al., CVPR 2018, and the lists of the release",
        folder=f"MSMT17_{version}",
        rules=Rules(headline_ap="step"),
        counts=Counts(
            train=sum(LINES[file] for file in train),
            query=11_659,
            gallery=82_161,
            junk=0,
            distractors=0,
            train_pids=1_041,
            query_pids=3_060,
            test_pids=3_060,
            cameras=CAMERAS,
            images=126_441,
        ),
        load=partial(load, version, train),
        explain=partial(explain, version),
        needs=tuple(Part((name,), f"MSMT17_{version}") for name in (*IMAGES[version], *LISTS)),
    )


def load(version: str, train: tuple[str, ...], root: Path) -> tuple[Split, ...]:
    """The one split of the release at ``root``; labels to train and to test on start at 0, each.

    Args:
        version: ``"V1"`` or ``"V2"``.
        train: lists of the images to train on.
        root: the release's folder.

    Raises:
        DataError: a list, a folder or a listed image is not there, or a line is not of MSMT17.
    """
    of_train, of_test = _image_folders(root, version)
    return (
        Split(
            train=tuple(record for file in train for record in read_list(root / file, of_train)),
            query=read_list(root / QUERY, of_test),
            gallery=read_list(root / GALLERY, of_test),
        ),
    )


def explain(version: str, root: Path, split: Split) -> list[str]:  # noqa: ARG001
    """Which images no list names; that all listed ones are there, ``load`` has made sure of."""
    of_train, of_test = IMAGES[version]
    lists = {of_train: (TRAIN, VAL), of_test: (QUERY, GALLERY)}
    extra = []
    for folder, files in lists.items():
        listed = {line.partition(" ")[0] for file in files for line in read_lines(root / file)}
        for own in sorted(os.listdir(root / folder)):
            names = (f"{own}/{name}" for name in names_in(root / folder / own, ".jpg"))
            extra += [f"{folder}/{name}" for name in names if name not in listed]
    return [f"extra ({len(extra):,}): {some(extra)}"] if extra else []


def _image_folders(root: Path, version: str) -> list[Path]:
    folders = [root / name for name in IMAGES[version]]
    for other in IMAGES.keys() - {version}:
        if all((root / name).is_dir() for name in IMAGES[other]) and not any(map(Path.is_dir, folders)):
            raise DataError(
                f"{root}: found the folders {' and '.join(IMAGES[other])} of MSMT17 {other}, expected "
                f"{' and '.join(IMAGES[version])}; rename {root.name} to MSMT17_{other} and use its protocol"
            )
    return folders


def read_list(file: Path, folder: Path) -> tuple[Record, ...]:
    """The images that ``file`` lists, in its order.

    Args:
        file: a line for each image, its path below ``folder`` and its identity.
        folder: has a folder for each identity.

    Raises:
        DataError: a file or folder is not there, or a line has another form.
    """
    if not file.is_file():
        raise DataError(f"{file}: no such file, but the release has it; unpack the release again")
    names, records = [], []
    for number, line in enumerate(read_lines(file), start=1):
        match = _parsed(line, f"{file}, line {number}")
        names.append((match["pid"], match["path"]))
        records.append(Record(folder / match["path"], int(match["pid"]), int(match["camid"])))
    _refuse_missing(file, folder, names)
    return tuple(records)


def _parsed(line: str, where: str) -> re.Match[str]:
    match = LINE.fullmatch(line)
    if match is None or not 1 <= int(match["camid"]) <= CAMERAS or int(match["label"]) != int(match["pid"]):
        raise DataError(
            f"{where}: {line!r} is not of MSMT17; expected a path and the identity that it starts with, such "
            "as 0000/0000_000_01_0303morning_0008_0.jpg 0, camera (third number) 01..15; "
            "restore the release's list"
        )
    return match


def _refuse_missing(file: Path, folder: Path, names: list[tuple[str, str]]) -> None:
    """Lists each identity's folder once, which is faster than asking for every image."""
    there: dict[str, set[str]] = {}
    for pid in dict.fromkeys(pid for pid, _ in names):
        own = folder / pid
        there[pid] = {f"{pid}/{name}" for name in os.listdir(own)} if own.is_dir() else set()
    missing = [path for pid, path in names if path not in there[pid]]
    if missing:
        raise DataError(
            f"{folder}: {len(missing):,} images of {file.name} are missing: {some(missing)}; "
            "unpack the release again"
        )
