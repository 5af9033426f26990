"""All images of a street in the numbers and names of Market-1501."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from protocols.crosswalk.dials import Dials
from protocols.crosswalk.layouts.market1501.names import (
    BOXES,
    DISTRACTOR,
    GALLERY,
    HAND_DRAWN,
    JUNK,
    QUERY,
    TRAIN,
    file_name,
)
from protocols.crosswalk.layouts.market1501.sizes import Size
from protocols.crosswalk.planning import apportion, cameras_of, share_out, subjects_of, uneven
from protocols.crosswalk.seeding import generator, pick
from protocols.crosswalk.shots import Content, Shot, Subject

FRAME_STEP = 25  # the release keeps one frame a second
FRAMES = 39_000  # kept frames per sequence, so that numbers fit six digits


def plan(size: Size, seed: int, dials: Dials) -> tuple[Shot, ...]:
    """All images of a street, sorted by folder and name. Renders nothing; pure.

    At size ``market`` the totals are the release's, but hand-drawn boxes are spread more evenly: about
    25 are the most for one query, 42 in the release.
    """
    train, test = _labels(size, seed)
    subjects = {**subjects_of(train, seed, dials.confusers), **subjects_of(test, seed, dials.confusers)}
    shots = [
        *_people(TRAIN, _train_cells(size, seed, train), size, seed, subjects),
        *_people(GALLERY, _test_cells(size, seed, test), size, seed, subjects),
        *_distractors(size, seed),
        *_junk(size, seed, [subjects[pid] for pid in test]),
    ]
    return tuple(sorted(shots, key=lambda shot: (shot.folder, shot.name)))


class Cell(NamedTuple):
    """What one camera sees of one identity: numbers of detected and of hand-drawn boxes."""

    pid: int
    camid: int
    detected: int
    drawn: int


def _labels(size: Size, seed: int) -> tuple[list[int], list[int]]:
    """Training and test labels, interleaved as in the release, where test holds the first and the last."""
    rng = generator(seed, "labels")
    free = [p for p in range(3, size.pids - 1) if p != size.doubled.pid]
    drawn = rng.permutation(free)[: size.train_pids - 2]
    train = sorted({2, size.pids - 1, *map(int, drawn)})
    return train, sorted(set(range(1, size.pids + 1)) - set(train))


def _train_cells(size: Size, seed: int, pids: Sequence[int]) -> list[Cell]:
    rng = generator(seed, "train")
    seen = cameras_of(
        rng, size.train, len(pids), total=max(2 * len(pids), round(0.75 * size.cameras * len(pids)))
    )
    detected = share_out(rng, seen, size.train)
    first = np.zeros(seen.shape, dtype=np.int64)
    first[np.arange(len(pids)), seen.argmax(axis=1)] = 1  # at least one drawn box per identity
    drawn = np.zeros(seen.shape, dtype=np.int64)
    drawn[seen] = apportion(size.gt_bbox_train, uneven(rng, int(seen.sum())), first[seen])
    return _cells(pids, detected, drawn)


def _test_cells(size: Size, seed: int, pids: Sequence[int]) -> list[Cell]:
    rng = generator(seed, "test")
    special = pids.index(size.doubled.pid)
    seen = np.ones((len(pids), size.cameras), dtype=bool)
    others = np.arange(len(pids)) != special
    seen[others] = cameras_of(rng, size.train, len(pids) - 1, total=size.query - size.cameras)
    detected, drawn = np.zeros((2, *seen.shape), dtype=np.int64)
    for counts, total, own in (
        (detected, size.good, size.doubled.good),
        (drawn, size.gt_bbox_test, size.doubled.gt_bbox),
    ):
        cells = seen & others[:, None]
        ones = np.ones(int(cells.sum()), dtype=np.int64)
        counts[cells] = apportion(total - own, uneven(rng, len(ones)), ones)
        counts[special] = apportion(own, np.ones(size.cameras), np.ones(size.cameras, dtype=np.int64))
    return _cells(pids, detected, drawn)


def _cells(pids: Sequence[int], detected: np.ndarray, drawn: np.ndarray) -> list[Cell]:
    return [
        Cell(pid, int(camera) + 1, int(detected[row, camera]), int(drawn[row, camera]))
        for row, pid in enumerate(pids)
        for camera in np.flatnonzero(detected[row] + drawn[row])
    ]


def _people(
    detections: str, cells: Sequence[Cell], size: Size, seed: int, subjects: dict[int, Subject]
) -> Iterator[Shot]:
    """Detected boxes, hand-drawn boxes and, for test identities, one query per cell."""
    for pid, camid, detected, drawn in cells:
        rng = generator(seed, "track", pid, camid)
        sequence = int(rng.integers(size.sequences[camid - 1])) + 1
        start = int(rng.integers(FRAMES))
        doubled = pid == size.doubled.pid
        folders = [(detections, n, 1) for n in range(detected)] + [
            (BOXES, n, HAND_DRAWN) for n in range(drawn)
        ]
        if detections == GALLERY:
            folders.append((QUERY, int(rng.integers(drawn)), HAND_DRAWN))
        for folder, step, box in folders:
            frame = 1 + FRAME_STEP * (start + step)
            name = file_name(pid, camid, sequence, frame, box, doubled)
            yield Shot(folder, name, pid, camid, sequence, frame, step, box, subjects[pid])


def _distractors(size: Size, seed: int) -> Iterator[Shot]:
    rng = generator(seed, "distractors")
    for n, (camid, sequence, frame, box) in enumerate(_strays(rng, size, size.distractors)):
        scene: Content = pick(rng, {"person": 0.55, "nobody": 0.3, "fragment": 0.15})
        name = file_name(DISTRACTOR, camid, sequence, frame, box, n < size.doubled.distractors)
        who = Subject(f"distractor {n}", f"distractor {n}")
        yield Shot(GALLERY, name, DISTRACTOR, camid, sequence, frame, 0, box, who, scene)


def _junk(size: Size, seed: int, test: Sequence[Subject]) -> Iterator[Shot]:
    """Bad boxes, most of them around people who are also tested."""
    rng = generator(seed, "junk")
    for n, (camid, sequence, frame, box) in enumerate(_strays(rng, size, size.junk)):
        scene: Content = pick(rng, {"fragment": 0.8, "nobody": 0.2})
        name = file_name(JUNK, camid, sequence, frame, box, n < size.doubled.junk)
        who = test[int(rng.integers(len(test)))]._replace(name=f"junk {n}")
        yield Shot(GALLERY, name, JUNK, camid, sequence, frame, 0, box, who, scene)


def _strays(rng: np.random.Generator, size: Size, n: int) -> Iterator[tuple[int, int, int, int]]:
    """``n`` different (camid, sequence, frame, box)."""
    cameras = dict(enumerate(size.train, start=1))
    for slot in rng.choice(FRAMES, n, replace=False):
        camid = pick(rng, cameras)
        yield (
            camid,
            int(rng.integers(size.sequences[camid - 1])) + 1,
            1 + FRAME_STEP * int(slot),
            int(rng.integers(1, 6)),
        )
