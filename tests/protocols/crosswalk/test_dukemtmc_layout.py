"""The plan of a DukeMTMC-reID street: counts of the release, and identities nobody asks for."""

from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.crosswalk import Dials, StreetError
from protocols.crosswalk.layouts.dukemtmc import GALLERY, LAYOUT, QUERY, SIZES, TRAIN, Size, plan

RELEASED = {
    TRAIN: [2809, 3009, 1088, 1395, 1685, 3700, 1330, 1506],
    QUERY: [413, 383, 190, 155, 216, 369, 239, 263],
    GALLERY: [2704, 2798, 828, 1139, 1209, 3308, 1255, 4420],
}


@pytest.fixture(scope="module")
def released():
    return plan(SIZES["release"], 0, Dials())


@pytest.fixture(scope="module", params=["tiny", "default", "release"])
def street(request):
    size = SIZES[request.param]
    return size, plan(size, 5, Dials())


def of(shots, folder):
    return [shot for shot in shots if shot.folder == folder]


def test_the_release_size_has_the_counts_of_the_release(released):
    for folder, images in RELEASED.items():
        cameras = Counter(shot.camid for shot in of(released, folder))
        assert [cameras[camid] for camid in range(1, 9)] == images
    asked = {shot.pid for shot in of(released, QUERY)}
    strange = [shot for shot in of(released, GALLERY) if shot.pid not in asked]
    assert len({shot.pid for shot in of(released, TRAIN)}) == len(asked) == 702
    assert (len(strange), len({shot.pid for shot in strange})) == (3463, 408)
    assert LAYOUT.counts(SIZES["release"], released) == {
        "dukemtmc": {
            "train": 16_522, "query": 2_228, "gallery": 17_661, "train_pids": 702, "query_pids": 702
        },
        "dukemtmc/openreid": {
            "train": 16_522, "query": 16_426, "gallery": 19_889, "train_pids": 702, "query_pids": 702
        },
    }  # fmt: skip


def test_about_as_many_people_are_in_more_than_two_cameras_as_in_the_release(released):
    cameras = defaultdict(set)
    for shot in released:
        cameras[shot.pid].add(shot.camid)
    assert sum(len(own) >= 2 for own in cameras.values()) == 1404
    assert sum(len(own) > 2 for own in cameras.values()) == pytest.approx(1041, abs=30)


def test_queries_are_2_to_5_of_an_identity_one_a_camera_and_can_all_be_answered(street):
    _, shots = street
    queries = Counter((shot.pid, shot.camid) for shot in of(shots, QUERY))
    seen = defaultdict(set)
    for shot in of(shots, GALLERY):
        seen[shot.pid].add(shot.camid)

    assert max(queries.values()) == 1
    assert set(Counter(pid for pid, _ in queries).values()) <= {2, 3, 4, 5}
    assert all(seen[pid] - {camid} for pid, camid in queries)


def test_people_nobody_asks_for_have_labels_like_others_and_one_camera_each(street):
    size, shots = street
    asked = {shot.pid for shot in of(shots, QUERY)}
    cameras = defaultdict(set)
    for shot in of(shots, GALLERY):
        cameras[shot.pid].add(shot.camid)
    strangers = cameras.keys() - asked

    assert len(strangers) == size.distractor_pids
    assert all(len(cameras[pid]) == 1 for pid in strangers)
    assert min(asked) < max(strangers) and min(strangers) < max(asked)
    assert not {shot.pid for shot in of(shots, TRAIN)} & cameras.keys()


def test_labels_have_holes(street):
    size, shots = street
    labels = {shot.pid for shot in shots}
    assert (min(labels), max(labels), len(labels)) == (1, 4 * size.pids, size.pids)


def test_licence_and_citation_lie_beside_the_images(layout_street):
    texts = {file.name for file in layout_street("dukemtmc").glob("*.txt")} - {"names.txt"}
    assert texts == {"CITATION.txt", "LICENSE_DukeMTMC.txt", "LICENSE_DukeMTMC-reID.txt"}


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_valid_size_is_planned_exactly(data):
    cameras, more = data.draw(st.integers(2, 8)), data.draw(st.integers(0, 4))
    asked = [{n, (n + 1) % cameras} for n in range(cameras)]  # every camera asks for somebody
    asked += data.draw(
        st.lists(st.sets(st.integers(0, cameras - 1), min_size=2, max_size=5), min_size=more, max_size=more)
    )
    pids, query = len(asked), [sum(camera in own for own in asked) for camera in range(cameras)]
    few, many = st.integers(0, 4), st.integers(0, 20)
    strangers = data.draw(few)
    size = Size(
        name="drawn",
        train_pids=pids,
        train=tuple(pids + data.draw(many) for _ in range(cameras)),
        test_pids=pids,
        query=tuple(query),
        gallery=tuple(n + 30 + data.draw(many) for n in query),
        distractor_pids=strangers,
        distractors=strangers + data.draw(many) if strangers else 0,
    )
    shots = plan(size, data.draw(many), Dials())
    for folder, images in ((TRAIN, size.train), (QUERY, size.query), (GALLERY, size.gallery)):
        cameras_of = Counter(shot.camid for shot in of(shots, folder))
        assert tuple(cameras_of[camid] for camid in range(1, cameras + 1)) == images
    asked = {shot.pid for shot in of(shots, QUERY)}
    assert sum(shot.pid not in asked for shot in of(shots, GALLERY)) == size.distractors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": (14,)}, "2..8 cameras"),
        ({"query": (6, 4, 3)}, "one number per camera"),
        ({"train_pids": 10}, "training images"),
        ({"query": (9, 4, 3, 5, 4)}, "at most one query"),
        ({"query": (3, 3, 3, 3, 3)}, "2..5 queries"),
        ({"query": (8, 8, 0, 5, 4)}, "from each camera"),
        ({"distractors": 3}, "distractor identity"),
        ({"distractor_pids": 0}, "without a distractor identity"),
        ({"gallery": (5, 8, 6, 10, 16)}, "at least one per query"),
        ({"train_pids": 3000, "train": (3000,) * 5}, "four digits"),
    ],
)
def test_impossible_sizes_are_refused(change, message):
    with pytest.raises(StreetError, match=message):
        replace(SIZES["tiny"], **change)
