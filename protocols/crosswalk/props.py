"""Things on a street, parked behind people or standing in front of them; made of the same shapes.

Axes as for people: x along the thing, y up, z towards the viewer; metres.
"""

from collections.abc import Callable
from math import cos, hypot, pi, sin
from typing import NamedTuple

import numpy as np

from protocols.crosswalk import materials
from protocols.crosswalk.body import Vec
from protocols.crosswalk.materials import Material, plain
from protocols.crosswalk.palette import Colour, colour, draw
from protocols.crosswalk.shapes import Shape, as_array, ellipsoid
from protocols.crosswalk.truth import OCCLUDER

UP: Vec = (0.0, 1.0, 0.0)
NEAR: Vec = (0.0, 0.0, 1.0)
RUBBER, STEEL, GLASS = colour("1d1d1f"), colour("8f9398"), colour("232b33")
PAINT = {
    "d9dadb": 3.0,
    "34373c": 1.5,
    "7d8186": 2.0,
    "8e2327": 1.0,
    "2a4470": 1.0,
    "c9b458": 0.4,
    "2f5d45": 0.5,
}


class Prop(NamedTuple):
    """Shapes (n, 17) and their material table (m, 17)."""

    shapes: np.ndarray
    table: np.ndarray


def _prop(shapes: list[Shape], surfaces: list[Material]) -> Prop:
    return Prop(as_array(shapes), materials.as_array(surfaces))


def _rod(start: Vec, end: Vec, radius: float, material: int = 0, front: Vec = (0.3, 0.2, 0.93)) -> Shape:
    return Shape(start, end, front, radius, radius, material, OCCLUDER)


def _unit(vector: Vec) -> Vec:
    length = hypot(*vector)
    return (vector[0] / length, vector[1] / length, vector[2] / length)


def pole(rng: np.random.Generator) -> Prop:
    """A lamp post, a traffic sign's post or a thin tree."""
    radius = float(rng.uniform(0.04, 0.13))
    bark = colour("5b5046")
    hue = STEEL if rng.random() < 0.6 else bark
    return _prop([_rod((0.0, -0.3, 0.0), (0.0, 4.0, 0.0), radius)], [plain(hue, 0.9 if hue == bark else 0.2)])


def bollard(rng: np.random.Generator) -> Prop:
    """A short thick post."""
    height, radius = float(rng.uniform(0.7, 1.0)), float(rng.uniform(0.08, 0.16))
    rings = Material(draw(rng, PAINT), colour("d9d4c4"), RUBBER, RUBBER, materials.CODE["hoops"], 0.0, 0.2)
    return _prop([_rod((0.0, -0.2, 0.0), (0.0, height, 0.0), radius)], [rings])


def railing(rng: np.random.Generator) -> Prop:
    """A fence of bars along x, 4 m long."""
    height, gap = float(rng.uniform(0.8, 1.15)), float(rng.uniform(0.13, 0.4))
    rails = [_rod((-2.0, y, 0.0), (2.0, y, 0.0), 0.028, front=UP) for y in (0.12, height)]
    bars = [_rod((x, -0.1, 0.0), (x, height, 0.0), 0.014) for x in np.arange(-2, 2, gap).tolist()]
    hue = draw(rng, {"8f9398": 2.0, "3a3d40": 2.0, "d8d8d4": 1.0, "2f5d45": 0.7})
    return _prop([*rails, *bars], [plain(hue, 0.1)])


