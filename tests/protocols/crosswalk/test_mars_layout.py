"""The MARS layout: numbers of the release, its lists, and people who walk through their tracklets."""

import re
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import loadmat

from protocols.crosswalk.cameras import camera
from protocols.crosswalk.dials import Dials
from protocols.crosswalk.errors import StreetError
from protocols.crosswalk.layouts.mars import LAYOUT, SIZES, Size, plan
from protocols.crosswalk.layouts.mars.info import query_rows
from protocols.crosswalk.layouts.mars.plan import TEST, TRAIN, plan_tracklets
from protocols.crosswalk.layouts.mars.sizes import Part
from protocols.crosswalk.planning import apportion_between
from protocols.crosswalk.render import render_shot
from protocols.crosswalk.scene import compose
from protocols.crosswalk.shots import Moment, Shot, Subject
from protocols.crosswalk.truth import BACKGROUND, JOINTS, OCCLUDER
from protocols.crosswalk.walks import Street, walk_of

SEED = 0
TINY = SIZES["tiny"]
GRAMMAR = re.compile(r"(\d{4}|00-1)C([1-6])T(\d{4})F(\d{3,4})\.jpg")
FRAMES_PER_SECOND = 25
LOWER_BODY = [JOINTS.index(f"{side}_{joint}") for side in ("left", "right") for joint in ("hip", "ankle")]
CALM = Dials(misalignment=0.2, occlusion=0, viewpoint=0.5, camera_shift=0.3)


@pytest.fixture(scope="module")
def shots():
    return plan(TINY, SEED, Dials())


@pytest.fixture(scope="module")
def root(layout_street):
    return layout_street("mars")


@pytest.fixture(scope="module")
def info(root):
    """Names and tracks of both halves, and the rows of queries."""
    folder = root / "info"
    read = {half: (folder / f"{half}_name.txt").read_text().splitlines() for half in ("train", "test")}
    tracks = {
        half: loadmat(folder / f"tracks_{half}_info.mat")[f"track_{half}_info"] for half in ("train", "test")
    }
    return read, tracks, loadmat(folder / "query_IDX.mat")["query_IDX"]


def of(tracklets, top):
    return [one for one in tracklets if one.folder.startswith(f"{top}/")]


def matched(tracks, queries, gallery):
    """How many queries find their person in another camera; rows are 0-based."""
    pids, camids = tracks[:, 2], tracks[:, 3]
    return sum(bool(((pids[gallery] == pids[q]) & (camids[gallery] != camids[q])).any()) for q in queries)


def official_and_torchreid(tracks, queries):
    """Matched queries in the authors' gallery, and in that without queries and junk; and its length."""
    everything = np.arange(len(tracks))
    others = np.setdiff1d(everything[tracks[:, 2] >= 0], queries)
    return matched(tracks, queries, everything), matched(tracks, queries, others), len(others)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_release_size_has_the_tracklets_of_the_release(seed):
    tracklets = plan_tracklets(SIZES["release"], seed, Dials())
    train, test = of(tracklets, TRAIN), of(tracklets, TEST)
    labels = Counter(min(one.pid, 1) for one in test)

    assert (len(train), len(test)) == (8298, 12180)
    assert (sum(one.length for one in train), sum(one.length for one in test)) == (509_914, 681_089)
    assert (len({one.pid for one in train}), len({one.folder for one in test})) == (625, 636)
    assert labels == {1: 12180 - 3248 - 870, 0: 3248, -1: 870}
    assert {one.camid for one in train} == {one.camid for one in test} == set(range(1, 7))
    for half, shortest, longest in ((train, 5, 900), (test, 2, 920)):
        lengths = [one.length for one in half]
        assert (min(lengths), max(lengths)) == (shortest, longest)
        assert np.median(lengths) < 0.75 * np.mean(lengths)


def test_the_release_size_has_the_queries_of_the_release_and_those_that_torchreid_cannot_answer():
    test = of(plan_tracklets(SIZES["release"], 0, Dials()), TEST)
    tracks = np.array([(0, 0, one.pid, one.camid) for one in test])
    queries = query_rows(tracks, "any") - 1

    assert (len(queries), len(set(tracks[queries, 2]))) == (1980, 626)
    assert official_and_torchreid(tracks, queries) == (1980, 1840, 9330)


def test_the_images_of_a_tracklet_are_numbered_through():
    size = SIZES["default"]
    planned = plan(size, 0, Dials())
    assert len(planned) == size.train.boxes + size.test.boxes
    for tracklet in plan_tracklets(size, 0, Dials())[::50]:
        frames = [s for s in planned if (s.folder, s.camid, s.sequence) == (tracklet.folder, *tracklet[2:4])]
        assert [s.frame for s in frames] == list(range(1, tracklet.length + 1))


