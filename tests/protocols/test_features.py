"""Streamed distances against a plain product, for every kind of array; and what is refused."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.arrays import InputError
from protocols.feature_distances import FeatureDistances
from protocols.features import chunks, describe_features, describe_pair, drop_pages, is_mapped

KINDS = {
    "float16": lambda x: x.astype("f2"),
    "float32": lambda x: x,
    "float64": lambda x: x.astype("f8"),
    "big-endian": lambda x: x.astype(">f4"),
    "every second row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "columns first": np.asfortranarray,
    "torch float32": torch.from_numpy,
    "torch float16": lambda x: torch.from_numpy(x).half(),
    "torch bfloat16": lambda x: torch.from_numpy(x).bfloat16(),
    "torch with gradients": lambda x: torch.from_numpy(x).requires_grad_(),
}


def whole_numbers(rows, width, seed):
    """Small whole numbers: exact in every type, and so are their products and sums."""
    return np.random.default_rng(seed).integers(1, 8, (rows, width)).astype("f4")


def numpy(block):
    return block.cpu().numpy() if torch.is_tensor(block) else block


@pytest.mark.parametrize("kind", KINDS)
def test_euclidean_distances_of_whole_numbers_are_exact(kind, monkeypatch):
    monkeypatch.setattr("protocols.features.CHUNK_BYTES", 4 * 6 * 10)
    query, gallery = whole_numbers(7, 6, 0), whole_numbers(33, 6, 1)
    features = [describe_features("x", KINDS[kind](rows), "euclidean") for rows in (query, gallery)]

    block = numpy(FeatureDistances(*features, "euclidean")(2, 6))

    squares = ((query[2:6, None] - gallery) ** 2).sum(2) - (query[2:6] ** 2).sum(1)[:, None]
    assert block.dtype == np.float32
    np.testing.assert_array_equal(block, squares)


@pytest.mark.parametrize("kind", KINDS)
def test_cosine_distances_are_scaled_by_the_gallery_alone(kind):
    query, gallery = whole_numbers(7, 6, 0), whole_numbers(33, 6, 1)
    features = [describe_features("x", KINDS[kind](rows), "cosine") for rows in (query, gallery)]

    block = numpy(FeatureDistances(*features, "cosine")(0, 7))

    expected = -query @ (gallery / np.linalg.norm(gallery, axis=1)[:, None]).T
    np.testing.assert_allclose(block, expected, rtol=1e-6)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_chunks_tile_the_rows(rows, width, per_chunk):
    array = whole_numbers(rows, width, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("protocols.features.CHUNK_BYTES", 4 * width * per_chunk)
        parts = [(start, stop, chunk.copy()) for start, stop, chunk in chunks(array)]

    assert [start for start, _, _ in parts] == list(range(0, rows, per_chunk))
    np.testing.assert_array_equal(np.concatenate([chunk for _, _, chunk in parts]), array)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_the_cosine_knows_no_scale(kind):
    """Squares of these values are 0 in float32."""
    query, gallery = whole_numbers(3, 6, 0), whole_numbers(9, 6, 1)

    def block(scale):
        features = [
            describe_features("x", kind(rows), "cosine") for rows in (query, gallery * np.float32(scale))
        ]
        return numpy(FeatureDistances(*features, "cosine")(0, 3))

    np.testing.assert_allclose(block(1e-25), block(1), rtol=1e-5)


def literal_block(query, gallery, metric):
    """In float64, up to a constant and a positive factor of each query."""
    query, gallery = query.astype("f8"), gallery.astype("f8")
    if metric == "euclidean":
        return ((query[:, None] - gallery) ** 2).sum(2)
    return -query @ (gallery / np.linalg.norm(gallery, axis=1)[:, None]).T


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("power", [-100, -60, 60, 110])
def test_powers_of_two_change_no_bit(kind, metric, power):
    """Squares of such values are 0 or infinite in float32."""
    query, gallery = (np.random.default_rng(n).normal(size=(n, 6)).astype("f4") for n in (5, 90))

    def block(factor):
        pair = describe_pair(kind(query * factor), kind(gallery * factor), metric)
        return numpy(FeatureDistances(*pair, metric)(0, 5)).copy()

    found, plain = block(np.float32(2.0) ** power), block(np.float32(1))
    np.testing.assert_array_equal(np.argsort(found, 1), np.argsort(plain, 1))
    mantissas = found / np.float32(2) ** np.round(np.log2(np.abs(found / plain)))
    np.testing.assert_array_equal(mantissas, plain)


def test_rows_of_few_bits_have_a_cosine():
    """Down to the smallest numbers that float32 has."""
    query, gallery = (whole_numbers(n, 6, n) * np.float32(1e-45) for n in (5, 90))

    block = FeatureDistances(*describe_pair(query, gallery, "cosine"), "cosine")(0, 5)

    expected = literal_block(whole_numbers(5, 6, 5), whole_numbers(90, 6, 90), "cosine")
    np.testing.assert_allclose(
        block / np.linalg.norm(block, axis=1)[:, None],
        expected / np.linalg.norm(expected, axis=1)[:, None],
        rtol=1e-5,
    )


@given(st.integers(0, 10**6), st.sampled_from([0, 1, 1000, -30_000]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_common_offset_costs_no_bits_of_euclidean_distances(seed, offset, on_torch):
    rng = np.random.default_rng(seed)
    query, gallery = (rng.normal(offset, 1, (n, 32)).astype("f4") for n in (6, 50))
    kind = torch.from_numpy if on_torch else np.asarray

    block = numpy(
        FeatureDistances(*describe_pair(kind(query), kind(gallery), "euclidean"), "euclidean")(0, 6)
    )

    expected = literal_block(query, gallery, "euclidean")
    constant = (block - expected).mean(1, keepdims=True)
    np.testing.assert_allclose(block - constant, expected, atol=1e-4)


def test_features_near_the_origin_are_multiplied_as_they_are():
    """No copy of a chunk, which a block of queries would pay for again and again."""
    rows = np.random.default_rng(0).normal(1, 1, (50, 8)).astype("f4")

    for features in describe_pair(rows, rows, "euclidean"):
        assert np.shares_memory(features.part(0, 50), rows)


def test_half_precision_is_not_widened_as_a_whole(monkeypatch):
    monkeypatch.setattr("protocols.features.CHUNK_BYTES", 4 * 6 * 10)
    sizes = [chunk.nbytes for _, _, chunk in chunks(np.ones((1000, 6), "f2"))]

    assert max(sizes) == 4 * 6 * 10


def test_products_keep_their_bits_whatever_precision_is_set():
    """And the setting is as it was."""
    torch.set_float32_matmul_precision("medium")
    try:
        features = describe_features("x", torch.ones(3, 4), "cosine")
        FeatureDistances(features, features, "cosine")(0, 3)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


SETTINGS = {
    "torch.backends": torch.backends,
    "torch.backends.cuda.matmul": torch.backends.cuda.matmul,
    "torch.backends.mkldnn.matmul": torch.backends.mkldnn.matmul,
}


@pytest.fixture
def no_setting():
    """As torch starts: nothing is set for a single back end."""

    def reset():
        for each in SETTINGS.values():
            each.fp32_precision = "none"

    reset()
    yield
    reset()


@pytest.mark.usefixtures("no_setting")
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_products_keep_their_bits_under_the_settings_of_single_back_ends(name, device):
    """torch refuses to mix these with its process-wide setting; they are as they were, too."""
    rows = torch.from_numpy(np.random.default_rng(0).normal(size=(64, 256)).astype("f4")).to(device)
    features = describe_features("x", rows, "cosine")
    expected = FeatureDistances(features, features, "cosine")(0, 64).clone()
    SETTINGS[name].fp32_precision = "tf32"
    found = [each.fp32_precision for each in SETTINGS.values()]

    block = FeatureDistances(features, features, "cosine")(0, 64)

    torch.testing.assert_close(block, expected, rtol=0, atol=0)
    assert [each.fp32_precision for each in SETTINGS.values()] == found
    SETTINGS[name].fp32_precision = "none"
    assert {each.fp32_precision for each in SETTINGS.values()} == {"none"}  # what was inherited still is


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: x[0], r"gallery_features: found the shape \(4,\), expected \(N, d\)"),
        (lambda x: x[:, :0], r"found the shape \(9, 0\), expected at least one row and column"),
        (lambda x: x.astype(complex), "found complex128, expected floating-point features"),
        (lambda x: x.astype(object), "found object, expected floating-point features"),
        (lambda x: x.astype(int), "found int64, expected floating-point features"),
        (lambda x: torch.from_numpy(x).int(), "found torch.int32, expected floating-point features"),
        (lambda x: with_value(x, np.nan), "gallery_features: row 5 holds values that are not finite"),
        (lambda x: with_value(x, -np.inf), "5 holds values that are not finite"),
        (lambda x: torch.from_numpy(with_value(x, np.nan)), "row 5 holds values that are not finite"),
        (lambda x: with_value(x.astype("f8"), 1e200), "row 5 holds values that are not finite in float32"),
        (lambda x: x * (np.arange(9) != 5)[:, None], "row 5 is 0 everywhere"),
    ],
)
def test_bad_features_are_refused_by_name_and_row(spoil, message, monkeypatch):
    monkeypatch.setattr("protocols.features.CHUNK_BYTES", 4 * 4 * 2)
    with pytest.raises(InputError, match=message), np.errstate(over="ignore"):
        describe_features("gallery_features", spoil(np.ones((9, 4), "f4")), "cosine")


def with_value(array, value):
    array = array.copy()
    array[5, 2] = value
    return array


def test_a_row_of_zeros_has_euclidean_distances():
    assert describe_features("x", np.zeros((2, 3)), "euclidean").squares.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("gallery", "message"),
    [
        (np.ones((2, 5), "f4"), "gallery_features: found 5 columns, but query_features has 4"),
        (torch.ones(2, 4), "gallery_features: found torch on cpu, but query_features is NumPy"),
    ],
)
def test_features_that_cannot_be_multiplied(gallery, message):
    with pytest.raises(InputError, match=message):
        describe_pair(np.ones((3, 4), "f4"), gallery, "cosine")


def test_mapped_files_are_known_as_such(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((4, 3)))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")

    assert is_mapped(mapped)
    assert is_mapped(mapped[1:].T)
    assert is_mapped(np.asarray(mapped))
    assert not is_mapped(np.ones(3))


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_dropping_pages_loses_no_value(tmp_path, mode):
    np.save(tmp_path / "x.npy", np.ones((4, 3)))
    mapped = np.load(tmp_path / "x.npy", mmap_mode=mode)
    if mode != "r":
        mapped[2] = 7

    drop_pages(np.asarray(mapped[1:]))

    assert mapped[2, 0] == (1 if mode == "r" else 7)


STREAM = """
import resource, sys
import numpy as np
from protocols.feature_distances import FeatureDistances
from protocols.features import describe_features
from protocols.ranking import blocks

