"""MARS (Zheng et al., ECCV 2016): tracklets instead of images, found by a detector and a tracker."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from protocols.base import PROTOCOLS, Counts, Part, Protocol, Record, Rules, Split
from protocols.folders import names_in, read_lines, why_no_folder
from protocols.matlab import as_integers, read_variables
from retable.errors import Absent, DataError, some

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FOLDER = "MARS"
JUNK = -1
DISTRACTOR = 0
CAMERAS = 6

NAME = re.compile(r"(?:\d{4}|00-1)C[1-6]T\d{4}F\d{3,4}\.jpg")
"""Identity, camera, tracklet, frame; junk is 00-1."""

ARCHIVES = {
    "bbox_train.zip": "f4a3c5967a1b440ccf770f388c609602",
    "bbox_test.zip": "950d3bfbd792103d12729ac4f57199cf",
}

INFO = "the folder info of the GitHub repository liangzheng06/MARS-evaluation"
"""The lists are published apart from the images."""

PARTS = ("train", "test")
NEEDS = (*(Part((f"bbox_{part}",), f"bbox_{part}.zip") for part in PARTS), Part(("info",), INFO))

BOXES = {"train": 509_914, "test": 681_089}
DISTRACTORS = 3_248
FIRST_QUERY, LAST_QUERY = 4_130, 12_180
"""Rows of ``query_IDX``: others where it counts from 0."""


@PROTOCOLS.register("mars")
def mars() -> Protocol:
    """The authors' evaluation: the gallery is all of the test set, queries included.

    A query's own tracklet is of its own camera and takes no rank, so that all 1,980 queries have a
    true match. Frames are pooled by their maximum. The authors compute the trapezoid form of AP,
    which is reported beside the headline as everywhere.
    """
    return Protocol(
        name="mars",
        title="MARS",
        source="Zheng et al., ECCV 2016, and liangzheng06/MARS-evaluation",
        folder=FOLDER,
        rules=Rules(headline_ap="step", junk_pids=(JUNK,), distractor_pids=(DISTRACTOR,)),
        counts=Counts(
            train=8_298,
            query=1_980,
            gallery=12_180,
            junk=870,
            train_pids=625,
            query_pids=626,
            test_pids=634,
            cameras=CAMERAS,
            images=20_478,
        ),
        load=load,
        explain=explain,
        pooling="max",
        authors_ap="trapezoid",
        archives=ARCHIVES,
        needs=NEEDS,
    )


@PROTOCOLS.register("mars/mean")
def mars_mean() -> Protocol:
    """The authors' evaluation, but a tracklet is the mean of its frames, as most code and papers have it."""
    return replace(mars(), name="mars/mean", pooling="mean")


@PROTOCOLS.register("mars/torchreid")
def mars_torchreid() -> Protocol:
    """As torchreid: neither queries nor junk are in the gallery, and 140 queries lose all their matches.

    Those are left out of all means, so that numbers do not compare with the authors'. torchreid
    pools by the mean, but describes a tracklet by 15 of its frames; here all of them count.
    """
    return Protocol(
        name="mars/torchreid",
        title="MARS",
        source="KaiyangZhou/deep-person-reid, data/datasets/video/mars.py",
        folder=FOLDER,
        rules=Rules(headline_ap="step", distractor_pids=(DISTRACTOR,), matchless="drop"),
        counts=Counts(
            train=8_298,
            query=1_980,
            gallery=9_330,
            junk=0,
            train_pids=625,
            query_pids=626,
            test_pids=634,
            cameras=CAMERAS,
        ),
        load=load_torchreid,
        explain=explain,
        pooling="mean",
        authors_ap="trapezoid",
        archives=ARCHIVES,
        needs=NEEDS,
    )


def load(root: Path) -> tuple[Split, ...]:
    """The one split of the release at ``root``, in the order of its lists.

    Raises ``DataError`` when a list is missing, damaged, or contradicts another.
    """
    train, test = (_tracklets(root, part) for part in PARTS)
    rows = _query_rows(root, test)
    return (Split(train, query=tuple(test[row] for row in rows), gallery=test),)


def load_torchreid(root: Path) -> tuple[Split, ...]:
    """As ``load``, with neither queries nor junk in the gallery."""
    ((split),) = load(root)
    asked = set(split.query)
    kept = tuple(tracklet for tracklet in split.gallery if tracklet.pid != JUNK and tracklet not in asked)
    return (Split(split.train, split.query, kept),)


def explain(root: Path, split: Split) -> list[str]:
    """What counts leave open, and which frames are missing or extra: lists all folders, seconds on a disk."""
    names = {part: _read_names(root, part) for part in PARTS}
    frames = [line for part in PARTS for line in _frame_differences(root / f"bbox_{part}", names[part])]
    return [*_list_differences(root, split, names), *frames]


