"""Local descriptors in the plane: are those near each other of one colour, or of one part of the body?

Drawn after Figure 3 of Suh et al., ECCV 2018, by t-SNE (van der Maaten and Hinton, JMLR 2008): the patches
that descriptors describe, each where its descriptor is, and the same places coloured by part of the body.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from reproductions.tiles import Pixels, page, tiles

Floats = NDArray[np.floating]

PANEL_INCHES = 5.6
LEGEND_INCHES = 1.1
PATCHES_ACROSS = 40
"""Places for patches along each side of a panel; of those that would share one, the middle one is drawn."""

CONTEXT = 1.5
"""Height and width of a drawn patch, in cells."""

NEIGHBOURS = 10
OTHER_COLOUR = "#c8c8c8"
PART_COLOURS = ("#d62728", "#1f77b4", "#e8b900", "#2ca02c", "#ff7f0e", "#9467bd", "#17becf")


class Patches(NamedTuple):
    """What n local descriptors are of.

    Attributes:
        pixels: (n, h, w, 3) around each.
        colours: (n, 3) mean colour of each one's own cell, 0..255.
        parts: (n,) places in ``names``.
        names: of parts of the body; the first is none.
        people: (n,) whom each shows.
        cells: (n,) which cell of its image each is.
    """

    pixels: Pixels
    colours: Floats
    parts: NDArray[np.int64]
    names: Sequence[str]
    people: NDArray[np.int64]
    cells: NDArray[np.int64]


class Neighbours(NamedTuple):
    """How alike near descriptors' patches are.

    Attributes:
        part: share of neighbours with the same part of the body, 0..1.
        part_by_chance: of all patches of other people.
        part_by_place: of those in the same cell of their images.
        colour: distance of mean colours in RGB, over that by chance.
    """

    part: float
    part_by_chance: float
    part_by_place: float
    colour: float


def patches_of(
    images: Pixels, parts: NDArray[np.int64], names: Sequence[str], people: Sequence[int]
) -> Patches:
    """The patches of all cells of some images.

    Args:
        images: (N, H, W, 3).
        parts: of each cell, (N, h, w) places in ``names``.
        names: of parts of the body; the first is none.
        people: who is on each image, N.
    """
    _, height, width, _ = images.shape
    n, h, w = parts.shape
    cells = (images[:, rows, columns] for rows, columns in _windows((height, width), (h, w), 1.0))
    around = (images[:, rows, columns] for rows, columns in _windows((height, width), (h, w), CONTEXT))
    colours = np.stack([cell.mean((1, 2)) for cell in cells], 1)  # (N, h w, 3)
    pixels = np.stack(list(around), 1)  # (N, h w, ...)
    return Patches(
        pixels.reshape(n * h * w, *pixels.shape[2:]),
        colours.reshape(-1, 3),
        parts.reshape(-1),
        names,
        np.repeat(np.asarray(people), h * w),
        np.tile(np.arange(h * w), n),
    )


def _windows(image: tuple[int, int], cells: tuple[int, int], factor: float) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of an image around each of its cells, row by row, all inside and of one size."""
    along = []
    for pixels, count in zip(image, cells, strict=True):
        size = max(1, min(pixels, round(factor * pixels / count)))
        starts = ((np.arange(count) + 0.5) * pixels / count - size / 2).round().clip(0, pixels - size)
        along.append([slice(start, start + size) for start in starts.astype(int).tolist()])
    yield from product(along[0], along[1])


def embedding_figure(descriptors: Mapping[str, Floats], patches: Patches, title: str, footer: str) -> Figure:
    """Descriptors of several kinds, each embedded by t-SNE.

    Args:
        descriptors: by kind, (n, c).
        patches: what they are of.
        title: what is shown.
        footer: small print.

    Returns:
        A figure with a line for each kind: its patches, and a dot for each, coloured by part of the body.
    """
    figure = page(
        2 * PANEL_INCHES + LEGEND_INCHES, len(descriptors) * (PANEL_INCHES + 0.2) + 0.6, title, footer
    )
    lines: list[SubFigure] = list(figure.subfigures(len(descriptors), 1, squeeze=False)[:, 0])
    for line, (kind, values) in zip(lines, descriptors.items(), strict=True):
        measured = neighbours(values, patches)
        told = f": {_sentence(measured)}" if measured else ""
        line.suptitle(f"{kind} descriptors{told}", fontsize="small")
        places = embedded(values)
        left, right = tiles(line, 1, 2)[0]
        _draw_patches(left, places, patches.pixels)
        _draw_parts(right, places, patches)
    return figure


