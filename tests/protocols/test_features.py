"""Streamed distances against a plain product, for every kind of array; and what is refused."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.arrays import InputError
from protocols.features import FeatureDistances, check_pair, chunks, describe_features, drop_pages, is_mapped

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
    query = describe_features("query_features", np.ones((3, 4), "f4"), "cosine")

    with pytest.raises(InputError, match=message):
        check_pair(query, describe_features("gallery_features", gallery, "cosine"))


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
from protocols.features import FeatureDistances, describe_features
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
