"""The contact sheet: what each of its rows shows, in every layout."""

import numpy as np
import pytest

from protocols.crosswalk import LAYOUTS, Dials, layout_named, samples
from protocols.crosswalk.preview import TITLE_HEIGHT, ZOOM, contact_sheet
from protocols.crosswalk.render import render_shot
from protocols.crosswalk.scene import HEIGHT, WIDTH
from protocols.crosswalk.truth import OCCLUDER
from protocols.crosswalk.walks import Street

SEED = 5
STRAYS = {"market1501", "mars"}  # layouts with distractors and junk
TWO_KINDS = {"market1501", "cuhk03", "cuhk03-np"}  # of boxes

every_layout = pytest.mark.parametrize("name", LAYOUTS)


def planned(name, size="tiny", **dials):
    layout = layout_named(name)
    return layout.plan(layout.sizes[size], SEED, Dials(**dials))


def has_a_label(shot, layout):
    """Of VIPeR and MSMT17, whose labels start at 0, everybody has one."""
    return shot.scene == "person" and (shot.pid > 0 or layout in ("viper", "msmt17"))


@every_layout
def test_rows_of_people_show_nobody_without_a_label(name):
    shots = planned(name)
    for choose in (samples.by_camera, samples.confusers, samples.people):
        rows = choose(shots)
        assert rows and all(has_a_label(shot, name) for row in rows for shot in row)


@every_layout
def test_everybody_in_a_row_by_camera_is_one_person_in_order_of_camera(name):
    rows = samples.by_camera(planned(name, "default"))
    assert len(rows) == 6
    assert len({row[0].subject for row in rows}) == 6
    for row in rows:
        cameras = [shot.camid for shot in row]
        assert len({shot.subject for shot in row}) == 1
        assert cameras == sorted(cameras) and len(set(cameras)) > 1
        assert len(row) <= samples.COLUMNS and max(map(cameras.count, cameras)) <= 2


def test_an_identity_that_many_cameras_see_is_shown_from_as_many_as_fit():
    shots = planned("msmt17", "default")
    seen = max(len({s.camid for s in shots if s.subject == own}) for own in {s.subject for s in shots})
    shown = max(len({shot.camid for shot in row}) for row in samples.by_camera(shots))
    assert 6 < shown <= min(seen, samples.COLUMNS)


@every_layout
def test_confusers_are_two_people_of_one_look_and_swapped_colours(name):
    rows = samples.confusers(planned(name, confusers=1))
    assert len(rows) == 4
    for one, other in (rows[:2], rows[2:]):
        assert one[0].subject.look == other[0].subject.look
        assert {one[0].subject.swapped, other[0].subject.swapped} == {False, True}
    assert rows[0][0].subject.look != rows[2][0].subject.look


@every_layout
def test_where_nobody_is_confused_no_confusers_are_shown(name):
    assert samples.confusers(planned(name, confusers=0)) == []


@every_layout
def test_both_boxes_of_a_frame_are_shown_where_there_are_both(name):
    rows = samples.boxes(planned(name))
    assert bool(rows) == (name in TWO_KINDS)
    if rows:
        drawn, detected = rows
        assert 6 < len(drawn) == len(detected) <= samples.COLUMNS
        for one, other in zip(drawn, detected, strict=True):
            assert (one.subject, one.camid, one.frame) == (other.subject, other.camid, other.frame)
            assert one.box == 0 < other.box


@pytest.mark.parametrize("name", ["market1501", "mars", "viper"])
def test_a_row_of_occlusion_shows_different_people_behind_something(name):
    dials = {"occlusion": 1, "misalignment": 0}
    street = Street(SEED, Dials(**dials))
    (row,) = samples.occluded(planned(name, **dials), street)
    assert len(row) == samples.COLUMNS
    assert len({(shot.subject, shot.camid, shot.sequence) for shot in row}) == len(row)
    assert all(has_a_label(shot, name) for shot in row)
    for shot in row:
        assert np.mean(render_shot(street, shot).parts == OCCLUDER) > samples.HIDDEN > 0.05


def test_without_occlusion_none_is_shown():
    assert samples.occluded(planned("mars", occlusion=0), Street(SEED, Dials(occlusion=0))) == []


@every_layout
def test_distractors_and_junk_are_shown_once_each_where_there_are_some(name):
    rows = samples.strays(planned(name))
    assert bool(rows) == (name in STRAYS)
    for row in rows:
        assert {shot.pid for shot in row} == {0, -1}
        assert len({shot.subject for shot in row}) == len(row) > 5


def test_of_a_tracklet_the_first_and_the_middle_frame_are_shown():
    shots = planned("mars", "default")
    lengths = {}
    for shot in shots:
        track = shot.subject, shot.camid, shot.sequence
        lengths[track] = max(lengths.get(track, 0), shot.frame)
    steps = {True: 0, False: 0}
    for row in samples.by_camera(shots):
        for shot in row:
            middle = lengths[shot.subject, shot.camid, shot.sequence] // 2
            assert shot.step in (0, middle)
            steps[shot.step == 0] += 1
    assert min(steps.values()) > 3


@pytest.mark.parametrize(("name", "titles", "rows"), [("mars", 6, 14), ("viper", 5, 13)])
def test_sections_with_nothing_to_show_are_left_out(name, titles, rows):
    sheet = contact_sheet(planned(name, confusers=1, occlusion=1), Street(SEED, Dials(occlusion=1)))
    assert sheet.size == (ZOOM * samples.COLUMNS * WIDTH, ZOOM * (titles * TITLE_HEIGHT + rows * HEIGHT))
