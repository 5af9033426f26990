"""Boxes around people, drawn by hand or by a detector that errs."""

from typing import NamedTuple

import numpy as np

from protocols.crosswalk.seeding import pick

ASPECT = 0.5  # width over height of every box


class Box(NamedTuple):
    """Part of the image plane in metres, the person's feet at the origin, y downwards."""

    left: float
    top: float
    width: float
    height: float

    def shifted(self, right: float, down: float) -> "Box":
        """Moved by shares of its own width and height."""
        return self._replace(left=self.left + right * self.width, top=self.top + down * self.height)

    def scaled(self, wide: float, high: float) -> "Box":
        """Scaled about its centre."""
        return Box(
            self.left + (1 - wide) / 2 * self.width,
            self.top + (1 - high) / 2 * self.height,
            wide * self.width,
            high * self.height,
        )


def around(extent: tuple[float, float, float, float]) -> Box:
    """The box of fixed aspect ratio around a person: a margin of 4 % above and below."""
    left, top, right, bottom = extent
    height = 1.08 * (bottom - top)
    width = max(ASPECT * height, 1.02 * (right - left))
    return Box((left + right - width) / 2, top - 0.04 * (bottom - top), width, height)


def hand_drawn(rng: np.random.Generator, box: Box) -> Box:
    """A careful annotator: within 2 % of the body."""
    right, down = rng.normal(0, 0.02, 2).tolist()
    return box.shifted(right, down).scaled(1.0, float(rng.uniform(0.98, 1.03)))


def detected(rng: np.random.Generator, box: Box, error: float) -> Box:
    """A detector whose boxes shift, scale and sometimes lose feet or head; ``error`` in 0..1."""
    right, down = (error * rng.normal(0, (0.14, 0.055))).tolist()
    size = float(np.exp(error * rng.normal(0.03, 0.16)))
    box = box.shifted(right, down).scaled(size * float(np.exp(error * rng.normal(0, 0.08))), size)
    if rng.random() < 0.5 * error:
        box = _cut(rng, box)
    return box


def _cut(rng: np.random.Generator, box: Box) -> Box:
    """Lose the feet, the head or a side."""
    share = float(rng.uniform(0.1, 0.3))
    match pick(rng, {"feet": 3.0, "head": 1.5, "side": 1.0}):
        case "feet":
            return box._replace(height=box.height * (1 - share))
        case "head":
            return box._replace(top=box.top + 0.6 * share * box.height, height=box.height * (1 - 0.6 * share))
        case _:
            return box.shifted(share if rng.random() < 0.5 else -share, 0.0)


def fragment(rng: np.random.Generator, box: Box) -> Box:
    """A box that overlaps the person by less than half."""
    size = float(rng.uniform(0.3, 0.75))
    right, down = rng.uniform(0.3, 0.75, 2) * rng.choice((-1.0, 1.0), 2)
    if rng.random() < 0.4:  # a close-up of one part of the body
        right, down = 0.3 * right, rng.uniform(-0.35, 0.4)
        size = float(rng.uniform(0.28, 0.5))
    return box.shifted(float(right), float(down)).scaled(size, size)
