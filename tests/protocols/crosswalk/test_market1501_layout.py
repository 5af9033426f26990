"""The plan of a Market-1501 street: names, counts and labels, before anything is rendered."""

import re
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.crosswalk import SIZES, Dials, StreetError, plan
from protocols.crosswalk.layouts.market1501.names import BOXES, DISTRACTOR, GALLERY, JUNK, QUERY, TRAIN
from protocols.crosswalk.layouts.market1501.sizes import Doubled, Size
from protocols.crosswalk.shots import Shot


@pytest.fixture(scope="module")
def market() -> tuple[Shot, ...]:
    return plan(SIZES["market"], 0, Dials())


@pytest.fixture(scope="module", params=["tiny", "default", "market"])
def any_size(request) -> tuple[Size, tuple[Shot, ...]]:
    return SIZES[request.param], plan(SIZES[request.param], 5, Dials())


def of(shots, folder):
    return [shot for shot in shots if shot.folder == folder]


def test_market_has_the_counts_of_the_release(market):
    assert Counter(shot.folder for shot in market) == {
        TRAIN: 12936,
        QUERY: 3368,
        GALLERY: 19732,
        BOXES: 25259,
    }
    labels = Counter(min(shot.pid, 1) for shot in of(market, GALLERY))
    assert labels == {1: 13115, DISTRACTOR: 2798, JUNK: 3819}
    train, test = ({shot.pid for shot in of(market, folder)} for folder in (TRAIN, QUERY))
    assert (len(train), len(test), len(train & test)) == (751, 750, 0)
    assert (min(train), max(train), min(test), max(test)) == (2, 1500, 1, 1501)
    cameras = Counter(shot.camid for shot in of(market, TRAIN))
    assert [cameras[c] for c in range(1, 7)] == [2017, 1709, 2707, 920, 2338, 3245]


def test_market_has_the_hand_drawn_boxes_of_the_release(market):
    asked = {(shot.pid, shot.camid) for shot in of(market, QUERY)}
    boxes = Counter((shot.pid, shot.camid) for shot in of(market, BOXES))

    assert len({pid for pid, _ in boxes}) == 1501
    assert sum(boxes[cell] for cell in asked) == 12688
    assert min(boxes[cell] for cell in asked) == 1


def test_market_doubles_the_extensions_that_the_release_doubles(market):
    doubled = Counter((shot.folder, shot.pid) for shot in market if shot.name.endswith(".jpg.jpg"))

    assert doubled == {
        (GALLERY, 1488): 13, (GALLERY, 0): 3, (GALLERY, -1): 2, (QUERY, 1488): 6, (BOXES, 1488): 14,
    }  # fmt: skip
    assert sum(shot.pid == 1488 for shot in of(market, QUERY)) == 6


def test_names_say_sequence_frame_and_box_and_sequences_are_those_of_the_camera(any_size):
    size, shots = any_size
    for shot in shots:
        sequence, frame, box = map(int, re.search(r"s(\d)_(\d{6})_(\d{2})\.jpg", shot.name).groups())
        assert (sequence, frame, box) == (shot.sequence, shot.frame, shot.box)
        assert 1 <= sequence <= size.sequences[shot.camid - 1]


def test_boxes_are_numbered_by_who_drew_them(any_size):
    for shot in any_size[1]:
        assert (shot.box == 0) == (shot.folder in (QUERY, BOXES))


def test_queries_are_few_per_identity_and_can_all_be_answered(any_size):
    size, shots = any_size
    queries = of(shots, QUERY)
    cells = Counter((shot.pid, shot.camid) for shot in queries)
    seen = defaultdict(set)
    for shot in of(shots, GALLERY):
        seen[shot.pid].add(shot.camid)
    drawn = {(shot.pid, shot.camid) for shot in of(shots, BOXES)}

    assert max(cells.values()) == 1
    assert all(2 <= n <= size.cameras for n in Counter(shot.pid for shot in queries).values())
    assert all(seen[shot.pid] - {shot.camid} for shot in queries)
    assert set(cells) <= drawn


def test_a_query_is_one_of_the_hand_drawn_boxes(any_size):
    shots = any_size[1]
    boxes = {shot.name: shot for shot in of(shots, BOXES)}
    for query in of(shots, QUERY):
        assert replace(boxes[query.name], folder=QUERY) == query


def test_train_and_test_labels_are_interleaved(any_size):
    train = sorted({shot.pid for shot in of(any_size[1], TRAIN)})
    test = {shot.pid for shot in of(any_size[1], QUERY)}
    assert sum(pid + 1 in test for pid in train) > min(len(train), len(test)) / 4


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 50), st.floats(0, 1))
def test_confusers_come_in_pairs_inside_one_half(seed, share):
    size = SIZES["tiny"]
    shots = plan(size, seed, Dials(confusers=share))
    for folder in (TRAIN, QUERY):
        subjects = {shot.subject for shot in of(shots, folder)}
        pairs = defaultdict(list)
        for subject in subjects:
            if subject.look.startswith("pair"):
                pairs[subject.look].append(subject.swapped)
        assert all(sorted(pair) == [False, True] for pair in pairs.values())
        assert abs(2 * len(pairs) - share * 8) <= 1


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_valid_size_is_planned_exactly(data):
    cameras = data.draw(st.integers(2, 6))
    pids = data.draw(st.integers(3, 9))
    query = data.draw(st.integers(2 * (pids - 1) + cameras, cameras * pids))
    numbers = st.integers(0, 30)
    size = Size(
        name="drawn",
        sequences=(2,) * cameras,
        train_pids=pids,
        train=tuple(pids + data.draw(numbers) for _ in range(cameras)),
        test_pids=pids,
        query=query,
        good=query + cameras + data.draw(numbers),
        distractors=2 + data.draw(numbers),
        junk=2 + data.draw(numbers),
        gt_bbox_train=pids + data.draw(numbers),
        gt_bbox_test=query + cameras + data.draw(numbers),
        doubled=Doubled(pid=4, good=cameras + 1, gt_bbox=cameras + 1, distractors=1, junk=2),
    )
    shots = plan(size, data.draw(numbers), Dials())

    assert Counter(shot.folder for shot in shots) == {
        TRAIN: sum(size.train),
        QUERY: query,
        GALLERY: size.good + size.distractors + size.junk,
        BOXES: size.gt_bbox_train + size.gt_bbox_test,
    }
    assert (
        len({shot.pid for shot in of(shots, TRAIN)}) == len({shot.pid for shot in of(shots, QUERY)}) == pids
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": 15}, "queries per test identity"),
        ({"train": (12, 11, 12, 7)}, "training images"),
        ({"good": 20}, "at least one per query"),
        ({"gt_bbox_train": 7}, "at least one per identity"),
        ({"sequences": (2, 1, 1, 7)}, "1..6 sequences"),
        ({"junk": 0}, "doubled files"),
    ],
)
def test_impossible_sizes_are_refused(change, message):
    with pytest.raises(StreetError, match=message):
        replace(SIZES["tiny"], **change)