def test_names_say_what_the_labels_say(shots):
    digits = set()
    for shot in shots:
        match = GRAMMAR.fullmatch(shot.name)
        assert match, shot.name
        assert tuple(map(int, match.groups()[1:])) == (shot.camid, shot.sequence, shot.frame)
        assert shot.folder.split("/")[1] == match[1] == ("00-1" if shot.pid == -1 else f"{shot.pid:04d}")
        digits.add(len(match[4]))
    assert digits == {3, 4}


def test_train_and_test_have_nobody_in_common(shots):
    train, test = ({s.pid for s in of(shots, top)} for top in (TRAIN, TEST))
    assert not train & test
    assert {0, -1} < test


def test_images_are_of_the_release_size(root):
    for file in list(root.glob("bbox_*/*/*.jpg"))[::20]:
        with Image.open(file) as image:
            assert (image.format, image.size, image.mode) == ("JPEG", (128, 256), "RGB")


def test_name_lists_hold_all_images_of_each_half(root, info):
    for half, names in info[0].items():
        assert sorted(names) == sorted(file.name for file in root.glob(f"bbox_{half}/*/*.jpg"))


def test_tracks_tile_the_name_lists_without_gaps(info):
    names, tracks, _ = info
    for half, size in (("train", TINY.train), ("test", TINY.test)):
        own = tracks[half]
        assert (own.shape, own.dtype) == ((size.tracklets, 4), np.int32)
        assert (own[0, 0], own[-1, 1]) == (1, size.boxes)
        assert (own[1:, 0] == own[:-1, 1] + 1).all()
        for first, last, pid, camid in own.tolist():
            found = {GRAMMAR.fullmatch(name).groups()[:3] for name in names[half][first - 1 : last]}
            ((label, camera_digit, _),) = found
            assert (int(label.replace("00-1", "-1")), int(camera_digit)) == (pid, camid)
            frames = [int(GRAMMAR.fullmatch(name)[4]) for name in names[half][first - 1 : last]]
            assert frames == list(range(1, last - first + 2))


def test_there_is_one_query_for_each_camera_that_sees_somebody_who_is_asked_for(info):
    _, tracks, queries = info
    assert (queries.shape, queries.dtype) == ((1, TINY.query), np.uint16)
    asked = Counter(tuple(tracks["test"][row - 1, 2:].tolist()) for row in queries[0])
    assert set(asked.values()) == {1}
    pids = {pid for pid, _ in asked}
    assert len(pids) == TINY.query_pids and min(pids) > 0
    assert set(asked) == {tuple(t) for t in tracks["test"][:, 2:].tolist() if t[0] in pids}


@pytest.mark.parametrize("size", SIZES)
def test_counts_are_those_of_the_tracklets(size):
    size = SIZES[size]
    test = of(plan_tracklets(size, 3, Dials()), TEST)
    tracks = np.array([(0, 0, one.pid, one.camid) for one in test])
    queries = query_rows(tracks, "any") - 1
    counts = LAYOUT.counts(size, ())
    official, torchreid, gallery = official_and_torchreid(tracks, queries)

    assert (official, torchreid) == (size.query, size.query - size.lonely)
    assert counts["mars"] == {
        "train": size.train.tracklets,
        "query": len(queries),
        "gallery": len(test),
        "train_pids": size.train.pids,
        "query_pids": len(set(tracks[queries, 2])),
    }
    assert counts["mars/torchreid"] == counts["mars"] | {"gallery": gallery}


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_valid_size_is_planned_exactly(data):
    cameras = data.draw(st.integers(3, 6))
    query_pids = data.draw(st.integers(cameras, 12))
    query = data.draw(st.integers(2 * query_pids, cameras * query_pids))
    unasked, distractors, junk = (data.draw(st.integers(0, 5)) for _ in range(3))
    counts = [
        data.draw(st.integers(20, 50)),
        query + 2 * query_pids + unasked + distractors + junk + data.draw(st.integers(0, 30)),
    ]
    parts = [
        Part(pids, n, n * 5 + data.draw(st.integers(15, 40)), shortest=2, longest=20)
        for pids, n in zip((10, query_pids + unasked), counts, strict=True)
    ]
    lonely = data.draw(st.integers(0, query_pids - 1))
    try:
        size = Size("drawn", cameras, *parts, query_pids, query, distractors, junk, lonely)
    except StreetError:
        assume(False)
    tracklets = plan_tracklets(size, data.draw(st.integers(0, 99)), Dials())
    test = of(tracklets, TEST)
    tracks = np.array([(0, 0, one.pid, one.camid) for one in test])
    queries = query_rows(tracks, "any") - 1

    assert Counter(min(one.pid, 1) for one in test)[0] == distractors
    assert [sum(one.length for one in of(tracklets, top)) for top in (TRAIN, TEST)] == [
        p.boxes for p in parts
    ]
    assert (len(queries), len({tracks[q, 2] for q in queries})) == (query, query_pids)
    assert official_and_torchreid(tracks, queries)[:2] == (query, query - lonely)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cameras": 2}, "3..6 cameras"),
        ({"query": 13}, "queries per identity"),
        ({"query_pids": 9}, "query_pids"),
        ({"lonely": 7}, "lonely"),
        ({"junk": 20}, "too few for the queries"),
        ({"train": TINY.train._replace(boxes=30)}, "boxes"),
        ({"train": TINY.train._replace(tracklets=15)}, "two training tracklets"),
    ],
)
def test_impossible_sizes_are_refused(change, message):
    with pytest.raises(StreetError, match=message):
        replace(TINY, **change)


