"""Sparse re-ranking against the dense Python form, written out literally."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.base import Rules
from protocols.ranking import Labels, rank_matches
from protocols.reranking import _nearest, _nearest_torch, rerank, rerank_distances


def squared_euclidean(features):
    squares = np.sum(features * features, axis=1)
    return np.maximum(squares[:, None] + squares - 2 * (features @ features.T), 0)


def literal_reranking(distances, queries, k1=20, k2=6, lambda_=0.3):
    """(Q, G) from the (N, N) float32 distances that enter, with dense matrices; ties by index."""
    distances = (distances / distances.max(axis=0)).T
    order = np.argsort(distances, axis=1, kind="stable")
    encodings = np.zeros_like(distances)
    for i in range(len(distances)):
        chosen = literal_expanded_set(order, i, k1)
        weights = np.exp(-distances[i, chosen])
        encodings[i, chosen] = weights / np.sum(weights)
    if k2 != 1:
        encodings = np.stack([encodings[order[i, :k2]].mean(axis=0) for i in range(len(distances))])
    owners = [np.flatnonzero(column) for column in encodings.T]
    jaccard = np.empty((queries, len(distances)), np.float32)
    for i in range(queries):
        shared = np.zeros(len(distances), np.float32)
        for j in np.flatnonzero(encodings[i]):
            shared[owners[j]] += np.minimum(encodings[i, j], encodings[owners[j], j])
        jaccard[i] = 1 - shared / (2 - shared)
    return (jaccard * (1 - lambda_) + distances[:queries] * lambda_)[:, queries:]


def literal_expanded_set(order, i, k1):
    core = literal_reciprocal(order, i, k1 + 1)
    whole = [core]
    for j in core:
        candidates = literal_reciprocal(order, j, int(np.around(k1 / 2)) + 1)
        if len(np.intersect1d(candidates, core)) > 2 / 3 * len(candidates):
            whole.append(candidates)
    return np.unique(np.concatenate(whole))


def literal_reciprocal(order, i, count):
    nearest = order[i, :count]
    return nearest[(order[nearest, :count] == i).any(axis=1)]


def clustered(rng, images, clusters, width, spread):
    """Features around a few centres; small whole numbers, so that all products are exact."""
    centres = rng.integers(-20, 21, (clusters, width))
    noise = rng.integers(-spread, spread + 1, (images, width))
    return (centres[rng.integers(0, clusters, images)] + noise).astype(np.float32)


@st.composite
def problems(draw):
    """Features in clusters, some of them equal; the number of queries; k1, k2 and lambda."""
    images = draw(st.one_of(st.integers(2, 12), st.integers(13, 90)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    clusters, spread = draw(st.integers(1, 8)), draw(st.sampled_from([0, 1, 6]))
    features = clustered(rng, images, clusters, draw(st.sampled_from([1, 3, 16])), spread)
    features[0] += 50  # never all the same
    parameters = {
        "k1": draw(st.sampled_from([1, 2, 3, 5, 6, 10, 20, 100])),
        "k2": draw(st.sampled_from([1, 2, 3, 6, 100])),
        "lambda_": draw(st.sampled_from([0.0, 0.3, 0.55, 1.0])),
    }
    return features, draw(st.one_of(st.just(1), st.integers(1, images - 1))), parameters


def assert_same(got, expected):
    """Equal distances and, without any tolerance, equal ranks."""
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(
        np.argsort(got, axis=1, kind="stable"), np.argsort(expected, axis=1, kind="stable")
    )


@given(problems())
@settings(max_examples=200, deadline=None)
def test_features_equal_the_dense_form(problem):
    """Whole numbers, whose products are exact: rounding cannot tell the two apart."""
    features, queries, parameters = problem

    got = rerank(features[:queries], features[queries:], **parameters)(0, queries)

    assert_same(got, literal_reranking(squared_euclidean(features), queries, **parameters))


@given(problems(), st.sampled_from([np.float32, np.float64]), st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None)
def test_given_distances_equal_the_dense_form(problem, dtype, seed):
    """To the bit: distances of any value, rounded to float32 where they enter."""
    features, queries, parameters = problem
    scale = np.random.default_rng(seed).random(features.shape[1]) + 0.01
    distances = squared_euclidean((features * scale).astype(dtype))
    distances = (distances + distances.T) / 2

    reranked = rerank_distances(lambda a, b: distances[a:b], queries, len(features), **parameters)

    np.testing.assert_array_equal(
        reranked(0, queries), literal_reranking(distances.astype(np.float32), queries, **parameters)
    )


def clustered_problem(images=600, width=32, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((images // 12, width))
    features = centres[rng.integers(0, len(centres), images)] + 0.7 * rng.standard_normal((images, width))
    return features.astype(np.float32)


def test_sets_are_expanded_and_cut():
    """The random problems above would prove little if no set were expanded, or every one."""
    features = clustered_problem()
    order = np.argsort(squared_euclidean(features), axis=1, kind="stable")
    sizes = [
        (len(literal_reciprocal(order, i, 21)), len(literal_expanded_set(order, i, 20))) for i in range(600)
    ]

    grown = [expanded > core for core, expanded in sizes]
    assert 0.1 < np.mean(grown) < 0.95
    assert max(expanded for _, expanded in sizes) > 21


def test_features_of_any_value():
    """Products in another order of summation; their rounding may swap near ties."""
    features = clustered_problem()

    got = rerank(features[:150], features[150:])(0, 150)

    np.testing.assert_allclose(got, literal_reranking(squared_euclidean(features), 150), rtol=0, atol=1e-5)


def test_a_row_is_divided_by_its_largest_before_it_is_ordered():
    """Distances one bit apart may be equal after it; then the index decides."""
    steps = np.random.default_rng(0).integers(0, 60, (40, 40)) * np.finfo(np.float32).eps
    distances = (1.9 + np.maximum(steps, steps.T)).astype(np.float32) * (1 - np.eye(40, dtype=np.float32))
    distances[39, :39] = distances[:39, 39] = 3.7
    divided = distances / distances.max(axis=1, keepdims=True)
    orders = [np.argsort(array, axis=1, kind="stable")[:, :7] for array in (distances, divided)]
    assert (orders[0] != orders[1]).any()

    reranked = rerank_distances(lambda a, b: distances[a:b], 10, 40, k1=6, k2=3)

    np.testing.assert_array_equal(reranked(0, 10), literal_reranking(distances, 10, k1=6, k2=3))


def test_distances_below_zero():
    """A cosine distance may round to -0.0 or a little less."""
    distances = squared_euclidean(clustered_problem(120)) / 100
    distances -= 1e-6 * (distances < 0.3)
    distances[distances < 0.1] *= -0.0

    reranked = rerank_distances(lambda a, b: distances[a:b], 30, 120)

    np.testing.assert_array_equal(reranked(0, 30), literal_reranking(distances, 30))


def test_blocks_change_nothing(monkeypatch):
    distances = squared_euclidean(clustered_problem(120))
    asked = []

    def rows(start, stop):
        asked.append((start, stop))
        return distances[start:stop]

    whole = rerank_distances(rows, 30, 120)(0, 30)
    monkeypatch.setattr("protocols.reranking.BLOCK_BYTES", 4 * 120 * 50)
    asked.clear()
    reranked = rerank_distances(rows, 30, 120)

    assert asked == 2 * [(0, 50), (50, 100), (100, 120)]
    np.testing.assert_array_equal(np.concatenate([reranked(0, 7), reranked(7, 8), reranked(8, 30)]), whole)


def test_given_distances_are_left_alone():
    distances = squared_euclidean(clustered_problem(120))
    before = distances.copy()

    rerank_distances(lambda a, b: distances[a:b], 30, 120)(0, 30)

    np.testing.assert_array_equal(distances, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_torch_features(dtype, device):
    features = clustered(np.random.default_rng(0), 200, 15, 24, 6)
    tensor = torch.from_numpy(features).to(device, dtype).requires_grad_()

    got = rerank(tensor[:50], tensor[50:])(0, 50)

    np.testing.assert_array_equal(got, rerank(features[:50], features[50:])(0, 50))


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("autocast", [True, False])
def test_products_keep_their_bits_whatever_precision_is_set(kind, autocast):
    """While neighbours are sought and while distances are asked for."""
    features = kind(clustered_problem(200) + np.float32(2))
    expected = rerank(features[:50], features[50:])(0, 50)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            got = rerank(features[:50], features[50:])(0, 50)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")

    np.testing.assert_array_equal(got, expected)


def test_a_common_offset_changes_nothing():
    features = clustered_problem(200).astype("f8")

    got = rerank(features[:50] + 1000, features[50:] + 1000)(0, 50)

    np.testing.assert_allclose(got, rerank(features[:50], features[50:])(0, 50), rtol=0, atol=1e-5)


def test_torch_distances():
    distances = squared_euclidean(clustered_problem(120))
    tensor = torch.from_numpy(distances)

    got = rerank_distances(lambda a, b: tensor[a:b], 30, 120)(0, 30)

    np.testing.assert_array_equal(got, rerank_distances(lambda a, b: distances[a:b], 30, 120)(0, 30))


@given(problems(), st.integers(1, 30))
@settings(max_examples=200, deadline=None)
def test_neighbours_on_the_gpu_equal_the_cpu(problem, k):
    """The GPU's way of selecting, run on whatever device there is."""
    features, _, _ = problem
    distances = squared_euclidean(features) - 3  # some below zero
    device = "cuda" if torch.cuda.is_available() else "cpu"

    on_gpu = _nearest_torch(torch.from_numpy(distances).to(device), min(k, len(features)))

    for got, expected in zip(on_gpu, _nearest(distances, min(k, len(features))), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_as_distances_of_rank_matches():
    features = clustered_problem()
    rng = np.random.default_rng(1)
    query, gallery = (Labels(rng.integers(1, 9, n), rng.integers(1, 5, n)) for n in (150, 450))
    rules = Rules(headline_ap="step")
    dense = rerank(features[:150], features[150:])(0, 150)

    got = rank_matches(rerank(features[:150], features[150:]), query, gallery, rules)

    np.testing.assert_array_equal(got.rank, rank_matches(lambda a, b: dense[a:b], query, gallery, rules).rank)


@pytest.mark.parametrize(("start", "stop"), [(0, 31), (-1, 2), (3, 2)])
def test_queries_that_are_not_there(start, stop):
    features = clustered_problem(120)

    with pytest.raises(ValueError, match="there are 30"):
        rerank(features[:30], features[30:])(start, stop)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k1": 0}, "k1 = 0, expected at least 1"),
        ({"k2": 0}, "k2 = 0, expected at least 1"),
        ({"lambda_": 1.5}, "lambda_ = 1.5, expected a number from 0 to 1"),
        ({"lambda_": float("nan")}, "lambda_ = nan, expected"),
    ],
)
def test_parameters_out_of_range(change, message):
    features = clustered_problem(120)

    with pytest.raises(ValueError, match=message):
        rerank(features[:30], features[30:], **change)


