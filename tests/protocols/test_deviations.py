"""Habits of other evaluators against their own way of walking down a list."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.arrays import InputError
from protocols.base import Rules
from protocols.deviations import check_deviations
from protocols.metrics import evaluate_ranks
from protocols.ranking import Labels, Ranking

RULES = Rules(headline_ap="step", junk_pids=(-1,), distractor_pids=(0,))


def evaluation(distances, query, gallery, deviations, rules=RULES):
    rankings = [Ranking(query, gallery, rules), Ranking(query, gallery, rules, leave_out=False)]
    for ranking in rankings:
        ranking.add(0, distances)
    return evaluate_ranks(rankings[0].ranks(), rules, deviations, rankings[1].ranks())


def walk(distances, query, gallery, q, list_length, ap_reach):
    """Both average precisions and the first rank of one query, image by image; None without a match."""
    is_good = (gallery.pids == query.pids[q]) & (gallery.camids != query.camids[q])
    is_junk = (gallery.pids == -1) | ((gallery.pids == query.pids[q]) & ~is_good)
    if not is_good.any():
        return None
    hits, place, first, step, trapezoid, old = 0, 0, np.inf, 0.0, 0.0, 1.0
    for j in np.argsort(distances[q], kind="stable")[:list_length]:
        if is_junk[j]:
            continue
        place += 1
        hits += is_good[j]
        precision = hits / place
        if is_good[j]:
            first = min(first, place)
            if place <= ap_reach:
                step += precision / is_good.sum()
                trapezoid += (old + precision) / 2 / is_good.sum()
        old = precision
    return step, trapezoid, first


@given(st.integers(0, 2**32 - 1), st.sampled_from(["ap-top-50", "truncate-4000", "both"]))
@settings(max_examples=150, deadline=None)
def test_cuts_equal_a_walk_that_stops_there(seed, which):
    rng = np.random.default_rng(seed)
    query = Labels(rng.integers(1, 4, 5), rng.integers(1, 3, 5))
    gallery = Labels(rng.integers(-1, 4, 30), rng.integers(1, 3, 30))
    distances = rng.permuted(np.tile(np.arange(30.0), (5, 1)), axis=1)
    names = ("ap-top-50", "truncate-4000") if which == "both" else (which,)
    length = 12 if "truncate-4000" in names else 30
    reach = 4 if "ap-top-50" in names else 30
    walks = [walk(distances, query, gallery, q, length, reach) for q in range(5)]
    if not any(walks):
        return

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("protocols.deviations.LIST_LENGTH", 12)
        patch.setattr("protocols.deviations.AP_REACH", 4)
        got = evaluation(distances, query, gallery, names)

    expected = np.array([found for found in walks if found])
    assert got.metrics["mAP"] == pytest.approx(100 * expected[:, 0].mean())
    assert got.metrics["mAP_trapezoid"] == pytest.approx(100 * expected[:, 1].mean())
    assert got.cmc[:20] == pytest.approx([100 * (expected[:, 2] <= k).mean() for k in range(1, 21)])


def test_precision_behind_rank_50_is_not_summed_but_divided_by():
    """Matches at ranks 1 and 51: (1 + 2/51) / 2 as it should be, 1/2 in that code base."""
    query = Labels(np.array([1]), np.array([1]))
    gallery = Labels(np.array([1, *range(2, 51), 1]), np.full(51, 2))
    distances = np.arange(51.0)[None]

    assert evaluation(distances, query, gallery, ()).metrics["mAP"] == pytest.approx(50 * (1 + 2 / 51))
    assert evaluation(distances, query, gallery, ("ap-top-50",)).metrics["mAP"] == pytest.approx(50)


def test_junk_takes_a_place_of_the_4000():
    """3,999 junk images before the matches: the list ends behind the first of two."""
    query = Labels(np.array([1]), np.array([1]))
    gallery = Labels(np.array([-1] * 3999 + [1, 1]), np.full(4001, 2))
    distances = np.arange(4001.0)[None]

    cut = evaluation(distances, query, gallery, ("truncate-4000",)).metrics

    assert evaluation(distances, query, gallery, ()).metrics["mAP"] == 100
    assert (cut["mAP"], cut["mAP_trapezoid"], cut["rank1"], cut["mINP"]) == (50, 50, 100, 100)


def test_a_query_whose_matches_are_all_cut_is_a_miss_and_not_dropped():
    query = Labels(np.array([1, 2]), np.array([1, 1]))
    gallery = Labels(np.array([2] + [-1] * 3999 + [1]), np.full(4001, 2))

    cut = evaluation(np.tile(np.arange(4001.0), (2, 1)), query, gallery, ("truncate-4000",))

    assert (cut.metrics["rank1"], cut.metrics["mAP"], cut.queries) == (50, 50, 2)


@pytest.mark.parametrize(
    ("name", "matchless", "score", "queries"),
    [("zero-matchless", "drop", 50, 2), ("drop-matchless", "zero", 100, 1)],
)
def test_matchless_queries_as_another_evaluator_has_them(name, matchless, score, queries):
    query = Labels(np.array([1, 9]), np.array([1, 1]))
    gallery = Labels(np.array([1]), np.array([2]))

    got = evaluation(np.ones((2, 1)), query, gallery, (name,), replace(RULES, matchless=matchless))

    assert (got.metrics["mAP"], got.metrics["rank1"], got.queries) == (score, score, queries)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["ap-top50"], "unknown deviation 'ap-top50': did you mean 'ap-top-50'?"),
        (["zero-matchless", "drop-matchless"], "exclude each other"),
    ],
)
def test_senseless_deviations_are_refused(names, message):
    with pytest.raises(InputError, match=message):
        check_deviations(names)
