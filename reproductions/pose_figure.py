"""People with their joints, where a pose network finds them, and its joint maps.

After Figures 2 and 5 of Cao et al., CVPR 2017: joints and the limbs between them, a colour each.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from protocols.crosswalk.truth import JOINTS
from reproductions.pose_targets import LIMBS
from reproductions.tiles import COLOURS, LINE_INCHES, OPACITY, TILE_INCHES, Blocks, Map, Pixels, page, plain

COLUMNS = ("true", "found", "joint maps")
HUES = colormaps["hsv"](np.linspace(0, 1, len(LIMBS), endpoint=False))


class Posed(NamedTuple):
    """One image, (H, W, 3), what it is, its joints, and the network's.

    Attributes:
        image: (H, W, 3).
        caption: what it is.
        true: (18, 2) x, y in pixels from the image's edges; NaN for a joint outside the image.
        found: (18, 2) likewise.
        confidence: the greatest of the joint maps, (h, w).
    """

    image: Pixels
    caption: str
    true: NDArray[np.floating]
    found: NDArray[np.floating]
    confidence: Map


def pose_figure(images: Sequence[Posed], title: str, footer: str) -> Figure:
    """A block for each image (all of one size): the true joints, those found, and the joint maps."""
    height, width = images[0].image.shape[:2]
    tile = TILE_INCHES, TILE_INCHES * height / width + LINE_INCHES
    layout = Blocks.of(len(images), len(COLUMNS), tile)
    figure = page(layout.width, layout.height + 0.6, title, footer)
    (body,) = figure.subfigures(1, 1, squeeze=False)[0]
    for one, axes in zip(
        images, layout.draw(body, [one.caption for one in images], len(COLUMNS)), strict=True
    ):
        for part, name in zip(axes, COLUMNS, strict=True):
            plain(part, one.image, name)
        draw_skeleton(axes[0], one.true)
        draw_skeleton(axes[1], np.where(np.isnan(one.true), np.nan, one.found))
        axes[2].imshow(
            one.confidence,
            cmap=COLOURS,
            norm=Normalize(0, 1),
            alpha=OPACITY,
            interpolation="bicubic",
            extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        )
    return figure


def draw_skeleton(axes: Axes, joints: NDArray[np.floating]) -> None:
    """Limbs and joints, (18, 2); what ends at NaN is left out."""
    places = joints - 0.5  # the axes have the middle of the first pixel at 0
    for (start, end), hue in zip(LIMBS, HUES, strict=True):
        line = places[[JOINTS.index(start), JOINTS.index(end)]]
        if not np.isnan(line).any():
            axes.plot(*line.T, color=hue, linewidth=1.2)
    axes.plot(*places.T, ".", color="white", markersize=2.5, markeredgecolor="black", markeredgewidth=0.3)
