"""What is known about a composed image: where each joint is, and which part each pixel shows."""

from math import floor

import numpy as np

from protocols.crosswalk.body import Skeleton, Vec, along
from protocols.crosswalk.crowd import BEFORE, BEHIND, MAIN
from protocols.crosswalk.raster import OWNER, PART, to_camera
from protocols.crosswalk.scene import FINE, Scene
from protocols.crosswalk.truth import BYSTANDER, HIDDEN, JOINTS, OCCLUDER, OUTSIDE, VISIBLE

INSIDE = 0.14  # metres that a visible joint may lie below the surface of its own body


def parts(scene: Scene) -> np.ndarray:
    """Index into ``PARTS`` for every pixel, (H, W) uint8."""
    labels = np.zeros(len(scene.placed) + 1, dtype=np.uint8)  # the last stands for "nothing", -1
    labels[:-1] = scene.placed[:, PART]
    labels[:-1][scene.placed[:, OWNER] == BEHIND] = BYSTANDER
    labels[:-1][scene.placed[:, OWNER] == BEFORE] = OCCLUDER
    mask: np.ndarray = labels[scene.seen[::FINE, ::FINE]]
    return mask


def joints(scene: Scene) -> np.ndarray:
    """x, y in pixels and visibility for every joint, (18, 3) float32; zeros if nobody is there."""
    found = np.zeros((len(JOINTS), 3), dtype=np.float32)
    if scene.bones is None:
        return found
    rows, columns = scene.depth.shape
    for row, point in zip(found, _positions(scene.bones), strict=True):
        x, y, away = to_camera(*point, scene.yaw, scene.view.tilt)
        column = (x - scene.window.left) / scene.window.width * columns / FINE
        line = (y - scene.window.top) / scene.window.height * rows / FINE
        row[:] = column, line, _visibility(scene, floor(line), floor(column), away)
    return found


def _visibility(scene: Scene, line: int, column: int, away: float) -> int:
    """Of a joint at a pixel of the part mask, ``away`` metres from the camera's plane."""
    rows, columns = scene.depth[::FINE, ::FINE].shape
    if not (0 <= line < rows and 0 <= column < columns):
        return OUTSIDE
    shape = scene.seen[FINE * line, FINE * column]
    own = shape >= 0 and scene.placed[shape, OWNER] == MAIN
    return VISIBLE if own and scene.depth[FINE * line, FINE * column] > away - INSIDE else HIDDEN


def _positions(bones: Skeleton) -> list[Vec]:
    """In the order of ``JOINTS``."""
    height = (bones.head[1] - bones.pelvis[1]) / 0.385
    (left_arm, right_arm), (left_leg, right_leg) = bones.arms, bones.legs
    return [
        _on_head(bones, height, -0.012, 0.056, 0.0),
        bones.collar,
        right_arm.shoulder, right_arm.elbow, right_arm.wrist,
        left_arm.shoulder, left_arm.elbow, left_arm.wrist,
        right_leg.hip, right_leg.knee, right_leg.ankle,
        left_leg.hip, left_leg.knee, left_leg.ankle,
        _on_head(bones, height, 0.006, 0.044, -0.018),
        _on_head(bones, height, 0.006, 0.044, 0.018),
        _on_head(bones, height, -0.006, -0.004, -0.043),
        _on_head(bones, height, -0.006, -0.004, 0.043),
    ]  # fmt: skip


def _on_head(bones: Skeleton, height: float, up: float, front: float, left: float) -> Vec:
    """A point at shares of stature from the centre of the head."""
    (ux, uy, uz), (fx, fy, fz) = bones.head_up, bones.head_front
    sideways = (uy * fz - uz * fy, uz * fx - ux * fz, ux * fy - uy * fx)
    point = along(along(bones.head, bones.head_up, up * height), bones.head_front, front * height)
    return along(point, sideways, left * height)
