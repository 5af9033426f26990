"""How somebody crosses the view of one camera."""

from functools import lru_cache
from math import cos, inf, pi, sin, sqrt
from typing import NamedTuple

import numpy as np

from protocols.crosswalk.backdrop import wall_row
from protocols.crosswalk.cameras import FRAME_HEIGHT, FRAME_WIDTH, Camera
from protocols.crosswalk.dials import Dials
from protocols.crosswalk.seeding import generator
from protocols.crosswalk.shots import Moment, Shot, Subject
from protocols.crosswalk.stances import draw_habit

LEG = 0.85  # metres from hip to sole
STANDING = 0.1  # a stride below this, radians, takes nobody anywhere
SWAY = 4.0  # seconds in which somebody who stands shifts the weight to the other leg and back


class Street(NamedTuple):
    """What all images of a street share."""

    seed: int
    dials: Dials


class Walk(NamedTuple):
    """How somebody crosses one camera's view, and where they are at one moment.

    Attributes:
        yaw: direction; 0 is towards the camera, radians.
        column: of the feet in the frame, pixels.
        row: of the feet in the frame, pixels.
        habit: left arm, right arm, stride in radians.
        exposure: factor on light.
        period: of one gait cycle, two steps, seconds.
        pace: metres a second; 0 in a still.
        advance: of the gait since the tracklet's first frame, radians.
    """

    yaw: float
    column: float
    row: float
    habit: tuple[str, str, float]
    exposure: float
    period: float = 1.0
    pace: float = 0.0
    advance: float = 0.0


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
        period=float(rng.uniform(0.9, 1.0)),
    )


def _signed(angle: float) -> float:
    """The same direction in -pi..pi."""
    return (angle + pi) % (2 * pi) - pi


def walk_of(street: Street, view: Camera, shot: Shot) -> Walk:
    """The track at this moment of a tracklet, or at this step: half a metre a still."""
    walk = _track(street, view, shot.subject, shot.camid, shot.sequence)
    if shot.moment is not None:
        return _at(shot.moment, walk if shot.scene != "nobody" else _standing(walk), view)
    way = 0.5 * shot.step
    column = walk.column + way * sin(walk.yaw) * view.scale(walk.row)
    row = walk.row + way * cos(walk.yaw) * sin(view.tilt) * view.scale(walk.row)
    (left, right), (top, bottom) = _ground(view)
    return walk._replace(column=min(max(column, left), right), row=min(max(row, top), bottom))


def pace_of(habit: tuple[str, str, float], period: float) -> float:
    """Metres a second at which a standing foot does not slide; 0 for somebody who stands."""
    stride = habit[2]
    return 4 * LEG * sin(stride) / period if stride > STANDING else 0.0


def _standing(walk: Walk) -> Walk:
    left, right, _ = walk.habit
    return walk._replace(habit=(left, right, 0.0))


def _heading(walk: Walk, view: Camera) -> tuple[float, float]:
    """Pixels of the frame, right and down, for one metre walked."""
    scale = view.scale(walk.row)
    return sin(walk.yaw) * scale, cos(walk.yaw) * sin(view.tilt) * scale


def _ground(view: Camera) -> tuple[tuple[float, float], tuple[float, float]]:
    """Columns and rows of the frame where feet may be, least and greatest."""
    return (0.08 * FRAME_WIDTH, 0.92 * FRAME_WIDTH), (wall_row(view) + 45.0, FRAME_HEIGHT - 12.0)


def _at(moment: Moment, walk: Walk, view: Camera) -> Walk:
    """A straight way at an even pace, its middle where the track was drawn or as near as it fits.

    Who stays longer than it takes to cross the view walks slower, with shorter steps and fewer of
    them in equal measure, as people do.
    """
    natural = pace_of(walk.habit, walk.period)
    if not natural:
        return walk._replace(advance=2 * pi * moment.elapsed / SWAY)
    heading, ground = _heading(walk, view), _ground(view)
    room = min((most - least) / max(abs(d), 1e-9) for d, (least, most) in zip(heading, ground, strict=True))
    pace = min(natural, room / moment.lasting if moment.lasting else inf)
    slower = sqrt(pace / natural)
    middles = (walk.column, walk.row)
    column, row = (
        _along(middle, d * pace, bounds, moment)
        for middle, d, bounds in zip(middles, heading, ground, strict=True)
    )
    left, right, stride = walk.habit
    return walk._replace(
        column=column,
        row=row,
        habit=(left, right, stride * slower),
        period=walk.period / slower,
        pace=pace,
        advance=2 * pi * slower * moment.elapsed / walk.period,
    )


def _along(middle: float, speed: float, bounds: tuple[float, float], moment: Moment) -> float:
    """Place at a moment on a way through ``middle`` that is moved to lie inside ``bounds``, pixels."""
    half = abs(speed) * moment.lasting / 2
    middle = max(min(middle, bounds[1] - half), bounds[0] + half)
    return middle + speed * (moment.elapsed - moment.lasting / 2)
