"""Legs and arms, bare or in clothes."""

from protocols.crosswalk.body import ArmJoints, Leg, Skeleton, Vec, between
from protocols.crosswalk.looks import Look
from protocols.crosswalk.materials import BOTTOM, SHOE, SKIN, SLEEVE
from protocols.crosswalk.shapes import Shape
from protocols.crosswalk.truth import HANDS, LOWER_ARMS, SHINS, SHOES, THIGHS, UPPER_ARMS

BARE_LEGS = ("shorts", "skirt")
LONG_SLEEVES = ("shirt", "hoodie", "jacket", "coat")
UP: Vec = (0.0, 1.0, 0.0)


def limb_shapes(look: Look, bones: Skeleton) -> list[Shape]:
    """Both legs with shoes, both arms with hands."""
    bare = look.bottom in BARE_LEGS or look.top == "dress"
    shapes = []
    for leg in bones.legs:
        shapes += _bare_leg(look, leg, bones.front) if bare else _trouser_leg(look, leg, bones.front)
        shapes += _foot(look, leg)
    for arm in bones.arms:
        shapes += _arm(look, arm, bones.front)
    return shapes


def _trouser_leg(look: Look, leg: Leg, front: Vec) -> list[Shape]:
    w = look.build.height * look.build.girth
    knee, hem = (0.038 + 0.009 * look.fit) * w, (0.024 + 0.014 * look.fit) * w
    calf = between(leg.knee, leg.ankle, 0.35)
    thigh_length = 0.235 * look.build.height
    return [
        Shape(leg.hip, leg.knee, front, 0.059 * w, knee, BOTTOM, THIGHS),
        Shape(leg.knee, calf, front, knee, 0.97 * knee, BOTTOM, SHINS, along=thigh_length),
        Shape(calf, leg.ankle, front, 0.97 * knee, hem, BOTTOM, SHINS, 1.0, 0.0, 0.2, 1.35 * thigh_length),
    ]


def _bare_leg(look: Look, leg: Leg, front: Vec) -> list[Shape]:
    w = look.build.height * look.build.girth
    calf = between(leg.knee, leg.ankle, 0.32)
    shapes = [
        Shape(leg.hip, leg.knee, front, 0.055 * w, 0.036 * w, SKIN, THIGHS),
        Shape(leg.knee, calf, front, 0.034 * w, 0.037 * w, SKIN, SHINS),
        Shape(calf, leg.ankle, front, 0.037 * w, 0.022 * w, SKIN, SHINS),
    ]
    if look.bottom == "shorts" and look.top != "dress":
        hem = between(leg.hip, leg.knee, 0.55 + 0.4 * look.fit)
        shapes.append(Shape(leg.hip, hem, front, 0.06 * w, 0.056 * w, BOTTOM, THIGHS, 1.0, 1.0, 0.0))
    return shapes


def _foot(look: Look, leg: Leg) -> list[Shape]:
    h = look.build.height
    shapes = [
        Shape(leg.heel, leg.toe, UP, 0.021 * h, 0.0215 * h, SHOE, SHOES, 0.95, 1.0, 1.1),
        Shape(leg.ankle, between(leg.heel, leg.toe, 0.45), UP, 0.019 * h, 0.018 * h, SHOE, SHOES),
    ]
    if look.shoes == "boots":
        shaft = between(leg.ankle, leg.knee, 0.35)
        shapes.append(Shape(leg.ankle, shaft, UP, 0.026 * h, 0.033 * h, SHOE, SHOES, 1.0, 1.0, 0.0))
    return shapes


def _arm(look: Look, arm: ArmJoints, front: Vec) -> list[Shape]:
    w = look.build.height * look.build.girth
    long = look.top in LONG_SLEEVES
    bulk = {"shirt": 1.0, "hoodie": 1.12, "jacket": 1.1, "coat": 1.18}.get(look.top, 1.0)
    upper, lower = (SLEEVE, SLEEVE) if long else (SKIN, SKIN)
    thick = 0.029 * w * bulk if long else 0.0255 * w
    shapes = [
        Shape(arm.shoulder, arm.elbow, front, 1.1 * thick, 0.9 * thick, upper, UPPER_ARMS),
        Shape(arm.elbow, arm.wrist, front, 0.9 * thick, 0.66 * thick, lower, LOWER_ARMS, 1.0, 1.0, 0.3, 0.3),
        Shape(arm.wrist, between(arm.wrist, arm.tips, 0.75), front, 0.0155 * w, 0.0135 * w, SKIN, HANDS, 1.3),
    ]
    if look.top in ("tee", "dress"):
        hem = between(arm.shoulder, arm.elbow, 0.45 + 0.3 * look.fit)
        shapes.append(
            Shape(arm.shoulder, hem, front, 0.034 * w, 0.034 * w, SLEEVE, UPPER_ARMS, 1.0, 1.0, 0.0)
        )
    return shapes
