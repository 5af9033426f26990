"""Sparse re-ranking against the dense Python form at 4,096 images, and against the product at Market scale.

The ratios to look at: ``dense`` / ``sparse`` (at least 10) and ``re-ranking`` / ``product`` (at most 3).
"""

import numpy as np
import pytest
import torch

from protocols.reranking import rerank
from tests.protocols.test_reranking import literal_reranking, squared_euclidean

WIDTH = 512
BLOCK = 2_000
"""About the queries that ``rank_matches`` asks for at once."""


def clustered(images, identities):
    """Features of length 1 around one centre for each identity."""
    torch.manual_seed(0)
    centres = torch.randn(identities, WIDTH)
    features = centres[torch.randint(0, identities, (images,))] + torch.randn(images, WIDTH)
    return torch.nn.functional.normalize(features)


def reranked_distances(query, gallery):
    reranked = rerank(query, gallery)
    return [reranked(start, min(start + BLOCK, len(query))) for start in range(0, len(query), BLOCK)]


def products(features):
    """Of all pairs, a block of rows at a time."""
    for start in range(0, len(features), BLOCK):
        features[start : start + BLOCK] @ features.T


@pytest.mark.benchmark(group="re-ranking 4,096 images")
@pytest.mark.parametrize("how", ["sparse", "dense"])
def test_against_the_dense_form(benchmark, how):
    queries, images = 700, 4_096
    features = clustered(images, 160)
    benchmark.extra_info.update(queries=queries, gallery=images - queries, width=WIDTH)
    if how == "dense":
        dense = features.numpy()
        benchmark.pedantic(lambda: literal_reranking(squared_euclidean(dense), queries), rounds=1)
    else:
        (got,) = benchmark.pedantic(
            reranked_distances, (features[:queries], features[queries:]), rounds=5, warmup_rounds=1
        )
        expected = literal_reranking(squared_euclidean(features.numpy()), queries)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


@pytest.mark.benchmark(group="re-ranking Market-1501")
@pytest.mark.parametrize("how", ["re-ranking", "product"])
def test_against_the_product(benchmark, how):
    queries, images = 3_368, 3_368 + 15_913
    features = clustered(images, 751)
    benchmark.extra_info.update(queries=queries, gallery=images - queries, width=WIDTH)
    if how == "product":
        benchmark.pedantic(products, (features,), rounds=2, warmup_rounds=1)
    else:
        benchmark.pedantic(
            reranked_distances, (features[:queries], features[queries:]), rounds=2, warmup_rounds=1
        )