@pytest.mark.parametrize(
    ("query", "gallery", "message"),
    [
        ((3, 8), (9, 7), "gallery_features: found 7 columns, but query_features has 8"),
        ((24,), (9, 8), r"query_features: found the shape \(24,\), expected \(N, d\)"),
        ((0, 8), (9, 8), r"query_features: found the shape \(0, 8\), expected at least one row"),
        ((3, 8), (0, 8), r"gallery_features: found the shape \(0, 8\), expected at least one row"),
        ((3, 8), (9, 8), "the largest distance of query 0 is 0.0, expected a positive number"),
    ],
)
def test_features_of_the_wrong_shape(query, gallery, message):
    with pytest.raises(ValueError, match=message):
        rerank(np.ones(query, np.float32), np.ones(gallery, np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("image", "name"), [(4, "query"), (34, "gallery")])
def test_features_that_are_not_finite(value, image, name):
    features = clustered_problem(120)
    features[image, 5] = value

    with pytest.raises(ValueError, match=f"{name}_features: row 4 holds values that are not finite"):
        rerank(features[:30], features[30:])


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf], ids=["nan", "-nan", "inf", "-inf"])
@pytest.mark.parametrize(("image", "name"), [(4, "query 4"), (34, "gallery image 4")])
def test_distances_that_are_not_finite(value, image, name):
    distances = squared_euclidean(clustered_problem(120))
    distances[image, 77] = value

    with pytest.raises(ValueError, match=f"the distances of {name} hold values that are not finite"):
        rerank_distances(lambda a, b: distances[a:b], 30, 120)


