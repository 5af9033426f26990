"""Head, hair and headgear."""

from protocols.crosswalk.body import Skeleton, Vec, along
from protocols.crosswalk.looks import Look
from protocols.crosswalk.materials import FACE, HAIR, HAT
from protocols.crosswalk.shapes import Shape, ellipsoid
from protocols.crosswalk.truth import HAIR as HAIR_PART
from protocols.crosswalk.truth import HEAD


class _Frame:
    """Places things on a head: shares of stature up, to the front and to the left of its centre."""

    def __init__(self, look: Look, bones: Skeleton) -> None:
        self.h = look.build.height
        self.bones = bones
        (ux, uy, uz), (fx, fy, fz) = bones.head_up, bones.head_front
        self.left: Vec = (uy * fz - uz * fy, uz * fx - ux * fz, ux * fy - uy * fx)

    def at(self, up: float, front: float, left: float = 0.0) -> Vec:
        raised = along(self.bones.head, self.bones.head_up, up * self.h)
        return along(along(raised, self.bones.head_front, front * self.h), self.left, left * self.h)

    def blob(
        self, up: float, front: float, radius: float, material: int, *,
        left: float = 0.0, depth: float = 1.0, tall: float = 1.0,
    ) -> Shape:  # fmt: skip
        """An ellipsoid whose texture is measured from the centre of the head."""
        part = HEAD if material == FACE else HAIR_PART
        where = self.at(up, front, left)
        return ellipsoid(
            where, self.bones.head_up, self.bones.head_front, radius * self.h, material, part,
            depth=depth, tall=tall, along_axis=up * self.h,
        )  # fmt: skip


def head_shapes(look: Look, bones: Skeleton) -> list[Shape]:
    """Skull, jaw, nose, ears, hair and what is worn on the head."""
    frame = _Frame(look, bones)
    shapes = [
        frame.blob(0.016, -0.004, 0.0435, FACE, depth=1.24, tall=1.1),
        frame.blob(-0.02, 0.009, 0.0365, FACE, depth=1.12, tall=1.25),
        frame.blob(-0.012, 0.05, 0.008, FACE, depth=1.3, tall=1.5),
        *(
            frame.blob(-0.006, -0.004, 0.011, FACE, left=side * 0.0425, depth=0.9, tall=1.3)
            for side in (1, -1)
        ),
    ]
    shapes += _hair(look, frame)
    return shapes + _headgear(look, frame)


def _hair(look: Look, frame: _Frame) -> list[Shape]:
    covered = look.headgear != "none"
    volume = {"bald": 0.0, "receding": 0.0, "crop": 0.0445, "short": 0.047, "full": 0.0525}.get(
        look.hairstyle, 0.049
    )
    shapes = []
    if volume and not covered:
        more = volume - 0.0445  # thick hair rises and falls back, so that it leaves the face free
        shapes.append(
            frame.blob(0.022 + 1.3 * more, -0.009 - 0.9 * more, volume, HAIR, depth=1.18, tall=1.06)
        )
    match look.hairstyle:
        case "long":
            shapes.append(_tress(look, frame, 0.046, 0.042, -0.185, 0.55))
        case "bob":
            shapes.append(_tress(look, frame, 0.05, 0.047, -0.06, 0.75))
        case "ponytail":
            root, end = frame.at(0.02, -0.058), frame.at(-0.1, -0.075)
            shapes.append(
                Shape(root, end, frame.bones.head_front, 0.02 * frame.h, 0.011 * frame.h, HAIR, HAIR_PART)
            )
        case "bun":
            shapes.append(frame.blob(0.052, -0.05, 0.024, HAIR))
    return shapes


def _tress(look: Look, frame: _Frame, radius: float, end_radius: float, drop: float, depth: float) -> Shape:
    """Hair that falls behind the neck, down to ``drop`` below the centre of the head."""
    h = look.build.height
    behind = -0.045 if drop < -0.1 else -0.014
    root, end = frame.at(0.0, -0.02), frame.at(drop, behind - 0.012)
    return Shape(
        root, end, frame.bones.head_front, radius * h, end_radius * h, HAIR, HAIR_PART, depth, 1.0, 0.5
    )


def _headgear(look: Look, frame: _Frame) -> list[Shape]:
    if look.headgear == "none":
        return []
    dome = frame.blob(0.034, -0.004, 0.0485, HAT, depth=1.22, tall=0.85)
    if look.headgear == "cap":
        width = 0.042 * frame.h
        brim = Shape(
            frame.at(0.033, 0.035), frame.at(0.022, 0.092), frame.bones.head_up,
            width, 0.8 * width, HAT, HAIR_PART, 0.14, 0.4, 0.5,
        )  # fmt: skip
        return [dome, brim]
    if look.headgear == "hat":
        return [dome, frame.blob(0.026, 0.0, 0.085, HAT, depth=1.1, tall=0.14)]
    return [dome._replace(cap=1.0, end_cap=1.05)]
