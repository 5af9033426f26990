"""Metrics by hand-worked cases, by scikit-like literal forms, and under ties."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.base import Rules
from protocols.metrics import average_precisions, evaluate_ranks
from protocols.ranking import Labels, Ranks, rank_matches

RULES = Rules(headline_ap="step", junk_pids=(-1,), distractor_pids=(0,), max_rank=20)


def ranks_of(*relevance: str) -> Ranks:
    """One query per string of 0s and 1s, nearest image first, junk removed."""
    lists = [[place for place, hit in enumerate(row.split(), 1) if hit == "1"] for row in relevance]
    rank = np.array([place for row in lists for place in row], np.int64)
    return Ranks(np.cumsum([len(row) for row in lists]), rank, rank, rank, rank)


@pytest.mark.parametrize(
    ("relevance", "step", "trapezoid"),
    [
        ("1 0 1 0", 0.833333, 0.791667),
        ("0 1 0 1", 0.5, 0.333333),
        ("1 1", 1, 1),
        ("0 0 1", 0.333333, 0.166667),
        ("1 0 0 1 1", 0.7, 0.655556),
    ],
)
def test_both_average_precisions_of_known_lists(relevance, step, trapezoid):
    metrics = evaluate_ranks(ranks_of(relevance), RULES).metrics

    assert metrics["mAP"] == pytest.approx(100 * step, abs=1e-4)
    assert metrics["mAP_trapezoid"] == pytest.approx(100 * trapezoid, abs=1e-4)


def test_cmc_and_minp_by_hand():
    evaluation = evaluate_ranks(ranks_of("1 0 1", "0 0 1", "0 0 0 0 0 1 1"), RULES)

    assert evaluation.cmc[[0, 1, 2, 4, 5]] == pytest.approx([100 / 3, 100 / 3, 200 / 3, 200 / 3, 100])
    assert evaluation.metrics["rank1"] == pytest.approx(100 / 3)
    assert evaluation.metrics["mINP"] == pytest.approx(100 * (2 / 3 + 1 / 3 + 2 / 7) / 3)


def literal_average_precisions(relevance: list[bool]) -> tuple[float, float]:
    """Walk down the list, recall by recall."""
    hits, step, trapezoid, old_recall, old_precision = 0, 0.0, 0.0, 0.0, 1.0
    for place, hit in enumerate(relevance, 1):
        hits += hit
        recall, precision = hits / sum(relevance), hits / place
        step += (recall - old_recall) * precision
        trapezoid += (recall - old_recall) * (old_precision + precision) / 2
        old_recall, old_precision = recall, precision
    return step, trapezoid


@given(st.lists(st.booleans(), min_size=1, max_size=40).filter(any))
def test_average_precisions_equal_a_walk_down_the_list(relevance):
    ranks = ranks_of(" ".join("1" if hit else "0" for hit in relevance))

    step, trapezoid = average_precisions(ranks.rank, ranks.ends)

    assert (step[0], trapezoid[0]) == pytest.approx(literal_average_precisions(relevance))
    assert trapezoid[0] <= step[0] + 1e-12


def test_queries_without_a_match_are_dropped_or_zero():
    ranks = ranks_of("1", "0 0")

    dropped = evaluate_ranks(ranks, RULES)
    zero = evaluate_ranks(ranks, replace(RULES, matchless="zero"))

    assert (dropped.queries, dropped.matchless, dropped.metrics["mAP"]) == (1, 1, 100)
    assert (zero.queries, zero.matchless, zero.metrics["mAP"], zero.metrics["rank1"]) == (2, 1, 50, 50)


def test_no_query_with_a_match_is_an_error():
    with pytest.raises(ValueError, match="none of the 2 queries has a true match"):
        evaluate_ranks(ranks_of("0", "0"), RULES)


def test_headline_follows_the_rules():
    assert evaluate_ranks(ranks_of("1"), RULES).headline == "mAP"
    assert evaluate_ranks(ranks_of("1"), replace(RULES, headline_ap="trapezoid")).headline == "mAP_trapezoid"


def test_ties_give_bounds_and_gallery_order_decides():
    query = Labels(np.array([1]), np.array([1]))
    gallery = Labels(np.array([2, 1, 3]), np.array([2, 2, 2]))
    distances = np.array([[0.5, 0.5, 0.5]])

    evaluation = evaluate_ranks(rank_matches(lambda a, b: distances[a:b], query, gallery, RULES), RULES)

    assert evaluation.metrics["mAP"] == pytest.approx(50)
    assert evaluation.bounds["mAP"] == pytest.approx((100 / 3, 100))
    assert evaluation.bounds["rank1"] == (0, 100)


def test_ties_that_change_nothing_give_no_bounds():
    query = Labels(np.array([1]), np.array([1]))
    gallery = Labels(np.array([1, 1, 2]), np.array([2, 3, 2]))
    distances = np.array([[0.5, 0.5, 0.6]])

    assert (
        evaluate_ranks(rank_matches(lambda a, b: distances[a:b], query, gallery, RULES), RULES).bounds == {}
    )
