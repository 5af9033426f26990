import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from methods.spatial_pyramid import pyramid_bins, spatial_pyramid


@given(height=st.integers(1, 9), width=st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_bins_are_those_of_adaptive_pooling(height, width):
    maps = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))

    pooled = spatial_pyramid(maps)

    expected = [F.adaptive_max_pool2d(maps, n).flatten(2) for n in (2, 1)]
    assert torch.equal(pooled, torch.cat(expected, 2))


def test_bins_of_an_odd_side_overlap_by_one():
    whole = slice(0, 13)
    halves = [slice(0, 7), slice(6, 13)]

    assert pyramid_bins(13, 13) == [*[(i, j) for i in halves for j in halves], (whole, whole)]


@pytest.mark.parametrize("size", [(14, 14), (13, 13)])
def test_every_position_is_in_a_bin_of_each_level(size):
    counts = torch.zeros(size)
    for rows, columns in pyramid_bins(*size)[:-1]:
        counts[rows, columns] += 1

    assert (counts >= 1).all() and ((counts == 1).all() or size == (13, 13))