@given(st.lists(st.tuples(st.floats(0.01, 100), st.integers(0, 5), st.integers(0, 9)), min_size=1), st.data())
def test_bounded_shares_give_all_away_within_their_bounds(items, data):
    weights, least, room = (np.array(column) for column in zip(*items, strict=True))
    total = data.draw(st.integers(int(least.sum()), int((least + room).sum())))
    counts = apportion_between(total, weights, least, least + room)
    assert counts.sum() == total
    assert (least <= counts).all() and (counts <= least + room).all()


def tracklet(pid=1, camid=1, seconds=2.0, number=1, scene="person"):
    """A made-up tracklet of consecutive frames."""
    steps = round(seconds * FRAMES_PER_SECOND)
    who = Subject(f"pid {pid}", f"pid {pid}")
    return [
        Shot(
            "",
            "",
            pid,
            camid,
            number,
            step + 1,
            step,
            1,
            who,
            scene,
            Moment(step / FRAMES_PER_SECOND, seconds),
        )
        for step in range(steps)
    ]


def view_of(shot, dials=CALM):
    return camera(SEED, shot.camid, dials.camera_shift)


def walks(frames, dials=CALM):
    return [walk_of(Street(SEED, dials), view_of(frame, dials), frame) for frame in frames]


def walkers(count, seconds=2.0):
    """Tracklets of people who do not stand."""
    found = (tracklet(pid, 1 + pid % 6, seconds) for pid in range(1, 100))
    return list(islice((frames for frames in found if walks(frames[:1])[0].pace), count))


@pytest.fixture(scope="module")
def strips():
    """Rendered tracklets of one second."""
    street = Street(SEED, CALM)
    return [[render_shot(street, frame) for frame in frames] for frames in walkers(4, 1.0)]


def test_joints_move_on_from_frame_to_frame_without_jumps(strips):
    for strip in strips:
        path = np.array([one.joints[LOWER_BODY, :2] for one in strip])
        steps = np.linalg.norm(np.diff(path, axis=0), axis=2)
        hips, ankles = steps[:, [0, 2]], steps[:, [1, 3]]
        assert hips.max() < 6 and ankles.max() < 12  # pixels of 128; strides are 18 to 44 long
        assert np.abs(np.diff(path, 2, axis=0)).max() < 6  # nor do they jerk
        assert np.linalg.norm(np.ptp(path[:, [1, 3]], axis=0), axis=1).max() > 15


def test_consecutive_frames_are_alike_and_frames_of_other_tracklets_are_not(strips):
    def apart(one, other):
        return np.abs(one.image.astype(int) - other.image).mean()

    following = np.mean([apart(*pair) for strip in strips for pair in pairwise(strip)])
    later = np.mean([apart(strip[k], strip[k + 8]) for strip in strips for k in range(12)])
    others = np.mean(
        [apart(one, other) for a, b in pairwise(strips) for one, other in zip(a, b, strict=True)]
    )
    assert 1 < following < 0.5 * later
    assert following < 0.35 * others


def test_the_gait_advances_evenly_and_a_cycle_takes_about_a_second():
    for frames in walkers(12):
        own = walks(frames)
        steps = np.diff([walk.advance for walk in own])
        np.testing.assert_allclose(steps, steps[0])
        natural = 2 * np.pi / (steps[0] * FRAMES_PER_SECOND)
        assert 0.9 <= natural < 1.6  # longer only for those who must slow down to stay in view