def test_a_block_of_another_shape_is_refused():
    distances = squared_euclidean(clustered_problem(120))

    with pytest.raises(ValueError, match=r"has the shape \(120, 119\), expected \(120, 120\)"):
        rerank_distances(lambda a, b: distances[a:b, 1:], 30, 120)


PEAK = """
import sys
import numpy as np
from protocols.reranking import rerank
from tests.protocols.test_reranking import clustered_problem, literal_reranking, squared_euclidean

def peak_of(function):
    open("/proc/self/clear_refs", "w").write("5")  # forget the peak so far
    before = peak()
    function()
    print(peak() - before)

def peak():
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024

def ours(features, queries):
    reranked = rerank(features[:queries], features[queries:])
    for start in range(0, queries, 2000):
        reranked(start, min(start + 2000, queries))

queries, images = int(sys.argv[1]), int(sys.argv[2])
features = clustered_problem(images)
ours(clustered_problem(100), 30)  # compiles
peak_of(lambda: ours(features, queries))
if "literal" in sys.argv:
    peak_of(lambda: literal_reranking(squared_euclidean(features), queries))
"""


def peaks(*arguments):
    """Memory in bytes above what was held before; of a process of its own, as most is not Python's."""
    command = [sys.executable, "-c", PEAK, *map(str, arguments)]
    return [int(line) for line in subprocess.run(command, check=True, capture_output=True).stdout.split()]


needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")


@needs_proc
@pytest.mark.slow
def test_peak_memory_is_a_fifth_of_the_dense_form_s():
    ours, literal = peaks(800, 4096, "literal")

    assert 10e6 < ours < literal / 5  # a figure near nothing would mean that nothing was measured


@needs_proc
@pytest.mark.slow
def test_peak_memory_at_market1501_scale():
    """The width of the features costs no memory beyond them."""
    (ours,) = peaks(3_368, 3_368 + 15_913)

    assert 100e6 < ours < 1.5e9
