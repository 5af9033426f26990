"""Joints and part masks agree with the picture and with each other."""

import numpy as np
import pytest

from protocols.crosswalk import SIZES, Dials, plan
from protocols.crosswalk.layouts.market1501.names import BOXES, GALLERY
from protocols.crosswalk.render import render_shot
from protocols.crosswalk.scene import boxes
from protocols.crosswalk.truth import BAG, HAIR, HEAD, HIDDEN, JOINTS, OCCLUDER, OUTSIDE, PARTS, VISIBLE
from protocols.crosswalk.walks import Street

DIALS = Dials(occlusion=0.5)


@pytest.fixture(scope="module")
def people():
    shots = [
        s for s in plan(SIZES["default"], 1, DIALS) if s.folder in (GALLERY, BOXES) and s.scene == "person"
    ]
    return [render_shot(Street(1, DIALS), shot) for shot in shots[::40]]


def test_visible_joints_lie_on_the_body(people):
    for one in people:
        for x, y, visibility in one.joints:
            if visibility == VISIBLE:
                assert HEAD <= one.parts[int(y), int(x)] <= BAG


def test_joints_outside_the_image_are_marked_and_no_others(people):
    for one in people:
        x, y, visibility = one.joints.T
        inside = (x >= 0) & (x < 64) & (y >= 0) & (y < 128)
        np.testing.assert_array_equal(visibility == OUTSIDE, ~inside)


def test_some_joints_are_hidden_and_most_are_visible(people):
    visibility = np.concatenate([one.joints[:, 2] for one in people])
    assert (visibility == VISIBLE).mean() > 0.45
    assert (visibility == HIDDEN).mean() > 0.1


@pytest.mark.parametrize(
    ("joint", "labels"),
    [
        ("nose", {"head", "hair"}),
        ("left_wrist", {"hands", "lower_arms", "torso", "hips", "bag", "thighs"}),
        ("right_knee", {"thighs", "shins", "hips", "bag", "hands"}),
        ("left_ankle", {"shins", "shoes"}),
    ],
)
def test_visible_joints_lie_on_their_parts(people, joint, labels):
    found = []
    for one in people:
        x, y, visibility = one.joints[JOINTS.index(joint)]
        if visibility == VISIBLE:
            found.append(PARTS[one.parts[int(y), int(x)]] in labels)
    assert len(found) > 5
    assert np.mean(found) > 0.9


def test_bodies_are_upright_and_proportioned():
    dials = Dials(misalignment=0, occlusion=0, viewpoint=0)
    shots = [s for s in plan(SIZES["default"], 1, dials) if s.folder == BOXES]
    names = {name: row for row, name in enumerate(JOINTS)}
    for shot in shots[::60]:
        one = render_shot(Street(1, dials), shot)
        nose, neck, hip, knee, ankle = (
            one.joints[names[name], 1] for name in ("nose", "neck", "left_hip", "left_knee", "left_ankle")
        )
        assert nose < neck < hip < knee < ankle + 12
        rows = np.flatnonzero(((one.parts >= HEAD) & (one.parts <= BAG)).any(axis=1))
        assert 105 < rows[-1] - rows[0] < 126
        head = np.flatnonzero(((one.parts == HEAD) | (one.parts == HAIR)).any(axis=1))
        assert 10 < head[-1] - head[0] < 45
    assert PARTS.index("occluder") == OCCLUDER


def test_nobody_has_no_joints_and_no_body():
    shots = [s for s in plan(SIZES["default"], 1, DIALS) if s.scene == "nobody"]
    for shot in shots[:12]:
        one = render_shot(Street(1, DIALS), shot)
        assert (one.joints == 0).all()
        assert not ((one.parts >= HEAD) & (one.parts <= BAG)).any()


def test_fragments_leave_much_of_the_body_outside(people):
    shots = [s for s in plan(SIZES["default"], 1, DIALS) if s.scene == "fragment"]
    fragments = [render_shot(Street(1, DIALS), shot) for shot in shots[:20]]

    def outside(images):
        return np.mean([(one.joints[:, 2] == OUTSIDE).mean() for one in images])

    assert outside(fragments) > 0.4 > 0.15 > outside(people)


def test_a_box_without_error_holds_the_whole_person_and_little_else():
    alone = Dials(misalignment=0.5, occlusion=0)
    shots = [s for s in plan(SIZES["default"], 1, alone) if s.folder == GALLERY and s.pid > 0]
    street = Street(1, alone)
    for shot in shots[::100]:
        seen, exact = boxes(street, shot)
        body = np.isin(render_shot(street, shot).parts, range(HEAD, BAG + 1))
        rows, columns = np.flatnonzero(body.any(1)), np.flatnonzero(body.any(0))
        top, bottom = ((exact.top + share * exact.height - seen.top) / seen.height * 128 for share in (0, 1))
        left, right = ((exact.left + share * exact.width - seen.left) / seen.width * 64 for share in (0, 1))
        assert top <= rows[0] and rows[-1] <= bottom
        assert left <= columns[0] and columns[-1] <= right
        margin = 0.08 * (bottom - top)
        assert rows[0] <= max(0, top) + margin and rows[-1] >= min(127, bottom) - margin