def embedded(descriptors: Floats) -> NDArray[np.float64]:
    """t-SNE of descriptors (n, c), n > 1: places (n, 2), always the same; each axis fills 0..1."""
    from sklearn.manifold import TSNE  # takes seconds

    perplexity = min(30.0, (len(descriptors) - 1) / 3)
    places = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(np.float64(descriptors))
    return np.asarray((places - places.min(0)) / np.maximum(np.ptp(places, axis=0), 1e-12), np.float64)


def neighbours(descriptors: Floats, patches: Patches) -> Neighbours | None:
    """What the nearest ``NEIGHBOURS`` descriptors (n, c) of other people have in common with each.

    Patches of no part of the body are left out; None where one has fewer neighbours, or none has any at its
    own place.
    """
    body = patches.parts > 0
    of_body = (patches.people, patches.parts, patches.colours, patches.cells)
    people, parts, colours, cells = (values[body] for values in of_body)
    others = people[:, None] != people
    there = others & (cells[:, None] == cells)
    if not there.any() or others.sum(1).min() < NEIGHBOURS:
        return None
    alike = parts[:, None] == parts
    distances = np.where(others, cdist(descriptors[body], descriptors[body]), np.inf)
    near = np.argsort(distances, axis=1, kind="stable")[:, :NEIGHBOURS]  # (n, 10)
    near_part = (parts[near] == parts[:, None]).mean()
    near_colour = np.linalg.norm(colours[near] - colours[:, None], axis=2).mean()
    return Neighbours(
        float(near_part),
        float(alike[others].mean()),
        float(alike[there].mean()),
        float(near_colour / cdist(colours, colours)[others].mean()),
    )


def _sentence(one: Neighbours) -> str:
    return (
        f"{100 * one.part:.0f} % of near ones are of the same part of the body "
        f"({100 * one.part_by_chance:.0f} % by chance, {100 * one.part_by_place:.0f} % at the same place of "
        f"the image), their colours differ {one.colour:.2f} times as much as by chance"
    )


def middle_ones(places: Floats, across: int) -> dict[tuple[int, int], int]:
    """Of places (n, 2) in 0..1, by square of a grid that they are in, the one nearest to its middle."""
    squares = np.minimum((places * across).astype(int), across - 1)
    away = np.abs(places * across - squares - 0.5).max(1)
    found: dict[tuple[int, int], int] = {}
    for point in np.argsort(away, kind="stable").tolist():
        column, row = squares[point].tolist()
        found.setdefault((column, row), point)
    return found


def _draw_patches(axes: Axes, places: Floats, pixels: Pixels) -> None:
    for (column, row), point in middle_ones(places, PATCHES_ACROSS).items():
        axes.imshow(pixels[point], extent=(column, column + 1, row, row + 1), interpolation="bilinear")
    _square(axes, PATCHES_ACROSS)


def _draw_parts(axes: Axes, places: Floats, patches: Patches) -> None:
    colours = [OTHER_COLOUR, *PART_COLOURS]
    for part in range(len(patches.names)):
        chosen = places[patches.parts == part]
        axes.scatter(chosen[:, 0], chosen[:, 1], s=4 if part else 2, c=colours[part], linewidths=0)
    handles = [
        Line2D([], [], marker="o", linestyle="", markersize=5, color=colour, label=name)
        for name, colour in zip(patches.names, colours, strict=False)
    ]
    axes.legend(handles=handles, fontsize="x-small", loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    _square(axes, 1)


def _square(axes: Axes, side: float) -> None:
    margin = 0.02 * side
    axes.set_xlim(-margin, side + margin)
    axes.set_ylim(-margin, side + margin)
    axes.set_aspect("equal")
