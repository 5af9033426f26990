"""Which images a street has: names, labels and who is in them, all known before one is rendered."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from protocols.crosswalk.dials import Dials
from protocols.crosswalk.names import BOXES, DISTRACTOR, GALLERY, HAND_DRAWN, JUNK, QUERY, TRAIN, file_name
from protocols.crosswalk.seeding import generator, pick
from protocols.crosswalk.sizes import Size

Content = Literal["person", "fragment", "nobody"]
FRAME_STEP = 25  # the release keeps one frame a second
FRAMES = 39_000  # kept frames per sequence, so that numbers fit six digits


class Subject(NamedTuple):
    """Who is in an image.

    Attributes:
        name: decides walk and pose, for example ``"pid 12"``.
        look: decides appearance; the two members of a pair of confusers share it.
        swapped: the second member of a pair, whose colours change places.
    """

    name: str
    look: str
    swapped: bool = False


@dataclass(frozen=True, slots=True)
class Shot:
    """One image file, not yet rendered.

    ``step`` counts the subject's frames in this sequence; ``box`` is 0 where the box is hand-drawn.
    ``scene`` is ``"fragment"`` for a box that holds a small part of a person and ``"nobody"`` for
    a false detection.
    """

    folder: str
    name: str
    pid: int
    camid: int
    sequence: int
    frame: int
    step: int
    box: int
    subject: Subject
    scene: Content = "person"


def plan(size: Size, seed: int, dials: Dials) -> tuple[Shot, ...]:
    """All images of a street, sorted by folder and name. Renders nothing; pure."""
    train, test = _labels(size, seed)
    subjects = {**_subjects(train, seed, dials.confusers), **_subjects(test, seed, dials.confusers)}
    shots = [
        *_people(TRAIN, _train_cells(size, seed, train), size, seed, subjects),
        *_people(GALLERY, _test_cells(size, seed, test), size, seed, subjects),
        *_distractors(size, seed),
        *_junk(size, seed, [subjects[pid] for pid in test]),
    ]
    return tuple(sorted(shots, key=lambda shot: (shot.folder, shot.name)))


def apportion(total: int, weights: np.ndarray, least: np.ndarray) -> np.ndarray:
    """Split ``total`` into whole numbers, ``least`` plus a share in proportion to ``weights``, (n,) int."""
    spare = total - int(least.sum())
    exact = spare * weights / weights.sum()
    counts: np.ndarray = np.floor(exact).astype(np.int64)
    fullest = np.argsort(counts - exact, kind="stable")
    counts[fullest[: spare - int(counts.sum())]] += 1
    counts += least
    return counts


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


def _subjects(pids: Sequence[int], seed: int, confusers: float) -> dict[int, Subject]:
    """Subjects of one half of the street; pairs of confusers never span train and test."""
    order = [int(pid) for pid in generator(seed, "confusers", pids[0]).permutation(pids)]
    paired = 2 * round(confusers * len(order) / 2)
    looks = {pid: f"pair {order[i - i % 2]}" for i, pid in enumerate(order[:paired])}
    swapped = set(order[1:paired:2])
    return {pid: Subject(f"pid {pid}", looks.get(pid, f"pid {pid}"), pid in swapped) for pid in order}


def _train_cells(size: Size, seed: int, pids: Sequence[int]) -> list[Cell]:
    rng = generator(seed, "train")
    seen = _cameras_of(rng, size, len(pids), total=max(2 * len(pids), round(0.75 * size.cameras * len(pids))))
    detected = np.zeros(seen.shape, dtype=np.int64)
    for camera, images in enumerate(size.train):
        rows = np.flatnonzero(seen[:, camera])
        detected[rows, camera] = apportion(
            images, _uneven(rng, len(rows)), np.ones(len(rows), dtype=np.int64)
        )
    first = np.zeros(seen.shape, dtype=np.int64)
    first[np.arange(len(pids)), seen.argmax(axis=1)] = 1  # at least one drawn box per identity
    drawn = np.zeros(seen.shape, dtype=np.int64)
    drawn[seen] = apportion(size.gt_bbox_train, _uneven(rng, int(seen.sum())), first[seen])
    return _cells(pids, detected, drawn)


def _test_cells(size: Size, seed: int, pids: Sequence[int]) -> list[Cell]:
    rng = generator(seed, "test")
    special = pids.index(size.doubled.pid)
    seen = np.ones((len(pids), size.cameras), dtype=bool)
    others = np.arange(len(pids)) != special
    seen[others] = _cameras_of(rng, size, len(pids) - 1, total=size.query - size.cameras)
    detected, drawn = np.zeros((2, *seen.shape), dtype=np.int64)
    for counts, total, own in (
        (detected, size.good, size.doubled.good),
        (drawn, size.gt_bbox_test, size.doubled.gt_bbox),
    ):
        cells = seen & others[:, None]
        ones = np.ones(int(cells.sum()), dtype=np.int64)
        counts[cells] = apportion(total - own, _uneven(rng, len(ones)), ones)
        counts[special] = apportion(own, np.ones(size.cameras), np.ones(size.cameras, dtype=np.int64))
    return _cells(pids, detected, drawn)


def _cameras_of(rng: np.random.Generator, size: Size, pids: int, total: int) -> np.ndarray:
    """Which cameras see whom, (pids, cameras) bool with ``total`` true cells and at least two per row."""
    more = max(1, size.cameras - 2)  # places beyond the two that everybody has
    spare = rng.choice(pids * more, total - 2 * pids, replace=False) // more
    wanted = 2 + np.bincount(spare, minlength=pids)
    popularity = rng.gumbel(size=(pids, size.cameras)) + np.log(size.train)
    everyone = np.arange(size.cameras)
    popularity[everyone % pids, everyone] = np.inf  # no camera stays without anybody
    rank: np.ndarray = np.argsort(np.argsort(-popularity, axis=1), axis=1)
    seen: np.ndarray = rank < wanted[:, None]
    return seen


def _uneven(rng: np.random.Generator, n: int) -> np.ndarray:
    """Weights of a long-tailed distribution, (n,): some people stay longer before a camera."""
    weights: np.ndarray = rng.lognormal(0.0, 0.7, n)
    return weights


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
