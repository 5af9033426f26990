"""The colour of a surface before light falls on it, in the coordinates of its shape."""

from math import cos, floor, pi

import numpy as np

from protocols.crosswalk import materials as m
from protocols.crosswalk.compiled import compiled

HOOPS, PINSTRIPES, CHECKS, DOTS, YOKE, PRINT, BAND, FADED, SIDE, SOLE, FACE, LEAVES = (
    m.CODE[name] for name in m.PATTERNS[1:]
)
LOGO_FRONT, LOGO_BACK, OPEN, STRAPS, SASH_LEFT, SASH_RIGHT = (
    m.LOGO_FRONT, m.LOGO_BACK, m.OPEN, m.STRAPS, m.SASH_LEFT, m.SASH_RIGHT
)  # fmt: skip
HAIRLINE, RECEDING, GLASSES, BEARD = m.HAIRLINE, m.RECEDING, m.GLASSES, m.BEARD
FIRST, SECOND, THIRD, FOURTH, PATTERN, PITCH, PHASE, OVERLAY, FOLDS = 0, 3, 6, 9, 12, 13, 14, 15, 16


@compiled
def _hash(x: int, y: int) -> float:
    """Noise in 0..1 at a whole point."""
    h = (x * 374761393 + y * 668265263) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    return ((h ^ (h >> 16)) & 0xFFFF) / 65535.0


@compiled
def noise(x: float, y: float) -> float:
    """Smooth noise in 0..1 with one bump per unit."""
    ix, iy = floor(x), floor(y)
    fx, fy = x - ix, y - iy
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    upper = _hash(ix, iy) * (1 - fx) + _hash(ix + 1, iy) * fx
    lower = _hash(ix, iy + 1) * (1 - fx) + _hash(ix + 1, iy + 1) * fx
    return float(upper * (1 - fy) + lower * fy)


@compiled
def _mix(colour: np.ndarray, row: np.ndarray, column: int, share: float) -> None:
    """Move ``colour`` towards the one that a material holds from ``column`` on."""
    for c in range(3):
        colour[c] += share * (row[column + c] - colour[c])


@compiled
def _dim(colour: np.ndarray, factor: float) -> None:
    for c in range(3):
        colour[c] *= factor


@compiled
def _second_share(kind: int, pitch: float, phase: float, theta: float, s: float) -> float:
    """How much of a material's second colour a pattern shows here, 0..1.

    ``theta`` is the angle around the shape (0 in front), ``s`` metres along.
    """
    hoop = (s * (9 + 13 * pitch) + phase) % 1.0
    around = (theta / (2 * pi) * (10 + int(8 * pitch)) + phase) % 1.0
    if kind == HOOPS:
        return 1.0 if hoop < 0.3 + 0.25 * phase else 0.0
    if kind == PINSTRIPES:
        return 1.0 if around < 0.32 else 0.0
    if kind == CHECKS:
        return 0.5 * (hoop < 0.45) + 0.5 * (around < 0.45)
    if kind == DOTS:
        return 1.0 if (hoop - 0.5) ** 2 + (around - 0.5) ** 2 < 0.09 else 0.0
    if kind == YOKE:
        return 1.0 if s > 0.3 + 0.08 * phase else 0.0
    if kind == BAND:
        return 1.0 if 0.24 + 0.08 * phase < s < 0.34 + 0.08 * phase else 0.0
    if kind == PRINT:
        return 1.0 if noise(theta * 4 + 9 * phase, s * (22 + 18 * pitch)) > 0.58 else 0.0
    if kind == SIDE:
        return 1.0 if abs(abs(theta) - pi / 2) < 0.28 else 0.0
    if kind == SOLE:
        return 1.0 if cos(theta) < -0.1 else 0.0
    return 0.0


@compiled
def _overlay(bits: int, theta: float, x: float, s: float) -> int:
    """Which colour (column of the material) lies over a trunk's pattern here, or -1."""
    ahead = cos(theta)
    if bits & STRAPS and 0.07 < abs(x) < 0.108 and (ahead > 0 and s > 0.17):
        return FOURTH
    if bits & (SASH_LEFT | SASH_RIGHT):
        hip = 1.0 if bits & SASH_LEFT else -1.0
        if abs(s - 0.24 + hip * 1.45 * x) < 0.032:
            return FOURTH
    if bits & OPEN and ahead > 0 and abs(x) < 0.035 + 0.09 * max(0.0, s - 0.05):
        return THIRD
    if bits & LOGO_FRONT and ahead > 0 and abs(x) < 0.075 and 0.27 < s < 0.38:
        return SECOND
    if bits & LOGO_BACK and ahead < 0 and abs(x) < 0.09 and 0.22 < s < 0.37:
        return SECOND
    return -1


@compiled
def _face(colour: np.ndarray, row: np.ndarray, theta: float, x: float, s: float) -> None:
    """Paint hair, eyes, brows, mouth, glasses and beard on a head; ``s`` from its centre, metres."""
    bits = int(row[OVERLAY])
    ahead = cos(theta)
    hairy = s > 0.062 or (ahead < -0.15 and s > -0.045)
    receded = ahead < 0.1 and -0.045 < s < 0.05
    if (bits & HAIRLINE and hairy) or (bits & RECEDING and receded):
        _mix(colour, row, SECOND, 1.0)
    elif ahead > 0.25:
        eye = 0.016 < abs(x) < 0.045
        if 0.002 < s < 0.019 and eye:
            _dim(colour, 0.3)
        elif 0.026 < s < 0.036 and eye:
            _dim(colour, 0.5)
        elif -0.066 < s < -0.052 and abs(x) < 0.028:
            _dim(colour, 0.45)
            colour[0] *= 1.4
        elif abs(x) < 0.011 and -0.034 < s < -0.026:
            _dim(colour, 0.6)
        if bits & GLASSES and -0.004 < s < 0.026 and abs(x) > 0.012:
            _dim(colour, 0.35)
        if bits & BEARD and s < -0.04:
            _mix(colour, row, SECOND, 0.65)


@compiled
def texture(colour: np.ndarray, row: np.ndarray, theta: float, x: float, s: float) -> None:
    """Fill ``colour`` (3,) with the linear albedo of a material at texture coordinates."""
    kind = int(row[PATTERN])
    _mix(colour, row, FIRST, 1.0)
    if kind == FACE:
        _face(colour, row, theta, x, s)
        return
    column = _overlay(int(row[OVERLAY]), theta, x, s) if row[OVERLAY] else -1
    if column >= 0:
        _mix(colour, row, column, 1.0)
    elif kind:
        _mix(colour, row, SECOND, _second_share(kind, row[PITCH], row[PHASE], theta, s))
    if kind == FADED:
        _dim(colour, 1 + 0.5 * max(0.0, cos(theta)) * (0.4 + noise(theta * 2, s * 9)))
    elif kind == LEAVES:
        _dim(colour, 0.35 + 1.3 * noise(x * 60 + 40 * s, s * 60))
