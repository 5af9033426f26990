"""MSMT17 V1 (Wei et al., CVPR 2018): fifteen cameras at three times of four days, listed in text files."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from protocols.crosswalk.dials import Dials
from protocols.crosswalk.layouts.base import Layout
from protocols.crosswalk.planning import (
    apportion,
    cameras_of,
    crop_size,
    refuse_unless,
    subjects_of,
    uneven,
)
from protocols.crosswalk.seeding import generator, pick
from protocols.crosswalk.shots import Shot, Subject

CAMERAS = tuple(range(1, 16))
DAYS = ("0113", "0114", "0302", "0303")
TIMES = ("morning", "noon", "afternoon")
VALIDATION_DAY = 3  # of training identities, position in DAYS
FRAME_STEP = 4
FRAMES = 8_000  # in which people appear, so that numbers have four digits
README = """A rendered street in the layout of MSMT17 V1. All people in it are synthetic.

train, test     a folder for each identity; labels start at 0 in both and have nothing to do with each other
list_train.txt  training images, path below train and identity
list_val.txt    more images of some training identities
list_query.txt  one image for each test identity and camera, path below test and identity
list_gallery.txt  all other test images
crosswalk.json  what was rendered: version, size, seed, dials and counts
names.txt       every file of the release
"""


@dataclass(frozen=True, slots=True)
class Size:
    """Number of images in each list, and of identities.

    Attributes:
        name: appears in paths and in ``crosswalk.json``.
        cameras: numbers of the cameras that record, 2..15 of 1..15 in order.
        train_pids: identities to train on, at least 2.
        train: images to train on, at least two for each identity.
        val: more images of some training identities, at most as many as ``train``.
        test_pids: identities to test on, at least 2.
        query: query images, one for each identity and camera that sees it; 2..cameras per identity.
        gallery: gallery images, at least one per query.

    Raises ``StreetError`` when these bounds do not hold.
    """

    name: str
    cameras: tuple[int, ...]
    train_pids: int
    train: int
    val: int
    test_pids: int
    query: int
    gallery: int

    def __post_init__(self) -> None:
        refuse_unless(self.name, self._rules())

    def _rules(self) -> Iterator[tuple[bool, str]]:
        known = set(self.cameras) <= set(CAMERAS) and list(self.cameras) == sorted(set(self.cameras))
        yield known and len(self.cameras) >= 2, "2..15 different cameras of 1..15 in order"
        yield min(self.train_pids, self.test_pids) >= 2, "at least two training and two test identities"
        yield self.train >= 2 * self.train_pids, "at least two training images per identity"
        yield 0 <= self.val <= self.train, "val must be at most as many as train"
        most = len(self.cameras) * self.test_pids
        yield 2 * self.test_pids <= self.query <= most, "2..cameras queries per test identity"
        yield self.gallery >= self.query, "gallery must be at least one per query"
        yield max(self.train_pids, self.test_pids) <= 10_000, "labels have four digits"


SIZES = {
    size.name: size
    for size in (
        Size("tiny", (1, 4, 9, 12, 15), 6, train=40, val=6, test_pids=6, query=18, gallery=40),
        Size("default", CAMERAS, 300, train=2600, val=200, test_pids=200, query=760, gallery=2000),
        Size("release", CAMERAS, 1041, train=30_248, val=2373, test_pids=3060, query=11_659, gallery=82_161),
    )
}


class Track(NamedTuple):
    """Somebody's way past a camera; ``day`` and ``time`` are positions in ``DAYS`` and ``TIMES``."""

    pid: int
    camid: int
    day: int
    time: int
    images: int


def plan(size: Size, seed: int, dials: Dials) -> tuple[Shot, ...]:
    """Both folders; other people in each, though both count labels from 0."""
    everybody = range(size.train_pids + size.test_pids)
    train, test = everybody[: size.train_pids], everybody[size.train_pids :]
    shots = (
        *_folder("train", _train(size, seed), seed, _people(train, seed, dials)),
        *_folder("test", _test(size, seed), seed, _people(test, seed, dials)),
    )
    return tuple(sorted(shots, key=lambda shot: (shot.folder, shot.name)))


def _people(numbers: Sequence[int], seed: int, dials: Dials) -> list[Subject]:
    """Who has the labels 0, 1, ... of a folder."""
    subjects = subjects_of(numbers, seed, dials.confusers)
    return [subjects[number] for number in numbers]


