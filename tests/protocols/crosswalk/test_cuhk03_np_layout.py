"""The plan of a CUHK03-NP street: two variants of the same people, and the identity that leaks."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.crosswalk import Dials, StreetError
from protocols.crosswalk.layouts.cuhk03_np import LAYOUT, SIZES, Part, Size, plan

PARTS = {"train": "bounding_box_train", "gallery": "bounding_box_test", "query": "query"}


@pytest.fixture(scope="module", params=["tiny", "default", "release"])
def street(request):
    size = SIZES[request.param]
    return size, plan(size, 5, Dials())


def of(shots, variant, *parts):
    return [shot for shot in shots if shot.folder in {f"{variant}/{PARTS[part]}" for part in parts}]


def pids(shots):
    return {shot.pid for shot in shots}


def test_the_release_size_has_the_counts_of_the_release():
    shots = plan(SIZES["release"], 0, Dials())
    people = {"train_pids": 767, "query_pids": 700}
    assert LAYOUT.counts(SIZES["release"], shots) == {
        "cuhk03-np-labeled": {"train": 7368, "query": 1400, "gallery": 5328} | people,
        "cuhk03-np-detected": {"train": 7365, "query": 1400, "gallery": 5332} | people,
    }
    for variant in ("labeled", "detected"):
        assert len(pids(of(shots, variant, "train"))) == 767
        assert len(pids(of(shots, variant, "query", "gallery"))) == 700
    assert pids(shots) == set(range(1, 1468))


@pytest.mark.parametrize("variant", ["labeled", "detected"])
def test_every_view_asks_once_for_everybody_and_can_be_answered(street, variant):
    size, shots = street
    asked = [(shot.pid, shot.camid) for shot in of(shots, variant, "query")]
    there = {(shot.pid, shot.camid) for shot in of(shots, variant, "gallery")}
    assert len(asked) == len(set(asked)) == 2 * size.test_pids
    assert there == set(asked)


@pytest.mark.parametrize("variant", ["labeled", "detected"])
def test_nobody_is_in_train_and_test_of_a_variant(street, variant):
    _, shots = street
    assert not pids(of(shots, variant, "train")) & pids(of(shots, variant, "query", "gallery"))


def test_one_identity_changes_sides_between_the_variants(street):
    _, shots = street
    labeled, detected = (pids(of(shots, variant, "query")) for variant in ("labeled", "detected"))
    assert len(labeled - detected) == len(detected - labeled) == 1
    assert labeled - detected <= pids(of(shots, "detected", "train"))


def test_variants_show_the_same_frames_but_one_in_other_boxes(street):
    _, shots = street
    frames = {
        variant: {(s.subject, s.camid, s.frame) for s in of(shots, variant, *PARTS)}
        for variant in ("labeled", "detected")
    }
    only = frames["detected"] - frames["labeled"]
    assert frames["labeled"] < frames["detected"] and len(only) == 1
    subject, camid, _ = only.pop()
    assert (subject, camid) not in {(who, view) for who, view, _ in frames["labeled"]}
    assert {(shot.folder.partition("/")[0], shot.box) for shot in shots} == {("labeled", 0), ("detected", 1)}


def test_views_show_1_to_5_images_of_everybody_and_numbers_run_through(street):
    _, shots = street
    for variant in ("labeled", "detected"):
        own = of(shots, variant, *PARTS)
        cells = Counter((shot.pid, shot.camid) for shot in own)
        assert max(cells.values()) <= 5
        numbers = sorted(int(shot.name.rpartition("_")[2].removesuffix(".png")) for shot in own)
        assert numbers == list(range(1, len(own) + 1))


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_valid_size_is_planned_exactly(data):
    train_pids, test_pids = data.draw(st.integers(3, 9)), data.draw(st.integers(2, 9))
    changed = data.draw(st.integers(0, 6))
    cells = 2 * (train_pids - 1) - 1
    train = 4 + 1 + data.draw(st.integers(cells, 5 * cells))
    cells = 2 * (test_pids - 1)
    gallery = data.draw(st.integers(2 * cells, 5 * cells)) + 4 + changed - 2 * test_pids
    size = Size(
        "drawn",
        train_pids,
        test_pids,
        labeled=Part(train - 1 + changed, gallery - changed),
        detected=Part(train, gallery),
    )
    shots = plan(size, data.draw(st.integers(0, 9)), Dials())
    for variant in ("labeled", "detected"):
        counts = [len(of(shots, variant, part)) for part in PARTS]
        assert counts == [*getattr(size, variant), 2 * test_pids]
        assert len(pids(of(shots, variant, "train"))) == train_pids
        assert len(pids(of(shots, variant, "query"))) == test_pids


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_pids": 2}, "at least three training"),
        ({"labeled": Part(45, 37)}, "one detected image more"),
        ({"labeled": Part(52, 29)}, "at most 5 training images"),
        ({"train_pids": 5}, "1..5 images of each training"),
        ({"test_pids": 4}, "2..5 images of each test"),
    ],
)
def test_impossible_sizes_are_refused(change, message):
    with pytest.raises(StreetError, match=message):
        replace(SIZES["tiny"], **change)
