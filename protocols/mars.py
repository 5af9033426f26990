"""MARS (Zheng et al., ECCV 2016): tracklets instead of images, found by a detector and a tracker."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from protocols.base import PROTOCOLS, Counts, Protocol, Record, Rules, Split
from protocols.matlab import as_integers, read_variables
from retable.errors import Absent, DataError

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
        archives=ARCHIVES,
    )


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
        archives=ARCHIVES,
    )


def load(root: Path) -> tuple[Split, ...]:
    """The one split of the release at ``root``, in the order of its lists.

    Raises ``DataError`` when a list is missing, damaged, or contradicts another.
    """
    train = _tracklets(root, "train")
    test = _tracklets(root, "test")
    rows = _query_rows(root, len(test))
    return (Split(train, query=tuple(test[row] for row in rows), gallery=test),)


def load_torchreid(root: Path) -> tuple[Split, ...]:
    """As ``load``, with neither queries nor junk in the gallery."""
    ((split),) = load(root)
    asked = set(split.query)
    kept = tuple(tracklet for tracklet in split.gallery if tracklet.pid != JUNK and tracklet not in asked)
    return (Split(split.train, split.query, kept),)


def explain(root: Path, split: Split) -> list[str]:
    """Which frames are missing from the image folders. Lists all of them: seconds on a local disk."""
    found = []
    for folder, frames in _frames_by_folder(split).items():
        there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        missing = sorted(frames - there)
        if missing:
            where = folder.relative_to(root)
            found.append(f"{where}: {len(missing):,} of {len(frames):,} frames missing, {missing[0]} first")
    return found


def _frames_by_folder(split: Split) -> dict[Path, set[str]]:
    frames: dict[Path, set[str]] = {}
    for tracklets in split.lists().values():
        for tracklet in tracklets:
            frames.setdefault(tracklet.path, set()).update(tracklet.frames)
    return frames


def _tracklets(root: Path, part: str) -> tuple[Record, ...]:
    """All tracklets of ``train`` or ``test``, each of consecutive names of the part's list."""
    names = _read_names(root / "info" / f"{part}_name.txt")
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


def _query_rows(root: Path, tracklets: int) -> list[int]:
    """Positions of the queries among the test tracklets, from 0."""
    path = root / "info" / "query_IDX.mat"
    rows: list[int] = _read_integers(path, "query_IDX").ravel().tolist()
    outside = [row for row in rows if not 1 <= row <= tracklets]
    if outside or len(set(rows)) != len(rows):
        fault = f"names tracklet {outside[0]}" if outside else "names a tracklet twice"
        raise DataError(f"{path}: {fault}, expected different ones of 1..{tracklets}")
    return [row - 1 for row in rows]


def _read_names(path: Path) -> list[str]:
    if not path.is_file():
        raise Absent(f"{path}: no such file; put it there, from {INFO}")
    return path.read_text(encoding="ascii", errors="replace").split()


def _read_integers(path: Path, name: str) -> "NDArray[np.int64]":
    return as_integers(path, name, read_variables(path, (name,), INFO)[name])
