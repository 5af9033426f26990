"""The one solid everything is made of: a tapered capsule with an elliptic cross-section."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from protocols.crosswalk.body import Vec, along


class Shape(NamedTuple):
    """A tapered elliptic capsule from ``start`` to ``end``; lengths in metres.

    Attributes:
        start: centre of the first end.
        end: centre of the second end.
        front: where texture angle 0 lies; need not be perpendicular to the axis.
        radius: at the start, across the front.
        end_radius: at the end.
        material: row of the material table.
        part: index into ``truth.PARTS``.
        depth: radius along the front, as a share of the radius across it.
        cap: height of the rounded start as a share of the radius; 0 leaves it open.
        end_cap: the same of the end.
        along: length coordinate of the texture at ``start``.
    """

    start: Vec
    end: Vec
    front: Vec
    radius: float
    end_radius: float
    material: int
    part: int
    depth: float = 1.0
    cap: float = 1.0
    end_cap: float = 1.0
    along: float = 0.0


def ellipsoid(
    centre: Vec, up: Vec, front: Vec, radius: float, material: int, part: int,
    *, depth: float = 1.0, tall: float = 1.0, along_axis: float = 0.0,
) -> Shape:  # fmt: skip
    """Semi-axes ``radius`` sideways, ``depth * radius`` to the front and ``tall * radius`` upwards."""
    top = along(centre, up, 1e-3)
    return Shape(centre, top, front, radius, radius, material, part, depth, tall, tall, along_axis)


def as_array(shapes: Sequence[Shape]) -> np.ndarray:
    """Rows for the rasteriser, (n, 17) float64 in the order of the fields of ``Shape``."""
    return np.array([(*s.start, *s.end, *s.front, *s[3:]) for s in shapes])
