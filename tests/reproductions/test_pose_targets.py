"""Joint maps and part affinity fields, against the published definitions written out in loops."""

from math import exp, hypot

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.crosswalk.truth import HIDDEN, JOINTS, OUTSIDE, VISIBLE
from reproductions.pose_targets import LIMBS, STRIDE, mirrored, pose_targets

SIGMA, LIMB_WIDTH = 1.25, 0.8
SIZE = 6, 4  # cells, of images of 48 x 32 pixels

# OpenPose's COCO model: pairs of joints, and the channel of the x of each pair's field, 19 on.
PAIRS = [
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11),
    (11, 12), (12, 13), (1, 0), (0, 14), (14, 16), (0, 15), (15, 17), (2, 16), (5, 17),
]  # fmt: skip
CHANNELS = [31, 39, 33, 35, 41, 43, 19, 21, 23, 25, 27, 29, 47, 49, 53, 51, 55, 37, 45]

coordinate = st.floats(-20, 60, width=32)
one_person = st.lists(
    st.tuples(coordinate, coordinate, st.sampled_from([OUTSIDE, HIDDEN, VISIBLE])), min_size=18, max_size=18
)


def literal_joint_maps(joints):
    """Equations 6 and 7 at the middle of each cell, in cells; the background is 1 - max."""
    rows, columns = SIZE
    maps = np.zeros((19, rows, columns))
    for row in range(rows):
        for column in range(columns):
            for j, (x, y, visibility) in enumerate(joints):
                dx, dy = column + 0.5 - x / STRIDE, row + 0.5 - y / STRIDE
                if visibility != OUTSIDE:
                    maps[j, row, column] = exp(-(dx * dx + dy * dy) / SIGMA**2)
            maps[18, row, column] = 1 - max(maps[:18, row, column])
    return maps


def literal_fields(joints):
    """Equation 8 and the points that are on a limb, in the order of OpenPose's channels."""
    rows, columns = SIZE
    fields = np.zeros((38, rows, columns))
    for (start, end), channel in zip(PAIRS, CHANNELS, strict=True):
        x1, y1, first = joints[start]
        x2, y2, last = joints[end]
        dx, dy = (x2 - x1) / STRIDE, (y2 - y1) / STRIDE
        length = hypot(dx, dy)
        if OUTSIDE in (first, last) or not length:
            continue
        vx, vy = dx / length, dy / length
        for row in range(rows):
            for column in range(columns):
                px, py = column + 0.5 - x1 / STRIDE, row + 0.5 - y1 / STRIDE
                if 0 <= vx * px + vy * py <= length and abs(-vy * px + vx * py) <= LIMB_WIDTH:
                    fields[channel - 19 : channel - 17, row, column] = vx, vy
    return fields


@settings(max_examples=40, deadline=None)
@given(one_person)
def test_maps_are_those_of_the_definitions(joints):
    found = pose_targets(torch.tensor([joints], dtype=torch.float64), SIZE, SIGMA, LIMB_WIDTH)

    np.testing.assert_allclose(found.joints[0], literal_joint_maps(joints), atol=1e-12)
    expected = literal_fields(joints)
    # Cells that lie on the border of a limb to the last bit may fall on either side of it.
    assert np.mean(np.isclose(found.limbs[0], expected, atol=1e-9)) > 0.99


@settings(max_examples=40, deadline=None)
@given(one_person)
def test_a_mirrored_person_has_mirrored_maps_with_left_and_right_swapped(joints):
    joints = torch.tensor([joints], dtype=torch.float64) + 0.123456789  # no cell on a limb's border
    joints[..., 2] = joints[..., 2].floor()
    width = SIZE[1] * STRIDE
    swapped = {
        name: name.replace("left", "?").replace("right", "left").replace("?", "right") for name in JOINTS
    }
    new_joint = [JOINTS.index(swapped[name]) for name in JOINTS] + [18]
    new_limb = [LIMBS.index((swapped[start], swapped[end])) for start, end in LIMBS]

    plain = pose_targets(joints, SIZE, SIGMA, LIMB_WIDTH)
    turned = pose_targets(mirrored(joints, width), SIZE, SIGMA, LIMB_WIDTH)

    torch.testing.assert_close(turned.joints, plain.joints.flip(-1)[:, new_joint])
    fields = plain.limbs.unflatten(1, (19, 2)).flip(-1)[:, new_limb]
    fields = fields * torch.tensor([-1.0, 1.0])[None, None, :, None, None]
    torch.testing.assert_close(turned.limbs.unflatten(1, (19, 2)), fields, atol=1e-9, rtol=0)
    torch.testing.assert_close(mirrored(mirrored(joints, width), width), joints)


def test_limbs_are_openposes_in_the_order_of_its_channels():
    in_order = [pair for _, pair in sorted(zip(CHANNELS, PAIRS, strict=True))]
    assert [tuple(JOINTS.index(end) for end in limb) for limb in LIMBS] == in_order


@pytest.mark.parametrize("visibility", [HIDDEN, VISIBLE])
def test_hidden_joints_count_as_visible_ones(visibility):
    joints = torch.rand(2, 18, 3) * 30
    joints[..., 2] = VISIBLE
    expected = pose_targets(joints, SIZE, SIGMA, LIMB_WIDTH)
    joints[..., 2] = visibility
    torch.testing.assert_close(pose_targets(joints, SIZE, SIGMA, LIMB_WIDTH).limbs, expected.limbs)


def test_nobody_is_all_background():
    found = pose_targets(torch.zeros(1, 18, 3), SIZE, SIGMA, LIMB_WIDTH)
    assert not found.limbs.any()
    assert not found.joints[:, :-1].any()
    assert found.joints[:, -1].eq(1).all()
