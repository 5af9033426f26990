"""The full frame of each camera without people: ground, what stands behind it, parked things."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from protocols.crosswalk.cameras import FRAME_HEIGHT, FRAME_WIDTH, Camera
from protocols.crosswalk.palette import Colour, colour
from protocols.crosswalk.palette import draw as draw_colour
from protocols.crosswalk.props import MAKERS
from protocols.crosswalk.raster import FAR, cast, place
from protocols.crosswalk.seeding import generator
from protocols.crosswalk.shade import shade

FOCAL = 700.0  # pixels
WALL_SIGNS = {"a8302c": 2.0, "2c5b9a": 1.5, "2f7a4b": 1.0, "d9a62e": 1.0, "e4e2da": 1.0, "3a3b40": 1.0}
WALLS = {"b9ae9c": 2.0, "9b9c9c": 2.0, "cbc5b8": 1.5, "8a7a68": 1.0, "7f8b92": 1.0}
SLABS = {"a7a39a": 2.0, "8d8c88": 2.0, "b5ab98": 1.0, "93867a": 0.8}


@lru_cache(maxsize=16)  # all cameras of any layout; 6 MB each
def backdrop(seed: int, camid: int, view: Camera) -> np.ndarray:
    """The frame of a camera, (540, 960, 3) float32 linear light; shared, not to be written to."""
    rng = generator(seed, "backdrop", camid)
    frame = _ground(rng, view)
    wall = wall_row(view)
    across, up = _wall_coordinates(view, wall)
    frame[:wall] = WALL_PAINTERS[view.scenery](rng, across, up)
    _darken_foot(frame, wall)
    frame **= 2.2
    for kind, row in _parked(rng, view, wall):
        _put(frame, view, rng, kind, row)
    return frame


def wall_row(view: Camera) -> int:
    """Row of the frame where the ground ends and what stands behind it begins, pixels."""
    return int(view.horizon + view.height * (72 if view.scenery in ("park", "road") else 62))


def _draw(rng: np.random.Generator, shares: dict[str, float]) -> Colour:
    """A colour of stone, paint or plants; these stray less than cloth."""
    return draw_colour(rng, shares, 0.012)


def _mottle(rng: np.random.Generator, shape: tuple[int, int], cell: int) -> np.ndarray:
    """Smooth noise of mean 0 and deviation about 1 with bumps of ``cell`` pixels, (H, W)."""
    rows, columns = shape[0] // cell + 3, shape[1] // cell + 3
    coarse = rng.standard_normal((rows, columns))
    y, x = np.arange(shape[0]) / cell, np.arange(shape[1]) / cell
    iy, ix = y.astype(int), x.astype(int)
    fy, fx = (y - iy)[:, None], (x - ix)[None, :]
    rows_low = coarse[iy][:, ix] * (1 - fx) + coarse[iy][:, ix + 1] * fx
    rows_high = coarse[iy + 1][:, ix] * (1 - fx) + coarse[iy + 1][:, ix + 1] * fx
    smooth: np.ndarray = rows_low * (1 - fy) + rows_high * fy
    return smooth


def _dirty(rng: np.random.Generator, base: np.ndarray, strength: float) -> np.ndarray:
    """Multiply (H, W, 3) by stains of several sizes."""
    shape = base.shape[0], base.shape[1]
    stains = sum(_mottle(rng, shape, cell) for cell in (3, 11, 45, 140)) * strength
    dirty: np.ndarray = base * np.exp(stains)[..., None]
    return dirty


def _ground(rng: np.random.Generator, view: Camera) -> np.ndarray:
    """Ground everywhere, (H, W, 3) sRGB; the wall is painted over its far part."""
    rows = np.maximum(np.arange(FRAME_HEIGHT) - view.horizon, 20.0)[:, None]
    scale = rows / view.height
    across = (np.arange(FRAME_WIDTH)[None, :] - FRAME_WIDTH / 2) / scale
    away = np.broadcast_to(FOCAL / scale, across.shape)
    base = np.empty((FRAME_HEIGHT, FRAME_WIDTH, 3))
    base[:] = _draw(rng, {"5d5e60": 2.0, "6c6a66": 1.0} if view.scenery in ("road", "crossing") else SLABS)
    turn = float(rng.uniform(-0.5, 0.5))
    x, z = across * np.cos(turn) + away * np.sin(turn), away * np.cos(turn) - across * np.sin(turn)
    if view.scenery in ("road", "crossing"):
        _mark_asphalt(base, x, z, view.scenery == "crossing")
    else:
        _lay_slabs(rng, base, x, z, float(rng.uniform(0.35, 0.9)))
    if view.scenery == "park":
        lawn = np.array(_draw(rng, {"66754a": 1.0, "747a52": 1.0}))
        grass = across * 0.25 + away > float(rng.uniform(5.5, 7))
        base[grass] = lawn * (1 + 0.12 * rng.standard_normal((int(grass.sum()), 1)))
    return _dirty(rng, base, 0.045).astype(np.float32)


def _mark_asphalt(base: np.ndarray, x: np.ndarray, z: np.ndarray, crossing: bool) -> None:
    if crossing:
        base[(x % 1.1 < 0.5) & (np.abs(z - 6.5) < 1.9)] = colour("d6d4cc")
    else:
        base[z < 5.6] = colour("9c978d")  # the pavement on which people walk
        base[np.abs(z - 5.75) < 0.15] = colour("bdb9af")
        base[(np.abs(z - 8.2) < 0.07) & (x % 3 < 1.8)] = colour("cfccc2")


def _lay_slabs(rng: np.random.Generator, base: np.ndarray, x: np.ndarray, z: np.ndarray, side: float) -> None:
    column, row = np.floor(x / side).astype(int), np.floor(z / side).astype(int)
    tone = rng.uniform(0.93, 1.06, 4096)
    base *= tone[(column * 71 + row * 193) % 4096][..., None]
    if rng.random() < 0.5:
        base[(column + 2 * row) % 5 == 0] *= (0.93, 0.88, 0.86)
    joint = ((x / side) % 1 < 0.05) | ((z / side) % 1 < 0.05)
    base[joint] *= 0.82


def _wall_coordinates(view: Camera, wall: int) -> tuple[np.ndarray, np.ndarray]:
    """Metres along and up the wall for each pixel above row ``wall``, two (wall, W) arrays."""
    scale = view.scale(wall)
    across = (np.arange(FRAME_WIDTH) - FRAME_WIDTH / 2) / scale
    up = (wall - np.arange(wall)) / scale
    return np.broadcast_to(across, (wall, FRAME_WIDTH)), np.broadcast_to(up[:, None], (wall, FRAME_WIDTH))


def _flat(shape: tuple[int, ...], hue: Colour) -> np.ndarray:
    base = np.empty((*shape, 3))
    base[:] = hue
    return base


def _shops(rng: np.random.Generator, across: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Shop windows with goods behind dark glass, doors and coloured signs above."""
    base = _flat(across.shape, _draw(rng, WALLS))
    for left in np.arange(-8, 8, 3.2):
        inside = (across > left) & (across < left + 3.0)
        glass = inside & (up > 0.45) & (up < 2.35)
        base[glass] = np.array(_draw(rng, {"2b3238": 1.0, "3b434a": 1.0, "4d4a44": 0.7}))
        for _ in range(7):
            x, y, w, h = (
                left + rng.uniform(0, 2.7),
                rng.uniform(0.5, 1.9),
                rng.uniform(0.1, 0.5),
                rng.uniform(0.1, 0.6),
            )
            goods = glass & (across > x) & (across < x + w) & (up > y) & (up < y + h)
            base[goods] = np.array(_draw(rng, WALL_SIGNS)) * 0.7
        base[inside & (up > 2.5) & (up < 3.1)] = _draw(rng, WALL_SIGNS)
        base[inside & (np.abs(across - left - 1.5) < 0.03) & (up < 2.4)] *= 0.7
    return _dirty(rng, base, 0.05)


