"""Batched augmentation: per-image randomness, and the values that come out."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import v2

from reproductions.augment import IMAGENET_MEAN, IMAGENET_STD, cutout, normalise, random_flip


def images(count=64, height=12, width=8):
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8)


def test_normalise_equals_torchvision_image_by_image():
    batch = images()
    one = v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    )

    got = normalise(batch)

    assert got.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(got, torch.stack([one(image) for image in batch]))


def test_flip_decides_image_by_image():
    torch.manual_seed(0)
    batch = images(400)

    flipped = random_flip(batch, 0.5)

    mirrored = torch.tensor([torch.equal(a, b.flip(2)) for a, b in zip(flipped, batch, strict=True)])
    kept = torch.tensor([torch.equal(a, b) for a, b in zip(flipped, batch, strict=True)])
    assert (mirrored ^ kept).all()
    assert 150 < mirrored.sum() < 250


@pytest.mark.parametrize(("probability", "flips"), [(0.0, 0), (1.0, 1)])
def test_flip_probability_ends(probability, flips):
    batch = images()

    assert torch.equal(random_flip(batch, probability), batch.flip(3) if flips else batch)


@given(size=st.integers(1, 8), seed=st.integers(0, 99))
def test_cutout_zeroes_one_square_in_chosen_images(size, seed):
    torch.manual_seed(seed)
    batch = torch.ones(32, 3, 12, 8)

    cut = cutout(batch.clone(), 0.5, size)

    lost = (cut == 0).all(1)
    assert torch.equal((cut == 0).any(1), lost)  # all channels alike
    for square in lost:
        if square.any():
            rows, columns = square.any(1).nonzero().flatten(), square.any(0).nonzero().flatten()
            assert square.sum() == size * size == len(rows) * len(columns)
            assert rows[-1] - rows[0] == columns[-1] - columns[0] == size - 1


def test_cutout_reaches_every_pixel_and_half_of_the_images():
    torch.manual_seed(0)
    cut = cutout(torch.ones(2000, 3, 12, 8), 0.5, 4) == 0

    assert cut.any(0).all()
    assert 850 < cut.flatten(1).any(1).sum() < 1150


def test_cutout_larger_than_the_image():
    with pytest.raises(ValueError, match="a cutout of 9 pixels does not fit images of 12 x 8"):
        cutout(torch.ones(1, 3, 12, 8), 1.0, 9)
