"""All images of a street in the numbers and names of CUHK03: which cells hold one, and who is tested."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from protocols.crosswalk.dials import Dials
from protocols.crosswalk.layouts.cuhk03.sizes import LACKING_PAIR, PAIRS, PER_VIEW, Size
from protocols.crosswalk.planning import apportion_between, subjects_of
from protocols.crosswalk.seeding import generator
from protocols.crosswalk.shots import Shot, Subject

Boxes = Literal["detected", "labeled"]
DETECTED: Boxes = "detected"
LABELED: Boxes = "labeled"
BOXES = (DETECTED, LABELED)
TRAIN, QUERY, GALLERY = "train", "query", "gallery"
VIEWS = (1, 2)
FRAME_STEP = 25  # one frame a second
GAPS = 0.12  # share of views with empty cells where one of them lies between images

Place = tuple[int, int]  # camera pair, row; 1-based


class Cell(NamedTuple):
    """One image of a person: where it is kept, 1-based."""

    pair: int
    row: int
    view: int
    image: int

    @property
    def name(self) -> str:
        """For example ``1_001_2_06.png``; images 6..10 are of view 2."""
        return f"{self.pair}_{self.row:03d}_{self.view}_{self.image + PER_VIEW * (self.view - 1):02d}.png"


class Roles(NamedTuple):
    """Rows of one camera pair, 1-based, by what the new protocol makes of them.

    Attributes:
        test: test identities of ``detected`` and ``labeled`` alike.
        train: training identities of both.
        tested: test identity of ``detected`` that ``labeled`` trains on (pair 1 only).
        trained: training identity of ``detected`` that ``labeled`` tests (pair 1 only).
        lacking: training identity with a single image in one view, which ``labeled`` lacks (pair 3 only).
    """

    test: list[int]
    train: list[int]
    tested: int | None
    trained: int | None
    lacking: int | None

    def of(self, boxes: Boxes) -> set[int]:
        """The test identities of one configuration."""
        other = self.tested if boxes == DETECTED else self.trained
        return {*self.test} if other is None else {*self.test, other}


def plan(size: Size, seed: int, dials: Dials) -> tuple[Shot, ...]:
    """All images, those of detected and of hand-drawn boxes, sorted by folder and name.

    They lie in ``detected`` and ``labeled`` until they are packed, one folder for each role that
    the new protocol gives them: train, query and gallery. ``Shot.camid`` is the real camera, of
    which each pair has two of its own; names hold the pair and the view.
    """
    roles = {pair: _roles(size, seed, pair) for pair in range(1, PAIRS + 1)}
    empty = _test_empty(size)
    cells = [
        cell for pair, own in roles.items() for cell in _filled(size, seed, pair, own, int(empty[pair - 1]))
    ]
    subjects = _subjects(size, seed, dials, _tested(roles, DETECTED))
    shots = [shot for boxes in BOXES for shot in _shots(boxes, cells, roles, size, seed, subjects)]
    return tuple(sorted(shots, key=lambda shot: (shot.folder, shot.name)))


def label(size: Size, pair: int, row: int) -> int:
    """The new protocol's label: rows of all camera pairs, counted through from 1."""
    return sum(size.pids[: pair - 1]) + row


def _roles(size: Size, seed: int, pair: int) -> Roles:
    order = [int(row) + 1 for row in generator(seed, "roles", pair).permutation(size.pids[pair - 1])]
    tested = order.pop() if pair == 1 else None
    trained = order.pop() if pair == 1 else None
    lacking = order.pop() if pair == LACKING_PAIR else None
    shared = size.test_pids[pair - 1] - (pair == 1)
    return Roles(order[:shared], order[shared:], tested, trained, lacking)


def _test_empty(size: Size) -> np.ndarray:
    """Empty cells of test identities in each camera pair, (pairs,)."""
    least, most = map(np.array, size.empty_bounds())
    fair = np.array(size.empty) * size.test_pids / size.pids + 1e-3
    return apportion_between(size.test_empty, fair, least, most)


