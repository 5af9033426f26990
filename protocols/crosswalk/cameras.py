"""The street's cameras: where each looks, how its light falls and how it sees colour."""

from functools import lru_cache
from math import pi
from typing import NamedTuple

import numpy as np

from protocols.crosswalk.seeding import generator

FRAME_HEIGHT, FRAME_WIDTH = 540, 960  # pixels of a camera's full frame
SCENERY = ("shops", "bricks", "park", "crossing", "plaza", "road")


class Camera(NamedTuple):
    """One camera.

    Attributes:
        scenery: what stands behind the people, one of ``SCENERY``.
        height: metres above the ground.
        horizon: row of the horizon in the frame, pixels (may lie above the frame).
        tilt: angle at which people are seen from above, radians.
        heading: yaw of most people who pass, radians; 0 walks towards the camera.
        light: unit vector towards the sun in camera axes (right, down, away).
        sun: strength of direct light.
        ambient: strength of light from the sky.
        gains: factors of red, green and blue.
        gamma: exponent on linear light; above 1 darkens the mid-tones.
        saturation: 1 keeps colours, 0 is grey.
        haze: light added everywhere, 0..1.
        blur: standard deviation in pixels of the final crop.
        noise: standard deviation in grey levels.
        quality: of the JPEG encoder.
    """

    scenery: str
    height: float
    horizon: float
    tilt: float
    heading: float
    light: tuple[float, float, float]
    sun: float
    ambient: float
    gains: tuple[float, float, float]
    gamma: float
    saturation: float
    haze: float
    blur: float
    noise: float
    quality: int

    def scale(self, row: float) -> float:
        """Pixels per metre in the full frame for somebody whose feet are on this row."""
        return (row - self.horizon) / self.height


@lru_cache(maxsize=64)
def camera(seed: int, camid: int, shift: float) -> Camera:
    """Camera ``camid`` (1-based); ``shift`` in 0..1 is the dial ``camera_shift``."""
    rng = generator(seed, "camera", camid)
    order = generator(seed, "scenery").permutation(len(SCENERY))
    warmth, tint, bright = (
        rng.normal(0, 0.16 * shift),
        rng.normal(0, 0.05 * shift),
        rng.normal(0, 0.22 * shift),
    )
    side = rng.uniform(-1, 1)
    light = np.array([side, -rng.uniform(0.6, 1.3), -rng.uniform(0.1, 0.9)])
    sunny = rng.uniform(0.5 - 0.45 * shift, 0.5 + 0.45 * shift)
    red, green, blue = np.exp([bright + warmth, bright + tint, bright - warmth]).tolist()
    unit = (light / np.linalg.norm(light)).tolist()
    return Camera(
        scenery=SCENERY[order[(camid - 1) % len(SCENERY)]],
        height=float(rng.uniform(2.6, 4.0)),
        horizon=float(rng.uniform(-90, 40)),
        tilt=float(rng.uniform(0.12, 0.32)),
        heading=float(2 * pi * ((camid - 1) * 0.382 + rng.uniform(-0.05, 0.05))),
        light=(unit[0], unit[1], unit[2]),
        sun=float(0.25 + 0.75 * sunny),
        ambient=float(0.62 - 0.28 * sunny),
        gains=(red, green, blue),
        gamma=float(np.exp(rng.normal(0, 0.22 * shift))),
        saturation=float(np.clip(rng.normal(1.0, 0.3 * shift), 0.4, 1.5)),
        haze=float(shift * rng.uniform(0, 0.07)),
        blur=float(0.45 + shift * rng.uniform(0, 0.9)),
        noise=float(1.5 + shift * rng.uniform(0, 4.5)),
        quality=int(rng.integers(90 - round(25 * shift), 93)),
    )
