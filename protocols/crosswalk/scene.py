"""One image: somebody on the street before a camera, in a box."""

from dataclasses import dataclass

import numpy as np

from protocols.crosswalk import detector
from protocols.crosswalk.backdrop import backdrop
from protocols.crosswalk.body import Skeleton
from protocols.crosswalk.cameras import Camera, camera
from protocols.crosswalk.crowd import MAIN, Crowd, cast_shadows, person, populate
from protocols.crosswalk.detector import Box
from protocols.crosswalk.develop import develop
from protocols.crosswalk.ground import cut_out
from protocols.crosswalk.raster import FAR, cast, extent
from protocols.crosswalk.seeding import generator
from protocols.crosswalk.shade import shade
from protocols.crosswalk.shots import Shot
from protocols.crosswalk.walks import Street, Walk, walk_of

HEIGHT, WIDTH = 128, 64  # pixels of every image
FINE = 2  # rendered that much finer, then averaged


@dataclass(frozen=True, slots=True)
class Scene:
    """A composed image before it is developed; buffers are ``FINE`` times as large as the image.

    Attributes:
        light: linear light, (H, W, 3) float32.
        depth: metres away, (H, W) float32; ``FAR`` where only ground is seen.
        seen: row of ``placed`` at each pixel, (H, W) int16; -1 for the ground.
        placed: all shapes in camera axes, see ``raster.place``.
        window: the part of the image plane that is shown.
        view: the camera.
        walk: the main person's way, at this moment.
        yaw: where the main person faces; 0 is towards the camera, radians.
        bones: of the main person; None if nobody is there.
    """

    light: np.ndarray
    depth: np.ndarray
    seen: np.ndarray
    placed: np.ndarray
    window: Box
    view: Camera
    walk: Walk
    yaw: float
    bones: Skeleton | None


def compose(street: Street, shot: Shot) -> Scene:
    """Set up and render one image, in linear light."""
    view = camera(street.seed, shot.camid, street.dials.camera_shift)
    walk = walk_of(street, view, shot)
    rng = generator(street.seed, "image", shot.subject.name, shot.camid, shot.sequence, shot.frame)
    foot = (walk.column + float(rng.normal(0, 4)), walk.row + float(rng.normal(0, 2)))
    yaw = walk.yaw + float(rng.normal(0, 0.12))
    main, table, bones = person(street, shot.subject, rng, walk, yaw, view)
    window = _box(street, shot, main)
    crowd = Crowd()
    if shot.scene != "nobody":
        crowd.add(main, table, MAIN)
    populate(crowd, street, view, rng)
    light = np.empty((FINE * HEIGHT, FINE * WIDTH, 3), dtype=np.float32)
    cut_out(backdrop(street.seed, shot.camid, view), window, foot, view.scale(walk.row), light)
    cast_shadows(light, window, crowd, view)
    depth, seen, placed = _render(crowd, window, view, light)
    shown = bones if shot.scene != "nobody" else None
    return Scene(light, depth, seen, placed, window, view, walk, yaw, shown)


def _render(
    crowd: Crowd, window: Box, view: Camera, light: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a crowd over the ground in ``light``; returns depth, seen shapes and placed shapes."""
    depth = np.full(light.shape[:2], FAR, dtype=np.float32)
    seen = np.full(light.shape[:2], -1, dtype=np.int16)
    placed, table = crowd.merged()
    cast(placed, window, depth, seen)
    shade(placed, table, window, (*view.light, view.sun, view.ambient), depth, seen, light)
    return depth, seen, placed


def photograph(street: Street, shot: Shot, scene: Scene) -> np.ndarray:
    """What the camera makes of a scene, (128, 64, 3) uint8."""
    rng = generator(street.seed, "grain", shot.subject.name, shot.camid, shot.sequence, shot.frame, shot.box)
    exposure = scene.walk.exposure * float(np.exp(rng.normal(0, 0.04)))
    return develop(scene.light, scene.view, exposure, rng)


def _box(street: Street, shot: Shot, main: np.ndarray) -> Box:
    rng = generator(street.seed, "box", shot.subject.name, shot.camid, shot.sequence, shot.frame, shot.box)
    tight = detector.around(extent(main))
    if shot.scene == "fragment":
        return detector.fragment(rng, tight)
    if shot.box == 0:
        return detector.hand_drawn(rng, tight)
    return detector.detected(rng, tight, street.dials.misalignment)
