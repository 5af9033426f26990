"""Colours of people and clothes on a street, as sRGB; muted and dark ones are common."""

from typing import NamedTuple

import numpy as np

from protocols.crosswalk.seeding import pick


class Colour(NamedTuple):
    """sRGB, each 0..1."""

    red: float
    green: float
    blue: float


def colour(code: str) -> Colour:
    """From six hexadecimal digits."""
    return Colour(*(int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)))


SKIN = {"e8bf9f": 3.0, "dcae8c": 3.0, "c99672": 2.0, "a87450": 1.2, "7c5238": 0.8, "54372a": 0.6}
HAIR = {
    "17130f": 5.0,
    "2a1e17": 3.0,
    "47301f": 1.6,
    "6e4c2e": 0.8,
    "a98354": 0.5,
    "8d8b88": 0.5,
    "7a3b22": 0.3,
}
TOP = {
    "1b1c20": 3.0, "33363d": 2.0, "e6e6e2": 3.2, "9a9ca0": 1.6, "24304f": 1.8, "3e5f95": 1.4, "7fa3c9": 1.1,
    "a62b2f": 1.5, "6b1f2b": 0.8, "d77c92": 0.9, "e3b9bd": 0.6, "3c6b4a": 0.9, "8fa06a": 0.5, "d4b53c": 0.7,
    "d8772f": 0.6, "6d5134": 0.7, "c7ad86": 1.0, "66477f": 0.6, "2f8e93": 0.6,
}  # fmt: skip
BOTTOM = {
    "17181c": 3.0, "2a2e37": 2.0, "23304c": 2.4, "3c5479": 2.2, "6684a6": 1.2, "6b6c6e": 1.2, "a8a196": 0.8,
    "b79b72": 1.0, "59472f": 0.7, "4d5a3a": 0.5, "d9d7d0": 0.7, "8a2a2f": 0.4, "b5617a": 0.3, "2c6a70": 0.3,
}  # fmt: skip
SHOES = {
    "15151a": 3.0,
    "e9e7e1": 2.0,
    "5a3d28": 1.0,
    "6f7176": 1.0,
    "2c3d66": 0.5,
    "b03a35": 0.5,
    "c9b08a": 0.5,
}
BAG = {
    "18181b": 3.0,
    "5b3a22": 1.2,
    "2d3c5e": 1.0,
    "a33237": 0.8,
    "c8b795": 0.7,
    "4f6b45": 0.6,
    "e08a3a": 0.4,
    "d8d8d6": 0.4,
}


def draw(rng: np.random.Generator, shares: dict[str, float], spread: float = 0.035) -> Colour:
    """One colour of a palette, off its nominal value by ``spread`` (standard deviation) per channel."""
    nominal = np.array(colour(pick(rng, shares)))
    off = nominal * (1 + rng.normal(0, 2.5 * spread)) + rng.normal(0, spread, 3)
    return Colour(*np.clip(off, 0.03, 0.95).tolist())


def distance(one: Colour, other: Colour) -> float:
    """Euclidean, 0..1.73."""
    return float(np.linalg.norm(np.subtract(one, other)))
