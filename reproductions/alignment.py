"""How far a learned transform undoes the errors of the embedded street's detector, which the street knows.

Transforms are matrices A, (N, 2, 3), of a target's places to its source's; see ``reproductions.box_figure``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols import Record
from protocols.crosswalk import SIZES, plan
from protocols.crosswalk.walks import Street as Scenery
from reproductions.jobs import Street

Floats = NDArray[np.float64]

ROUNDING = 1e-9
"""Deviations below this are those of equal numbers."""

MEASURES = ("across", "down", "width", "height")


@dataclass(frozen=True, slots=True, eq=False)
class Alignment:
    """What a transform does to people's place and size in their images, by ``MEASURES``.

    Attributes:
        images: how many.
        before: deviation over the images of the person's centre, in percent of the mean person's box, and
            of the logarithm of the person's width and height, times 100: about percent, too. So what is
            done to all images alike does not count.
        after: the same in the transformed images.
        correlation: of A's t_w, t_h, s_w and s_h with those that would cut out the person exactly; NaN where
            A's are all the same.
    """

    images: int
    before: Floats
    after: Floats
    correlation: Floats


def align(transforms: Floats, truth: Floats) -> Alignment:
    """Judge ``transforms`` by the ones that would cut out each person exactly, both (N, 2, 3)."""
    identity = np.broadcast_to(np.eye(2, 3), truth.shape)
    before, after = (100 * _placed(a, truth).std(axis=0) for a in (identity, transforms))
    ours, ideal = (np.concatenate([a[:, :, 2], a[:, [0, 1], [0, 1]]], axis=1) for a in (transforms, truth))
    return Alignment(len(truth), before, after, _correlation(ours, ideal))


def true_transforms(street: Street, records: Sequence[Record]) -> Floats:
    """What cuts the image of each record to what it shows where its box is without error, (N, 2, 3).

    Raises ``KeyError`` for an image that the street does not have.
    """
    from protocols.crosswalk.scene import boxes  # compiles

    shots = {(shot.folder, shot.name): shot for shot in plan(SIZES[street.size], street.seed, street.dials)}
    scenery = Scenery(street.seed, street.dials)
    found = np.zeros((len(records), 2, 3))
    for a, record in zip(found, records, strict=True):
        seen, exact = boxes(scenery, shots[record.path.parent.name, record.path.name])
        a[0, 0], a[1, 1] = exact.width / seen.width, exact.height / seen.height
        a[0, 2] = (2 * (exact.left - seen.left) + exact.width) / seen.width - 1
        a[1, 2] = (2 * (exact.top - seen.top) + exact.height) / seen.height - 1
    return found


def sentence(one: Alignment) -> str:
    """For example ``across 5.1 -> 4.9 (r +0.31), down ...``."""
    return ", ".join(
        f"{name} {before:.1f} → {after:.1f} (r {'-' if np.isnan(r) else f'{r:+.2f}'})"
        for name, before, after, r in zip(MEASURES, one.before, one.after, one.correlation, strict=True)
    )


def _placed(transforms: Floats, truth: Floats) -> Floats:
    """The person's centre, in shares of the mean person, and the log of its sizes, (N, 4), in A's images."""
    back = np.linalg.pinv(transforms[:, :, :2])
    sizes = np.log(2 * np.linalg.norm(back @ truth[:, :, :2], axis=1))  # (N, 2), as A shows the person
    centre = (back @ (truth - transforms)[:, :, 2:])[:, :, 0]
    return np.concatenate([centre / np.exp(sizes.mean(axis=0)), sizes], axis=1)


def _correlation(a: Floats, b: Floats) -> Floats:
    """Of each column, (N, D) with (N, D) -> (D,)."""
    deviations = a.std(0) * b.std(0)
    found = ((a - a.mean(0)) * (b - b.mean(0))).mean(0)
    known = deviations > ROUNDING
    return np.where(known, found / np.where(known, deviations, 1), np.nan)
