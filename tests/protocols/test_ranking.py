"""Ranks against a literal per-query sort."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.base import Rules
from protocols.ranking import BLOCK_BYTES, Labels, Ranks, counted, rank_matches

MARKET = Rules(headline_ap="step", junk_pids=(-1,), distractor_pids=(0,))


def literal_ranks(distances, query, gallery, rules) -> Ranks:
    """Sort the gallery of each query and read the ranks off, image by image."""
    ends, found, rank, best, worst = [], [], [], [], []
    for q in range(len(query)):
        ranked = literal_list(distances, q, query, gallery, rules)
        is_match = [
            gallery.pids[j] == query.pids[q] and gallery.pids[j] not in rules.distractor_pids for j in ranked
        ]
        for position, j in enumerate(ranked):
            if not is_match[position]:
                continue
            found.append(j)
            rank.append(position + 1)
            others_nearer = others_tied = 0
            for other_position, other in enumerate(ranked):
                if not is_match[other_position]:
                    others_nearer += distances[q, other] < distances[q, j]
                    others_tied += distances[q, other] == distances[q, j]
            matches_before = sum(is_match[:position])
            best.append(1 + others_nearer + matches_before)
            worst.append(1 + others_nearer + others_tied + matches_before)
        ends.append(len(found))
    return Ranks(*(np.array(values, np.int64) for values in (ends, found, rank, best, worst)))


def literal_list(distances, q, query, gallery, rules) -> list[int]:
    """The gallery as one query sees it: sorted, without what does not count."""
    ranked = []
    for j in sorted(range(len(gallery)), key=lambda j: (distances[q, j], j)):
        own_camera = gallery.camids[j] == query.camids[q]
        own = own_camera and (rules.same_camera == "all" or gallery.pids[j] == query.pids[q])
        if gallery.pids[j] not in rules.junk_pids and not own:
            ranked.append(j)
    return ranked


def assert_same(got: Ranks, expected: Ranks) -> None:
    for field in ("ends", "gallery", "rank", "best", "worst"):
        np.testing.assert_array_equal(getattr(got, field), getattr(expected, field), err_msg=field)


@st.composite
def problems(draw):
    """Small problems with few distances (ties), identities and cameras, junk and distractors."""
    queries, images = draw(st.integers(1, 6)), draw(st.integers(1, 24))
    seed = draw(st.integers(0, 2**32 - 1))
    levels = draw(st.sampled_from([2, 4, 1000]))
    rng = np.random.default_rng(seed)
    distances = rng.integers(0, levels, (queries, images)).astype(draw(st.sampled_from(["f2", "f4", "f8"])))
    distances[rng.random(distances.shape) < draw(st.sampled_from([0, 0.1]))] = np.inf
    cameras = draw(st.integers(1, 3))
    query = Labels(rng.integers(-1, 5, queries), rng.integers(1, cameras + 1, queries))
    gallery = Labels(rng.integers(-1, 5, images), rng.integers(1, cameras + 1, images))
    rules = replace(MARKET, same_camera=draw(st.sampled_from(["identity", "all"])))
    return distances, query, gallery, rules


@given(problems())
@settings(max_examples=2000, deadline=None)
def test_ranks_equal_a_literal_sort(problem):
    distances, query, gallery, rules = problem

    got = rank_matches(lambda a, b: distances[a:b], query, gallery, rules)

    assert_same(got, literal_ranks(distances, query, gallery, rules))


@given(problems())
def test_images_that_count_are_those_of_the_list(problem):
    distances, query, gallery, rules = problem

    found = counted(query, gallery, rules)

    assert found.shape == distances.shape
    for q, row in enumerate(found):
        assert np.flatnonzero(row).tolist() == sorted(literal_list(distances, q, query, gallery, rules))


@pytest.mark.parametrize("dtype", ["uint8", "int64"])
def test_integer_distances(dtype):
    distances, query, gallery = random_problem(23, 50)
    whole = (100 * distances).astype(dtype)

    got = rank_matches(lambda a, b: whole[a:b], query, gallery, MARKET)

    assert_same(got, literal_ranks(whole, query, gallery, MARKET))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int32])
def test_torch_distances_of_other_types(dtype):
    distances, query, gallery = random_problem(23, 50)
    tensor = torch.from_numpy(100 * distances).to(dtype)

    got = rank_matches(lambda a, b: tensor[a:b], query, gallery, MARKET)

    assert_same(got, literal_ranks(tensor.double().numpy(), query, gallery, MARKET))


def random_problem(queries, images, seed=0):
    rng = np.random.default_rng(seed)
    query = Labels(rng.integers(1, 40, queries), rng.integers(1, 7, queries))
    gallery = Labels(rng.integers(-1, 40, images), rng.integers(1, 7, images))
    return rng.random((queries, images), dtype=np.float32), query, gallery


def test_blocks_change_nothing(monkeypatch):
    distances, query, gallery = random_problem(23, 50)
    whole = rank_matches(lambda a, b: distances[a:b], query, gallery, MARKET)
    asked = []

    def block(start, stop):
        asked.append((start, stop))
        return distances[start:stop]

    monkeypatch.setattr("protocols.ranking.BLOCK_BYTES", 4 * 50 * 5)
    assert_same(rank_matches(block, query, gallery, MARKET), whole)
    assert asked == [(0, 5), (5, 10), (10, 15), (15, 20), (20, 23)]


def test_torch_distances_on_the_cpu():
    distances, query, gallery = random_problem(23, 50)
    tensor = torch.from_numpy(distances)

    assert_same(
        rank_matches(lambda a, b: tensor[a:b], query, gallery, MARKET),
        rank_matches(lambda a, b: distances[a:b], query, gallery, MARKET),
    )


@given(problems())
@settings(max_examples=200, deadline=None)
def test_counting_on_the_gpu_equals_the_cpu(problem):
    """The GPU's way of counting, run on whatever device there is."""
    from protocols.ranking import Block, true_matches

    distances, query, gallery, rules = problem
    ends, matches = true_matches(query, gallery, rules)
    usable = ~np.isin(gallery.pids, rules.junk_pids)
    block = Block(query, gallery, usable, rules.same_camera == "all", ends, matches)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    on_gpu = block._count_torch(torch.from_numpy(distances.astype("f4")).to(device))

    for got, expected in zip(on_gpu, block._count_numpy(distances.astype("f4")), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_distance_that_is_not_a_number_names_its_query():
    distances, query, gallery = random_problem(8, 20)
    distances[5, 3] = np.nan

    with pytest.raises(ValueError, match="query 5 hold values that are not a number"):
        rank_matches(lambda a, b: distances[a:b], query, gallery, MARKET)


def test_a_block_of_another_shape_is_refused():
    distances, query, gallery = random_problem(8, 20)

    with pytest.raises(ValueError, match=r"has the shape \(8, 19\), expected \(8, 20\)"):
        rank_matches(lambda a, b: distances[a:b, 1:], query, gallery, MARKET)


@pytest.mark.slow
@pytest.mark.parametrize(("queries", "images"), [(11_659, 82_161), (337, 515_913)])
def test_peak_memory_at_msmt17_and_500k_scale(queries, images):
    """Distances made block by block; +500k has a tenth of its queries, they cost no memory."""
    rng = np.random.default_rng(0)
    query = Labels(rng.integers(1, 3000, queries), rng.integers(1, 16, queries))
    gallery = Labels(rng.integers(0, 3000, images), rng.integers(1, 16, images))
    pool = rng.random(images + 1000, dtype=np.float32)
    rows = np.lib.stride_tricks.sliding_window_view(pool, images)

    tracemalloc.start()
    ranks = rank_matches(lambda a, b: rows[np.arange(a, b) % 1000], query, gallery, MARKET)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert len(ranks) == queries
    assert BLOCK_BYTES <= peak < 500e6  # at least one block was seen, so the figure means something
