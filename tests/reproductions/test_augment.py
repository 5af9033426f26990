"""Batched augmentation: per-image randomness, and the values that come out."""

import math
import random
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from torchvision.transforms import v2

from reproductions import augment
from reproductions.augment import (
    ERASING_ATTEMPTS,
    IMAGENET_MEAN,
    IMAGENET_STD,
    cutout,
    normalise,
    random_crop,
    random_erasing,
    random_flip,
    random_shift,
    random_step,
)


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


AREA, ASPECT = (0.02, 0.4), 0.3


def erase_one(height, width, area, aspect):
    """Algorithm 1 of the paper in whole pixels, for a chosen image: (top, left, height, width)."""
    for _ in range(ERASING_ATTEMPTS):
        size = random.uniform(*area) * height * width
        shape = random.uniform(aspect, 1 / aspect)
        tall, wide = round(math.sqrt(size * shape)), round(math.sqrt(size / shape))
        left, top = int(random.uniform(0, width)), int(random.uniform(0, height))
        if left + wide <= width and top + tall <= height:
            return top, left, tall, wide
    return None


def rectangle(lost):
    """The one rectangle of a mask, (top, left, height, width); None if nothing is lost."""
    if not lost.any():
        return None
    rows, columns = lost.any(1).nonzero().flatten(), lost.any(0).nonzero().flatten()
    tall, wide = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
    assert lost.sum() == tall * wide
    return int(rows[0]), int(columns[0]), tall, wide


@given(
    least=st.floats(0.01, 0.5),
    more=st.floats(0, 0.5),
    aspect=st.floats(0.2, 1),
    seed=st.integers(0, 99),
)
def test_erasing_takes_one_rectangle_of_the_area_and_shape_asked_for(least, more, aspect, seed):
    torch.manual_seed(seed)
    erased = random_erasing(torch.ones(16, 3, 48, 24), 1.0, (least, least + more), aspect)

    lost = (erased == 0).all(1)
    assert torch.equal((erased == 0).any(1), lost)  # all channels alike
    for found in filter(None, map(rectangle, lost)):
        *_, tall, wide = found
        # Sides are whole pixels, so that area and shape are off by half a pixel a side at most.
        assert (tall - 0.5) * (wide - 0.5) <= (least + more) * 48 * 24
        assert (tall + 0.5) * (wide + 0.5) >= least * 48 * 24
        assert (tall + 0.5) / (wide - 0.5) >= aspect
        assert (tall - 0.5) / (wide + 0.5) <= 1 / aspect


def test_erasing_is_distributed_as_the_papers_algorithm_image_by_image():
    count = 8000
    torch.manual_seed(0)
    random.seed(0)
    erased = random_erasing(torch.ones(count, 1, 16, 8), 1.0, AREA, ASPECT)

    found = torch.tensor([rectangle(lost[0]) for lost in erased == 0], dtype=torch.float64)
    literal = torch.tensor([erase_one(16, 8, AREA, ASPECT) for _ in range(count)], dtype=torch.float64)

    torch.testing.assert_close(found.mean(0), literal.mean(0), atol=0.12, rtol=0)
    torch.testing.assert_close(found.T.cov(), literal.T.cov(), atol=0.35, rtol=0.05)
    shapes = Counter(map(tuple, found[:, 2:].tolist())), Counter(map(tuple, literal[:, 2:].tolist()))
    for shape in shapes[0] | shapes[1]:
        assert abs(shapes[0][shape] - shapes[1][shape]) < 6 * math.sqrt(shapes[1][shape] + 10)


def test_erasing_reaches_half_of_the_images():
    torch.manual_seed(0)
    erased = random_erasing(torch.ones(2000, 3, 12, 8), 0.5, AREA, ASPECT) == 0

    assert erased.any(0).all()
    assert 850 < erased.flatten(1).any(1).sum() < 1150


def test_without_erasing_nothing_is_drawn():
    """So that recipes of before it existed see the same random numbers."""
    torch.manual_seed(0)
    state = torch.get_rng_state()

    assert random_erasing(torch.ones(4, 3, 12, 8), 0.0, AREA, ASPECT).all()
    assert torch.equal(torch.get_rng_state(), state)


def test_an_image_that_no_rectangle_fits_stays_whole():
    """Nine tenths of the area as a square are higher than the image is."""
    assert random_erasing(torch.ones(4, 3, 8, 32), 1.0, (0.9, 0.9), 1.0).all()


