"""Which part of the body each cell of a map shows: by what the embedded street knows, or a pose network says.

Shapes: N images, h x w cells.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from protocols.crosswalk import Shot, layout_named
from protocols.crosswalk.truth import JOINTS, PARTS
from protocols.crosswalk.walks import Street as Scenery
from reproductions.jobs import Street

Labels = NDArray[np.int64]

OTHER = "background"

TRUE_PARTS = {
    "head": ("head", "hair"),
    "torso": ("torso",),
    "arms": ("upper_arms", "lower_arms", "hands"),
    "hips": ("hips",),
    "thighs": ("thighs",),
    "shins": ("shins",),
    "feet": ("shoes",),
}
"""Of ``protocols.crosswalk.truth.PARTS``; bags and what stands before or behind somebody are none."""

JOINT_PARTS = {
    "head": ("nose", "right_eye", "left_eye", "right_ear", "left_ear"),
    "shoulders": ("neck", "right_shoulder", "left_shoulder"),
    "arms": ("right_elbow", "right_wrist", "left_elbow", "left_wrist"),
    "hips": ("right_hip", "left_hip"),
    "knees": ("right_knee", "left_knee"),
    "ankles": ("right_ankle", "left_ankle"),
}

BODY = 0.25
"""Of a cell that shows a part of the body."""

PEAK = 0.1
"""A joint is there where its map is above this, as OpenPose finds peaks."""


def cells_by_truth(street: Street, images: Sequence[Path], size: tuple[int, int]) -> Labels | None:
    """The part with most pixels of each cell, (N, h, w) places in ``[OTHER, *TRUE_PARTS]``.

    ``OTHER`` are cells in which the body takes less than ``BODY``: heads and feet never fill one of theirs.
    None where a file is not one that the street renders, as when a layout packs its images.
    """
    from protocols.crosswalk.render import render_shot  # compiles

    layout = layout_named(street.layout)
    shots = layout.plan(layout.size_named(street.size), street.seed, street.dials)
    by_file = {f"{shot.folder}/{shot.name}".lstrip("/"): shot for shot in shots}
    found = [_shot(by_file, image) for image in images]
    if None in found:
        return None
    scenery = Scenery(street.seed, street.dials)
    pixels = np.stack([render_shot(scenery, shot).parts for shot in found if shot])  # (N, 128, 64)
    part_of = np.zeros(len(PARTS), np.int64)
    for place, names in enumerate(TRUE_PARTS.values(), start=1):
        part_of[[PARTS.index(name) for name in names]] = place
    masks = F.one_hot(torch.from_numpy(part_of[pixels]), 1 + len(TRUE_PARTS))
    shares = F.adaptive_avg_pool2d(masks.movedim(-1, 1).float(), size)
    return np.where(np.asarray(shares[:, 0]) <= 1 - BODY, 1 + np.asarray(shares[:, 1:].argmax(1)), 0)


def cells_by_joints(joints: Tensor, size: tuple[int, int]) -> Labels:
    """The part of the strongest joint in each cell, (N, h, w) places in ``[OTHER, *JOINT_PARTS]``.

    Args:
        joints: joint maps of a pose network, (N, 19, h', w'), background last.
        size: (h, w).
    """
    part_of = np.zeros(len(JOINTS), np.int64)
    for place, names in enumerate(JOINT_PARTS.values(), start=1):
        part_of[[JOINTS.index(name) for name in names]] = place
    height, strongest = F.adaptive_max_pool2d(joints[:, : len(JOINTS)].float().cpu(), size).max(1)
    return np.where(np.asarray(height) > PEAK, part_of[np.asarray(strongest)], 0)


def _shot(by_file: Mapping[str, Shot], image: Path) -> Shot | None:
    """The one whose file is the end of the path."""
    ends = ("/".join(image.parts[-length:]) for length in (1, 2, 3))
    return next((by_file[end] for end in ends if end in by_file), None)
