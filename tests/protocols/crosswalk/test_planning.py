"""What the plans of all layouts share: exact shares, exact rows and columns, nothing left out."""

from collections import Counter
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.crosswalk.planning import (
    apportion,
    asked_of,
    asking,
    cameras_of,
    crop_size,
    parted,
    scattered,
    share_out,
)
from protocols.crosswalk.seeding import generator
from protocols.crosswalk.shots import Shot, Subject


@given(
    st.lists(st.tuples(st.floats(0.01, 100), st.integers(0, 9)), min_size=1, max_size=30),
    st.integers(0, 1000),
)
def test_apportion_gives_all_away_and_nobody_less_than_promised(items, extra):
    weights, least = np.array([w for w, _ in items]), np.array([n for _, n in items])
    total = int(least.sum()) + extra
    counts = apportion(total, weights, least)

    assert counts.sum() == total
    assert (counts >= least).all()
    fair = extra * weights / weights.sum()
    assert (np.abs(counts - least - fair) < 1 + 1e-6).all()


@st.composite
def questions(draw):
    """Queries of each camera, and bounds for each identity, that can be met."""
    pids, cameras = draw(st.integers(1, 12)), draw(st.integers(2, 8))
    images = draw(st.lists(st.integers(0, pids), min_size=cameras, max_size=cameras))
    fair, rest = divmod(sum(images), pids)
    least = draw(st.integers(0, fair))
    most = draw(st.integers(fair + bool(rest), cameras))
    return images, pids, least, most


@settings(max_examples=60, deadline=None)
@given(questions(), st.integers(0, 99))
def test_cameras_ask_for_exactly_as_many_people_as_wanted_and_nobody_is_asked_for_too_often(wanted, seed):
    images, pids, least, most = wanted
    asked = asked_of(generator(seed), images, pids, least, most)

    assert asked.sum(axis=0).tolist() == images
    assert ((asked.sum(axis=1) >= least) & (asked.sum(axis=1) <= most)).all()


def test_people_are_asked_for_by_different_numbers_of_cameras():
    rows = asked_of(generator("rows"), (40, 40, 40, 40, 40), 60, 2, 5).sum(axis=1)
    assert set(rows.tolist()) == {2, 3, 4, 5}


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 15), st.integers(2, 12), st.integers(0, 99), st.data())
def test_images_are_shared_out_among_those_who_are_seen(cameras, pids, seed, data):
    total = data.draw(st.integers(2 * pids, cameras * pids))
    seen = cameras_of(generator(seed), [1.0] * cameras, pids, total)
    images = [int(n) + data.draw(st.integers(0, 20)) * bool(n) for n in seen.sum(axis=0)]
    counts = share_out(generator(seed), seen, images)

    assert seen.sum() == total and (seen.sum(axis=1) >= 2).all()
    assert counts.sum(axis=0).tolist() == images
    np.testing.assert_array_equal(counts > 0, seen)


@given(st.integers(2, 30), st.integers(0, 40), st.integers(0, 99))
def test_scattered_labels_keep_both_ends_and_their_number(count, holes, seed):
    labels = scattered(generator(seed), count, 5, 4 + count + holes)
    assert labels == sorted(set(labels))
    assert (len(labels), labels[0], labels[-1]) == (count, 5, 4 + count + holes)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.integers(0, 99))
def test_parts_hold_everybody_once(counts, seed):
    parts = parted(generator(seed), range(sum(counts)), *counts)
    assert [len(part) for part in parts] == counts
    assert sorted(label for part in parts for label in part) == list(range(sum(counts)))


def shot(pid, camid, step, folder="gallery"):
    return Shot(folder, f"{pid}_{camid}_{step}", pid, camid, 1, step, step, 0, Subject(f"{pid}", f"{pid}"))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3)), max_size=20), st.integers(0, 9))
def test_every_camera_asks_once_for_everybody_it_sees(cells, seed):
    shots = [shot(*cell, step) for cell, own in groupby(sorted(cells)) for step, _ in enumerate(own)]
    asked = list(asking(seed, "query", shots))

    assert [one.name for one in asked] == [one.name for one in shots]
    queries = Counter((one.pid, one.camid) for one in asked if one.folder == "query")
    assert queries == dict.fromkeys(set(cells), 1)


@pytest.mark.parametrize("step", range(20))
def test_crops_differ_in_size_and_are_always_the_same(step):
    width, height = crop_size(shot(1, 1, step))
    assert 2.1 < height / width < 2.9 and 128 <= height < 225
    assert crop_size(shot(1, 1, step)) == (width, height)
    assert crop_size(shot(1, 2, step)) != (width, height)
