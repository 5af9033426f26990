"""Which shape is seen at which pixel: exact ray intersection with tapered elliptic capsules.

Rays are parallel (weak perspective) in camera axes: x right, y down, z away, in metres, with the
feet of the main person at the origin. A placed shape is one row of numbers; see ``place``.
"""

from math import cos, sin, sqrt

import numpy as np

from protocols.crosswalk.body import Vec
from protocols.crosswalk.compiled import compiled

# Columns of a placed shape: base point, unit vectors across, to the front and along the axis.
BASE, ACROSS, FRONT, AXIS = 0, 3, 6, 9
LENGTH, RADIUS, END_RADIUS, DEPTH, CAP, END_CAP = range(12, 18)
ALONG, MATERIAL, PART, OWNER = range(18, 22)
COLUMNS = 22
FAR = 1e9

Window = tuple[float, float, float, float]  # left, top, width and height in metres of what a buffer covers


@compiled
def to_camera(x: float, y: float, z: float, yaw: float, tilt: float) -> Vec:
    """From a body's axes to the camera's, for a body turned by ``yaw`` and seen from ``tilt`` above."""
    right = x * cos(yaw) + z * sin(yaw)
    away = x * sin(yaw) - z * cos(yaw)
    return right, -y * cos(tilt) - away * sin(tilt), -y * sin(tilt) + away * cos(tilt)


@compiled
def place(shapes: np.ndarray, yaw: float, tilt: float) -> np.ndarray:
    """Turn shapes (n, 17) by ``yaw`` (0 faces the camera) and tip them by ``tilt``; (n, 22)."""
    placed = np.zeros((len(shapes), COLUMNS))
    for i in range(len(shapes)):
        shape, row = shapes[i], placed[i]
        start = np.array(to_camera(shape[0], shape[1], shape[2], yaw, tilt))
        axis = np.array(to_camera(shape[3], shape[4], shape[5], yaw, tilt)) - start
        front = np.array(to_camera(shape[6], shape[7], shape[8], yaw, tilt))
        length = sqrt((axis * axis).sum())
        axis /= length
        front -= axis * (front * axis).sum()
        front /= sqrt((front * front).sum())
        row[BASE : BASE + 3] = start
        row[ACROSS : ACROSS + 3] = np.cross(axis, front)
        row[FRONT : FRONT + 3] = front
        row[AXIS : AXIS + 3] = axis
        row[LENGTH] = length
        row[RADIUS], row[END_RADIUS], row[MATERIAL], row[PART] = shape[9], shape[10], shape[11], shape[12]
        row[DEPTH], row[CAP], row[END_CAP], row[ALONG] = shape[13], shape[14], shape[15], shape[16]
    return placed


@compiled
def _reach(row: np.ndarray, coordinate: int, end: bool) -> float:
    """How far one end of a shape extends along a camera axis, both ways."""
    radius = row[END_RADIUS] if end else row[RADIUS]
    cap = row[END_CAP] if end else row[CAP]
    across, axis = row[ACROSS + coordinate], row[AXIS + coordinate] * cap
    front = row[FRONT + coordinate] * row[DEPTH]
    reach: float = radius * sqrt(across * across + front * front + axis * axis)
    return reach


@compiled
def bounds(row: np.ndarray, coordinate: int) -> tuple[float, float]:
    """Least and greatest x (coordinate 0) or y (1) of a placed shape, metres."""
    start = row[BASE + coordinate]
    end = start + row[LENGTH] * row[AXIS + coordinate]
    near, far = _reach(row, coordinate, False), _reach(row, coordinate, True)
    return min(start - near, end - far), max(start + near, end + far)


@compiled
def extent(placed: np.ndarray) -> tuple[float, float, float, float]:
    """Tight box around placed shapes: left, top, right, bottom in metres."""
    left, top, right, bottom = FAR, FAR, -FAR, -FAR
    for i in range(len(placed)):
        x0, x1 = bounds(placed[i], 0)
        y0, y1 = bounds(placed[i], 1)
        left, top, right, bottom = min(left, x0), min(top, y0), max(right, x1), max(bottom, y1)
    return left, top, right, bottom


@compiled
def cast(placed: np.ndarray, window: Window, depth: np.ndarray, seen: np.ndarray) -> None:
    """Draw placed shapes into ``depth`` (float32, metres away) and ``seen`` (int16, row in ``placed``).

    ``window`` is left, top, width and height in metres of what the two (H, W) buffers cover.
    """
    rows, columns = depth.shape
    left, top, width, height = window
    dx, dy = width / columns, height / rows
    for i in range(len(placed)):
        x0, x1 = bounds(placed[i], 0)
        y0, y1 = bounds(placed[i], 1)
        first, last = max(0, int((x0 - left) / dx)), min(columns, int((x1 - left) / dx) + 1)
        upper, lower = max(0, int((y0 - top) / dy)), min(rows, int((y1 - top) / dy) + 1)
        if first < last and upper < lower:
            area = (first, last, upper, lower)
            _cast_one(placed[i], i, (left + 0.5 * dx, top + 0.5 * dy, dx, dy), area, depth, seen)


@compiled
def _cast_one(
    row: np.ndarray,
    index: int,
    grid: tuple[float, float, float, float],
    area: tuple[int, int, int, int],
    depth: np.ndarray,
    seen: np.ndarray,
) -> None:
    """One shape: solve a quadratic for its side and, where the ray misses that, one for each end."""
    left, top, dx, dy = grid
    first, last, upper, lower = area
    bx, by, bz = row[0], row[1], row[2]
    ax, ay, az = row[9], row[10], row[11]
    ux, uy, uz = row[3], row[4], row[5]
    fx, fy, fz = row[6] / row[DEPTH], row[7] / row[DEPTH], row[8] / row[DEPTH]
    length, radius = row[LENGTH], row[RADIUS]
    taper = (row[END_RADIUS] - radius) / length
    a = uz * uz + fz * fz - taper * taper * az * az
    for j in range(upper, lower):
        y = top + j * dy - by
        for i in range(first, last):
            x = left + i * dx - bx
            u = x * ux + y * uy - bz * uz
            f = x * fx + y * fy - bz * fz
            t = x * ax + y * ay - bz * az
            side = radius + taper * t
            hit = FAR
            if a > 1e-9:
                b = u * uz + f * fz - taper * side * az
                root = b * b - a * (u * u + f * f - side * side)
                if root >= 0:
                    z = -(b + sqrt(root)) / a
                    if 0 <= t + z * az <= length:
                        hit = z
            if hit == FAR:
                hit = min(
                    _cap_hit(u, f, t, uz, fz, az, radius, row[CAP], -1.0),
                    _cap_hit(u, f, t - length, uz, fz, az, row[END_RADIUS], row[END_CAP], 1.0),
                )
            if hit < depth[j, i]:
                depth[j, i] = hit
                seen[j, i] = index


@compiled
def _cap_hit(
    u: float, f: float, t: float, uz: float, fz: float, az: float, radius: float, cap: float, outward: float
) -> float:
    """Distance to the half ellipsoid that closes one end; ``FAR`` if missed."""
    if cap == 0:
        return FAR
    s, sz = t / cap, az / cap
    a = uz * uz + fz * fz + sz * sz
    b = u * uz + f * fz + s * sz
    root = b * b - a * (u * u + f * f + s * s - radius * radius)
    if root < 0:
        return FAR
    z = -(b + sqrt(root)) / a
    return z if (t + z * az) * outward >= 0 else FAR
