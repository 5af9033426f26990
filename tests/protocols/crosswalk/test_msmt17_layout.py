"""The plan and the lists of an MSMT17 street."""

from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.crosswalk import Dials, StreetError
from protocols.crosswalk.layouts.msmt17 import LAYOUT, SIZES, Size, plan

LISTS = {"train": "train", "val": "train", "query": "test", "gallery": "test"}


@pytest.fixture(scope="module")
def released():
    return plan(SIZES["release"], 0, Dials())


def test_the_release_size_has_the_counts_of_the_release(released):
    people = {"train_pids": 1041, "query_pids": 3060, "query": 11_659, "gallery": 82_161}
    assert LAYOUT.counts(SIZES["release"], released) == {
        "msmt17": {"train": 32_621} | people,
        "msmt17/train": {"train": 30_248} | people,
    }
    assert Counter(shot.folder.partition("/")[0] for shot in released) == {"train": 32_621, "test": 93_820}
    assert {shot.camid for shot in released} == set(range(1, 16))
    assert max(len(shot.name) for shot in released) == len("0000_000_01_0303afternoon_0000_0.jpg")


def test_labels_start_at_0_in_both_folders_and_mean_other_people(released):
    who = {"train": {}, "test": {}}
    for shot in released:
        who[shot.folder.partition("/")[0]][shot.pid] = shot.subject
    assert who["train"].keys() == set(range(1041)) and who["test"].keys() == set(range(3060))
    assert not set(who["train"].values()) & set(who["test"].values())


@pytest.fixture(scope="module")
def lists(layout_street):
    """(path below the release, label) of each line of the four lists."""
    root = layout_street("msmt17")
    found = {}
    for name, folder in LISTS.items():
        lines = [line.split(" ") for line in (root / f"list_{name}.txt").read_text().splitlines()]
        found[name] = [(f"{folder}/{path}", int(pid)) for path, pid in lines]
    return found


def test_lists_name_every_image_once_with_its_label(lists, layout_street):
    root = layout_street("msmt17")
    listed = [path for entries in lists.values() for path, _ in entries]
    assert sorted(listed) == sorted(file.relative_to(root).as_posix() for file in root.rglob("*.jpg"))
    assert all(int(path.split("/")[1]) == pid for entries in lists.values() for path, pid in entries)


def test_lists_have_the_lengths_of_the_size(lists):
    size = SIZES["tiny"]
    assert {name: len(entries) for name, entries in lists.items()} == {
        name: getattr(size, name) for name in LISTS
    }


def test_validation_identities_are_some_of_those_trained_on(lists):
    train, val = ({pid for _, pid in lists[name]} for name in ("train", "val"))
    assert val < train
    assert len(train) == SIZES["tiny"].train_pids


def test_queries_are_one_a_camera_and_can_all_be_answered(lists):
    def cells(name):
        return [(pid, path.split("/")[2].split("_")[2]) for path, pid in lists[name]]

    seen = defaultdict(set)
    for pid, camera in cells("gallery"):
        seen[pid].add(camera)
    assert max(Counter(cells("query")).values()) == 1
    assert all(seen[pid] - {camera} for pid, camera in cells("query"))


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_valid_size_is_planned_exactly(data):
    cameras = sorted(data.draw(st.sets(st.integers(1, 15), min_size=2)))
    pids, more = data.draw(st.integers(2, 9)), st.integers(0, 30)
    train = 2 * pids + data.draw(more)
    query = data.draw(st.integers(2 * pids, len(cameras) * pids))
    size = Size(
        name="drawn",
        cameras=tuple(cameras),
        train_pids=pids,
        train=train,
        val=data.draw(st.integers(0, train)),
        test_pids=pids,
        query=query,
        gallery=query + data.draw(more),
    )
    shots = plan(size, data.draw(more), Dials())
    counts = LAYOUT.counts(size, shots)
    assert counts["msmt17/train"] == {
        "train": train, "query": query, "gallery": size.gallery, "train_pids": pids, "query_pids": pids
    }  # fmt: skip
    assert counts["msmt17"]["train"] == train + size.val
    assert {shot.camid for shot in shots} <= set(cameras)
    folders = Counter(shot.folder.partition("/")[0] for shot in shots)
    assert (folders["train"], folders["test"]) == (train + size.val, query + size.gallery)
    assert len({shot.folder for shot in shots}) == 2 * pids


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cameras": (1,)}, "2..15 different cameras"),
        ({"cameras": (4, 1)}, "in order"),
        ({"cameras": (1, 16)}, "of 1..15"),
        ({"train": 11}, "at least two training images"),
        ({"val": 41}, "val"),
        ({"query": 31}, "2..cameras queries"),
        ({"gallery": 17}, "at least one per query"),
        ({"test_pids": 1}, "at least two training and two test"),
    ],
)
def test_impossible_sizes_are_refused(change, message):
    with pytest.raises(StreetError, match=message):
        replace(SIZES["tiny"], **change)
