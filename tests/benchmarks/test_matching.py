"""Kronecker-product matching at the paper's sizes: tiled against equations 5 to 10 as they are printed.

What to look at, in ``extra_info``: pairs/s of ``tiled`` over those of ``literal`` at 512 positions and 512
channels (at least 3 over a block of pairs at once; a pair at a time fits the cache, and is quicker on a
CPU), the memory of 64 x 512 pairs (at most 1/10), and how long all of Market-1501 takes. On a machine
that others use, ``OMP_NUM_THREADS=1`` and ``--benchmark-timer=time.process_time``.
"""

import pytest
import torch
from torch import Tensor

from methods import METHODS
from methods.kronecker import pooled_warps
from reproductions.descriptions import Descriptions
from reproductions.pair_ranking import AllPairs
from tests.methods.kronecker_literal import literal_difference
from tests.methods.peak_memory import PeakMemory

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
QUERIES, IMAGES = (64, 512) if DEVICE.type == "cuda" else (8, 16)
TYPES = (torch.float32, torch.bfloat16) if DEVICE.type == "cuda" else (torch.float32,)  # as users compute
TAU = 0.05
SCALES = {"scale1": (8, 4, 2048), "scale2": (16, 8, 1024), "scale3": (32, 16, 512)}
"""Height, width and channels of the maps of ResNet-50 at 256 x 128."""

MARKET_PAIRS = 3_368 * 15_913
"""Queries, and gallery images that are no junk."""


def maps(count: int, scale: str, dtype: torch.dtype = torch.float32, device: object = DEVICE) -> Tensor:
    """(count, h, w, C), none negative, as after a ReLU."""
    return torch.rand(count, *SCALES[scale], dtype=dtype, device=device)


def tiled(x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """Vectors of all pairs as ``methods.kpm`` computes them, (Q, h, w, C), (G, h, w, C) -> (Q, G, C)."""
    tile_bytes = METHODS.get("kpm").tile_bytes
    pooled = torch.einsum("bij,bijc->bc", weights, x)
    warped = pooled_warps(x.flatten(1, 2), y.flatten(1, 2), weights.flatten(1), TAU, "cosine", tile_bytes)
    return pooled[:, None] - warped


def literal(x: Tensor, y: Tensor, weights: Tensor, batch: int) -> Tensor:
    """The same, ``batch`` pairs at a time."""
    pairs = torch.cartesian_prod(*(torch.arange(len(side), device=x.device) for side in (x, y)))
    vectors = [literal_difference(x[q], y[g], weights[q], TAU, "cosine") for q, g in _batches(pairs, batch)]
    return torch.cat(vectors).view(len(x), len(y), -1)


def _batches(pairs: Tensor, batch: int) -> list[tuple[Tensor, Tensor]]:
    return [(part[:, 0], part[:, 1]) for part in pairs.split(batch)]


def flops(scale: str) -> int:
    """Of the products of eq. 6, for one pair."""
    height, width, channels = SCALES[scale]
    return 2 * (height * width) ** 2 * channels


def finished(result: Tensor) -> Tensor:
    """``result``, once it is there."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return result


@pytest.mark.benchmark(group="matching")
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize(
    "batch", [None, 1, 64], ids=["tiled", "literal, a pair at a time", "literal, 64 pairs at once"]
)
def test_512_positions_and_512_channels(benchmark, batch, dtype):
    x, y = maps(4, "scale3", dtype), maps(16, "scale3", dtype)
    weights = torch.full(x.shape[:3], 1 / 512, dtype=dtype, device=DEVICE)
    compare = (lambda *given: literal(*given, batch)) if batch else tiled

    vectors = benchmark.pedantic(lambda: finished(compare(x, y, weights)), rounds=3, warmup_rounds=1)

    benchmark.extra_info.update(device=str(DEVICE), pairs_per_s=64 / benchmark.stats.stats.min)
    expected = literal(x[:1], y[:2], weights[:1], 1)
    close = 1e-3 if dtype == torch.float32 and DEVICE.type == "cpu" else 0.02
    torch.testing.assert_close(vectors[:1, :2], expected, rtol=close, atol=close * float(expected.std()))


@pytest.mark.benchmark(group="memory")
def test_memory_of_64_x_512_pairs(benchmark):
    """Counted without computing anything, on torch's meta device."""
    x, y = maps(64, "scale3", device="meta"), maps(512, "scale3", device="meta")
    weights = torch.empty(x.shape[:3], device="meta")
    peaks = {}
    for name, compare in (("tiled", tiled), ("literal", lambda *given: literal(*given, 64 * 512))):
        with PeakMemory() as memory:
            compare(x, y, weights)
        peaks[name] = memory.peak

    benchmark.pedantic(lambda: tiled(x, y, weights), rounds=1)

    benchmark.extra_info.update(peaks)
    assert peaks["tiled"] <= peaks["literal"] / 10


@pytest.mark.benchmark(group="scales")
@pytest.mark.parametrize("scale", SCALES)
def test_each_scale(benchmark, scale):
    x, y = maps(QUERIES, scale), maps(IMAGES, scale)
    weights = torch.full(x.shape[:3], 1 / x[0, ..., 0].numel(), device=DEVICE)

    benchmark.pedantic(lambda: finished(tiled(x, y, weights)), rounds=3, warmup_rounds=1)

    rate = QUERIES * IMAGES / benchmark.stats.stats.min
    share = rate * flops(scale) / products_per_s(torch.float32)
    benchmark.extra_info.update(device=str(DEVICE), pairs_per_s=rate, share_of_flop_limit=share)


@pytest.mark.benchmark(group="market1501")
def test_exhaustive_market(benchmark):
    """The whole network's distances at three scales; Market-1501's pairs from the rate of some."""
    method = METHODS.get("kpm")
    options = method.parse_options({"matching": "warp", "attention": True, "scales": "hourglass"})
    kpm = method(options, 751, "resnet50", "none").eval().to(DEVICE)
    count = QUERIES + IMAGES
    with torch.inference_mode():
        stored = kpm.describe(torch.zeros(1, 3, 256, 128, device=DEVICE))
    stored = {
        name: torch.rand(count, *tensor.shape[1:], device=DEVICE).to(tensor.dtype)
        for name, tensor in stored.items()
    }
    described = Descriptions(stored, DEVICE)
    order = torch.arange(count).numpy()
    ranking = AllPairs(kpm, described.first(QUERIES), described.of(order[QUERIES:]))

    benchmark.pedantic(lambda: finished(ranking(0, QUERIES)), rounds=3, warmup_rounds=1)

    rate = QUERIES * IMAGES / benchmark.stats.stats.min
    dtype = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32
    share = rate * sum(map(flops, SCALES)) / products_per_s(dtype)
    benchmark.extra_info.update(
        device=str(DEVICE),
        pairs_per_s=rate,
        market1501_minutes=MARKET_PAIRS / rate / 60,
        share_of_flop_limit=share,
    )


def products_per_s(dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product here: the limit."""
    from torch.utils.benchmark import Timer

    size = 8192 if DEVICE.type == "cuda" else 2048
    a = torch.rand(size, size, dtype=dtype, device=DEVICE)
    seconds = Timer("a @ a", globals={"a": a}, num_threads=torch.get_num_threads()).timeit(5).median
    return 2 * size**3 / seconds
