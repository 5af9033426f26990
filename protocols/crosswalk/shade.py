"""Light on what is seen: sun, sky, soft shadows and the wrinkles of cloth."""

from math import atan2, sqrt

import numpy as np

from protocols.crosswalk.compiled import compiled
from protocols.crosswalk.raster import (
    ALONG,
    AXIS,
    CAP,
    DEPTH,
    END_CAP,
    END_RADIUS,
    LENGTH,
    MATERIAL,
    RADIUS,
    Window,
)
from protocols.crosswalk.texture import FOLDS, OVERLAY, PATTERN, PHASE, noise, texture

Light = tuple[float, float, float, float, float]  # direction of the sun, its strength, the sky's strength


@compiled
def _surface(row: np.ndarray, x: float, y: float, z: float, out: np.ndarray) -> None:
    """Normal and texture coordinates of a placed shape where a ray hits it.

    Fills ``out``: normal x, y, z (unit), angle around, metres across, metres along.
    """
    px, py, pz = x - row[0], y - row[1], z - row[2]
    u = px * row[3] + py * row[4] + pz * row[5]
    f = (px * row[6] + py * row[7] + pz * row[8]) / row[DEPTH]
    t = px * row[9] + py * row[10] + pz * row[11]
    if t < 0:
        slope = t / (row[CAP] * row[CAP])
    elif t > row[LENGTH]:
        slope = (t - row[LENGTH]) / (row[END_CAP] * row[END_CAP])
    else:
        taper = (row[END_RADIUS] - row[RADIUS]) / row[LENGTH]
        slope = -taper * (row[RADIUS] + taper * t)
    g = f / row[DEPTH]
    nx = u * row[3] + g * row[6] + slope * row[AXIS]
    ny = u * row[4] + g * row[7] + slope * row[AXIS + 1]
    nz = u * row[5] + g * row[8] + slope * row[AXIS + 2]
    size = sqrt(nx * nx + ny * ny + nz * nz) + 1e-12
    out[0], out[1], out[2] = nx / size, ny / size, nz / size
    out[3], out[4], out[5] = atan2(u, f), u, row[ALONG] + t


@compiled
def _openness(depth: np.ndarray, j: int, i: int, per_metre: float) -> float:
    """Share of the sky that nearer surfaces around a pixel leave free, about 0.4..1."""
    rows, columns = depth.shape
    here = depth[j, i]
    hidden = 0.0
    reach = max(1, int(0.022 * per_metre))
    for dj, di in ((-reach, 0), (-reach, reach), (-reach, -reach), (0, reach), (0, -reach), (reach, 0)):
        y, x = j + dj, i + di
        if 0 <= y < rows and 0 <= x < columns:
            step = here - depth[y, x]
            if 0.015 < step < 0.6:
                hidden += min(1.0, step * 14)
    return 1 - 0.1 * hidden


@compiled
def _sun(
    surface: np.ndarray,
    depth: np.ndarray,
    j: int,
    i: int,
    per_metre_x: float,
    per_metre_y: float,
    light: Light,
) -> float:
    """How squarely the sun meets a surface, 0..1; less where something 3 to 30 cm away is in between."""
    facing = (surface[0] * light[0] + surface[1] * light[1] + surface[2] * light[2] + 0.15) / 1.15
    if facing <= 0:
        return 0.0
    rows, columns = depth.shape
    for k in range(1, 6):
        way = 0.025 * k * (1 + 0.3 * k)
        y, x = int(j + way * light[1] * per_metre_y), int(i + way * light[0] * per_metre_x)
        if not (0 <= y < rows and 0 <= x < columns):
            break
        above = depth[j, i] + way * light[2] - depth[y, x]
        if 0.012 < above < 0.3:
            return 0.25 * float(facing)
    return float(facing)


@compiled
def shade(
    placed: np.ndarray,
    table: np.ndarray,
    window: Window,
    light: Light,
    depth: np.ndarray,
    seen: np.ndarray,
    image: np.ndarray,
) -> None:
    """Paint every seen pixel of ``image`` (H, W, 3), float32 linear light; leave the others as they are.

    ``table`` holds materials, (n, 17); ``light`` is the sun's direction, its strength and the sky's.
    """
    rows, columns = depth.shape
    surface, colour = np.empty(6), np.zeros(3)
    for j in range(0, rows - 1, 2):
        for i in range(0, columns - 1, 2):
            if max(seen[j, i], seen[j, i + 1], seen[j + 1, i], seen[j + 1, i + 1]) >= 0:
                _shade_block(j, i, placed, table, window, light, depth, seen, surface, colour, image)


@compiled
def _shade_block(
    top_row: int,
    left_column: int,
    placed: np.ndarray,
    table: np.ndarray,
    window: Window,
    light: Light,
    depth: np.ndarray,
    seen: np.ndarray,
    surface: np.ndarray,
    colour: np.ndarray,
    image: np.ndarray,
) -> None:
    """Shade 2 x 2 pixels, which become one: those of one shape share their light."""
    rows, columns = depth.shape
    left, top, width, height = window
    known, varied, power = -1, False, 0.0
    for j in range(top_row, top_row + 2):
        for i in range(left_column, left_column + 2):
            shape = seen[j, i]
            if shape < 0:
                continue
            if shape != known or varied:
                row = placed[shape]
                material = table[int(row[MATERIAL])]
                x, y = left + (i + 0.5) * width / columns, top + (j + 0.5) * height / rows
                _surface(row, x, y, depth[j, i], surface)
                texture(colour, material, surface[3], surface[4], surface[5])
                if shape != known:
                    sun = _sun(surface, depth, j, i, columns / width, rows / height, light)
                    power = _power(surface, material, light, sun) * _openness(depth, j, i, rows / height)
                    known, varied = shape, material[PATTERN] > 0 or material[OVERLAY] > 0
            for c in range(3):
                image[j, i, c] = colour[c] * power


@compiled
def _power(surface: np.ndarray, material: np.ndarray, light: Light, sun: float) -> float:
    """Light on a surface that the sun meets by ``sun``: sky from above, wrinkles of cloth."""
    sky = 0.62 - 0.38 * surface[1]
    power: float = light[4] * sky + light[3] * sun
    folds = material[FOLDS]
    if folds > 0:
        start = 17.0 * material[PHASE]
        coarse = noise(surface[3] * 2.2 + start, surface[5] * 17) - 0.5
        fine = noise(surface[3] * 7 + start, surface[5] * 55) - 0.5
        power *= 1 + folds * (0.55 * coarse + 0.25 * fine)
    return power
