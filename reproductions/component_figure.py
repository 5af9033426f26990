"""Local descriptors as colours: what an appearance map and a part map tell apart.

Drawn after Figures 4 and 5 of Suh et al., ECCV 2018; colours are those of ``reproductions.principal``. A cell
of a map is drawn as one flat patch: a smooth picture would be the drawing's work.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure, SubFigure

from reproductions.tiles import LINE_INCHES, TILE_INCHES, Blocks, Pixels, folded, page, plain, tiles


class Coloured(NamedTuple):
    """One image, (H, W, 3), what it is, and each row's maps for it by name, (h, w, 3) RGB."""

    image: Pixels
    caption: str
    maps: Sequence[Mapping[str, Pixels]]


def component_figure(
    people: Mapping[str, Sequence[Coloured]], rows: Sequence[str], title: str, footer: str
) -> Figure:
    """Images of some people with the maps of some rows.

    Args:
        people: some images of each, by what stands above them; all of one size, all with the same maps.
        rows: labels; one alone stands in the title, so it is not repeated above each map.
        title: what is shown.
        footer: small print.

    Returns:
        A figure with a block for each person: a line for each image, the original and then each row's maps.
    """
    example = next(iter(people.values()))[0]
    height, width = example.image.shape[:2]
    heads = [
        f"{folded(row)}\n{name}" if len(rows) > 1 else name
        for row, maps in zip(rows, example.maps, strict=True)
        for name in maps
    ]
    words = max(head.count("\n") for head in heads) + 1
    lines = max(map(len, people.values()))
    tall = lines * (TILE_INCHES * height / width + 2 * LINE_INCHES) + words * LINE_INCHES
    layout = Blocks.of(len(people), 1 + len(heads), (TILE_INCHES, tall))
    figure = page(layout.width, layout.height + 0.6, title, footer)
    parts: list[SubFigure] = list(figure.subfigures(layout.down, layout.across, squeeze=False).flat)
    for part, (caption, person) in zip(parts, people.items(), strict=False):
        part.suptitle(caption, fontsize="x-small", fontweight="bold")
        grid = tiles(part, lines, 1 + len(heads))
        for place, (one, (original, *others)) in enumerate(zip(person, grid, strict=False)):
            plain(original, one.image, one.caption)
            maps = [values for several in one.maps for values in several.values()]
            for axes, head, values in zip(others, heads, maps, strict=True):
                axes.imshow(values, interpolation="nearest", extent=(-0.5, width - 0.5, height - 0.5, -0.5))
                axes.set_title("" if place else head, fontsize="x-small")
    return figure
