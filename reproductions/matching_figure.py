"""Where a query looks, and where each of its positions finds itself in another image.

Drawn after Figure 6 of Shen et al., CVPR 2018: attention over the query on the left, matching
confidence over the other image on the right. Maps are shown as multiples of a uniform map, 1 being
what every position gets that is neither preferred nor avoided, so that one colour scale serves maps of
all sizes; they lie over the grey image, interpolated bilinearly between the centres of their cells.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from reproductions.tiles import (
    GAP_INCHES,
    TILE_INCHES,
    Map,
    Pixels,
    bar,
    overlay,
    page,
    plain,
    relative,
    tiles,
)

Place: TypeAlias = tuple[float, float]

MARK = "#ff2020"


def matching_figure(
    query: Pixels,
    other: Pixels,
    attention: Mapping[str, Map],
    confidence: Mapping[str, Mapping[float, Map]],
    marks: Sequence[Place],
    title: str,
) -> Figure:
    """One query against one other image.

    Args:
        query: (H, W, 3).
        other: (H, W, 3).
        attention: scale -> (h, w), each adding up to 1; may be empty.
        confidence: scale -> temperature -> (h, w, h, w), for each position (i, j) of the query a map over the
            other image that adds up to 1.
        marks: places in the query whose maps are drawn, as shares (down, right) of its height and width.
        title: what is shown.

    Returns:
        A figure of two parts; a row of the right one is a mark, framed in red in the query in the size
        of a scale's cells, and its maps at that scale by temperature.
    """
    temperatures = max(len(maps) for maps in confidence.values())
    left, right = 2, len(confidence) * (1 + temperatures)
    tall = TILE_INCHES * query.shape[0] / query.shape[1] + 0.25 + GAP_INCHES
    rows = max(len(marks), 1 + -(-len(attention) // left))
    figure = page((left + right) * (TILE_INCHES + 0.08) + 1.8, rows * tall + 0.6, title)
    parts: NDArray[Any] = figure.subfigures(1, 2, squeeze=False, width_ratios=[left + 0.9, right + 0.9])[0]
    _attention(parts[0], query, other, attention, rows)
    _confidence(parts[1], query, other, confidence, marks)
    return figure


def frame(axes: Axes, image: Pixels, cell: tuple[int, int], cells: tuple[int, int]) -> None:
    """A red rectangle around one cell, (down, right), of an image that is cut into so many cells."""
    high, wide = image.shape[0] / cells[0], image.shape[1] / cells[1]
    corner = (cell[1] * wide - 0.5, cell[0] * high - 0.5)
    axes.add_patch(Rectangle(corner, wide, high, fill=False, edgecolor=MARK, linewidth=1.5))


def cell_at(mark: Place, cells: tuple[int, int]) -> tuple[int, int]:
    """The cell that holds a place; the lower and right edges belong to the last cells."""
    down, right = (min(int(share * count), count - 1) for share, count in zip(mark, cells, strict=True))
    return down, right


def _attention(
    part: SubFigure, query: Pixels, other: Pixels, attention: Mapping[str, Map], rows: int
) -> None:
    """Query and other image, below them the attention over the query at each scale."""
    grid = tiles(part, rows, 2)
    plain(grid[0, 0], query, "query")
    plain(grid[0, 1], other, "other")
    if not attention:
        return
    norm = Normalize(0, max(float(relative(values).max()) for values in attention.values()))
    for (scale, values), axes in zip(attention.items(), grid[1:].flat, strict=False):
        overlay(axes, query, values, norm)
        axes.set_title(f"attention\n{scale}", fontsize="x-small")
    bar(part, norm, "attention, times uniform", beside=grid)


def _confidence(
    part: SubFigure,
    query: Pixels,
    other: Pixels,
    confidence: Mapping[str, Mapping[float, Map]],
    marks: Sequence[Place],
) -> None:
    """A row of tiles for each mark, a block of tiles for each scale."""
    columns = sum(1 + len(maps) for maps in confidence.values())
    grid = tiles(part, len(marks), columns)
    norm = LogNorm(0.1, max(2.0, _highest(confidence, marks)), clip=True)
    for row, mark in zip(grid, marks, strict=True):
        remaining = iter(row)
        for scale, maps in confidence.items():
            cells = next(iter(maps.values())).shape[:2]
            cell = cell_at(mark, cells)
            axes = next(remaining)
            plain(axes, query, f"{scale}\n{cells[0]} x {cells[1]}")
            frame(axes, query, cell, cells)
            for temperature, values in maps.items():
                axes = next(remaining)
                overlay(axes, other, values[cell], norm)
                axes.set_title(f"{scale}\nτ = {temperature:g}", fontsize="x-small")
    bar(part, norm, "matching confidence, times uniform", beside=grid)


def _highest(confidence: Mapping[str, Mapping[float, Map]], marks: Sequence[Place]) -> float:
    return max(
        float(relative(values[cell_at(mark, values.shape[:2])]).max())
        for maps in confidence.values()
        for values in maps.values()
        for mark in marks
    )
