"""One image: somebody on the street before a camera, in a box."""

from dataclasses import dataclass
from functools import lru_cache
from math import cos, pi, sin
from typing import NamedTuple

import numpy as np

from protocols.crosswalk import detector
from protocols.crosswalk.backdrop import backdrop, wall_row
from protocols.crosswalk.body import Skeleton
from protocols.crosswalk.cameras import FRAME_HEIGHT, FRAME_WIDTH, Camera, camera
from protocols.crosswalk.detector import Box
from protocols.crosswalk.develop import develop
from protocols.crosswalk.dials import Dials
from protocols.crosswalk.figure import figure, materials_of
from protocols.crosswalk.ground import cast_shadow, cut_out
from protocols.crosswalk.looks import look_of
from protocols.crosswalk.materials import TABLE_COLUMNS
from protocols.crosswalk.props import MAKERS
from protocols.crosswalk.raster import (
    BASE,
    COLUMNS,
    END_RADIUS,
    FAR,
    LENGTH,
    MATERIAL,
    OWNER,
    RADIUS,
    cast,
    extent,
    place,
)
from protocols.crosswalk.seeding import generator, pick
from protocols.crosswalk.shade import shade
from protocols.crosswalk.shots import Shot, Subject
from protocols.crosswalk.stances import draw_habit, draw_stance

HEIGHT, WIDTH = 128, 64  # pixels of every image
FINE = 2  # rendered that much finer, then averaged
MAIN, BEHIND, BEFORE = range(3)  # owners of placed shapes
# What stands in front how often, and how far to either side of the person its middle may be, metres.
OCCLUDERS = {
    "person": 3.0,
    "pole": 2.0,
    "bicycle": 1.6,
    "railing": 1.0,
    "car": 0.6,
    "bush": 1.2,
    "bollard": 0.4,
}
REACH = {"pole": 0.22, "bicycle": 0.6, "railing": 1.0, "car": 1.6, "bush": 0.6, "bollard": 0.25}


class Street(NamedTuple):
    """What all images of a street share."""

    seed: int
    dials: Dials


class Walk(NamedTuple):
    """How somebody crosses one camera's view: direction, place on the frame, habit, exposure."""

    yaw: float
    column: float
    row: float
    habit: tuple[str, str, float]
    exposure: float


@dataclass(frozen=True, slots=True)
class Scene:
    """A composed image before it is developed; buffers are ``FINE`` times as large as the image."""

    light: np.ndarray
    depth: np.ndarray
    seen: np.ndarray
    placed: np.ndarray
    window: Box
    view: Camera
    walk: Walk
    yaw: float
    bones: Skeleton | None


def compose(street: Street, shot: Shot) -> Scene:
    """Set up and render one image, in linear light."""
    view = camera(street.seed, shot.camid, street.dials.camera_shift)
    walk = _walk(street, view, shot)
    rng = generator(street.seed, "image", shot.subject.name, shot.camid, shot.sequence, shot.frame)
    yaw = walk.yaw + float(rng.normal(0, 0.12))
    main, table, bones = _person(street, shot.subject, rng, walk, yaw, view)
    window = _box(street, shot, main)
    crowd = _Crowd()
    if shot.scene != "nobody":
        crowd.add(main, table, MAIN)
    _populate(crowd, street, view, rng)
    image = np.empty((FINE * HEIGHT, FINE * WIDTH, 3), dtype=np.float32)
    foot = (walk.column + float(rng.normal(0, 4)), walk.row + float(rng.normal(0, 2)))
    cut_out(backdrop(street.seed, shot.camid, view), window, foot, view.scale(walk.row), image)
    _cast_shadows(image, window, crowd, view)
    depth = np.full(image.shape[:2], FAR, dtype=np.float32)
    seen = np.full(image.shape[:2], -1, dtype=np.int16)
    placed, table = crowd.merged()
    cast(placed, window, depth, seen)
    shade(placed, table, window, (*view.light, view.sun, view.ambient), depth, seen, image)
    return Scene(
        image, depth, seen, placed, window, view, walk, yaw, bones if shot.scene != "nobody" else None
    )


def photograph(street: Street, shot: Shot, scene: Scene) -> np.ndarray:
    """What the camera makes of a scene, (128, 64, 3) uint8."""
    rng = generator(street.seed, "grain", shot.subject.name, shot.camid, shot.sequence, shot.frame, shot.box)
    exposure = scene.walk.exposure * float(np.exp(rng.normal(0, 0.04)))
    return develop(scene.light, scene.view, exposure, rng)


@lru_cache(maxsize=1024)
def _track(street: Street, view: Camera, subject: Subject, camid: int, sequence: int) -> Walk:
    rng = generator(street.seed, "walk", subject.name, camid, sequence)
    spread = street.dials.viewpoint
    turned = pi if rng.random() < 0.35 * spread else 0.0  # some walk the other way
    wall = wall_row(view)
    weather = generator(street.seed, "weather", camid, sequence).normal(0, 0.15 * street.dials.camera_shift)
    return Walk(
        yaw=spread * _signed(view.heading + turned) + float(rng.normal(0, 0.1 + 0.4 * spread)),
        column=float(rng.uniform(0.12, 0.88)) * FRAME_WIDTH,
        row=float(rng.uniform(wall + 0.2 * (FRAME_HEIGHT - wall), FRAME_HEIGHT - 45)),
        habit=draw_habit(rng),
        exposure=float(np.exp(weather + rng.normal(0, 0.06))),
    )


