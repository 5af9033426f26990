"""Ranking at Market-1501 scale against a loop of argsorts, and distances with ranking against the product.

The ratios to look at: ``argsort`` / ``ours`` (at least 25) and ``distances + ranking`` / ``product`` (at
most 1.3).
"""

import numpy as np
import pytest
import torch

from methods.base import squared_euclidean
from protocols import PROTOCOLS
from protocols.ranking import Labels, rank_matches

RULES = PROTOCOLS.get("market1501")().rules
QUERIES, IMAGES, WIDTH = 3_368, 15_913, 2_048


@pytest.fixture(scope="module")
def labels():
    rng = np.random.default_rng(0)
    query = Labels(rng.integers(1, 751, QUERIES), rng.integers(1, 7, QUERIES))
    pids = np.where(rng.random(IMAGES) < 0.176, 0, rng.integers(1, 751, IMAGES))
    return query, Labels(pids, rng.integers(1, 7, IMAGES))


@pytest.fixture(scope="module")
def distances():
    return np.random.default_rng(1).random((QUERIES, IMAGES), dtype=np.float32)


@pytest.fixture(scope="module")
def features():
    torch.manual_seed(0)
    return torch.randn(QUERIES, WIDTH), torch.randn(IMAGES, WIDTH)


def argsort_loop(distances, query, gallery):
    """What most evaluators do: sort the whole gallery for each query, then throw away what is junk."""
    ranks = []
    for q in range(len(query)):
        order = np.argsort(distances[q], kind="stable")
        same = gallery.pids[order] == query.pids[q]
        kept = ~(same & (gallery.camids[order] == query.camids[q]))
        ranks.append(np.flatnonzero(same[kept]) + 1)
    return np.concatenate(ranks)


@pytest.mark.benchmark(group="ranking", min_rounds=3)
@pytest.mark.parametrize("how", ["ours", "argsort"])
def test_ranking(benchmark, distances, labels, how):
    benchmark.extra_info.update(queries=QUERIES, gallery=IMAGES)
    ours = rank_matches(lambda a, b: distances[a:b], *labels, RULES)  # compiles
    if how == "ours":
        benchmark(rank_matches, lambda a, b: distances[a:b], *labels, RULES)
    else:
        ranks = benchmark.pedantic(argsort_loop, (distances, *labels), rounds=1)
        np.testing.assert_array_equal(ranks, ours.rank)


@pytest.mark.benchmark(group="distances", min_rounds=3)
@pytest.mark.parametrize("how", ["distances + ranking", "product"])
def test_distances_and_ranking(benchmark, features, labels, how):
    queries, gallery = features
    benchmark.extra_info.update(queries=QUERIES, gallery=IMAGES, width=WIDTH)
    if how == "product":
        benchmark.pedantic(lambda: queries @ gallery.T, rounds=3, warmup_rounds=1)
    else:
        benchmark.pedantic(
            lambda: rank_matches(lambda a, b: squared_euclidean(queries[a:b], gallery), *labels, RULES),
            rounds=3,
            warmup_rounds=1,
        )
