import numpy as np
import pytest
import torch

from methods.fisher_vectors import sample
from methods.fv_sift import FVSIFT, dense_sift
from methods.input_conventions import MEAN, STD, to_uint8
from retable.errors import SpecError


def normalised(pixels):
    """(B, H, W, 3) or (B, H, W), uint8, as the engine gives images to methods."""
    if pixels.ndim == 3:
        pixels = pixels[..., None].repeat(3, -1)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(m).view(1, 3, 1, 1) for m in (MEAN, STD))
    return (images - mean) / std


def noise(count=4, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 128, 48, 3), dtype=np.uint8)


def small(**options):
    return FVSIFT(FVSIFT.parse_options({"components": 5, "gaussians": 4} | options), 3, "none", "none")


def fit(model, images, seed=0):
    torch.manual_seed(seed)
    counts = []
    model.fit(lambda: images.split(3), counts.append)
    return counts


def test_pixels_come_back_exactly():
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16).repeat(3, 0).transpose(1, 2, 0)[None]

    assert torch.equal(to_uint8(normalised(pixels)), torch.from_numpy(pixels).permute(0, 3, 1, 2))


@pytest.mark.parametrize(("colour", "columns"), [("lab", 384), ("grey", 128)])
def test_128_by_48_have_14_regions(colour, columns):
    descriptors = dense_sift(normalised(noise(2)), colour)

    assert descriptors.shape == (2, 14, columns)
    lengths = np.linalg.norm(descriptors.reshape(2, 14, -1, 128), axis=-1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-5)


def test_regions_go_row_by_row():
    """A spot in the middle of one region is strongest in that region's inner cells."""
    for i, (y, x) in enumerate((16 + 16 * row, 16 + 16 * column) for row in range(7) for column in range(2)):
        pixels = np.full((1, 128, 48), 100, np.uint8)
        pixels[0, y - 4 : y + 4, x - 4 : x + 4] = 200

        descriptors = dense_sift(normalised(pixels), "grey")[0].reshape(14, 4, 4, 8)

        inner = np.square(descriptors[:, 1:3, 1:3]).sum((1, 2, 3))
        assert inner.argmax() == i
        assert inner[i] > 0.9


def of_edges(*edges):
    """Descriptors of vertical edges at these columns: (rows, columns, columns of cells, others)."""
    pixels = np.full((1, 128, 48), 50, np.uint8)
    for edge in edges:
        pixels[:, :, edge:] += 60
    cells = dense_sift(normalised(pixels), "grey")[0].reshape(7, 2, 4, 4, 8)
    return cells.transpose(0, 1, 3, 2, 4).reshape(7, 2, 4, 32)


@pytest.mark.parametrize("column", [0, 1])
def test_cells_are_8_pixels_wide_and_4_of_them_fill_a_region(column):
    """An edge between two cells counts half for each, in all of the regions one above the other."""
    for border in (1, 2, 3):
        strengths = np.linalg.norm(of_edges(16 * column + 8 * border)[:, column], axis=2)

        expected = np.zeros(4)
        expected[border - 1 : border + 1] = 0.5**0.5
        np.testing.assert_allclose(strengths, np.tile(expected, (7, 1)), atol=0.01)


def test_an_edge_counts_in_the_region_and_not_outside():
    # Region 0 is columns 0..31. Interpolation between cells and smoothing reach some pixels further, faintly.
    alone = of_edges(16)[:, 0].reshape(7, 128)

    def likeness(edge):
        return (of_edges(16, edge)[:, 0].reshape(7, 128) * alone).sum(1)

    assert likeness(8).max() < 0.95 and likeness(26).max() < 0.95
    assert likeness(36).min() > 0.98
    np.testing.assert_allclose(likeness(44), 1, rtol=1e-6)


def test_descriptors_are_upright():
    """All of a vertical edge is in the direction across it, to the last of 8 directions."""
    pixels = np.full((1, 128, 48), 100, np.uint8)
    pixels[:, :, 16:] = 160

    directions = dense_sift(normalised(pixels), "grey")[0, 4].reshape(16, 8).sum(0)

    assert directions[0] > 0.99 * directions.sum()


def test_colour_shows_in_lab_only():
    """Two colours of one grey value, side by side."""
    pixels = np.zeros((1, 128, 48, 3), np.uint8)
    pixels[:, :, :16], pixels[:, :, 16:] = (200, 0, 0), (0, 102, 0)

    assert np.linalg.norm(dense_sift(normalised(pixels), "grey")) == 0
    assert np.linalg.norm(dense_sift(normalised(pixels), "lab").reshape(-1, 3, 128), axis=2)[0, 1] > 0.9


def test_small_images_are_named():
    with pytest.raises(SpecError, match="images of 64x24 have no region of 32x32"):
        dense_sift(torch.zeros(1, 3, 64, 24), "grey")


def test_size_of_the_paper():
    model = FVSIFT(FVSIFT.parse_options({}), 3, "none", "none")

    assert model.describe(normalised(noise(1))).shape == (1, 40_960)


def test_descriptions_are_of_principal_components():
    from sklearn.decomposition import PCA

    model, images = small(), normalised(noise(8))
    counts = fit(model, images)

    local = dense_sift(images, "lab")
    reduced = PCA(5).fit(local.reshape(-1, 384)).transform(local.reshape(-1, 384)).reshape(8, 14, 5)
    found, expected = model.describe(images), model.fisher(torch.from_numpy(reduced))
    torch.testing.assert_close((found @ found.mT).abs(), (expected @ expected.mT).abs(), rtol=1e-3, atol=1e-3)
    assert counts == [3, 3, 2]


@pytest.mark.parametrize(("samples_per_gaussian", "taken"), [(1000, 112), (10, 40)])
def test_principal_components_are_of_a_sample_of_the_regions(samples_per_gaussian, taken):
    model, images = small(samples_per_gaussian=samples_per_gaussian), normalised(noise(8))
    fit(model, images)

    torch.manual_seed(0)
    some = sample([dense_sift(images, "lab").reshape(-1, 384)], 4 * samples_per_gaussian)

    assert len(some) == taken
    torch.testing.assert_close(model.mean, torch.from_numpy(some.mean(0)))


def test_what_was_fitted_is_in_the_state_dict_and_decided_by_the_seed():
    images = normalised(noise(8))
    first, again, other, loaded = (small() for _ in range(4))
    for model, seed in ((first, 0), (again, 0), (other, 1)):
        fit(model, images, seed)

    loaded.load_state_dict(first.state_dict())

    assert torch.equal(first.describe(images), loaded.describe(images))
    assert torch.equal(first.describe(images), again.describe(images))
    assert not torch.equal(first.describe(images), other.describe(images))


def test_too_few_descriptors_are_named():
    with pytest.raises(SpecError, match="14 local descriptors cannot make 80 components"):
        fit(small(components=80), normalised(noise(1)))


def test_more_components_than_columns_are_an_error():
    with pytest.raises(SpecError, match="components = 200: 'grey' descriptors have 128 columns"):
        FVSIFT.parse_options({"colour": "grey", "components": 200})