def _signed(angle: float) -> float:
    """The same direction in -pi..pi."""
    return (angle + pi) % (2 * pi) - pi


def _walk(street: Street, view: Camera, shot: Shot) -> Walk:
    """The track at this step: half a metre a frame along the heading, inside the frame."""
    walk = _track(street, view, shot.subject, shot.camid, shot.sequence)
    way = 0.5 * shot.step
    column = walk.column + way * sin(walk.yaw) * view.scale(walk.row)
    row = walk.row + way * cos(walk.yaw) * sin(view.tilt) * view.scale(walk.row)
    column = min(max(column, 0.08 * FRAME_WIDTH), 0.92 * FRAME_WIDTH)
    return walk._replace(column=column, row=min(max(row, wall_row(view) + 45.0), FRAME_HEIGHT - 12.0))


def _person(
    street: Street, subject: Subject, rng: np.random.Generator, walk: Walk, yaw: float, view: Camera
) -> tuple[np.ndarray, np.ndarray, Skeleton]:
    look = look_of(street.seed, subject)
    left, right, stride = walk.habit
    if look.bag == "handbag":  # hangs from an arm that hangs
        left, right = ("swing", right) if look.bag_side > 0 else (left, "swing")
    shapes, bones = figure(look, draw_stance(rng, (left, right, stride)))
    return place(shapes, yaw, view.tilt), materials_of(look), bones


def _box(street: Street, shot: Shot, main: np.ndarray) -> Box:
    rng = generator(street.seed, "box", shot.subject.name, shot.camid, shot.sequence, shot.frame, shot.box)
    tight = detector.around(extent(main))
    if shot.scene == "fragment":
        return detector.fragment(rng, tight)
    if shot.box == 0:
        return detector.hand_drawn(rng, tight)
    return detector.detected(rng, tight, street.dials.misalignment)


class _Crowd:
    """Everything in an image, with one material table."""

    def __init__(self) -> None:
        self.placed: list[np.ndarray] = []
        self.tables: list[np.ndarray] = []
        self.feet: list[tuple[float, float, float]] = []

    def add(
        self, placed: np.ndarray, table: np.ndarray, owner: int,
        *, x: float = 0.0, y: float = 0.0, away: float = 0.0, size: float = 1.0, shadow: bool = True,
    ) -> None:  # fmt: skip
        """Put something at (x, y, away) metres from the main person's feet, ``size`` times as large."""
        placed[:, [LENGTH, RADIUS, END_RADIUS]] *= size
        placed[:, BASE : BASE + 3] = placed[:, BASE : BASE + 3] * size + (x, y, away)
        placed[:, MATERIAL] += sum(map(len, self.tables))
        placed[:, OWNER] = owner
        self.placed.append(placed)
        self.tables.append(table)
        if shadow:
            self.feet.append((x, y, size))

    def merged(self) -> tuple[np.ndarray, np.ndarray]:
        """All placed shapes (n, 22) and all materials (m, 17)."""
        if not self.placed:
            return np.empty((0, COLUMNS)), np.empty((0, TABLE_COLUMNS))
        return np.concatenate(self.placed), np.concatenate(self.tables)


def _populate(crowd: _Crowd, street: Street, view: Camera, rng: np.random.Generator) -> None:
    """People behind and, as often as the dial says, something in front."""
    for _ in range(min(2, int(rng.poisson(0.3)))):
        _passer_by(crowd, street, view, rng, float(rng.uniform(1.5, 6.0)), float(rng.uniform(0.3, 1.1)))
    if rng.random() < street.dials.occlusion:
        kind = pick(rng, OCCLUDERS)
        if kind == "person":
            _passer_by(crowd, street, view, rng, -float(rng.uniform(0.7, 1.2)), float(rng.uniform(0.16, 0.5)))
        else:
            _obstacle(crowd, view, rng, kind)


def _obstacle(crowd: _Crowd, view: Camera, rng: np.random.Generator, kind: str) -> None:
    """A thing in front of the main person."""
    prop = MAKERS[kind](rng)
    away = -float(rng.uniform(0.8, 1.4))
    placed = place(prop.shapes, float(rng.normal(0, 0.3)), view.tilt)
    beside = float(rng.uniform(-1, 1)) * REACH[kind]
    crowd.add(
        placed,
        prop.table,
        BEFORE,
        x=beside,
        y=-away * sin(view.tilt),
        away=away * cos(view.tilt),
        shadow=False,
    )


def _passer_by(
    crowd: _Crowd, street: Street, view: Camera, rng: np.random.Generator, away: float, aside: float
) -> None:
    """Somebody else, ``away`` metres behind the main person (in front if negative)."""
    who = Subject("", f"passer-by {rng.integers(500)}")
    walk = Walk(float(rng.uniform(-pi, pi)), 0, 0, draw_habit(rng), 1.0)
    placed, table, _ = _person(street, who, rng, walk, walk.yaw, view)
    size = 1 / (1 + 0.09 * away)
    x = aside if rng.random() < 0.5 else -aside
    y = -away * sin(view.tilt) * size
    owner = BEHIND if away > 0 else BEFORE
    crowd.add(placed, table, owner, x=x, y=y, away=away * cos(view.tilt), size=size)


def _cast_shadows(image: np.ndarray, window: Box, crowd: _Crowd, view: Camera) -> None:
    right, down, away = view.light
    flat = sin(view.tilt)
    fall = (1.7 * right / down, -1.7 * away / down * flat)
    for foot in crowd.feet:
        cast_shadow(image, window, foot, fall, view.sun, flat)