def _list_differences(root: Path, split: Split, names: Mapping[str, Sequence[str]]) -> Iterator[str]:
    queries = _read_integers(root / "info" / "query_IDX.mat", "query_IDX")
    numbers = {f"boxes to {part}": (len(names[part]), BOXES[part]) for part in PARTS} | {
        "distractor tracklets": (sum(record.pid == DISTRACTOR for record in split.gallery), DISTRACTORS),
        "first row of query_IDX": (int(queries.min()), FIRST_QUERY),
        "last row of query_IDX": (int(queries.max()), LAST_QUERY),
    }
    for what, (found, expected) in numbers.items():
        if found != expected:
            yield f"{what}: found {found:,}, expected {expected:,}"


def _frame_differences(folder: Path, names: Iterable[str]) -> Iterator[str]:
    """Frames that are missing from the images of a part, or extra, by the folders of identities."""
    if not folder.is_dir():
        yield f"{folder.name}: {why_no_folder(folder)}"
        return
    listed: dict[str, set[str]] = {own: set() for own in os.listdir(folder)}
    for name in names:
        listed.setdefault(name[:4], set()).add(name)
    there = {own: set(names_in(folder / own, ".jpg")) for own in listed}
    missing = {own: len(frames - there[own]) for own, frames in listed.items()}
    extra = {own: len(there[own] - frames) for own, frames in listed.items()}
    for what, numbers in (("missing", missing), ("extra", extra)):
        if total := sum(numbers.values()):
            each = [f"{own} {number:,}" for own, number in sorted(numbers.items()) if number]
            yield f"{folder.name}: {total:,} frames {what}: {some(each)}"


def _tracklets(root: Path, part: str) -> tuple[Record, ...]:
    """All tracklets of ``train`` or ``test``, each of consecutive names of the part's list."""
    names = _read_names(root, part)
    path = root / "info" / f"tracks_{part}_info.mat"
    tracks = _read_integers(path, f"track_{part}_info")
    if tracks.ndim != 2 or tracks.shape[1] != 4 or not len(tracks):
        raise DataError(f"{path}: shape {tracks.shape}, expected (n, 4): first, last, identity, camera")
    rows: list[list[int]] = tracks.tolist()
    _check_tiling(path, rows, len(names))
    folder = root / f"bbox_{part}"
    return tuple(_tracklet(folder, path, row, names) for row in rows)


def _tracklet(folder: Path, source: Path, row: Sequence[int], names: Sequence[str]) -> Record:
    """One tracklet. Raises ``DataError`` when a name is of another identity or camera than the row says."""
    first, last, pid, camid = row
    label = "00-1" if pid == JUNK else f"{pid:04d}"
    frames = tuple(names[first - 1 : last])
    for position, frame in enumerate(frames, first):
        if not frame.startswith(f"{label}C{camid}T") or not NAME.fullmatch(frame):
            raise DataError(
                f"{source}: the tracklet of names {first}..{last} is of identity {pid} and camera {camid}, "
                f"but name {position} is {frame!r}, expected {label}C{camid}T####F###.jpg; is info of "
                "the same release as the images?"
            )
    return Record(folder / label, pid, camid, frames)


def _check_tiling(path: Path, rows: Sequence[Sequence[int]], names: int) -> None:
    """Tracklets must follow each other without a gap, from the first name to the last."""
    expected = 1
    for number, (first, last, *_) in enumerate(rows, 1):
        if first != expected or last < first:
            raise DataError(
                f"{path}: tracklet {number} has names {first}..{last}, expected {expected}..: counted from "
                "1, both ends included, and none left out"
            )
        expected = last + 1
    if expected != names + 1:
        raise DataError(f"{path}: tracklets end at name {expected - 1:,}, but there are {names:,} names")


def _query_rows(root: Path, test: Sequence[Record]) -> list[int]:
    """Positions of the queries among the test tracklets, from 0."""
    path = root / "info" / "query_IDX.mat"
    rows: list[int] = _read_integers(path, "query_IDX").ravel().tolist()
    outside = [row for row in rows if not 1 <= row <= len(test)]
    if outside or not rows or len(set(rows)) != len(rows):
        fault = f"names tracklet {outside[0]}" if outside else "names none, or one twice"
        raise DataError(f"{path}: {fault}, expected different ones of 1..{len(test)}")
    nobody = [row for row in rows if test[row - 1].pid in (JUNK, DISTRACTOR)]
    if nobody:
        raise DataError(
            f"{path}: names tracklet {nobody[0]}, which shows nobody to ask for; rows count from 1"
        )
    return [row - 1 for row in rows]


def _read_names(root: Path, part: str) -> list[str]:
    path = root / "info" / f"{part}_name.txt"
    if not path.is_file():
        raise Absent(f"{path}: no such file; put it there, from {INFO}")
    return read_lines(path)


def _read_integers(path: Path, name: str) -> "NDArray[np.int64]":
    return as_integers(path, name, read_variables(path, (name,), INFO)[name])