def test_the_foot_on_the_ground_stays_where_it_is():
    for frames in walkers(4, 1.2):
        own = walks(frames)
        legs = [compose(Street(SEED, CALM), frame).bones.legs for frame in frames]
        ankles = np.array([[leg.ankle for leg in pair] for pair in legs])
        speeds = np.diff(ankles[:, :, 2], axis=0) * FRAMES_PER_SECOND + own[0].pace
        standing = (ankles[:-1, :, 1] + ankles[1:, :, 1]).argmin(axis=1)
        assert abs(np.median(speeds[np.arange(len(speeds)), standing])) < 0.4 * own[0].pace


@pytest.mark.parametrize("seconds", [0.1, 2.0, 37.0])
def test_people_cross_the_view_at_an_even_pace_and_stay_inside(seconds):
    for frames in walkers(12, seconds):
        own = walks(frames)
        places = np.array([(walk.column, walk.row) for walk in own])
        steps = np.diff(places, axis=0)
        np.testing.assert_allclose(steps, np.broadcast_to(steps[0], steps.shape), atol=1e-6)
        assert np.linalg.norm(steps[0]) > 0
        assert (places >= (0, 0)).all() and (places <= (960, 540)).all()


def test_who_stays_long_walks_slower_with_shorter_steps():
    short, long = ([walks(frames[:1])[0] for frames in walkers(12, seconds)] for seconds in (2.0, 37.0))
    for quick, slow in zip(short, long, strict=True):
        assert slow.pace < quick.pace and slow.habit[2] < quick.habit[2] and slow.period > quick.period
    assert np.mean([slow.pace for slow in long]) < 0.4 < 0.8 < np.mean([quick.pace for quick in short])


def test_the_same_person_walks_differently_in_another_tracklet():
    one, other = (walks(tracklet(5, number=number))[0] for number in (1, 2))
    assert one.yaw != other.yaw and one.column != other.column


def test_what_stands_in_front_moves_on_and_is_not_drawn_anew():
    street = Street(SEED, Dials(occlusion=1, misalignment=0))
    overlaps = []
    for frames in (tracklet(pid, 1 + pid % 6, 1.0) for pid in range(1, 5)):
        masks = [render_shot(street, frame).parts == OCCLUDER for frame in frames]
        for one, other in pairwise(masks):
            if min(one.sum(), other.sum()) > 500:
                overlaps.append((one & other).sum() / (one | other).sum())
    assert len(overlaps) > 30
    assert np.mean(overlaps) > 0.75


def test_occlusion_is_about_as_frequent_in_tracklets_as_the_dial_says():
    street = Street(SEED, Dials(occlusion=0.3))
    hidden = [
        (render_shot(street, frame).parts == OCCLUDER).mean() > 0.02
        for pid in range(40)
        for frame in tracklet(pid, 1 + pid % 6, 2.0)[::12]
    ]
    assert 0.2 < np.mean(hidden) < 0.45


def test_exposure_is_steady_within_a_tracklet():
    street = Street(SEED, CALM)
    for camid in range(1, 5):
        images = [render_shot(street, f).image for f in tracklet(3, camid, 0.5, scene="nobody")]
        assert np.ptp([image.mean() for image in images]) < 1.5


def test_a_false_detection_does_not_move():
    street = Street(SEED, replace(CALM, misalignment=0))
    windows = {compose(street, frame).window for frame in tracklet(3, 2, 1.0, scene="nobody")}
    assert np.ptp(np.array(list(windows)), axis=0).max() < 0.12
    assert len({(walk.column, walk.row) for walk in walks(tracklet(3, 2, 1.0, scene="nobody"))}) == 1


def test_boxes_of_the_detector_wander_but_do_not_jump():
    street = Street(SEED, Dials(misalignment=1, occlusion=0))
    for frames in walkers(4, 3.0):
        windows = np.array([compose(street, frame).window for frame in frames])
        assert np.abs(np.diff(windows, axis=0)).max() < 0.25  # metres
        assert np.ptp(windows, axis=0).max() > 0.2


def test_the_people_of_a_tracklet_are_seen(strips):
    seen = [((one.parts > BACKGROUND) & (one.parts < OCCLUDER)).mean() for strip in strips for one in strip]
    assert min(seen) > 0.1


def test_a_person_is_the_same_in_all_tracklets(shots):
    subjects = defaultdict(set)
    for shot in shots:
        if shot.pid > 0:
            subjects[shot.pid].add(shot.subject)
    assert all(len(own) == 1 for own in subjects.values())
