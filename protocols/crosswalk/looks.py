"""What stays the same about a person from camera to camera: build, skin, hair, clothes and bags."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from protocols.crosswalk import palette
from protocols.crosswalk.palette import Colour, distance, draw
from protocols.crosswalk.seeding import generator, pick
from protocols.crosswalk.shots import Subject

MIN_ACCENT_CONTRAST = 0.3  # sRGB distance of a pattern's or a logo's colour from the cloth below
MIN_CONFUSER_CONTRAST = 0.35  # sRGB distance of top and bottom, so that exchanging them shows


class Build(NamedTuple):
    """Proportions: height in metres, the others relative to an average adult."""

    height: float
    girth: float
    shoulders: float
    hips: float
    bust: float


class Hues(NamedTuple):
    """Colours by place; confusers hold the same colours in other places."""

    top: Colour
    accent: Colour
    inner: Colour
    bottom: Colour
    shoes: Colour
    bag: Colour
    hat: Colour

    def exchanged(self, with_bag: bool) -> "Hues":
        """Top and bottom change places and, where a bag is worn, so do shoes and bag."""
        traded = self._replace(top=self.bottom, bottom=self.top)
        return traded._replace(shoes=self.bag, bag=self.shoes) if with_bag else traded


class Cloth(NamedTuple):
    """A pattern: its name, repeats per metre (or around the body) and phase in 0..1."""

    pattern: str
    pitch: float
    phase: float


@dataclass(frozen=True, slots=True)
class Look:
    """One appearance; see the drawing functions below for the values that each field takes."""

    build: Build
    female: bool
    skin: Colour
    hair: Colour
    hairstyle: str
    headgear: str
    glasses: bool
    beard: bool
    top: str
    top_cloth: Cloth
    plain_sleeves: bool
    logo: str
    bottom: str
    bottom_cloth: Cloth
    fit: float
    shoes: str
    bag: str
    bag_side: int
    hues: Hues


@lru_cache(maxsize=4096)
def look_of(seed: int, subject: Subject) -> Look:
    """The appearance of a subject: a pure function of the street's seed and the subject's look."""
    rng = generator(seed, "look", subject.look)
    look = _draw_look(rng)
    if subject.look.startswith("pair"):
        look = _contrasting(look, rng)
        own = generator(seed, "build", subject.name)
        look = replace(look, build=_build(own, look.female))
    if subject.swapped:
        look = replace(look, hues=look.hues.exchanged(look.bag != "none"))
    return look


def _draw_look(rng: np.random.Generator) -> Look:
    female = bool(rng.random() < 0.5)
    top = pick(rng, _tops(female))
    return Look(
        build=_build(rng, female),
        female=female,
        skin=draw(rng, palette.SKIN, 0.015),
        hair=draw(rng, palette.HAIR, 0.015),
        hairstyle=pick(rng, _hairstyles(female)),
        headgear=pick(rng, {"none": 8.0, "cap": 1.2, "beanie": 0.5, "hat": 0.4 if female else 0.15}),
        glasses=bool(rng.random() < 0.2),
        beard=bool(not female and rng.random() < 0.15),
        top=top,
        top_cloth=_top_cloth(rng),
        plain_sleeves=bool(rng.random() < 0.35),
        logo=pick(rng, {"none": 3.0, "front": 1.2, "back": 0.8}),
        bottom=pick(rng, _bottoms(female, top)),
        bottom_cloth=_bottom_cloth(rng),
        fit=float(rng.uniform(0, 1)),
        shoes=pick(rng, {"trainers": 4.0, "low": 2.0, "boots": 1.0}),
        bag=pick(rng, _bags(female)),
        bag_side=1 if rng.random() < 0.5 else -1,
        hues=_hues(rng),
    )


def _build(rng: np.random.Generator, female: bool) -> Build:
    height = rng.normal(1.63, 0.055) if female else rng.normal(1.745, 0.06)
    return Build(
        height=float(np.clip(height, 1.48, 1.95)),
        girth=float(np.clip(rng.lognormal(0.0, 0.1), 0.84, 1.32)) * (0.95 if female else 1.02),
        shoulders=float(rng.normal(0.91 if female else 1.03, 0.03)),
        hips=float(rng.normal(1.03 if female else 0.96, 0.025)),
        bust=float(rng.uniform(0.5, 1.0)) if female else 0.0,
    )


def _tops(female: bool) -> dict[str, float]:
    shares = {"tee": 3.4, "shirt": 2.2, "hoodie": 1.1, "jacket": 1.5, "coat": 0.8, "vest": 0.3}
    return {**shares, "dress": 1.4} if female else shares


def _bottoms(female: bool, top: str) -> dict[str, float]:
    if top in ("coat", "jacket", "hoodie"):
        return {"trousers": 6.0, "skirt": 1.0} if female else {"trousers": 1.0}
    return {"trousers": 4.5, "shorts": 1.6, "skirt": 1.6} if female else {"trousers": 4.0, "shorts": 2.0}


def _bags(female: bool) -> dict[str, float]:
    if female:
        return {"none": 2.6, "backpack": 1.6, "shoulder": 2.0, "handbag": 1.6}
    return {"none": 3.6, "backpack": 2.4, "shoulder": 1.2, "handbag": 0.6}


def _hairstyles(female: bool) -> dict[str, float]:
    if female:
        return {"long": 3.0, "ponytail": 2.4, "bob": 1.8, "bun": 0.9, "short": 0.7}
    return {"short": 5.0, "crop": 2.4, "full": 1.6, "bald": 0.5, "receding": 0.8}


def _top_cloth(rng: np.random.Generator) -> Cloth:
    pattern = pick(
        rng,
        {
            "plain": 6.0,
            "hoops": 1.3,
            "pinstripes": 0.6,
            "checks": 0.9,
            "dots": 0.4,
            "yoke": 0.8,
            "print": 0.6,
            "band": 0.6,
        },
    )
    return Cloth(pattern, float(rng.uniform(0, 1)), float(rng.uniform(0, 1)))


def _bottom_cloth(rng: np.random.Generator) -> Cloth:
    pattern = pick(rng, {"plain": 5.0, "faded": 2.5, "side": 0.6, "checks": 0.3})
    return Cloth(pattern, float(rng.uniform(0, 1)), float(rng.uniform(0, 1)))


def _hues(rng: np.random.Generator) -> Hues:
    top = draw(rng, palette.TOP)
    accent = draw(rng, palette.TOP)
    while distance(accent, top) < MIN_ACCENT_CONTRAST:  # a pattern in almost the same colour would not show
        accent = draw(rng, palette.TOP)
    return Hues(
        top=top,
        accent=accent,
        inner=draw(rng, palette.TOP),
        bottom=draw(rng, palette.BOTTOM),
        shoes=draw(rng, palette.SHOES),
        bag=draw(rng, palette.BAG),
        hat=draw(rng, palette.TOP),
    )


def _contrasting(look: Look, rng: np.random.Generator) -> Look:
    """Clothes for a pair of confusers: a separate top and bottom, in clearly different colours."""
    hues = look.hues
    while distance(hues.top, hues.bottom) < MIN_CONFUSER_CONTRAST:
        hues = hues._replace(top=draw(rng, palette.TOP), bottom=draw(rng, palette.BOTTOM))
    while min(distance(hues.accent, hues.top), distance(hues.accent, hues.bottom)) < MIN_ACCENT_CONTRAST:
        hues = hues._replace(accent=draw(rng, palette.TOP))  # shows on either of the two
    return replace(look, hues=hues, top="shirt" if look.top in ("dress", "coat") else look.top)
