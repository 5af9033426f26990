"""How somebody crosses the view of one camera."""

from functools import lru_cache
from math import cos, pi, sin
from typing import NamedTuple

import numpy as np

from protocols.crosswalk.backdrop import wall_row
from protocols.crosswalk.cameras import FRAME_HEIGHT, FRAME_WIDTH, Camera
from protocols.crosswalk.dials import Dials
from protocols.crosswalk.seeding import generator
from protocols.crosswalk.shots import Shot, Subject
from protocols.crosswalk.stances import draw_habit


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


def walk_of(street: Street, view: Camera, shot: Shot) -> Walk:
    """The track at this step: half a metre a frame along the heading, inside the frame."""
    walk = _track(street, view, shot.subject, shot.camid, shot.sequence)
    way = 0.5 * shot.step
    column = walk.column + way * sin(walk.yaw) * view.scale(walk.row)
    row = walk.row + way * cos(walk.yaw) * sin(view.tilt) * view.scale(walk.row)
    column = min(max(column, 0.08 * FRAME_WIDTH), 0.92 * FRAME_WIDTH)
    return walk._replace(column=column, row=min(max(row, wall_row(view) + 45.0), FRAME_HEIGHT - 12.0))