def box_of(cropped, height, width):
    """Top, left, height and width of the crop of an image that holds its own coordinates."""
    rows, columns = cropped[0, :, width // 2], cropped[1, height // 2]
    inner = slice(height // 4, 3 * height // 4), slice(width // 4, 3 * width // 4)
    tall = float(rows[inner[0]].diff().mean()) * height
    wide = float(columns[inner[1]].diff().mean()) * width
    return float(rows[height // 2 - 1 : height // 2 + 1].mean()) - tall / 2, tall, wide


@given(
    area=st.tuples(st.floats(0.3, 0.6), st.floats(0.6, 1.0)),
    aspect=st.tuples(st.floats(1.0, 2.0), st.floats(2.0, 3.0)),
    seed=st.integers(0, 99),
)
def test_a_crop_has_the_area_and_shape_asked_for_and_lies_inside(area, aspect, seed):
    height, width = 64, 32
    torch.manual_seed(seed)
    down = torch.arange(height).add(0.5)[:, None].expand(-1, width)
    right = torch.arange(width).add(0.5).expand(height, -1)
    pixels = torch.stack([down, right]).repeat(6, 1, 1, 1)

    for cropped in random_crop(pixels, area, aspect):
        top, tall, wide = box_of(cropped, height, width)
        whole = abs(tall - height) < 0.01 and abs(wide - width) < 0.01
        assert -0.01 <= top <= height - tall + 0.01
        assert whole or area[0] - 1e-3 <= tall * wide / (height * width) <= area[1] + 1e-3
        assert whole or aspect[0] - 1e-3 <= tall / wide <= aspect[1] + 1e-3


def test_a_crop_of_everything_changes_nothing():
    torch.manual_seed(0)
    pixels = torch.randn(4, 3, 16, 8)

    torch.testing.assert_close(random_crop(pixels, (1.0, 1.0), (2.0, 2.0)), pixels, atol=1e-5, rtol=1e-5)


def test_a_crop_equals_torchvisions_resized_crop():
    torch.manual_seed(0)
    pixels = torch.randn(1, 3, 16, 8)

    ours = augment._stretched(pixels, torch.tensor([[4.0, 2.0, 8.0, 4.0]]))
    theirs = v2.functional.resized_crop(pixels, 4, 2, 8, 4, [16, 8], antialias=False)
    torch.testing.assert_close(ours[..., 1:-1, 1:-1], theirs[..., 1:-1, 1:-1])  # borders look beyond the crop


def test_an_image_that_no_crop_fits_stays_whole():
    pixels = torch.randn(2, 3, 16, 8)

    torch.testing.assert_close(random_crop(pixels, (1.0, 1.0), (3.0, 3.0)), pixels, atol=1e-5, rtol=1e-5)


@given(padding=st.integers(1, 6), height=st.integers(4, 12), width=st.integers(3, 9), seed=st.integers(0, 99))
def test_a_shifted_image_is_a_part_of_the_padded_one(padding, height, width, seed):
    torch.manual_seed(seed)
    batch = images(6, height, width)

    for one, shifted in zip(batch, random_shift(batch, padding), strict=True):
        padded = torch.zeros(3, height + 2 * padding, width + 2 * padding, dtype=torch.uint8)
        padded[:, padding : padding + height, padding : padding + width] = one
        parts = padded.unfold(1, height, 1).unfold(2, width, 1)  # (3, tops, lefts, height, width)
        assert (parts == shifted[:, None, None]).all(0).flatten(2).all(2).any()


def test_shifts_go_everywhere_evenly_and_image_by_image():
    torch.manual_seed(0)
    batch = torch.zeros(4000, 3, 9, 7, dtype=torch.uint8)
    batch[:, :, 4, 3] = 255  # a dot in the middle stays inside the image

    dots = random_shift(batch, 2)[:, 0].nonzero()

    counts = torch.bincount((dots[:, 1] - 2) * 5 + dots[:, 2] - 1, minlength=25)
    assert len(dots) == 4000 and counts.min() > 100 and counts.max() < 220


def test_no_padding_draws_nothing():
    batch = images(4)
    state = torch.get_rng_state()

    assert random_shift(batch, 0) is batch
    assert torch.equal(torch.get_rng_state(), state)


@given(down=st.integers(0, 5), across=st.integers(0, 4), seed=st.integers(0, 99))
def test_a_step_moves_an_image_whole_and_repeats_its_border(down, across, seed):
    torch.manual_seed(seed)
    batch = images(6, 4, 3)

    for one, stepped in zip(batch, random_step(batch, down, across), strict=True):
        around = F.pad(one[None].float(), (across, across, down, down), mode="replicate")[0].to(torch.uint8)
        corners = [(top, left) for top in (0, down, 2 * down) for left in (0, across, 2 * across)]
        assert any(torch.equal(around[:, top : top + 4, left : left + 3], stepped) for top, left in corners)


def test_the_nine_steps_are_alike_likely():
    torch.manual_seed(0)
    batch = torch.zeros(4000, 3, 9, 7, dtype=torch.uint8)
    batch[:, :, 4, 3] = 255

    dots = random_step(batch, 3, 2)[:, 0].nonzero()

    found = Counter(map(tuple, (dots[:, 1:] - torch.tensor([4, 3])).tolist()))
    assert found.keys() == {(down, across) for down in (-3, 0, 3) for across in (-2, 0, 2)}
    assert len(dots) == 4000 and min(found.values()) > 350 and max(found.values()) < 540


def test_no_step_draws_nothing():
    batch = images(4)
    state = torch.get_rng_state()

    assert random_step(batch, 0, 0) is batch
    assert torch.equal(torch.get_rng_state(), state)
