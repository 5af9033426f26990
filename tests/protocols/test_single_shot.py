"""Single-gallery-shot CMC against all galleries that can be drawn."""

from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.base import Rules, SingleShot
from protocols.ranking import Labels
from protocols.single_shot import SingleShotRanking, SingleShotScores, lots

RULES = Rules(headline_ap="step", junk_pids=(-1,), distractor_pids=(0,), max_rank=20)
NAMES = ("cuhk03", "0", 0)


def scores(distances, query, gallery, rules=RULES, probe="every", repeats=3, rows=None) -> SingleShotScores:
    ranking = SingleShotRanking(query, gallery, rules, SingleShot(probe, repeats), NAMES)
    for start in range(0, len(query), rows or len(query)):
        ranking.add(start, distances[start : start + (rows or len(query))])
    return ranking.scores()


def counting_by_identity(q, query, gallery, rules):
    """Positions of the images that count for a query, by identity; distractors alone."""
    images: dict[object, list[int]] = {}
    for j, (pid, camid) in enumerate(zip(gallery.pids.tolist(), gallery.camids, strict=True)):
        own_camera = camid == query.camids[q]
        own = own_camera and (rules.same_camera == "all" or pid == query.pids[q])
        if pid in rules.junk_pids or own:
            continue
        images.setdefault(("alone", j) if pid in rules.distractor_pids else pid, []).append(j)
    return images


def literal_chances(q, distances, query, gallery, rules):
    """Share of all galleries in which the query's match has rank <= 1, 2, ...; None without a match."""
    images = counting_by_identity(q, query, gallery, rules)
    pid = int(query.pids[q])
    if pid not in images:
        return None
    hits, galleries = [0] * rules.max_rank, 0
    for drawn in product(*images.values()):
        match = drawn[list(images).index(pid)]
        rank = 1 + sum((distances[q, j], j) < (distances[q, match], match) for j in drawn)
        galleries += 1
        for k in range(rank, rules.max_rank + 1):
            hits[k - 1] += 1
    return [Fraction(count, galleries) for count in hits]


def literal_curve(distances, query, gallery, rules, probe):
    curves = {q: literal_chances(q, distances, query, gallery, rules) for q in range(len(query))}
    zeros = [Fraction(0)] * rules.max_rank
    asked = {q: curve or zeros for q, curve in curves.items() if curve or rules.matchless == "zero"}
    voices: dict[object, list[list[Fraction]]] = {}
    for q, curve in asked.items():
        voices.setdefault(q if probe == "every" else query.pids[q], []).append(curve)
    means = [[sum(column) / len(group) for column in zip(*group, strict=True)] for group in voices.values()]
    return [100 * float(sum(column) / len(means)) for column in zip(*means, strict=True)]