def _train(size: Size, seed: int) -> Iterator[Track]:
    """Of everybody on the first days, of some before some of the same cameras on the last one."""
    rng = generator(seed, "train")
    pids = size.train_pids
    seen = min(4, len(size.cameras), size.train // pids) * pids
    cells = np.argwhere(cameras_of(rng, _busy(size, seed), pids, seen))
    yield from _tracks(rng, cells, size, size.train, range(VALIDATION_DAY))
    again = rng.choice(len(cells), min(len(cells), -(-size.val // 4)), replace=False)
    yield from _tracks(rng, cells[np.sort(again)], size, size.val, [VALIDATION_DAY])


def _test(size: Size, seed: int) -> Iterator[Track]:
    rng = generator(seed, "test")
    cells = np.argwhere(cameras_of(rng, _busy(size, seed), size.test_pids, size.query))
    for track in _tracks(rng, cells, size, size.gallery, range(len(DAYS))):
        yield track._replace(images=track.images + 1)  # one is the query


def _busy(size: Size, seed: int) -> list[float]:
    """How many people pass each camera, relative to others."""
    busy: list[float] = generator(seed, "busy").lognormal(0, 0.5, len(size.cameras)).tolist()
    return busy


def _tracks(
    rng: np.random.Generator, cells: np.ndarray, size: Size, images: int, days: Sequence[int]
) -> Iterator[Track]:
    """One track for each (row, column) of ``cells`` (n, 2), ``images`` in all."""
    shares = apportion(images, uneven(rng, len(cells)), np.ones(len(cells), dtype=np.int64))
    for (pid, column), share in zip(cells.tolist(), shares.tolist(), strict=True):
        day, time = days[int(rng.integers(len(days)))], int(rng.integers(len(TIMES)))
        yield Track(pid, size.cameras[column], day, time, share)


def _folder(name: str, tracks: Iterable[Track], seed: int, subjects: Sequence[Subject]) -> Iterator[Shot]:
    """Images of ``train`` or ``test``; those of one identity are numbered in order of camera and time."""
    for pid, own in groupby(sorted(tracks), key=lambda track: track.pid):
        number = count()
        for track in own:
            yield from _shots(f"{name}/{pid:04d}", track, number, seed, subjects[pid])


def _shots(folder: str, track: Track, number: Iterator[int], seed: int, subject: Subject) -> Iterator[Shot]:
    pid, camid, day, time, images = track
    rng = generator(seed, "track", subject.name, camid, day, time)
    start, box = int(rng.integers(FRAMES)), pick(rng, {0: 0.8, 1: 0.15, 2: 0.05})
    for step in range(images):
        frame = start + FRAME_STEP * step
        name = f"{pid:04d}_{next(number):03d}_{camid:02d}_{DAYS[day]}{TIMES[time]}_{frame:04d}_{box}.jpg"
        session = len(TIMES) * day + time + 1
        yield Shot(folder, name, pid, camid, session, frame, step, box + 1, subject)


def encode(image: np.ndarray, quality: int, shot: Shot) -> bytes:
    """A JPEG; boxes were never brought to one size."""
    from protocols.crosswalk.develop import jpeg, resized

    return jpeg(resized(image, *crop_size(shot)), quality)


def complete(root: Path, shots: Sequence[Shot]) -> None:
    """The four lists and a readme."""
    for name, listed in _lists(shots).items():
        lines = (f"{shot.folder.partition('/')[2]}/{shot.name} {shot.pid}\n" for shot in listed)
        (root / f"list_{name}.txt").write_text("".join(lines), encoding="utf-8")
    (root / "readme.txt").write_text(README, encoding="utf-8")


def _lists(shots: Sequence[Shot]) -> dict[str, list[Shot]]:
    """A track's first image is the query; what was taken on the last day of training is to validate on."""
    lists: dict[str, list[Shot]] = {"train": [], "val": [], "query": [], "gallery": []}
    for shot in shots:
        if shot.folder.startswith("train/"):
            last_day = shot.sequence > VALIDATION_DAY * len(TIMES)
            lists["val" if last_day else "train"].append(shot)
        else:
            lists["gallery" if shot.step else "query"].append(shot)
    return lists


def counts(size: Size, shots: Sequence[Shot]) -> dict[str, dict[str, int]]:
    """With and without the validation list among the training images."""
    files = {name: len(listed) for name, listed in _lists(shots).items()}
    own = {
        "train": files["train"] + files["val"],
        "query": files["query"],
        "gallery": files["gallery"],
        "train_pids": size.train_pids,
        "query_pids": size.test_pids,
    }
    return {"msmt17": own, "msmt17/train": own | {"train": files["train"]}}


LAYOUT = Layout(
    name="msmt17",
    root="MSMT17_V1",
    sizes=SIZES,
    plan=plan,
    encode=encode,
    complete=complete,
    counts=counts,
)
