"""A skeleton in metres: x to the person's left, y up, z forward; feet on y = 0.

Lengths are shares of stature, rounded from tables of adult anthropometry.
"""

from math import cos, hypot, sin
from typing import NamedTuple

from protocols.crosswalk.looks import Build

Vec = tuple[float, float, float]

THIGH, SHIN, ANKLE, FOOT, SOLE = 0.235, 0.235, 0.042, 0.105, 0.02
UPPER_ARM, FOREARM, HAND = 0.172, 0.147, 0.085


class Arm(NamedTuple):
    """Angles in radians: upper arm forward and outward, bend of the elbow, forearm inward."""

    forward: float
    outward: float
    bend: float
    inward: float


class Stance(NamedTuple):
    """How a body is held at one moment; angles in radians.

    ``phase`` runs over one gait cycle in 0..2 pi; ``stride`` is how far the hips swing, near 0 for
    somebody who stands. ``arms`` are left, right.
    """

    phase: float
    stride: float
    lean: float
    head_yaw: float
    head_pitch: float
    arms: tuple[Arm, Arm]


class Leg(NamedTuple):
    """Joints of one leg, and the sole's two ends."""

    hip: Vec
    knee: Vec
    ankle: Vec
    heel: Vec
    toe: Vec


class ArmJoints(NamedTuple):
    """Joints of one arm, and the finger tips."""

    shoulder: Vec
    elbow: Vec
    wrist: Vec
    tips: Vec


class Skeleton(NamedTuple):
    """Joint positions; pairs are left, right. ``front`` and ``head_front`` are unit vectors."""

    pelvis: Vec
    waist: Vec
    chest: Vec
    collar: Vec
    neck: Vec
    head: Vec
    head_up: Vec
    head_front: Vec
    front: Vec
    legs: tuple[Leg, Leg]
    arms: tuple[ArmJoints, ArmJoints]


def pose(build: Build, stance: Stance) -> Skeleton:
    """Put a body of this build into a stance."""
    h = build.height
    legs = _grounded([_leg(build, stance, side) for side in (1, -1)], SOLE * h)
    hip_height = legs[0].hip[1]
    up = (0.0, cos(stance.lean), sin(stance.lean))
    twist = -0.3 * stance.stride * sin(stance.phase)
    front = (sin(twist), 0.0, cos(twist))
    pelvis = (0.0, hip_height + 0.02 * h, 0.0)
    waist, chest, collar, neck = (along(pelvis, up, share * h) for share in (0.085, 0.19, 0.275, 0.305))
    head, head_up, head_front = _head(stance, neck, h, twist)
    arms = tuple(
        _arm(build, arm, collar, front, side) for side, arm in zip((1, -1), stance.arms, strict=True)
    )
    return Skeleton(
        pelvis, waist, chest, collar, neck, head, head_up, head_front, front, legs, (arms[0], arms[1])
    )


def along(start: Vec, direction: Vec, length: float) -> Vec:
    """The point ``length`` metres from ``start``."""
    return (
        start[0] + direction[0] * length,
        start[1] + direction[1] * length,
        start[2] + direction[2] * length,
    )


def between(one: Vec, other: Vec, share: float) -> Vec:
    """The point at ``share`` of the way."""
    return (
        one[0] + share * (other[0] - one[0]),
        one[1] + share * (other[1] - one[1]),
        one[2] + share * (other[2] - one[2]),
    )


def _leg(build: Build, stance: Stance, side: int) -> Leg:
    """One leg, hip at y = 0; ``side`` is 1 for left, -1 for right."""
    h = build.height
    phase = stance.phase if side == 1 else stance.phase + 3.14159
    thigh = stance.stride * sin(phase) + 0.12 * stance.stride
    lifted = max(0.0, cos(phase + 0.35))  # the leg bends while it swings forward
    shin = thigh - 0.06 - 1.9 * stance.stride * lifted * lifted
    sole = -min(0.0, shin + 0.15) * 1.1 - 0.5 * max(0.0, shin)  # toes down behind, heel first in front
    hip = (side * 0.05 * h * build.hips, 0.0, 0.0)
    knee = along(hip, (side * 0.02, -cos(thigh), sin(thigh)), THIGH * h)
    ankle = along(knee, (-side * 0.02, -cos(shin), sin(shin)), SHIN * h)
    forward = (side * 0.14, -sin(sole), cos(sole))
    down = (0.0, -cos(sole), -sin(sole))
    bottom = along(ankle, down, (ANKLE - SOLE) * h)
    return Leg(hip, knee, ankle, along(bottom, forward, -0.025 * h), along(bottom, forward, FOOT * h))


def _grounded(legs: list[Leg], sole: float) -> tuple[Leg, Leg]:
    """Shift both legs up so that the lower shoe stands on the ground."""
    lowest = min(min(leg.heel[1], leg.toe[1]) for leg in legs) - sole
    left, right = (Leg(*((x, y - lowest, z) for x, y, z in leg)) for leg in legs)
    return left, right


def _head(stance: Stance, neck: Vec, h: float, twist: float) -> tuple[Vec, Vec, Vec]:
    yaw = twist + stance.head_yaw
    front = (sin(yaw) * cos(stance.head_pitch), -sin(stance.head_pitch), cos(yaw) * cos(stance.head_pitch))
    up = (sin(yaw) * sin(stance.head_pitch), cos(stance.head_pitch), cos(yaw) * sin(stance.head_pitch))
    return along(along(neck, up, 0.1 * h), front, 0.012 * h), up, front


def _arm(build: Build, arm: Arm, collar: Vec, front: Vec, side: int) -> ArmJoints:
    h = build.height
    left = (front[2], 0.0, -front[0])
    shoulder = along(collar, left, side * 0.102 * h * build.shoulders)
    elbow = along(shoulder, _swung(arm.forward, arm.outward, left, front, side), UPPER_ARM * h)
    fore = _swung(arm.forward + arm.bend, 0.4 * arm.outward - arm.inward, left, front, side)
    wrist = along(elbow, fore, FOREARM * h)
    return ArmJoints(shoulder, elbow, wrist, along(wrist, fore, HAND * h))


def _swung(forward: float, outward: float, left: Vec, front: Vec, side: int) -> Vec:
    """Unit vector: straight down, then swung forward and outward."""
    lateral, ahead, down = side * sin(outward), sin(forward) * cos(outward), cos(forward) * cos(outward)
    x, z = left[0] * lateral + front[0] * ahead, left[2] * lateral + front[2] * ahead
    length = hypot(x, down, z)
    return (x / length, -down / length, z / length)
