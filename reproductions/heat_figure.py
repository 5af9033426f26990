"""Where feature maps are active.

Drawn after Figure 6 of Peng et al., ACM MM 2020, who do not say how 2048 channels become one map: here by
their mean, as in their equation 3. Maps are shown as multiples of their own mean, all on one colour scale.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from reproductions.tiles import (
    BAR_INCHES,
    LINE_INCHES,
    TILE_INCHES,
    Blocks,
    Map,
    Pixels,
    bar,
    folded,
    overlay,
    page,
    plain,
    relative,
)


class Heated(NamedTuple):
    """One image, (H, W, 3), what it is, and each row's activations for it, (h, w), none below 0."""

    image: Pixels
    caption: str
    activations: Sequence[Map]


def heat_figure(images: Sequence[Heated], rows: Sequence[str], title: str) -> Figure:
    """Images with the maps of some rows.

    Args:
        images: all of one size, each with a map a row.
        rows: labels.
        title: what is shown.

    Returns:
        A figure with a block for each image: the original, then each row's map over the grey image.
    """
    maps = [[shares(values) for values in one.activations] for one in images]
    norm = Normalize(0, max(float(relative(values).max()) for several in maps for values in several))
    height, width = images[0].image.shape[:2]
    words = [folded(row) for row in rows]
    lines = max(word.count("\n") for word in words) + 1
    tile = TILE_INCHES, TILE_INCHES * height / width + lines * LINE_INCHES
    layout = Blocks.of(len(images), 1 + len(rows), tile)
    figure = page(layout.width + BAR_INCHES, layout.height + 0.6, title)
    body, side = figure.subfigures(1, 2, squeeze=False, width_ratios=[layout.width, BAR_INCHES])[0]
    parts = layout.draw(body, [one.caption for one in images], 1 + len(rows))
    for one, several, (original, *others) in zip(images, maps, parts, strict=True):
        plain(original, one.image, "original")
        for axes, word, values in zip(others, words, several, strict=True):
            overlay(axes, one.image, values, norm)
            axes.set_title(word, fontsize="x-small")
    bar(side, norm, "mean activation, times the map's mean")
    return figure


def shares(activations: Map) -> Map:
    """A map scaled to add up to 1; uniform where nothing is active."""
    total = activations.sum()
    return activations / total if total else np.full(activations.shape, 1 / activations.size)
