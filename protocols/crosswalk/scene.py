"""One image: somebody on the street before a camera, in a box."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, floor
from typing import NamedTuple

import numpy as np

from protocols.crosswalk import detector
from protocols.crosswalk.backdrop import backdrop
from protocols.crosswalk.body import Skeleton
from protocols.crosswalk.cameras import Camera, camera
from protocols.crosswalk.crowd import MAIN, Crowd, Meeting, cast_shadows, person, populate
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
SPACING = 1.8  # metres walked between two chances to meet something; the dial keeps its share of images
SETTLING = 1.0  # seconds after which a detector's error has nothing to do with what it was


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


class Pose(NamedTuple):
    """The main person of an image, before anything is rendered.

    Attributes:
        view: the camera.
        walk: the person's way, at this moment.
        rng: of all that is drawn at random after this.
        foot: where the person stands in the camera's frame, (column, row).
        yaw: where the person faces; 0 is towards the camera, radians.
        placed: the person's shapes in camera axes, see ``raster.place``.
        table: their materials.
        bones: the skeleton inside.
    """

    view: Camera
    walk: Walk
    rng: np.random.Generator
    foot: tuple[float, float]
    yaw: float
    placed: np.ndarray
    table: np.ndarray
    bones: Skeleton


def compose(street: Street, shot: Shot) -> Scene:
    """Set up and render one image, in linear light."""
    view, walk, rng, foot, yaw, main, table, bones = _pose(street, shot)
    window = _box(street, shot, main)
    crowd = Crowd()
    if shot.scene != "nobody":
        crowd.add(main, table, MAIN)
    for one, since in _meetings(street, shot, walk, rng):
        populate(crowd, street, view, one, Meeting(walk, since))
    light = np.empty((FINE * HEIGHT, FINE * WIDTH, 3), dtype=np.float32)
    cut_out(backdrop(street.seed, shot.camid, view), window, foot, view.scale(walk.row), light)
    cast_shadows(light, window, crowd, view)
    depth, seen, placed = _render(crowd, window, view, light)
    shown = bones if shot.scene != "nobody" else None
    return Scene(light, depth, seen, placed, window, view, walk, yaw, shown)


def boxes(street: Street, shot: Shot) -> tuple[Box, Box]:
    """What an image shows, and what it would show if its box were without error. Renders nothing."""
    main = _pose(street, shot).placed
    return _box(street, shot, main), detector.around(extent(main))


def _pose(street: Street, shot: Shot) -> Pose:
    view = camera(street.seed, shot.camid, street.dials.camera_shift)
    walk = walk_of(street, view, shot)
    rng = generator(street.seed, "image", *_names(shot))
    foot = (walk.column + float(rng.normal(0, 4)), walk.row + float(rng.normal(0, 2)))
    yaw = walk.yaw + float(rng.normal(0, 0.12))
    return Pose(view, walk, rng, foot, yaw, *person(street, shot.subject, rng, walk, yaw, view))


def _names(shot: Shot) -> tuple[object, ...]:
    """What random numbers of an image depend on: those of a tracklet's frames are the same."""
    tracklet = shot.subject.name, shot.camid, shot.sequence
    return (*tracklet, shot.frame) if shot.moment is None else tracklet


def _meetings(
    street: Street, shot: Shot, walk: Walk, rng: np.random.Generator
) -> Iterator[tuple[np.random.Generator, float]]:
    """Who and what may be met, as a generator each, and how long ago (negative: until when), seconds."""
    if shot.moment is None:
        yield rng, 0.0
        return
    elapsed, lasting = shot.moment
    apart = SPACING / max(walk.pace, 0.1)
    for n in range(max(1, ceil(lasting / apart))):
        one = generator(street.seed, "meeting", *_names(shot), n)
        yield one, elapsed - min((n + one.random()) * apart, lasting)


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
    flicker = float(rng.normal(0, 0.04)) if shot.moment is None else 0.0
    return develop(scene.light, scene.view, scene.walk.exposure * float(np.exp(flicker)), rng)


def _box(street: Street, shot: Shot, main: np.ndarray) -> Box:
    tight = detector.around(extent(main))
    if shot.moment is None or shot.scene == "fragment":
        return _found(street, shot, tight, ())
    slot = floor(shot.moment.elapsed / SETTLING)
    way = shot.moment.elapsed / SETTLING - slot
    before, after = (np.array(_found(street, shot, tight, (n,))) for n in (slot, slot + 1))
    return Box(*(before + way * way * (3 - 2 * way) * (after - before)).tolist())


def _found(street: Street, shot: Shot, tight: Box, slot: tuple[int, ...]) -> Box:
    """The annotator's or the detector's box, or a fragment; in a tracklet they err anew in each slot."""
    rng = generator(street.seed, "box", *_names(shot), *slot, shot.box)
    if shot.scene == "fragment":
        return detector.fragment(rng, tight)
    if shot.box == 0:
        return detector.hand_drawn(rng, tight)
    return detector.detected(rng, tight, street.dials.misalignment)
