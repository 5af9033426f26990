"""A few images a data set, worked by hand: the rules under each protocol's name, not the engine's parts."""

import numpy as np
import pytest

from protocols import evaluate

JUNK_APART = (
    "market1501",
    "market1501/openreid",
    "market1501+100k",
    "market1501+200k",
    "market1501+500k",
    "mars",
)
PLAIN_LABELS = (
    "dukemtmc",
    "dukemtmc/openreid",
    "msmt17",
    "msmt17/train",
    "msmt17-v2",
    "msmt17-v2/train",
    "cuhk03-np-labeled",
    "cuhk03-np-detected",
    "cuhk03-np-labeled/mat",
    "cuhk03-np-detected/mat",
)

# One query, identity 5 before camera 1. The gallery from near to far:
#   identity 5, camera 1    its own camera: takes no rank anywhere
#   identity 0, camera 2    somebody else: a distractor in Market-1501 and MARS, a person in DukeMTMC-reID
#   identity 5, camera 2    true match
#   identity -1, camera 2   junk in Market-1501 and MARS; elsewhere a label like any other
#   identity 5, camera 3    true match
ALL_SHOTS = {
    "query_pids": [5],
    "query_camids": [1],
    "gallery_pids": [5, 0, 5, -1, 5],
    "gallery_camids": [1, 2, 2, 2, 3],
    "distances": np.array([[0.1, 0.2, 0.3, 0.4, 0.5]]),
}


@pytest.mark.parametrize("protocol", JUNK_APART)
def test_junk_takes_no_rank_where_the_release_has_some(protocol):
    """Matches at ranks 2 and 3: step (1/2 + 2/3) / 2, trapezoid ((0/1 + 1/2) / 2 + (1/2 + 2/3) / 2) / 2."""
    metrics = evaluate(protocol, **ALL_SHOTS).metrics

    assert metrics["mAP"] == pytest.approx(100 * 7 / 12)
    assert metrics["mAP_trapezoid"] == pytest.approx(100 * 5 / 12)
    assert (metrics["rank1"], metrics["rank5"]) == (0, 100)


@pytest.mark.parametrize("protocol", PLAIN_LABELS)
def test_labels_have_no_meaning_of_their_own_elsewhere(protocol):
    """Matches at ranks 2 and 4: step (1/2 + 2/4) / 2, trapezoid ((0/1 + 1/2) / 2 + (1/3 + 2/4) / 2) / 2."""
    metrics = evaluate(protocol, **ALL_SHOTS).metrics

    assert metrics["mAP"] == pytest.approx(50)
    assert metrics["mAP_trapezoid"] == pytest.approx(100 / 3)


# One query, identity 1 in view 1. Identity 2 is nearer in view 1 and farther in view 2.
VIEWS = {
    "query_pids": [1],
    "query_camids": [1],
    "gallery_pids": [2, 2, 1, 3, 1],
    "gallery_camids": [1, 2, 2, 2, 1],
    "distances": np.array([[0.1, 0.4, 0.2, 0.3, 0.0]]),
}
BOTH_VIEWS = ("cuhk03-labeled", "cuhk03-detected", "cuhk03-merged")


@pytest.mark.parametrize("protocol", [f"{name}/openreid" for name in BOTH_VIEWS])
def test_openreid_seeks_in_the_other_view_alone(protocol):
    """Of view 2, identity 1 is at 0.2, 3 at 0.3 and 2 at 0.4: the match is first in every draw.

    Average precision is over all images and leaves out identity 1 in view 1 only: the match is second.
    """
    metrics = evaluate(protocol, **VIEWS).metrics

    assert (metrics["rank1"], metrics["rank1_sampled"]) == (100, 100)
    assert metrics["mAP"] == pytest.approx(50)


@pytest.mark.parametrize("protocol", [f"{name}/torchreid" for name in BOTH_VIEWS])
def test_torchreid_seeks_in_both_views(protocol):
    """Identity 2 is drawn at 0.1 or at 0.4, each in half of the galleries: the match is first in half."""
    metrics = evaluate(protocol, **VIEWS).metrics

    assert metrics["rank1"] == pytest.approx(50)
    assert metrics["rank5"] == pytest.approx(100)
    assert metrics["mAP"] == pytest.approx(50)


ONE_VIEW = (*BOTH_VIEWS, "cuhk03-labeled/original", "cuhk03-detected/original", "cuhk01-100", "cuhk01-486")


@pytest.mark.parametrize("protocol", ONE_VIEW)
def test_each_identity_has_one_voice_where_queries_are_drawn(protocol):
    """Identity 1 asks with a hit or with a miss, identity 2 with a hit: (1/2 + 1) / 2, not 2 of 3."""
    distances = np.array([[0.1, 0.2], [0.2, 0.1], [0.2, 0.1]])

    metrics = evaluate(
        protocol,
        query_pids=[1, 1, 2],
        query_camids=[1, 1, 1],
        gallery_pids=[1, 2],
        gallery_camids=[2, 2],
        distances=distances,
    ).metrics

    assert metrics["rank1"] == pytest.approx(75)
    assert metrics["rank1_all_shots"] == pytest.approx(200 / 3)


@pytest.mark.parametrize("protocol", ["viper", "viper/scsp"])
def test_viper_is_asked_in_both_directions(protocol):
    """Rows [.3 .2] and [.4 .1]: the first query's match is second. By columns both matches are first."""
    metrics = evaluate(
        protocol,
        query_pids=[7, 8],
        query_camids=[1, 1],
        gallery_pids=[7, 8],
        gallery_camids=[2, 2],
        distances=np.array([[0.3, 0.2], [0.4, 0.1]]),
    ).metrics

    assert (metrics["rank1"], metrics["reverse_rank1"]) == (50, 100)


@pytest.mark.parametrize(("protocol", "first"), [("mars", 100), ("mars/torchreid", 0)])
def test_frames_are_pooled_as_each_evaluator_of_mars_does(protocol, first):
    """Frames (1 0), (1 0), (0 1): their maximum points to (1 1), their mean to (2 1)."""
    metrics = evaluate(
        protocol,
        query_pids=[4, 4, 4],
        query_camids=[1, 1, 1],
        query_tracklets=[9, 9, 9],
        query_features=np.array([[1, 0], [1, 0], [0, 1]], np.float32),
        gallery_pids=[4, 6],
        gallery_camids=[2, 2],
        gallery_features=np.array([[1, 1], [2, 1]], np.float32),
        gallery_tracklets=[0, 1],
    ).metrics

    assert metrics["rank1"] == first


def test_a_multi_query_is_the_mean_of_its_boxes():
    """The query (1 0) finds somebody else at (1 0) first; with the box (0 1) it points to its match (1 1)."""
    labels = {"query_pids": [3], "query_camids": [1], "gallery_pids": [3, 9], "gallery_camids": [2, 2]}
    features = {
        "query_features": np.array([[1, 0]], np.float32),
        "gallery_features": np.array([[1, 1], [1, 0]], np.float32),
    }
    boxes = {
        "multiquery_features": np.array([[1, 0], [0, 1], [0, -1]], np.float32),
        "multiquery_pids": [3, 3, 3],
        "multiquery_camids": [1, 1, 2],  # the last is of another camera and not asked
    }

    assert evaluate("market1501", **labels, **features).metrics["rank1"] == 0
    assert evaluate("market1501/multi-query", **labels, **features, **boxes).metrics["rank1"] == 100
