"""The part of a camera's frame that a box shows, with the shadows of people on the ground."""

from math import exp

import numpy as np

from protocols.crosswalk.compiled import compiled
from protocols.crosswalk.raster import Window


@compiled
def cut_out(
    frame: np.ndarray, window: Window, foot: tuple[float, float], scale: float,
    image: np.ndarray,
) -> None:  # fmt: skip
    """Fill ``image`` (H, W, 3) from ``frame``; edges are repeated.

    ``foot`` is where the frame (column, row) shows the origin of ``window`` (left, top, width,
    height in metres); ``scale`` is the frame's pixels per metre there.
    """
    rows, columns, _ = image.shape
    left, top, width, height = window
    for j in range(rows):
        y = int(foot[1] + scale * (top + (j + 0.5) * height / rows))
        y = min(frame.shape[0] - 1, max(0, y))
        for i in range(columns):
            x = int(foot[0] + scale * (left + (i + 0.5) * width / columns))
            x = min(frame.shape[1] - 1, max(0, x))
            for c in range(3):
                image[j, i, c] = frame[y, x, c]


@compiled
def cast_shadow(
    image: np.ndarray, window: Window, foot: tuple[float, float, float],
    fall: tuple[float, float], strength: float, flat: float,
) -> None:  # fmt: skip
    """Darken the ground under and beside somebody.

    Args:
        image: (H, W, 3), changed in place.
        window: left, top, width and height of the image in metres.
        foot: x, y and relative size of whoever stands there.
        fall: where the shadow of the head falls, metres from the foot.
        strength: of the sun, 0..1.
        flat: height over width of a circle on the ground, seen by the camera.
    """
    rows, columns, _ = image.shape
    left, top, width, height = window
    x0, y0, size = foot
    long = fall[0] * fall[0] + (fall[1] / flat) ** 2
    first = max(0, int((x0 + size * (min(0.0, fall[0]) - 0.5) - left) / width * columns))
    last = min(columns, int((x0 + size * (max(0.0, fall[0]) + 0.5) - left) / width * columns))
    for j in range(rows):
        y = (top + (j + 0.5) * height / rows - y0) / size
        if y < min(0.0, fall[1]) - 0.2 or y > max(0.0, fall[1]) + 0.2:
            continue
        for i in range(first, last):
            x = (left + (i + 0.5) * width / columns - x0) / size
            deep = y / flat
            t = min(1.0, max(0.0, (x * fall[0] + deep * fall[1] / flat) / long))
            across = (x - t * fall[0]) ** 2 + (deep - t * fall[1] / flat) ** 2
            if across < 0.25:
                under = 0.55 * exp(-(x * x + deep * deep) / 0.07)
                beside = 0.6 * strength * exp(-across / (0.03 + 0.02 * t))
                for c in range(3):
                    image[j, i, c] *= (1 - under) * (1 - beside)