def _bricks(rng: np.random.Generator, across: np.ndarray, up: np.ndarray) -> np.ndarray:
    """A brick wall with a plinth and windows."""
    base = _flat(across.shape, _draw(rng, {"8d5a45": 1.0, "9a6b54": 1.0, "7c4f42": 1.0}))
    course = np.floor(up / 0.085).astype(int)
    brick = np.floor(across / 0.26 + 0.5 * (course % 2)).astype(int)
    base *= rng.uniform(0.82, 1.14, 4096)[(course * 131 + brick * 17) % 4096][..., None]
    base[(up / 0.085 % 1 < 0.16)] *= 1.12
    base[up < 0.5] = colour("85817a")
    for left in np.arange(-7.5 + rng.uniform(0, 1), 8, 2.6):
        window = (across > left) & (across < left + 1.1) & (up > 1.1) & (up < 2.5)
        base[window] = colour("dad6cc")
        base[window & (np.abs(across - left - 0.55) > 0.04) & (np.abs(across - left - 0.55) < 0.48)] = colour(
            "36424c"
        )
    return _dirty(rng, base, 0.06)


def _park(rng: np.random.Generator, across: np.ndarray, up: np.ndarray) -> np.ndarray:
    """A hedge with trees before it."""
    base = _flat(across.shape, _draw(rng, {"4a5a38": 1.0, "3e4e36": 1.0, "586344": 1.0}))
    leaves = sum(_mottle(rng, across.shape, cell) for cell in (2, 5, 16))
    base *= np.exp(0.22 * leaves)[..., None]
    base[up > 1.5 + 0.12 * _mottle(rng, across.shape, 24)] *= (0.72, 0.76, 0.8)
    for x in rng.uniform(-6, 6, 4):
        base[np.abs(across - x + 0.04 * up) < 0.13 + 0.05 * rng.random()] = np.array(colour("4d4338"))
    return _dirty(rng, base, 0.04)