gallery = np.load(sys.argv[1], mmap_mode="r")
query = describe_features("query_features", np.ones((8, gallery.shape[1]), "f4"), "cosine")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
distances = FeatureDistances(query, describe_features("gallery_features", gallery, "cosine"), "cosine")
for _ in blocks(distances, len(query), len(gallery)):
    pass
assert "torch" not in sys.modules
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="measures kilobytes of resident memory as Linux does")
def test_a_mapped_gallery_of_half_a_gigabyte_streams_in_a_few_chunks_of_memory(tmp_path):
    gallery = np.lib.format.open_memmap(tmp_path / "g.npy", "w+", "f4", (250_000, 512))
    gallery[:] = 1
    gallery.flush()

    ran = subprocess.run(
        [sys.executable, "-c", STREAM, str(tmp_path / "g.npy")], capture_output=True, text=True, check=False
    )

    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) < 150_000  # kilobytes: far less than the file's 500,000


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_gpu_gives_the_distances_of_the_cpu(dtype, metric):
    query, gallery = (torch.from_numpy(whole_numbers(n, 64, n)).to(dtype) for n in (50, 400))

    def block(device):
        features = [describe_features("x", rows.to(device), metric) for rows in (query, gallery)]
        return FeatureDistances(*features, metric)(0, 50)

    assert block("cuda").is_cuda
    np.testing.assert_allclose(numpy(block("cuda")), numpy(block("cpu")), rtol=1e-6)
