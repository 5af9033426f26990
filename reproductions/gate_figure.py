"""Which positions two images activate together, and how that changes with the partner.

Drawn after Figure 9 of Wu et al., arXiv:1707.07074, from what section 4.6 says of it: (a) the strength of F,
the integration of both images' features (eq. 2), and (b) that of F~, after the recurrent layers (eq. 4), at
each position. How 512 channels become one map is not said: here by the length of the vector at a position.

Position (i, j) of F is made of the features of both images at (i, j), so a pair has one map. It lies over
both images, as the section is about regions common to them. F_AB is not F_BA: the query is in first place.
A query's maps with its partners are shown as multiples of their common mean, so that they can be compared. F
has one colour scale and F~ another, for the whole page and from the lowest value to the highest, as sums of
sigmoids do not come near 0.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from reproductions.heat_figure import shares
from reproductions.tiles import (
    BAR_INCHES,
    LINE_INCHES,
    TILE_INCHES,
    Blocks,
    Map,
    Pixels,
    bar,
    overlay,
    page,
    plain,
    relative,
)

SYMBOLS = {"gate": "$F$", "recurrent": r"$\tilde{F}$"}
"""Maps of ``gate_maps``, and how they are called on the page."""

CAPTION_LINES = 2


class Partner(NamedTuple):
    """An image beside a query, (H, W, 3), what it is, and the pair's maps, (h, w), as in ``SYMBOLS``."""

    image: Pixels
    caption: str
    maps: Mapping[str, Map]


class Query(NamedTuple):
    """A query, (H, W, 3), what it is, and the images that it is paired with."""

    image: Pixels
    caption: str
    partners: Sequence[Partner]


def gate_figure(queries: Sequence[Query], title: str) -> Figure:
    """Queries with the maps of their pairs.

    Args:
        queries: images of one size, with as many partners each; all pairs have maps of the same names.
        title: what is shown.

    Returns:
        A figure with a block for each query and a line in it for each partner: both images, then each map
        over both.
    """
    compared = [together(one.partners) for one in queries]
    names, lines = list(compared[0][0]), len(queries[0].partners)
    norms = {name: _norm([maps[name] for several in compared for maps in several]) for name in names}
    height, width = queries[0].image.shape[:2]
    tile = TILE_INCHES, lines * (TILE_INCHES * height / width + CAPTION_LINES * LINE_INCHES)
    columns = 2 * (1 + len(names))
    layout = Blocks.of(len(queries), columns, tile)
    sides = [BAR_INCHES] * len(names)
    figure = page(layout.width + sum(sides), layout.height + 0.6, title)
    body, *bars = figure.subfigures(
        1, 1 + len(names), squeeze=False, width_ratios=[layout.width, *sides]
    )[0]  # fmt: skip
    parts = layout.draw(body, [one.caption for one in queries], columns, lines)
    for query, several, axes in zip(queries, compared, parts, strict=True):
        for partner, maps, line in zip(query.partners, several, axes.reshape(lines, columns), strict=True):
            plain(line[0], query.image, "query")
            plain(line[1], partner.image, partner.caption)
            for name, over_query, over_partner in zip(maps, line[2::2], line[3::2], strict=True):
                overlay(over_query, query.image, maps[name], norms[name])
                over_query.set_title(f"{SYMBOLS[name]}\nover the query", fontsize="x-small")
                overlay(over_partner, partner.image, maps[name], norms[name])
                over_partner.set_title("the same\nover the other", fontsize="x-small")
    for name, part in zip(names, bars, strict=True):
        bar(part, norms[name], f"strength of {SYMBOLS[name]}, times the mean of a query's maps")
    return figure


def together(partners: Sequence[Partner]) -> list[dict[str, Map]]:
    """The maps of a query with each partner, by name, scaled alike so that they add up to 1 on average."""
    scaled = {
        name: len(partners) * shares(np.stack([partner.maps[name] for partner in partners]))
        for name in partners[0].maps
    }
    return [{name: values[place] for name, values in scaled.items()} for place in range(len(partners))]


def _norm(maps: Sequence[Map]) -> Normalize:
    """From the lowest value of some maps to the highest."""
    values = [relative(one) for one in maps]
    return Normalize(min(float(one.min()) for one in values), max(float(one.max()) for one in values))
