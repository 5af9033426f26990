"""What surfaces look like: colours and patterns, as rows that the shader reads."""

from typing import NamedTuple

import numpy as np

from protocols.crosswalk.looks import Cloth, Look
from protocols.crosswalk.palette import Colour

# Rows of a person's material table.
SKIN, FACE, HAIR, TOP, SLEEVE, BOTTOM, SHOE, BAG, HAT = range(9)

# Patterns, by the number that the shader switches on.
PATTERNS = (
    "plain",
    "hoops",
    "pinstripes",
    "checks",
    "dots",
    "yoke",
    "print",
    "band",
    "faded",
    "side",
    "sole",
    "face",
    "leaves",
)
CODE = {name: number for number, name in enumerate(PATTERNS)}

# What lies over a pattern on the trunk, as bits.
LOGO_FRONT, LOGO_BACK, OPEN, STRAPS, SASH_LEFT, SASH_RIGHT = (1 << bit for bit in range(6))
# What lies over a face, as bits.
HAIRLINE, RECEDING, GLASSES, BEARD = (1 << bit for bit in range(4))


TABLE_COLUMNS = 17


class Material(NamedTuple):
    """One surface; colours in sRGB 0..1.

    Attributes:
        first: main colour.
        second: of the pattern, the logo, or the hair above a face.
        third: of what shows through an open front.
        fourth: of straps over it.
        pattern: index into ``PATTERNS``.
        pitch: how fine the pattern is, 0 coarse .. 1 fine.
        phase: where the pattern starts, 0..1.
        overlay: bits, see above.
        folds: strength of wrinkles and texture, 0..1.
    """

    first: Colour
    second: Colour
    third: Colour
    fourth: Colour
    pattern: int = 0
    pitch: float = 0.0
    phase: float = 0.0
    overlay: int = 0
    folds: float = 0.0


def plain(hue: Colour, folds: float = 0.0, pattern: str = "plain", second: Colour | None = None) -> Material:
    """A surface of one colour, or of two in a pattern."""
    return Material(hue, second or hue, hue, hue, CODE[pattern], folds=folds)


def as_array(materials: list[Material]) -> np.ndarray:
    """Rows for the shader, (n, 17) float64, colours in linear light."""
    rows = np.array([(*m.first, *m.second, *m.third, *m.fourth, *m[4:]) for m in materials])
    rows[:, :12] **= 2.2
    return rows


def wardrobe(look: Look) -> list[Material]:
    """A person's material table, in the order of the constants above."""
    hues = look.hues
    cloth = look.top_cloth
    sleeve = Cloth("plain", 0, 0) if look.plain_sleeves and cloth.pattern != "plain" else cloth
    if sleeve.pattern in ("yoke", "band", "pinstripes"):  # these are cut for a trunk, not for an arm
        sleeve = Cloth("plain", 0, 0)
    return [
        plain(look.skin, 0.1),
        _face(look),
        plain(look.hair, 0.9),
        _cloth(look, hues.top, cloth, 0.6, _trunk_overlay(look)),
        _cloth(look, hues.top, sleeve, 0.6, 0),
        _cloth(look, hues.bottom, look.bottom_cloth, 0.7, 0),
        plain(hues.shoes, 0.2, "sole", Colour(0.85, 0.84, 0.82) if look.shoes == "trainers" else hues.shoes),
        plain(hues.bag, 0.4),
        plain(hues.hat, 0.3),
    ]


def _cloth(look: Look, hue: Colour, cloth: Cloth, folds: float, overlay: int) -> Material:
    hues = look.hues
    return Material(
        hue, hues.accent, hues.inner, hues.bag, CODE[cloth.pattern], cloth.pitch, cloth.phase, overlay, folds
    )


def _face(look: Look) -> Material:
    bits = GLASSES * look.glasses | BEARD * look.beard
    if look.hairstyle == "receding":
        bits |= RECEDING
    elif look.hairstyle != "bald":
        bits |= HAIRLINE
    return plain(look.skin, 0.1, "face", look.hair)._replace(overlay=bits)


def _trunk_overlay(look: Look) -> int:
    bits = 0
    if look.top in ("jacket", "coat"):
        bits |= OPEN
    elif look.logo != "none":
        bits |= LOGO_FRONT if look.logo == "front" else LOGO_BACK
    if look.bag == "backpack":
        bits |= STRAPS
    elif look.bag == "shoulder":
        bits |= SASH_LEFT if look.bag_side > 0 else SASH_RIGHT
    return bits
