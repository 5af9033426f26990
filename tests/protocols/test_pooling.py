"""Pooling of frames and boxes against a loop over groups."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.arrays import InputError
from protocols.pooling import Groups, multi_queries, pool, tracklets
from protocols.ranking import Labels

REDUCE = {"mean": lambda rows: rows.mean(0), "max": lambda rows: rows.max(0)}


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@st.composite
def groupings(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    groups, rows = draw(st.integers(1, 6)), draw(st.integers(0, 30))
    of = np.concatenate((np.arange(groups), rng.integers(-1, groups, rows)))
    rng.shuffle(of)
    return rng.normal(size=(len(of), 5)).astype("f4"), of, groups


@given(groupings(), st.sampled_from(["mean", "max"]), st.sampled_from([1, 4, 1000]), st.booleans())
@settings(max_examples=300, deadline=None)
def test_pooling_equals_a_loop_over_groups(grouping, how, per_chunk, on_torch):
    features, of, count = grouping
    expected = np.stack([unit(REDUCE[how](unit(features[of == group]))) for group in range(count)])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("protocols.features.CHUNK_BYTES", 4 * 5 * per_chunk)
        groups = Groups(of, Labels(np.arange(count), np.ones(count, np.int64)))
        got = pool("x", torch.from_numpy(features) if on_torch else features, groups, how)

    np.testing.assert_allclose(np.asarray(got), expected, rtol=2e-4, atol=2e-5)


def test_a_worked_example():
    """Frames (3, 4) and (0, 2) are (.6, .8) and (0, 1): mean (.3, .9), largest (.6, 1)."""
    groups = Groups(np.array([0, 0]), Labels(np.array([1]), np.array([1])))
    frames = np.array([[3, 4], [0, 2]], "f4")

    np.testing.assert_allclose(pool("x", frames, groups, "mean"), [unit(np.array([0.3, 0.9]))], rtol=1e-6)
    np.testing.assert_allclose(pool("x", frames, groups, "max"), [unit(np.array([0.6, 1]))], rtol=1e-6)


def test_tracklets_stand_in_order_of_appearance_and_need_not_be_contiguous():
    labels = Labels(np.array([5, 4, 5, 4, 9]), np.array([1, 2, 1, 2, 1]))

    groups = tracklets("gallery", [70, 3, 70, 3, -1], labels)

    assert groups.of.tolist() == [0, 1, 0, 1, 2]
    assert (groups.labels.pids.tolist(), groups.labels.camids.tolist()) == ([5, 4, 9], [1, 2, 1])


@pytest.mark.parametrize(
    ("pids", "camids", "message"),
    [
        ([5, 5, 6], [1, 1, 1], "query_tracklets: tracklet 8 has pid 5 in row 1 and 6 in row 2"),
        ([5, 5, 5], [1, 1, 2], "query_tracklets: tracklet 8 has camid 1 in row 1 and 2 in row 2"),
    ],
)
def test_a_tracklet_of_two_persons_or_cameras_is_refused(pids, camids, message):
    with pytest.raises(InputError, match=message):
        tracklets("query", [7, 8, 8], Labels(np.array(pids), np.array(camids)))


def test_multi_queries_gather_boxes_of_identity_and_camera_only():
    query = Labels(np.array([2, 1]), np.array([1, 3]))
    boxes = Labels(np.array([1, 1, 2, 2, 3]), np.array([3, 1, 1, 1, 3]))

    groups, group = multi_queries(boxes, query)

    assert [np.flatnonzero(groups.of == number).tolist() for number in group] == [[2, 3], [0]]


def test_queries_of_one_person_and_camera_share_their_boxes():
    query = Labels(np.array([2, 2]), np.array([1, 1]))

    assert multi_queries(Labels(np.array([2]), np.array([1])), query)[1].tolist() == [0, 0]


def test_a_query_without_a_box_is_named():
    query = Labels(np.array([2, 1488]), np.array([1, 3]))

    with pytest.raises(InputError, match=r"1 of 2 queries have no box, .* query 1 \(pid 1488, camid 3\)"):
        multi_queries(Labels(np.array([2]), np.array([1])), query)


@pytest.mark.parametrize("array", [np.array, torch.tensor])
def test_frames_that_cancel_each_other_are_refused(array):
    groups = Groups(np.array([0, 1, 1]), Labels(np.array([1, 7]), np.array([1, 3])))

    with pytest.raises(InputError, match="gallery_features: rows of pid 7 and camid 3 cancel each other"):
        pool("gallery_features", array([[1.0, 0], [1, 0], [-1, 0]]), groups, "mean")


@pytest.mark.parametrize(("value", "message"), [(0, "row 1 is 0 everywhere"), (np.nan, "row 1 holds values")])
def test_a_bad_frame_is_named(value, message):
    groups = Groups(np.array([0, 0]), Labels(np.array([1]), np.array([1])))

    with pytest.raises(InputError, match=message):
        pool("query_features", np.array([[1.0, 0], [value, value]]), groups, "max")
