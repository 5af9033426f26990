"""All tracklets and images of a street in the numbers and names of MARS."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from protocols.crosswalk.dials import Dials
from protocols.crosswalk.layouts.mars.sizes import Part, Size
from protocols.crosswalk.planning import apportion_between, cameras_of, parted, scattered, subjects_of, uneven
from protocols.crosswalk.seeding import generator, pick
from protocols.crosswalk.shots import Content, Moment, Shot, Subject

TRAIN, TEST = "bbox_train", "bbox_test"
DISTRACTOR, JUNK = 0, -1
FRAMES_PER_SECOND = 25  # tracklets are of consecutive frames
LABELS_PER_PERSON = 1.19  # labels have holes: the release numbers 1,259 people up to 1,501


class Tracklet(NamedTuple):
    """One person's way through one camera's view.

    Attributes:
        folder: of the release, for example ``"bbox_test/00-1"``.
        pid: identity; 0 for a distractor, -1 for junk.
        camid: 1-based.
        number: among the tracklets of this label and camera, 1-based.
        length: number of images.
        subject: who walks there.
        scene: what the boxes hold.
    """

    folder: str
    pid: int
    camid: int
    number: int
    length: int
    subject: Subject
    scene: Content = "person"


def plan(size: Size, seed: int, dials: Dials) -> tuple[Shot, ...]:
    """All images, sorted by folder and name. Renders nothing; pure."""
    return tuple(shot for tracklet in plan_tracklets(size, seed, dials) for shot in _frames(tracklet))


def plan_tracklets(size: Size, seed: int, dials: Dials) -> list[Tracklet]:
    """All tracklets, sorted by folder, camera and number."""
    rng = generator(seed, "labels")
    pids = size.train.pids + size.test.pids
    labels = scattered(rng, pids, 1, round(LABELS_PER_PERSON * pids))
    train, test = parted(rng, labels, size.train.pids, size.test.pids)
    people = subjects_of(test, seed, dials.confusers)
    strays = [*_distractors(size, seed), *_junk(size, seed, list(people.values()))]
    walkers = subjects_of(train, seed, dials.confusers)
    halves = (
        (TEST, size.test, [*strays, *_people(test, _test_cells(size, seed), people)]),
        (TRAIN, size.train, _people(train, _train_cells(size, seed), walkers)),
    )
    return [one for folder, part, ways in halves for one in _numbered(folder, part, seed, ways)]


class Way(NamedTuple):
    """A tracklet whose number and length are not yet known."""

    pid: int
    camid: int
    subject: Subject
    scene: Content = "person"


def folder_name(pid: int) -> str:
    """Four characters, for example ``0007`` or ``00-1``."""
    return "00-1" if pid == JUNK else f"{pid:04d}"


def _frames(tracklet: Tracklet) -> Iterator[Shot]:
    """The images of one tracklet; strays have four digits for the frame, as some names of the release."""
    folder, pid, camid, number, length, subject, scene = tracklet
    digits = 3 if pid > 0 else 4
    stem = f"{folder_name(pid)}C{camid}T{number:04d}F"
    lasting = (length - 1) / FRAMES_PER_SECOND
    for step in range(length):
        name = f"{stem}{step + 1:0{digits}d}.jpg"
        moment = Moment(step / FRAMES_PER_SECOND, lasting)
        yield Shot(folder, name, pid, camid, number, step + 1, step, 1, subject, scene, moment)


def _numbered(folder: str, part: Part, seed: int, ways: Sequence[Way]) -> Iterator[Tracklet]:
    ways = sorted(ways, key=lambda way: (folder_name(way.pid), way.camid))
    before: dict[tuple[int, int], int] = {}
    for way, length in zip(ways, _lengths(folder, part, seed), strict=True):
        number = before[way.pid, way.camid] = before.get((way.pid, way.camid), 0) + 1
        place = f"{folder}/{folder_name(way.pid)}"
        yield Tracklet(place, way.pid, way.camid, number, length, way.subject, way.scene)


def _lengths(folder: str, part: Part, seed: int) -> list[int]:
    """Long-tailed; one tracklet is as short and one as long as any may be."""
    rng = generator(seed, "lengths", folder)
    weights = rng.lognormal(0.0, 0.9, part.tracklets)
    short, long = rng.choice(part.tracklets, 2, replace=False)
    weights[short], weights[long] = 1e-9, 1e9
    bounds = (np.full(part.tracklets, bound) for bound in (part.shortest, part.longest))
    return [int(length) for length in apportion_between(part.boxes, weights, *bounds)]


def _people(pids: Sequence[int], cells: np.ndarray, subjects: dict[int, Subject]) -> list[Way]:
    """``cells`` are numbers of tracklets of each identity in each camera."""
    return [
        Way(pid, camid + 1, subjects[pid])
        for pid, row in zip(pids, cells.tolist(), strict=True)
        for camid, tracklets in enumerate(row)
        for _ in range(tracklets)
    ]


def _train_cells(size: Size, seed: int) -> np.ndarray:
    rng = generator(seed, "train")
    pids, tracklets = size.train.pids, size.train.tracklets
    total = min(tracklets, max(2 * pids, round(0.6 * size.cameras * pids)))
    seen = cameras_of(rng, [1.0] * size.cameras, pids, total)
    return _apportioned(rng, tracklets, seen.astype(np.int64), np.where(seen, tracklets, 0))


def _test_cells(size: Size, seed: int) -> np.ndarray:
    """Tracklets of test identities; those that are not asked for are in one camera each."""
    rng = generator(seed, "test")
    seen = cameras_of(rng, [1.0] * size.cameras, size.query_pids, size.query)
    least, most = _company(rng, size, seen)
    single = np.zeros((size.unasked, size.cameras), dtype=np.int64)
    single[np.arange(size.unasked), rng.integers(size.cameras, size=size.unasked)] = 1
    order = rng.permutation(size.test.pids)
    least, most = np.vstack([least, single])[order], np.vstack([most, size.people * single])[order]
    return _apportioned(rng, size.people, least, most)


def _company(rng: np.random.Generator, size: Size, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest numbers of tracklets, so that exactly ``size.lonely`` queries are lonely.

    A query is lonely if each of the other cameras has one tracklet of the person, which is a query
    too. With one tracklet everywhere all queries are lonely; with more in one camera, the query from
    that camera is; with more in two, none is.
    """
    least, most = seen.astype(np.int64), seen.astype(np.int64)
    left = size.lonely
    for row in rng.permutation(len(seen)):
        cameras = rng.permutation(np.flatnonzero(seen[row]))
        if left >= len(cameras) and rng.random() < 0.5:
            rich, left = 0, left - len(cameras)
        elif left:
            rich, left = 1, left - 1
        else:
            rich = 2
        least[row, cameras[:rich]] = 2
        most[row, cameras if rich == 2 else cameras[:rich]] = size.people
    return least, most


def _apportioned(rng: np.random.Generator, total: int, least: np.ndarray, most: np.ndarray) -> np.ndarray:
    weights = uneven(rng, least.size)
    return apportion_between(total, weights, least.ravel(), most.ravel()).reshape(least.shape)


def _distractors(size: Size, seed: int) -> Iterator[Way]:
    rng = generator(seed, "distractors")
    for n in range(size.distractors):
        scene: Content = pick(rng, {"person": 0.7, "fragment": 0.15, "nobody": 0.15})
        who = Subject(f"distractor {n}", f"distractor {n}")
        yield Way(DISTRACTOR, int(rng.integers(size.cameras)) + 1, who, scene)


def _junk(size: Size, seed: int, test: Sequence[Subject]) -> Iterator[Way]:
    """Bad boxes around people who are also tested, or around nobody."""
    rng = generator(seed, "junk")
    for n in range(size.junk):
        scene: Content = pick(rng, {"fragment": 0.8, "nobody": 0.2})
        who = test[int(rng.integers(len(test)))]._replace(name=f"junk {n}")
        yield Way(JUNK, int(rng.integers(size.cameras)) + 1, who, scene)
