"""What a pose network learns to draw, as OpenPose defines it: joint maps and part affinity fields.

Cao et al., CVPR 2017, arXiv:1611.08050, section 2: equations 6 and 7 (confidence maps), 8 and 9 (fields).
Each image has one person with known joints, so the maximum and the average over people fall away.

Shapes: B images, J = 18 joints, L = 19 limbs, h x w cells of a map. The cell of column i stands for
the middle of the pixels that it covers, s (i + 1/2) from the image's edge at a stride of s, as for joint maps
in OpenPose's own training code; its fields are half a cell off.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from protocols.crosswalk.truth import JOINTS, OUTSIDE

STRIDE = 8
"""Pixels of the image a cell, along each side."""

LIMBS = (
    ("neck", "right_hip"),
    ("right_hip", "right_knee"),
    ("right_knee", "right_ankle"),
    ("neck", "left_hip"),
    ("left_hip", "left_knee"),
    ("left_knee", "left_ankle"),
    ("neck", "right_shoulder"),
    ("right_shoulder", "right_elbow"),
    ("right_elbow", "right_wrist"),
    ("right_shoulder", "right_ear"),
    ("neck", "left_shoulder"),
    ("left_shoulder", "left_elbow"),
    ("left_elbow", "left_wrist"),
    ("left_shoulder", "left_ear"),
    ("neck", "nose"),
    ("nose", "right_eye"),
    ("nose", "left_eye"),
    ("right_eye", "right_ear"),
    ("left_eye", "left_ear"),
)
"""From which joint to which; in the order of the channels of OpenPose's COCO model, two (x, y) a limb."""

_FROM, _TO = ([JOINTS.index(limb[end]) for limb in LIMBS] for end in (0, 1))
_SIDES = {"right": "left", "left": "right"}
_MIRRORED = [
    JOINTS.index("_".join([_SIDES.get(side, side), *rest])) for side, *rest in (j.split("_") for j in JOINTS)
]


class PoseTargets(NamedTuple):
    """``limbs`` (B, 38, h, w) in -1..1, and ``joints`` (B, 19, h, w) in 0..1, the background last."""

    limbs: Tensor
    joints: Tensor


def pose_targets(joints: Tensor, size: tuple[int, int], sigma: float, limb_width: float) -> PoseTargets:
    """Both kinds of maps.

    A joint outside the image, and a limb with such an end, is on no map. Hidden ones are, as in COCO,
    whose annotators place joints that something hides.

    Args:
        joints: (B, 18, 3) x, y in pixels from the image's edges, and visibility.
        size: (h, w) of a map.
        sigma: see ``joint_maps``.
        limb_width: see ``limb_fields``.
    """
    places = joints[:, :, :2] / STRIDE - 0.5  # in cells
    present = joints[:, :, 2] != OUTSIDE
    return PoseTargets(
        limb_fields(places, present, size, limb_width), joint_maps(places, present, size, sigma)
    )


def joint_maps(places: Tensor, present: Tensor, size: tuple[int, int], sigma: float) -> Tensor:
    """S_j(p) = exp(-|p - x_j|^2 / sigma^2) (eq. 6), and last the background 1 - max_j S_j.

    Args:
        places: x_j, (B, 18, 2), in cells.
        present: (B, 18) bool.
        size: (h, w).
        sigma: in cells.

    Returns:
        (B, 19, h, w).
    """
    away = _cells(size, places) - places[:, :, None, None]  # (B, J, h, w, 2)
    maps = torch.exp(-away.square().sum(-1) / sigma**2) * present[:, :, None, None]
    return torch.cat([maps, 1 - maps.amax(dim=1, keepdim=True)], dim=1)


def limb_fields(places: Tensor, present: Tensor, size: tuple[int, int], limb_width: float) -> Tensor:
    """L_c(p) = v on limb c, 0 elsewhere (eq. 8), where v = (x_2 - x_1) / |x_2 - x_1| is its direction.

    p is on the limb if 0 <= v . (p - x_1) <= l_c and |v_perp . (p - x_1)| <= sigma_l, where
    l_c = |x_2 - x_1|. A limb whose ends coincide has no direction and is nowhere.

    Args:
        places: x_1 and x_2 are of these, (B, 18, 2), in cells.
        present: (B, 18) bool.
        size: (h, w).
        limb_width: sigma_l, in cells.

    Returns:
        (B, 38, h, w): x and y of the first limb, of the second, ...
    """
    start, along = places[:, _FROM], places[:, _TO] - places[:, _FROM]  # (B, L, 2)
    length = torch.linalg.vector_norm(along, dim=-1)  # l_c, (B, L)
    v = along / length.clamp_min(torch.finfo(places.dtype).tiny)[:, :, None]
    there = present[:, _FROM] & present[:, _TO] & (length > 0)

    away = _cells(size, places) - start[:, :, None, None]  # p - x_1, (B, L, h, w, 2)
    vx, vy = v[:, :, None, None].unbind(-1)  # each (B, L, 1, 1)
    lengthwise = vx * away[..., 0] + vy * away[..., 1]
    sideways = -vy * away[..., 0] + vx * away[..., 1]
    on = there[:, :, None, None] & (lengthwise >= 0) & (lengthwise <= length[:, :, None, None])
    on &= sideways.abs() <= limb_width
    fields = torch.stack([vx * on, vy * on], dim=2)  # (B, L, 2, h, w)
    return fields.flatten(1, 2)


def mirrored(joints: Tensor, width: float) -> Tensor:
    """The joints of the mirrored images: left is right. (B, 18, 3), images of so many pixels' width."""
    found = joints[:, _MIRRORED]
    found[..., 0] = width - found[..., 0]
    return found


def _cells(size: tuple[int, int], like: Tensor) -> Tensor:
    """(x, y) of every cell of a map, (h, w, 2)."""
    rows, columns = (torch.arange(n, dtype=like.dtype, device=like.device) for n in size)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y], dim=-1)