def _filled(size: Size, seed: int, pair: int, roles: Roles, test_empty: int) -> Iterator[Cell]:
    """The cells of one camera pair in which ``detected`` has an image."""
    rng = generator(seed, "cells", pair)
    counts = {(row, view): PER_VIEW for row in range(1, size.pids[pair - 1] + 1) for view in VIEWS}
    if roles.trained is not None:
        counts[roles.trained, 1] -= size.fewer // 2
        counts[roles.trained, 2] -= size.fewer - size.fewer // 2
    if roles.lacking is not None:
        counts[roles.lacking, int(rng.integers(2)) + 1] = 1
    train_empty = size.empty[pair - 1] - size.train_empty(pair) - test_empty
    for rows, empty, least in ((roles.test, test_empty, 2), (roles.train, train_empty, 1)):
        places = [(row, view) for row in rows for view in VIEWS for _ in range(PER_VIEW - least)]
        for place in rng.choice(len(places), empty, replace=False) if places else ():
            counts[places[place]] -= 1
    for (row, view), images in _placed(rng, counts).items():
        yield from (Cell(pair, row, view, image) for image in images)


def _placed(rng: np.random.Generator, counts: dict[tuple[int, int], int]) -> dict[tuple[int, int], list[int]]:
    """Which of a view's five cells hold its images: the first ones, but some views have a gap."""
    placed = {place: list(range(1, count + 1)) for place, count in counts.items()}
    candidates = [place for place, count in counts.items() if 2 <= count < PER_VIEW]
    some = round(GAPS * len(candidates)) or min(1, len(candidates))
    for chosen in rng.choice(len(candidates), some, replace=False) if candidates else ():
        images = placed[candidates[chosen]]
        gap = int(rng.integers(1, len(images)))
        images[gap:] = [image + 1 for image in images[gap:]]
    return placed


def _subjects(size: Size, seed: int, dials: Dials, tested: set[Place]) -> dict[Place, Subject]:
    """Who is who; confusers come in pairs inside the new protocol's halves."""
    everybody = [(pair, row) for pair, n in enumerate(size.pids, start=1) for row in range(1, n + 1)]
    labels = {place: label(size, *place) for place in everybody}
    halves = (
        [labels[p] for p in everybody if p in tested],
        [labels[p] for p in everybody if p not in tested],
    )
    subjects = {pid: who for half in halves for pid, who in subjects_of(half, seed, dials.confusers).items()}
    return {place: subjects[pid] for place, pid in labels.items()}


def _shots(
    boxes: Boxes,
    cells: Sequence[Cell],
    roles: Mapping[int, Roles],
    size: Size,
    seed: int,
    subjects: Mapping[Place, Subject],
) -> Iterator[Shot]:
    """What the detector found, or what was drawn by hand around the same people in the same frames."""
    own = cells if boxes == DETECTED else _without_lacking(cells, roles)
    tested = _tested(roles, boxes)
    queries = _queries(own, tested, generator(seed, "queries", boxes))
    for cell in own:
        pair, row, view, image = cell
        role = TRAIN if (pair, row) not in tested else QUERY if cell in queries else GALLERY
        yield Shot(
            folder=f"{boxes}/{role}",
            name=cell.name,
            pid=label(size, pair, row),
            camid=len(VIEWS) * (pair - 1) + view,
            sequence=1,
            frame=1 + FRAME_STEP * image,
            step=image - 1,
            box=1 if boxes == DETECTED else 0,
            subject=subjects[pair, row],
        )


def _tested(roles: Mapping[int, Roles], boxes: Boxes) -> set[Place]:
    """The new protocol's test identities in one configuration."""
    return {(pair, row) for pair, own in roles.items() for row in own.of(boxes)}


def _without_lacking(cells: Sequence[Cell], roles: Mapping[int, Roles]) -> list[Cell]:
    """All but the only image of the view that one identity lacks in ``labeled``."""
    row = roles[LACKING_PAIR].lacking
    of_row = [cell for cell in cells if (cell.pair, cell.row) == (LACKING_PAIR, row)]
    views = [cell.view for cell in of_row]
    (only,) = (cell for cell in of_row if views.count(cell.view) == 1)
    return [cell for cell in cells if cell != only]


def _queries(cells: Sequence[Cell], tested: set[Place], rng: np.random.Generator) -> set[Cell]:
    """One image of each test identity and view."""
    choice: dict[tuple[int, int, int], list[Cell]] = {}
    for cell in cells:
        if cell[:2] in tested:
            choice.setdefault(cell[:3], []).append(cell)
    return {images[int(rng.integers(len(images)))] for images in choice.values()}
