"""From where a learned spatial transform takes an image, and what comes out.

Drawn after Figure 5 of Peng et al., ACM MM 2020. A transform is the matrix A of their equation 1: it leads
from a place of the transformed image to the place of the original whose value goes there. Places are
(x, y), x to the right and y down, from -1 to 1 between the outer edges of an image's first and last pixels;
so one matrix serves an image and its feature map.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from numpy.typing import NDArray
from torch.nn import functional as F

from reproductions.tiles import (
    LINE_INCHES,
    TILE_INCHES,
    Blocks,
    Map,
    Pixels,
    folded,
    page,
    plain,
)

CORNERS = np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])
"""Upper left, upper right, lower right and lower left of an image."""

LINES = ("#00d0ff", "#ffb000", "#ff4fa3", "#7ee000")
MOST_AROUND = 0.4
"""Of an image's side: what is shown on each side of it, where boxes reach so far."""


class Boxed(NamedTuple):
    """One image, (H, W, 3), what it is, and each row's matrix A for it, (2, 3)."""

    image: Pixels
    caption: str
    transforms: Sequence[Map]


def box_figure(images: Sequence[Boxed], rows: Sequence[str], title: str, footer: str = "") -> Figure:
    """Images before and after the transforms of some rows.

    Args:
        images: all of one size, each with a matrix a row.
        rows: labels.
        title: what is shown.
        footer: small print.

    Returns:
        A figure with a block for each image: the original with each row's box, whose upper edge is drawn
        thicker, then what each row's transform makes of it, above its matrix. What lies outside the
        original is black.
    """
    height, width = images[0].image.shape[:2]
    view = _view(np.concatenate([CORNERS, *(corners(a) for one in images for a in one.transforms)]))
    words = [folded(row) for row in rows]
    lines = max(word.count("\n") for word in words) + 1 + 3  # a title above, a matrix below
    across, down = TILE_INCHES * (view[1] - view[0]) / 2
    layout = Blocks.of(len(images), 1 + len(rows), (across, down * height / width + lines * LINE_INCHES))
    figure = page(layout.width, layout.height + 0.6, title, footer)
    parts = layout.draw(figure, [one.caption for one in images], 1 + len(rows))
    for one, (before, *after) in zip(images, parts, strict=True):
        plain(before, one.image, "original")
        for place, (axes, word, a) in enumerate(zip(after, words, one.transforms, strict=True)):
            line = LINES[place % len(LINES)]
            _outline(before, pixels(corners(a), height, width), line)
            plain(axes, transformed(one.image, a), word)
            _outline(axes, pixels(CORNERS, height, width), line)
            _matrix(axes, a)
        for axes in (before, *after):
            _show(axes, pixels(view, height, width))
    return figure


def corners(a: Map) -> NDArray[np.float64]:
    """Where A (2, 3) leads from the corners of the transformed image, (4, 2), in the order of ``CORNERS``."""
    return np.asarray(CORNERS @ a[:, :2].T + a[:, 2], np.float64)


def displacement(transforms: Map) -> NDArray[np.float64]:
    """How far matrices (N, 2, 3) move the corners of an image: root mean square, (N,); 0 is the identity."""
    moved = (
        CORNERS @ np.moveaxis(transforms[:, :, :2], 1, 2) + transforms[:, None, :, 2] - CORNERS
    )  # (N, 4, 2)
    return np.asarray(np.sqrt((moved**2).sum(2).mean(1)), np.float64)


def pixels(places: Map, height: int, width: int) -> NDArray[np.float64]:
    """Places (n, 2) in -1..1 as columns and rows of an image, the first pixel's centre being 0."""
    return np.asarray((places + 1) * (width / 2, height / 2) - 0.5)


def transformed(image: Pixels, a: Map) -> Pixels:
    """An image (H, W, 3) by the matrix A (2, 3): eq. 1, bilinear, 0 outside the original."""
    source = torch.tensor(image).permute(2, 0, 1)[None].float()
    grid = F.affine_grid(torch.as_tensor(a)[None].float(), list(source.shape), align_corners=False)
    out = F.grid_sample(source, grid, align_corners=False)[0].permute(1, 2, 0)
    return out.round().byte().numpy()


def _view(places: Map) -> NDArray[np.float64]:
    """The least and the greatest place (x, y) that is shown, (2, 2), with some room for the outlines."""
    farthest = 1 + 2 * MOST_AROUND
    return np.array([(places - 0.04).min(0), (places + 0.04).max(0)]).clip(-farthest, farthest)


def _outline(axes: Axes, places: Map, colour: str) -> None:
    axes.add_patch(Polygon(places, fill=False, edgecolor=colour, linewidth=1.2))
    axes.plot(*places[:2].T, color=colour, linewidth=3, solid_capstyle="butt")


def _matrix(axes: Axes, a: Map) -> None:
    text = "\n".join(" ".join(f"{number + 0:+.2f}" for number in row) for row in np.round(a, 2).tolist())
    axes.text(
        0.5, -0.02, text, transform=axes.transAxes, family="monospace", fontsize=5.5, ha="center", va="top"
    )


def _show(axes: Axes, corner: Map) -> None:
    (left, top), (right, bottom) = corner.tolist()
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
