"""Ranked lists: queries, each with its nearest gallery images by one row or more.

Drawn after Figure 7 of Peng et al., ACM MM 2020: one line of images a row, green frames around true
matches, red ones around everybody else.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from reproductions.tiles import GAP_INCHES, LINE_INCHES, TILE_INCHES, Pixels, page, plain, tiles

RIGHT, WRONG = "#00a52c", "#ff2020"
BLOCKS_A_LINE = 2


class Found(NamedTuple):
    """An image of a list, (H, W, 3), what it is, and whether it is a true match."""

    image: Pixels
    caption: str
    match: bool


class Listed(NamedTuple):
    """A query, (H, W, 3), what it is, and each row's list with its heading, nearest first."""

    image: Pixels
    caption: str
    lists: Sequence[tuple[str, Sequence[Found]]]


def list_figure(queries: Sequence[Listed], length: int, title: str) -> Figure:
    """The lists of some queries.

    Args:
        queries: all images of one size; each query with as many lists.
        length: places of a list; what a shorter one lacks stays blank.
        title: what is shown.

    Returns:
        A figure with a block for each query: the query on the left, beside it a line of images a row.
    """
    height, width = queries[0].image.shape[:2]
    lines = len(queries[0].lists)
    across = min(len(queries), BLOCKS_A_LINE)
    down = -(-len(queries) // across)
    tall = lines * (TILE_INCHES * height / width + 3 * LINE_INCHES + 2 * GAP_INCHES)
    figure = page(across * (length + 1.3) * (TILE_INCHES + 0.08), down * (tall + LINE_INCHES) + 0.5, title)
    parts: list[SubFigure] = list(figure.subfigures(down, across, squeeze=False).flat)
    for part, query in zip(parts, queries, strict=False):
        _block(part, query, length)
    return figure


def _block(part: SubFigure, query: Listed, length: int) -> None:
    left, right = part.subfigures(1, 2, squeeze=False, width_ratios=[1.1, length])[0]
    (asked,) = tiles(left, 1, 1)[0]
    plain(asked, query.image, query.caption)
    strips: NDArray[Any] = right.subfigures(len(query.lists), 1, squeeze=False)[:, 0]
    for strip, (heading, found) in zip(strips, query.lists, strict=True):
        strip.suptitle(heading, fontsize="x-small")
        for axes, one in zip(tiles(strip, 1, length)[0], found, strict=False):
            plain(axes, one.image, one.caption)
            _frame(axes, one.image, RIGHT if one.match else WRONG)


def _frame(axes: Axes, image: Pixels, colour: str) -> None:
    height, width = image.shape[:2]
    axes.add_patch(Rectangle((-0.5, -0.5), width, height, fill=False, edgecolor=colour, linewidth=4))
