"""Backpacks, shoulder bags and handbags; their straps are painted on the trunk."""

from protocols.crosswalk.body import Skeleton, Vec, along
from protocols.crosswalk.limbs import UP
from protocols.crosswalk.looks import Look
from protocols.crosswalk.materials import BAG
from protocols.crosswalk.shapes import Shape, ellipsoid
from protocols.crosswalk.truth import BAG as BAG_PART


def bag_shapes(look: Look, bones: Skeleton) -> list[Shape]:
    """The bag that a person carries, if any."""
    match look.bag:
        case "backpack":
            return _backpack(look, bones)
        case "shoulder":
            return [_shoulder_bag(look, bones)]
        case "handbag":
            return _handbag(look, bones)
        case _:
            return []


def _backpack(look: Look, bones: Skeleton) -> list[Shape]:
    h = look.build.height
    back = -0.1 * h * look.build.girth
    low = along(along(bones.waist, UP, 0.02 * h), bones.front, back)
    high = along(along(bones.collar, UP, -0.035 * h), bones.front, back + 0.01 * h)
    pocket = along(along(low, UP, 0.02 * h), bones.front, -0.035 * h)
    return [
        Shape(low, high, bones.front, 0.078 * h, 0.07 * h, BAG, BAG_PART, 0.6, 0.3, 0.35),
        ellipsoid(pocket, UP, bones.front, 0.058 * h, BAG, BAG_PART, depth=0.5, tall=0.75),
    ]


def _shoulder_bag(look: Look, bones: Skeleton) -> Shape:
    h = look.build.height
    left: Vec = (bones.front[2], 0.0, -bones.front[0])
    beside = along(along(bones.pelvis, left, look.bag_side * 0.115 * h * look.build.girth), UP, 0.005 * h)
    low, high = along(beside, UP, -0.035 * h), along(beside, UP, 0.035 * h)
    return Shape(low, high, left, 0.078 * h, 0.07 * h, BAG, BAG_PART, 0.42, 0.35, 0.35)


def _handbag(look: Look, bones: Skeleton) -> list[Shape]:
    h = look.build.height
    hand = bones.arms[0 if look.bag_side > 0 else 1].tips
    top, low = along(hand, UP, -0.07 * h), along(hand, UP, -0.125 * h)
    side: Vec = (bones.front[2], 0.0, -bones.front[0])
    loops = [
        Shape(hand, along(top, bones.front, shift * h), side, 0.006 * h, 0.006 * h, BAG, BAG_PART)
        for shift in (-0.035, 0.035)
    ]
    return [*loops, Shape(top, low, side, 0.058 * h, 0.07 * h, BAG, BAG_PART, 0.42, 0.25, 0.3)]
