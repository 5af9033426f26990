"""Evaluation from features at scale: a mapped gallery of +500k's size, and single-shot CMC.

The ratios to look at: ``evaluate`` / ``product`` over one block of queries (at most 2, as ``evaluate``
also checks every value and ranks), and what 10 draws add to the expectation.
"""

from dataclasses import replace

import numpy as np
import pytest

from protocols import PROTOCOLS, SingleShot, evaluate
from protocols.ranking import Labels
from protocols.single_shot import SingleShotRanking

MARKET = PROTOCOLS.get("market1501")()
QUERIES, IMAGES, WIDTH = 256, 515_913, 512


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    """Features of 515,913 images in a file, and labels of which 15,913 are Market-like."""
    path = tmp_path_factory.mktemp("mapped") / "gallery.npy"
    rng = np.random.default_rng(0)
    gallery = np.lib.format.open_memmap(path, "w+", "f4", (IMAGES, WIDTH))
    for start in range(0, IMAGES, 20_000):
        part = gallery[start : start + 20_000]
        part[:] = rng.standard_normal(part.shape, "f4")
    gallery.flush()
    pids = np.zeros(IMAGES, np.int64)
    pids[:15_913] = rng.integers(0, 751, 15_913)
    return {
        "query_features": rng.standard_normal((QUERIES, WIDTH), "f4"),
        "query_pids": rng.integers(1, 751, QUERIES),
        "query_camids": rng.integers(1, 7, QUERIES),
        "gallery_features": np.load(path, mmap_mode="r"),
        "gallery_pids": pids,
        "gallery_camids": rng.integers(1, 7, IMAGES),
    }


@pytest.mark.benchmark(group="500k")
@pytest.mark.parametrize("how", ["evaluate", "product"])
def test_a_mapped_gallery(benchmark, mapped, how):
    benchmark.extra_info.update(queries=QUERIES, gallery=IMAGES, width=WIDTH)
    if how == "evaluate":
        benchmark.pedantic(evaluate, ("market1501",), mapped, rounds=2, warmup_rounds=1)
    else:
        query, gallery = mapped["query_features"], mapped["gallery_features"]
        benchmark.pedantic(lambda: query @ gallery.T, rounds=2, warmup_rounds=1)


@pytest.mark.benchmark(group="single shot")
@pytest.mark.parametrize("repeats", [1, 11], ids=["expectation", "and 10 draws"])
@pytest.mark.parametrize(("queries", "images", "identities"), [(970, 970, 100), (3_368, 15_913, 750)])
def test_single_shot(benchmark, queries, images, identities, repeats):
    """CUHK03's size, and Market-1501's, where nobody draws galleries."""
    rng = np.random.default_rng(0)
    query = Labels(rng.integers(0, identities, queries), rng.integers(1, 7, queries))
    gallery = Labels(rng.integers(0, identities, images), rng.integers(1, 7, images))
    rules = replace(MARKET.rules, junk_pids=(), distractor_pids=())
    distances = rng.random((queries, images), "f4") + 0.5 * (gallery.pids != query.pids[:, None])

    def rank():
        ranking = SingleShotRanking(query, gallery, rules, SingleShot("every", repeats), ("benchmark",))
        ranking.add(0, distances)
        return ranking.scores()

    benchmark.pedantic(rank, rounds=2, warmup_rounds=1)
