"""Trunk and neck, and the clothes on them. Factors of stature turn into metres through ``h``."""

from protocols.crosswalk.body import Skeleton, Vec, along, between
from protocols.crosswalk.looks import Look
from protocols.crosswalk.materials import BOTTOM, SKIN, TOP
from protocols.crosswalk.shapes import Shape, ellipsoid
from protocols.crosswalk.truth import HEAD, HIPS, TORSO

THICKNESS = {"coat": 1.14, "jacket": 1.1, "hoodie": 1.1, "vest": 0.98}  # of clothes, relative to a shirt


def trunk_shapes(look: Look, bones: Skeleton) -> list[Shape]:
    """Pelvis, belly, chest, shoulders and neck, with what is worn below the waist in one piece."""
    h = look.build.height
    up, front = bones.head_up, bones.front
    shapes = [
        *_pelvis(look, bones),
        *_torso(look, bones),
        *_shoulders(look, bones),
        Shape(along(bones.neck, front, -0.01 * h), along(bones.head, up, -0.02 * h), front,
              0.036 * h, 0.031 * h, SKIN, HEAD),
    ]  # fmt: skip
    if look.build.bust:
        shapes.append(_bust(look, bones))
    if look.top in ("hoodie", "jacket", "coat", "shirt"):
        shapes.append(_collar(look, bones))
    if look.top in ("dress", "coat"):
        shapes.append(_skirt(look, bones, TOP, 0.72 if look.top == "coat" else 0.95))
    elif look.bottom == "skirt":
        shapes.append(_skirt(look, bones, BOTTOM, 0.65 + 0.4 * look.fit))
    return shapes


def _width(look: Look) -> float:
    return look.build.height * look.build.girth * THICKNESS.get(look.top, 1.03)


def _pelvis(look: Look, bones: Skeleton) -> list[Shape]:
    h, build = look.build.height, look.build
    low = along(bones.pelvis, (0.0, -1.0, 0.0), 0.035 * h)
    radius = 0.09 * h * build.girth * build.hips
    seat = along(low, bones.front, -0.022 * h)
    return [
        Shape(low, bones.waist, bones.front, radius, 0.083 * h * build.girth, BOTTOM, HIPS, 0.78, 0.5, 0.3),
        ellipsoid(
            seat, (0.0, 1.0, 0.0), bones.front, 0.07 * h * build.girth, BOTTOM, HIPS, depth=0.85, tall=0.85
        ),
    ]


def _torso(look: Look, bones: Skeleton) -> list[Shape]:
    h, build, width = look.build.height, look.build, _width(look)
    hips, chest = 0.096 * width * build.hips, 0.0905 * width * (0.35 + 0.65 * build.shoulders)
    waist = (0.083 if look.female else 0.087) * width
    hem = along(
        bones.pelvis, (0.0, -1.0, 0.0), (0.03 if look.top in ("hoodie", "jacket", "tee") else 0.01) * h
    )
    low = 0.085 * h
    return [
        Shape(hem, bones.waist, bones.front, hips, waist, TOP, TORSO, 0.78, 0.0, 0.0, -0.01 * h),
        Shape(bones.waist, bones.chest, bones.front, waist, chest, TOP, TORSO, 0.76, 0.3, 0.2, low),
        Shape(
            bones.chest, bones.collar, bones.front, chest, 0.84 * chest, TOP, TORSO, 0.74, 0.2, 0.3, 0.19 * h
        ),
    ]


def _shoulders(look: Look, bones: Skeleton) -> list[Shape]:
    h, width = look.build.height, _width(look)
    base = along(bones.neck, bones.front, -0.012 * h)
    return [
        Shape(base, arm.shoulder, bones.front, 0.027 * width, 0.029 * width, TOP, TORSO, 1.1, along=0.27 * h)
        for arm in bones.arms
    ]


def _bust(look: Look, bones: Skeleton) -> Shape:
    h, size = look.build.height, look.build.bust
    left: Vec = (bones.front[2], 0.0, -bones.front[0])
    middle = along(along(bones.chest, (0.0, 1.0, 0.0), 0.01 * h), bones.front, 0.032 * h)
    ends = (along(middle, left, side * 0.038 * h) for side in (-1, 1))
    radius = (0.032 + 0.012 * size) * _width(look)
    return Shape(next(ends), next(ends), (0.0, 1.0, 0.0), radius, radius, TOP, TORSO, 1.1, along=0.2 * h)


def _collar(look: Look, bones: Skeleton) -> Shape:
    h = look.build.height
    base = along(bones.neck, bones.front, -0.014 * h)
    if look.top == "hoodie":  # the hood, hanging behind the neck
        low = along(along(base, bones.front, -0.045 * h), (0.0, -1.0, 0.0), 0.02 * h)
        return ellipsoid(low, (0.0, 1.0, 0.0), bones.front, 0.062 * h, TOP, TORSO, depth=0.6, tall=0.75)
    height = 0.018 if look.top == "shirt" else 0.03
    top = along(base, bones.head_up, height * h)
    return Shape(base, top, bones.front, 0.044 * h, 0.04 * h, TOP, TORSO, 1.0, 0.0, 0.0, 0.28 * h)


def _skirt(look: Look, bones: Skeleton, material: int, reach: float) -> Shape:
    """From the waist down to ``reach`` of the thigh; as wide as the stride needs."""
    h, build = look.build.height, look.build
    left, right = (leg.knee for leg in bones.legs)
    end = between(bones.waist, between(left, right, 0.5), reach)
    stride = abs(left[2] - right[2]) / 2 * reach
    wide = (0.092 * build.hips + 0.018 * look.fit) * h * build.girth * (1.08 if look.top == "coat" else 1.0)
    deep = max(0.72, (stride + 0.055 * h) / wide)
    narrow = max(0.084 * h * build.girth, 0.8 * wide)
    return Shape(bones.waist, end, bones.front, narrow, 1.12 * wide, material, HIPS, deep, 0.2, 0.0, -0.3 * h)
