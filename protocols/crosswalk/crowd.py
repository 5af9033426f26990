"""Everybody and everything in an image: the main person, people behind, things in front."""

from math import cos, pi, sin
from typing import NamedTuple

import numpy as np

from protocols.crosswalk.body import Skeleton
from protocols.crosswalk.cameras import Camera
from protocols.crosswalk.figure import figure, materials_of
from protocols.crosswalk.ground import cast_shadow
from protocols.crosswalk.looks import look_of
from protocols.crosswalk.materials import TABLE_COLUMNS
from protocols.crosswalk.props import MAKERS
from protocols.crosswalk.raster import (
    BASE,
    COLUMNS,
    END_RADIUS,
    LENGTH,
    MATERIAL,
    OWNER,
    RADIUS,
    Window,
    place,
)
from protocols.crosswalk.seeding import pick
from protocols.crosswalk.shots import Subject
from protocols.crosswalk.stances import draw_habit, draw_stance
from protocols.crosswalk.walks import Street, Walk, pace_of

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
CREEP = 0.3  # metres a second at which somebody hardly comes nearer to a thing
OUT_OF_SIGHT = 5.0  # metres to the side at which even a car has left every box


def person(
    street: Street, subject: Subject, rng: np.random.Generator, walk: Walk, yaw: float, view: Camera
) -> tuple[np.ndarray, np.ndarray, Skeleton]:
    """Somebody in one stance: placed shapes (n, 22), materials (9, 17) and the skeleton inside."""
    look = look_of(street.seed, subject)
    left, right, stride = walk.habit
    if look.bag == "handbag":  # hangs from an arm that hangs
        left, right = ("swing", right) if look.bag_side > 0 else (left, "swing")
    shapes, bones = figure(look, draw_stance(rng, (left, right, stride), walk.advance))
    return place(shapes, yaw, view.tilt), materials_of(look), bones


class Crowd:
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


class Meeting(NamedTuple):
    """The main person's walk, and how many seconds ago things were where they are drawn at random."""

    walk: Walk
    since: float

    def drifted(self, yaw: float, pace: float) -> float:
        """Metres to the right that something moving so has drifted from the main person since.

        Depth is left as drawn: what is in front of somebody stays in front.
        """
        return self.since * (pace * sin(yaw) - self.walk.pace * sin(self.walk.yaw))

    def passes_things(self) -> bool:
        """Whether things that stand still go by sideways, instead of being walked into."""
        ahead, aside = self.walk.pace * cos(self.walk.yaw), self.walk.pace * sin(self.walk.yaw)
        return abs(ahead) <= max(abs(aside), CREEP)


def populate(crowd: Crowd, street: Street, view: Camera, rng: np.random.Generator, meeting: Meeting) -> None:
    """People behind and, as often as the dial says, something in front."""
    for _ in range(min(2, int(rng.poisson(0.3)))):
        place_behind = float(rng.uniform(1.5, 6.0)), float(rng.uniform(0.3, 1.1))
        _passer_by(crowd, street, view, rng, meeting, *place_behind)
    if rng.random() < street.dials.occlusion:
        kind = pick(rng, OCCLUDERS)
        if kind == "person" or not meeting.passes_things():
            place_before = -float(rng.uniform(0.7, 1.2)), float(rng.uniform(0.16, 0.5))
            _passer_by(crowd, street, view, rng, meeting, *place_before)
        else:
            _obstacle(crowd, view, rng, meeting, kind)


def _obstacle(crowd: Crowd, view: Camera, rng: np.random.Generator, meeting: Meeting, kind: str) -> None:
    """A thing in front of the main person."""
    prop = MAKERS[kind](rng)
    away = -float(rng.uniform(0.8, 1.4))
    placed = place(prop.shapes, float(rng.normal(0, 0.3)), view.tilt)
    beside = float(rng.uniform(-1, 1)) * REACH[kind] + meeting.drifted(0.0, 0.0)
    if abs(beside) > OUT_OF_SIGHT:
        return
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
    crowd: Crowd, street: Street, view: Camera, rng: np.random.Generator, meeting: Meeting,
    away: float, aside: float,
) -> None:  # fmt: skip
    """Somebody else, ``away`` metres behind the main person (in front if negative)."""
    who = Subject("", f"passer-by {rng.integers(500)}")
    yaw, habit = float(rng.uniform(-pi, pi)), draw_habit(rng)
    walk = Walk(yaw, 0, 0, habit, 1.0, advance=2 * pi * meeting.since)
    placed, table, _ = person(street, who, rng, walk, yaw, view)
    size = 1 / (1 + 0.09 * away)
    x = (aside if rng.random() < 0.5 else -aside) + meeting.drifted(yaw, pace_of(habit, walk.period))
    if abs(x) > OUT_OF_SIGHT:
        return
    y = -away * sin(view.tilt) * size
    owner = BEHIND if away > 0 else BEFORE
    crowd.add(placed, table, owner, x=x, y=y, away=away * cos(view.tilt), size=size)


def cast_shadows(image: np.ndarray, window: Window, crowd: Crowd, view: Camera) -> None:
    """Darken the ground in ``image`` (H, W, 3) under everybody who stands there."""
    right, down, away = view.light
    flat = sin(view.tilt)
    fall = (1.7 * right / down, -1.7 * away / down * flat)
    for foot in crowd.feet:
        cast_shadow(image, window, foot, fall, view.sun, flat)