def _facade(rng: np.random.Generator, across: np.ndarray, up: np.ndarray) -> np.ndarray:
    """A plastered front with windows in rows and a door."""
    base = _flat(across.shape, _draw(rng, WALLS))
    base[up < 0.4] *= 0.75
    gap = float(rng.uniform(1.8, 2.6))
    inside = ((across / gap) % 1 > 0.3) & ((across / gap) % 1 < 0.8)
    base[inside & (up > 1.0) & (up < 2.3)] = colour("414c57")
    base[inside & (up > 2.9)] = colour("4c5966")
    base[((across / gap) % 1 < 0.04)] *= 0.85
    return _dirty(rng, base, 0.05)


def _glass_front(rng: np.random.Generator, across: np.ndarray, up: np.ndarray) -> np.ndarray:
    """A modern glass front that reflects the sky."""
    base = _flat(across.shape, _draw(rng, {"5d7079": 1.0, "6d7b80": 1.0, "4c5c68": 1.0}))
    base *= np.exp(0.16 * _mottle(rng, across.shape, 60) + 0.07 * (up - 1.5))[..., None]
    pane = np.floor(across / 1.2).astype(int) * 7 + np.floor(up / 1.4).astype(int) * 13
    base *= rng.uniform(0.85, 1.2, 512)[pane % 512][..., None]
    base[((across / 1.2) % 1 < 0.06) | ((up / 1.4) % 1 < 0.06)] = colour("c3c6c6")
    return _dirty(rng, base, 0.03)


def _fence(rng: np.random.Generator, across: np.ndarray, up: np.ndarray) -> np.ndarray:
    """A painted hoarding of boards with posters."""
    base = _flat(across.shape, _draw(rng, {"6b7a86": 1.0, "8a8271": 1.0, "5f6b5a": 1.0}))
    base *= rng.uniform(0.9, 1.08, 256)[np.floor(across / 0.45).astype(int) % 256][..., None]
    base[(across / 0.45) % 1 < 0.07] *= 0.7
    base[up > 2.0] = colour("c2c7c8")
    for x in rng.uniform(-6, 6, 5):
        base[(np.abs(across - x) < 0.35) & (up > 0.8) & (up < 1.7)] = _draw(rng, WALL_SIGNS)
    return _dirty(rng, base, 0.05)


Painter = Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]
WALL_PAINTERS: dict[str, Painter] = {
    "shops": _shops,
    "bricks": _bricks,
    "park": _park,
    "crossing": _facade,
    "plaza": _glass_front,
    "road": _fence,
}


def _darken_foot(frame: np.ndarray, wall: int) -> None:
    """Dirt and shadow where the wall meets the ground."""
    rows = np.arange(FRAME_HEIGHT) - wall
    frame *= (1 - 0.35 * np.exp(-np.abs(rows) / 7.0))[:, None, None].astype(np.float32)


def _parked(rng: np.random.Generator, view: Camera, wall: int) -> list[tuple[str, int]]:
    """Kinds of things near the wall and the rows they stand on."""
    kinds = {
        "road": ["car", "car", "bicycle"],
        "park": ["bush", "bush", "bush", "bin"],
        "shops": ["bicycle", "bicycle", "bin"],
    }.get(view.scenery, ["bicycle", "bush", "bollard"])
    return sorted(((kind, wall + int(rng.integers(6, 30))) for kind in kinds), key=lambda thing: thing[1])


def _put(frame: np.ndarray, view: Camera, rng: np.random.Generator, kind: str, row: int) -> None:
    """Render one thing into the frame with its foot on ``row``."""
    prop = MAKERS[kind](rng)
    scale, column = view.scale(row), rng.uniform(0, FRAME_WIDTH)
    window = (-column / scale, -row / scale, FRAME_WIDTH / scale, FRAME_HEIGHT / scale)
    depth = np.full(frame.shape[:2], FAR, dtype=np.float32)
    seen = np.full(frame.shape[:2], -1, dtype=np.int16)
    placed = place(prop.shapes, float(rng.normal(0, 0.25)), view.tilt)
    cast(placed, window, depth, seen)
    shade(placed, prop.table, window, (*view.light, view.sun, view.ambient), depth, seen, frame)
