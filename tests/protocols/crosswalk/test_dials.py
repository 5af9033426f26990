"""Each dial changes what it says, and nothing is drawn where it says nothing."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.crosswalk import SIZES, Dials, StreetError, plan
from protocols.crosswalk.layouts.market1501.names import GALLERY
from protocols.crosswalk.looks import MIN_ACCENT_CONTRAST, MIN_CONFUSER_CONTRAST, look_of
from protocols.crosswalk.palette import distance
from protocols.crosswalk.render import render_shot
from protocols.crosswalk.truth import BACKGROUND, BYSTANDER, JOINTS, OCCLUDER, OUTSIDE
from protocols.crosswalk.walks import Street

EASY = Dials(misalignment=0, occlusion=0, viewpoint=0, camera_shift=0, confusers=0)


def rendered(dials, n=40, seed=2):
    shots = [s for s in plan(SIZES["default"], seed, dials) if s.folder == GALLERY and s.pid > 0]
    return [render_shot(Street(seed, dials), shot) for shot in shots[:: len(shots) // n][:n]]


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan"), float("inf")])
@pytest.mark.parametrize("dial", ["misalignment", "occlusion", "viewpoint", "camera_shift", "confusers"])
def test_dials_outside_their_range_are_refused(dial, value):
    with pytest.raises(StreetError, match=dial):
        Dials(**{dial: value})


@given(st.floats(0, 1))
def test_dials_inside_their_range_are_taken(value):
    assert Dials(misalignment=value).misalignment == value


def centres(images):
    neck = JOINTS.index("neck")
    return np.array([one.joints[neck, 0] for one in images])


def feet(images):
    ankles = [JOINTS.index("left_ankle"), JOINTS.index("right_ankle")]
    return np.array([(one.joints[ankles, 2] != OUTSIDE).all() for one in images])


def test_without_misalignment_people_stand_in_the_middle_and_whole():
    images = rendered(EASY)
    assert np.abs(centres(images) - 32).max() < 8
    assert feet(images).all()


def test_misalignment_shifts_people_and_cuts_them():
    images = rendered(replace(EASY, misalignment=1))
    assert centres(images).std() > 2 * centres(rendered(EASY)).std()
    assert 0.3 < feet(images).mean() < 0.95


def test_without_occlusion_nothing_stands_in_front():
    assert not any((one.parts == OCCLUDER).any() for one in rendered(EASY))


def test_occlusion_hides_people():
    hidden = [(one.parts == OCCLUDER).mean() for one in rendered(replace(EASY, occlusion=1))]
    assert np.mean([share > 0.02 for share in hidden]) > 0.8
    body = [np.mean((one.parts > BACKGROUND) & (one.parts < OCCLUDER)) for one in rendered(EASY)]
    left = [
        np.mean((one.parts > BACKGROUND) & (one.parts < OCCLUDER))
        for one in rendered(replace(EASY, occlusion=1))
    ]
    assert np.mean(left) < 0.85 * np.mean(body)


def test_viewpoint_turns_people_around():
    left, right = JOINTS.index("left_shoulder"), JOINTS.index("right_shoulder")

    def facing(images):
        return np.array([one.joints[left, 0] > one.joints[right, 0] for one in images]).mean()

    assert facing(rendered(EASY)) == 1
    assert 0.2 < facing(rendered(replace(EASY, viewpoint=1))) < 0.8


def test_camera_shift_moves_the_colours_of_cameras_apart():
    def spread(shift):
        """Distance between what cameras make of the same looks: variance of people's mean colour."""
        dials = replace(EASY, camera_shift=shift)
        shots = [s for s in plan(SIZES["default"], 2, dials) if s.folder == GALLERY and s.pid > 0]
        means = []
        for camid in range(1, 7):
            seen = [s for s in shots if s.camid == camid]
            own = [render_shot(Street(2, dials), s) for s in seen[:: len(seen) // 25]]
            people = [
                one.image[(one.parts > BACKGROUND) & (one.parts < OCCLUDER)].mean(axis=0) for one in own
            ]
            means.append(np.mean(people, axis=0))
        return float(np.var(means, axis=0).sum())

    assert spread(1.0) > 2 * spread(0.0)


def test_confusers_wear_the_same_colours_in_other_places():
    shots = plan(SIZES["default"], 4, Dials(confusers=1))
    pairs = {}
    for subject in {shot.subject for shot in shots if shot.pid > 0}:
        pairs.setdefault(subject.look, {})[subject.swapped] = look_of(4, subject)
    assert len(pairs) == SIZES["default"].pids // 2
    for pair in pairs.values():
        plain, swapped = pair[False], pair[True]
        assert sorted(plain.hues) == sorted(swapped.hues)
        assert (plain.hues.top, plain.hues.bottom) == (swapped.hues.bottom, swapped.hues.top)
        assert distance(plain.hues.top, swapped.hues.top) >= MIN_CONFUSER_CONTRAST
        assert all(distance(one.hues.accent, one.hues.top) >= MIN_ACCENT_CONTRAST for one in (plain, swapped))
        assert replace(plain, hues=swapped.hues, build=swapped.build) == swapped
        assert plain.build != swapped.build


def test_without_confusers_nobody_shares_all_colours():
    shots = plan(SIZES["default"], 4, Dials(confusers=0))
    looks = {shot.subject: look_of(4, shot.subject) for shot in shots if shot.pid > 0}
    assert len({tuple(sorted(look.hues)) for look in looks.values()}) == SIZES["default"].pids


def test_one_dial_leaves_the_rest_alone():
    plain, occluded = rendered(EASY, n=8), rendered(replace(EASY, occlusion=1), n=8)
    for one, other in zip(plain, occluded, strict=True):
        np.testing.assert_array_equal(one.joints[:, :2], other.joints[:, :2])
        shared = (one.parts == other.parts) & (one.parts != BYSTANDER) & (one.parts != BACKGROUND)
        assert np.abs(one.image[shared].astype(int) - other.image[shared]).mean() < 25
