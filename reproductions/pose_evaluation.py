"""How often a pose network finds joints: the percentage of correct keypoints (PCK)."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.openpose import OpenPose
from protocols.crosswalk.truth import JOINTS, OUTSIDE
from reproductions.augment import normalise
from reproductions.pose_targets import STRIDE

BATCH = 128
BODY_SHARE, TORSO_SHARE = 0.1, 0.2


class PCK(NamedTuple):
    """Percent of joints found, of each joint in the order of ``JOINTS``, (18,); NaN where none is present.

    Attributes:
        body: within 0.1 max(h, w), where h and w are the sides of the box around the person's joints:
            Yang and Ramanan, CVPR 2011 and PAMI 2013.
        torso: within 0.2 of the distance from left shoulder to right hip, as Toshev and Szegedy (CVPR 2014)
            measure joints. Only of people who have both in the image.
    """

    body: Tensor
    torso: Tensor


def pck(found: Tensor, joints: Tensor) -> PCK:
    """Judge ``found`` (N, 18, 2) by ``joints`` (N, 18, 3); joints outside the image do not count."""
    places, present = joints[..., :2], joints[..., 2] != OUTSIDE
    error = torch.linalg.vector_norm(found - places, dim=-1)  # (N, 18)
    sizes = body_sizes(joints)
    shoulder, hip = JOINTS.index("left_shoulder"), JOINTS.index("right_hip")
    torso = torch.linalg.vector_norm(places[:, shoulder] - places[:, hip], dim=-1)
    whole = (present[:, shoulder] & present[:, hip])[:, None]
    return PCK(
        _share(error <= BODY_SHARE * sizes[:, None], present),
        _share(error <= TORSO_SHARE * torso[:, None], present & whole),
    )


def body_sizes(joints: Tensor) -> Tensor:
    """max(h, w) of the box around each person's joints in the image, pixels, (N,); 0 without any."""
    places, present = joints[..., :2], joints[..., 2:] != OUTSIDE
    most = places.masked_fill(~present, -torch.inf).amax(1)
    least = places.masked_fill(~present, torch.inf).amin(1)
    return (most - least).amax(1).clamp_min(0)


def _share(right: Tensor, counts: Tensor) -> Tensor:
    return 100 * (right & counts).sum(0) / counts.sum(0)


@torch.no_grad()
def joint_maps_of(network: OpenPose, images: Tensor) -> Tensor:
    """Joint maps of the network's last stage, (N, 3, H, W) uint8 -> (N, 19, h, w) on the CPU."""
    network.eval()
    device = next(network.parameters()).device
    return torch.cat(
        [
            network.stages(normalise(some.to(device)))[-1][1].float().cpu()
            for some in torch.split(images, BATCH)
        ]
    )


def places_of(maps: Tensor) -> Tensor:
    """x, y in pixels from the image's edges of the highest point of each joint's map, (N, 18, 2).

    Maps (N, 19, h, w) are first enlarged to the image by cubic interpolation, as OpenPose does.
    """
    large = F.interpolate(maps[:, :-1], scale_factor=STRIDE, mode="bicubic")
    highest = large.flatten(2).argmax(-1)
    width = large.shape[-1]
    return torch.stack([highest % width, highest // width], dim=-1) + 0.5


def mean_places(joints: Tensor) -> Tensor:
    """Where each joint is on average where it is in the image, (N, 18, 3) -> (18, 2)."""
    present = (joints[..., 2:] != OUTSIDE).to(joints.dtype)
    return (joints[..., :2] * present).sum(0) / present.sum(0)