def bicycle(rng: np.random.Generator) -> Prop:
    """A bicycle seen from its side."""
    shapes = [spoke for x in (-0.52, 0.52) for spoke in _wheel(x)]
    rear, front, crank, saddle, head = (
        (-0.52, 0.34, 0.0), (0.52, 0.34, 0.0), (-0.08, 0.3, 0.0), (-0.2, 0.86, 0.0), (0.38, 0.84, 0.0),
    )  # fmt: skip
    for start, end in (
        (rear, crank),
        (crank, saddle),
        (crank, head),
        (saddle, head),
        (rear, saddle),
        (front, head),
    ):
        shapes.append(_rod(start, end, 0.02, 1))
    shapes.append(_rod((0.36, 0.98, -0.28), (0.36, 0.98, 0.28), 0.016, 2, front=UP))
    shapes.append(_rod(head, (0.36, 0.98, 0.0), 0.018, 2))
    shapes.append(Shape((-0.34, 0.93, 0.0), (-0.1, 0.93, 0.0), UP, 0.08, 0.035, 0, OCCLUDER, 0.5))
    if rng.random() < 0.5:  # a basket
        shapes.append(
            Shape((0.56, 0.68, 0.0), (0.58, 0.9, 0.0), NEAR, 0.15, 0.18, 2, OCCLUDER, 0.9, 0.2, 0.1)
        )
    return _prop(shapes, [plain(RUBBER), plain(draw(rng, PAINT), 0.1), plain(STEEL)])


def _wheel(x: float, radius: float = 0.33, pieces: int = 14) -> list[Shape]:
    rim: list[Vec] = [
        (x + radius * cos(2 * pi * n / pieces), 0.34 + radius * sin(2 * pi * n / pieces), 0.0)
        for n in range(pieces)
    ]
    return [_rod(rim[n - 1], rim[n], 0.019, 0) for n in range(pieces)]


def car(rng: np.random.Generator) -> Prop:
    """A saloon car seen from its side."""
    body = Shape((-1.95, 0.62, 0.0), (1.95, 0.58, 0.0), UP, 0.85, 0.8, 0, OCCLUDER, 0.38, 0.16, 0.2)
    cabin = Shape((-1.0, 0.98, 0.0), (0.6, 0.98, 0.0), UP, 0.74, 0.7, 1, OCCLUDER, 0.5, 0.45, 0.8)
    roof = Shape((-0.85, 1.28, 0.0), (0.3, 1.28, 0.0), UP, 0.64, 0.62, 0, OCCLUDER, 0.17, 0.3, 0.4)
    wheels = [
        Shape((x, 0.31, 0.74), (x, 0.31, 0.8), UP, radius, radius, material, OCCLUDER, 1.0, 0.1, 0.12)
        for x in (-1.25, 1.25)
        for radius, material in ((0.33, 2), (0.19, 3))
    ]
    wheels = [w._replace(end=(w.end[0], w.end[1], 0.83)) if w.material == 3 else w for w in wheels]
    return _prop(
        [body, cabin, roof, *wheels], [plain(draw(rng, PAINT)), plain(GLASS), plain(RUBBER), plain(STEEL)]
    )


def bush(rng: np.random.Generator) -> Prop:
    """A rounded shrub, about 1.5 m wide."""
    tall = float(rng.uniform(0.5, 1.0))
    leaves = []
    for x, y, z, r in rng.uniform((-0.7, 0.0, -0.25, 0.03), (0.7, 1.0, 0.25, 0.1), (170, 4)).tolist():
        high = y * tall * (1.1 - x * x)
        tip = (x * 1.6, 0.6 + z, 0.5 + z)
        leaves.append(
            ellipsoid((x, high, z), _unit(tip), (1.0, 0.1, 0.2), r, 0, OCCLUDER, depth=0.6, tall=1.4)
        )
    green = draw(rng, {"3f5a2c": 2.0, "56703a": 1.5, "2c4526": 1.5, "6f7d3f": 0.5})
    return _prop(leaves, [plain(green, 0.8, "leaves")])


def bin_(rng: np.random.Generator) -> Prop:
    """A waste bin."""
    hue: Colour = draw(rng, {"2f5d45": 1.0, "55595d": 2.0, "27406b": 0.6})
    body = Shape((0.0, 0.05, 0.0), (0.0, 0.85, 0.0), NEAR, 0.24, 0.28, 0, OCCLUDER, 0.9, 0.1, 0.25)
    return _prop([body], [plain(hue, 0.1)])


MAKERS: dict[str, Callable[[np.random.Generator], Prop]] = {
    "pole": pole,
    "bollard": bollard,
    "railing": railing,
    "bicycle": bicycle,
    "car": car,
    "bush": bush,
    "bin": bin_,
}