@st.composite
def problems(draw):
    """Few images, so that all galleries can be listed; ties, junk, distractors, matchless queries."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    queries, images = draw(st.integers(1, 5)), draw(st.integers(1, 11))
    distances = rng.integers(0, draw(st.sampled_from([3, 1000])), (queries, images)).astype("f4")
    query = Labels(rng.integers(1, 4, queries), rng.integers(1, 3, queries))
    gallery = Labels(rng.integers(-1, 5, images), rng.integers(1, 3, images))
    rules = replace(
        RULES,
        same_camera=draw(st.sampled_from(["identity", "all"])),
        matchless=draw(st.sampled_from(["drop", "zero"])),
        max_rank=draw(st.sampled_from([1, 3, 20])),
    )
    return distances, query, gallery, rules, draw(st.sampled_from(["every", "drawn"]))


def has_match(problem) -> bool:
    distances, query, gallery, rules, _ = problem
    return any(literal_chances(q, distances, query, gallery, rules) for q in range(len(query)))


@given(problems().filter(has_match))
@settings(max_examples=300, deadline=None)
def test_the_expectation_is_the_mean_over_all_galleries(problem):
    np.testing.assert_allclose(
        scores(*problem).cmc / 100, np.divide(literal_curve(*problem), 100), atol=1e-12
    )


@given(problems().filter(has_match))
@settings(max_examples=200, deadline=None)
def test_ties_are_bounded_by_placing_them_behind_and_before(problem):
    distances, query, gallery, rules, probe = problem
    got = scores(distances, query, gallery, rules, probe)
    # Half a level before all matches, or behind: distances are whole numbers.
    is_match = gallery.pids == query.pids[:, None]
    worst = literal_curve(distances + 0.5 * is_match, query, gallery, rules, probe)
    best = literal_curve(distances - 0.5 * is_match, query, gallery, rules, probe)

    for k, key in ((1, "rank1"), (5, "rank5")):
        if key in got.metrics:
            low, high = got.bounds.get(key, (got.metrics[key], got.metrics[key]))
            assert (low, high) == pytest.approx((worst[k - 1], best[k - 1]), abs=1e-9)


def test_a_worked_example():
    """Query 1/camera 1. Matches at 0.3 and 0.6; identity 2 at 0.2 and 0.5; identity 3 at 0.4.

    Match 0.3 is drawn with 1/2: 2 is nearer with 1/2, 3 never: rank 1 with 1/2, rank <= 2 with 1.
    Match 0.6 is drawn with 1/2: 2 and 3 are nearer for sure: rank 3.
    So rank-1 is 1/4, rank-2 is 1/2, rank-3 is 1.
    """
    query = Labels(np.array([1]), np.array([1]))
    gallery = Labels(np.array([1, 1, 2, 2, 3]), np.array([2, 2, 2, 2, 2]))

    curve = scores(np.array([[0.3, 0.6, 0.2, 0.5, 0.4]]), query, gallery).cmc

    assert curve[:4] == pytest.approx([25, 50, 100, 100])


def test_one_camera_rule_keeps_what_the_other_leaves_out():
    """Identity 2 is seen by the query's own camera only, nearest of all.

    Leaving out the whole camera (open-reid) the match is first; leaving out the own identity only
    (torchreid) it never is.
    """
    query = Labels(np.array([1]), np.array([1]))
    gallery = Labels(np.array([1, 2]), np.array([2, 1]))
    distances = np.array([[0.5, 0.1]])

    assert scores(distances, query, gallery, replace(RULES, same_camera="all")).metrics["rank1"] == 100
    assert scores(distances, query, gallery, replace(RULES, same_camera="identity")).metrics["rank1"] == 0


def test_an_identity_with_a_drawn_probe_has_one_voice():
    """Identity 1 has three queries that find nothing first, identity 2 one that does."""
    query = Labels(np.array([1, 1, 1, 2]), np.ones(4, np.int64))
    gallery = Labels(np.array([1, 2]), np.array([2, 2]))
    distances = np.array([[2, 1], [2, 1], [2, 1], [2, 1]], float)

    assert scores(distances, query, gallery, probe="every").metrics["rank1"] == 25
    assert scores(distances, query, gallery, probe="drawn").metrics["rank1"] == 50


def random_problem(queries=60, identities=20, images=200, seed=0):
    rng = np.random.default_rng(seed)
    query = Labels(rng.integers(1, identities, queries), rng.integers(1, 3, queries))
    gallery = Labels(rng.integers(1, identities, images), rng.integers(1, 3, images))
    distances = rng.random((queries, images)) + 0.8 * (gallery.pids != query.pids[:, None])
    return distances, query, gallery


@pytest.mark.parametrize("probe", ["every", "drawn"])
@pytest.mark.parametrize("same_camera", ["identity", "all"])
def test_sampling_agrees_with_the_expectation(probe, same_camera):
    got = scores(*random_problem(), replace(RULES, same_camera=same_camera), probe, repeats=400)

    usual = (got.cmc > 1) & (got.cmc < 99)  # rarer events may be in no draw at all
    error = got.sampled.std(0, ddof=1)[usual] / np.sqrt(400)
    assert usual.sum() >= 3
    assert (np.abs(got.sampled.mean(0) - got.cmc)[usual] <= 4 * error).all()
    assert got.sampled.std(0)[0] > 0  # the draws differ


@given(problems().filter(has_match))
@settings(max_examples=200, deadline=None)
def test_the_counting_image_of_the_lowest_lot_is_drawn(problem):
    distances, query, gallery, rules, _ = problem
    for repeat, curve in enumerate(scores(distances, query, gallery, rules).sampled):
        lot = lots(gallery.pids, *NAMES, repeat, "gallery")
        ranks = []
        for q in range(len(query)):
            images = counting_by_identity(q, query, gallery, rules)
            drawn = {identity: min(those, key=lambda j: lot[j]) for identity, those in images.items()}
            match = drawn.get(int(query.pids[q]))
            if match is not None:
                ranks.append(
                    1 + sum((distances[q, j], j) < (distances[q, match], match) for j in drawn.values())
                )
            elif rules.matchless == "zero":
                ranks.append(np.inf)
        assert curve == pytest.approx(
            [100 * np.mean(np.array(ranks) <= k + 1) for k in range(rules.max_rank)]
        )


def test_sampled_metrics_are_mean_and_deviation_over_repeats():
    got = scores(*random_problem(), repeats=5)

    assert got.metrics["rank1_sampled"] == pytest.approx(got.sampled[:, 0].mean())
    assert got.metrics["rank1_sampled_std"] == pytest.approx(got.sampled[:, 0].std(ddof=1))


def test_a_single_draw_has_no_deviation():
    assert "rank1_sampled_std" not in scores(*random_problem(), repeats=1).metrics


def test_all_queries_of_a_repeat_see_one_gallery():
    """Where the same images count, all queries at one point find one and the same rank."""
    _, _, gallery = random_problem()
    query = Labels(np.full(8, 1), np.full(8, 9))
    distances = np.tile(np.random.default_rng(1).random(200), (8, 1))

    for curve in scores(distances, query, gallery, repeats=20).sampled:
        assert set(curve) <= {0, 100}


def test_blocks_of_queries_change_no_draw():
    distances, query, gallery = random_problem()

    whole, blocks = (scores(distances, query, gallery, rows=rows) for rows in (None, 7))

    np.testing.assert_array_equal(blocks.sampled, whole.sampled)
    np.testing.assert_array_equal(blocks.cmc, whole.cmc)


def test_order_of_identities_in_the_gallery_changes_no_draw():
    """Images of an identity keep their order among themselves."""
    distances, query, gallery = random_problem()
    order = np.argsort(-gallery.pids, kind="stable")
    moved = Labels(gallery.pids[order], gallery.camids[order])

    got = scores(distances[:, order], query, moved)

    np.testing.assert_array_equal(got.sampled, scores(distances, query, gallery).sampled)


def test_torch_distances_of_other_types():
    distances, query, gallery = random_problem()
    tensor = torch.from_numpy(distances).half()

    got = scores(tensor, query, gallery)

    np.testing.assert_array_equal(got.cmc, scores(tensor.float().numpy(), query, gallery).cmc)


def test_lots_are_pinned():
    """A change here would silently change every sampled number."""
    got = lots(np.array([7, 3, 7]), "cuhk03-labeled", "0", 0, 0, "gallery")

    assert got.tolist() == [1728149672021944155, 12217663497994018437, 94241963536363205]


def test_lots_are_uniform_and_without_correlation():
    numbers = np.concatenate([lots(np.repeat(np.arange(100), 5), "x", repeat) for repeat in range(100)])
    unit = numbers / 2**64

    assert unit.mean() == pytest.approx(0.5, abs=4 * np.sqrt(1 / 12 / len(unit)))
    assert abs(np.corrcoef(unit[:-1], unit[1:])[0, 1]) < 4 / np.sqrt(len(unit))
    assert len(np.unique(numbers)) == len(numbers)
