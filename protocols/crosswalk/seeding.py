"""Random numbers that depend on names alone, never on the order in which images are rendered."""

from collections.abc import Mapping
from hashlib import blake2b
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def generator(*names: object) -> np.random.Generator:
    """The generator of everything called by ``names``; the same names always give the same numbers."""
    text = "\x1f".join(map(str, names))
    return np.random.Generator(
        np.random.PCG64(int.from_bytes(blake2b(text.encode(), digest_size=16).digest()))
    )


def pick(rng: np.random.Generator, shares: Mapping[T, float]) -> T:
    """One key, drawn in proportion to its share (shares are positive and need not add up to 1)."""
    left = rng.random() * sum(shares.values())
    for key, share in shares.items():
        left -= share
        if left < 0:
            return key
    return key
