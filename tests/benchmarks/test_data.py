"""Decoding a street once, and turning cached images into training batches."""

import pytest
import torch

from protocols.market1501 import market1501
from reproductions.augment import cutout, normalise, random_flip
from reproductions.images import decode

BATCH = 128


@pytest.mark.benchmark(group="data")
def test_decoding(benchmark, tiny_street):
    (split,) = market1501().load(tiny_street)
    paths = [record.path for record in split.train + split.gallery]
    benchmark.extra_info.update(images=len(paths), height=384, width=128)
    benchmark(decode, paths, 384, 128, torch.device("cpu"))


@pytest.mark.benchmark(group="data")
@pytest.mark.parametrize(("height", "width"), [(384, 128), (96, 32)])
def test_augmenting_a_batch(benchmark, height, width):
    cached = torch.randint(0, 256, (4 * BATCH, 3, height, width), dtype=torch.uint8)
    benchmark.extra_info.update(batch=BATCH, height=height, width=width)

    def batch():
        pixels = cached[torch.randperm(len(cached))[:BATCH]]
        return cutout(normalise(random_flip(pixels, 0.5)), 0.5, height // 6)

    assert benchmark(batch).shape == (BATCH, 3, height, width)
