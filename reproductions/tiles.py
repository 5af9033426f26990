"""What pictures of images share: a page, tiles in rows, maps over images and outlines."""

import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8]
Map: TypeAlias = NDArray[np.floating]

TILE_INCHES = 0.95  # width of an image on the page
BAR_INCHES = 1.0  # width of a colour bar with its words
BAR_ASPECT = 40  # its height over its width, without the words
DPI = 160
OPACITY = 0.6
COLOURS = "inferno"

PAGE_INCHES = 14.0  # that a line of blocks may take
LABEL_CHARACTERS = 17  # that fit above a tile
LINE_INCHES = 0.13  # height of a line of small print
LETTER_INCHES = 0.085  # width of a letter of a title
SMALL_LETTER_INCHES = 0.063  # and of small print
GAP_INCHES = 0.08  # above and below tiles and captions


def page(width: float, height: float, title: str, footer: str = "") -> Figure:
    """An empty page of so many inches, and wide enough for its title; the footer's lines are folded to it."""
    width = max(width, LETTER_INCHES * max(map(len, title.splitlines()), default=0))
    letters = int(width / SMALL_LETTER_INCHES)
    small = [part for line in footer.splitlines() for part in textwrap.wrap(line, letters)]
    layout = ConstrainedLayoutEngine(h_pad=GAP_INCHES)
    figure = Figure(figsize=(width, height + LINE_INCHES * len(small)), dpi=DPI, layout=layout)
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize="medium")
    if small:
        figure.supxlabel("\n".join(small), fontsize="x-small")
    return figure


def tiles(part: SubFigure | Figure, rows: int, columns: int) -> NDArray[Any]:
    """Axes (rows, columns) without frames."""
    grid: NDArray[Any] = part.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    return grid


class Blocks(NamedTuple):
    """How blocks of tiles fill a page: ``down`` lines of ``across`` blocks, and what they take, inches."""

    down: int
    across: int
    width: float
    height: float

    @classmethod
    def of(cls, count: int, columns: int, tile: tuple[float, float]) -> "Blocks":
        """For ``count`` blocks of so many tiles; a tile's width and height include its words."""
        width, height = columns * (tile[0] + 0.08) + 0.2, tile[1] + LINE_INCHES + 3 * GAP_INCHES
        down = math.ceil(count / max(1, int(PAGE_INCHES / width)))
        across = math.ceil(count / down)
        return cls(down, across, across * width, down * height)

    def draw(
        self, part: SubFigure | Figure, captions: Sequence[str], columns: int, rows: int = 1
    ) -> Iterator[NDArray[Any]]:
        """The axes of each block, (rows * columns,), row after row, below its caption."""
        parts: list[SubFigure] = list(part.subfigures(self.down, self.across, squeeze=False).flat)
        for block, caption in zip(parts, captions, strict=False):
            block.suptitle(caption, fontsize="x-small", fontweight="bold")
            yield tiles(block, rows, columns).reshape(-1)


def plain(axes: Axes, image: Pixels, title: str) -> None:
    """An image (H, W, 3) below its title."""
    axes.imshow(image)
    axes.set_title(title, fontsize="x-small")


def overlay(axes: Axes, image: Pixels, values: Map, norm: Normalize) -> None:
    """``image`` in grey below a map (h, w) over all of it, shown as multiples of a uniform map."""
    height, width = image.shape[:2]
    axes.imshow(image.mean(axis=2), cmap="gray", vmin=0, vmax=255)
    axes.imshow(
        relative(values),
        cmap=COLOURS,
        norm=norm,
        alpha=OPACITY,
        interpolation="bilinear",
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
    )


def relative(values: Map) -> Map:
    """A map that adds up to 1 as multiples of the uniform map of its size."""
    return np.asarray(values * values.size)


def bar(part: SubFigure | Figure, norm: Normalize, label: str, beside: Any = None) -> None:
    """The scale of ``overlay`` beside some axes, or else in a part of its own."""
    place: dict[str, Any] = {"ax": beside, "shrink": 0.8, "aspect": 30}
    if beside is None:
        own = part.subplots()
        own.set_box_aspect(BAR_ASPECT)
        own.set_anchor("W")  # the words stand to the right
        place = {"cax": own}
    scale = part.colorbar(ScalarMappable(norm, COLOURS), alpha=OPACITY, **place)
    scale.set_label(label, fontsize="x-small")
    scale.ax.tick_params(labelsize="x-small")
    scale.ax.yaxis.set_major_formatter("{x:g}")


def folded(label: str) -> str:
    """A row's label in lines that fit above a tile, broken after plus signs and at spaces."""
    lines = [""]
    for piece in re.findall("[^+ ]+[+ ]*|[+ ]+", label):
        if lines[-1] and len(lines[-1] + piece.rstrip()) > LABEL_CHARACTERS:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)
