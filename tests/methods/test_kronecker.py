import math
from itertools import pairwise, product
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from methods.kronecker import comparable, matching_confidence, pooled_warps, soft_warp
from tests.methods.kronecker_literal import (
    literal_confidence,
    literal_difference,
    literal_product,
    literal_warp,
)
from tests.methods.peak_memory import PeakMemory

SIMILARITIES = ("cosine", "dot")
SIZES = st.tuples(st.integers(1, 4), st.integers(1, 4))
TAUS = st.sampled_from([0.001, 0.05, 0.5, 1.0, 7.0])


def random_maps(*shape: int, spread: float = 1.0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Features with a common part, as those of a network have, and none near 0."""
    return (spread * (torch.randn(shape, dtype=torch.float64) + 0.5)).to(dtype)


def flat(maps: Tensor) -> Tensor:
    """(.., h, w, C) -> (.., N, C): positions in rows of w."""
    return maps.flatten(-3, -2)


def product_scale(x: Tensor, y: Tensor, tau: float, similarity: str) -> float:
    """How large the softmax's arguments get, by which their rounding errors grow."""
    return max(1.0, literal_product(x, y, similarity).abs().max().item() / tau)


def nan_instead_of_empty(like: Tensor, *size: int) -> Tensor:
    return like.new_full(size, torch.nan)


# The reference


def test_the_reference_is_equations_5_to_10_number_by_number():
    """Written for one pair with plain loops, in the order and the letters of the paper."""
    torch.manual_seed(0)
    x, y, alpha = torch.randn(2, 3, 4), torch.randn(3, 2, 4), torch.rand(2, 3)
    tau = 0.7
    delta = torch.zeros(4)
    for i, j in product(range(2), range(3)):
        exps = {(p, q): math.exp(float(x[i, j] @ y[p, q]) / tau) for p in range(3) for q in range(2)}
        beta = {position: e / sum(exps.values()) for position, e in exps.items()}
        warped = sum(share * y[p, q] for (p, q), share in beta.items())
        delta += alpha[i, j] * (x[i, j] - warped)

    found = literal_difference(x[None], y[None], alpha[None], tau, "dot")[0]

    torch.testing.assert_close(found, delta)


# Equations 5 to 8, of pairs


@given(SIZES, SIZES, st.integers(2, 6), TAUS, st.sampled_from(SIMILARITIES), st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_confidence_is_equations_5_to_7_in_value_and_gradient(of_x, of_y, channels, tau, similarity, seed):
    torch.manual_seed(seed)
    x, y = (random_maps(2, *size, channels).requires_grad_() for size in (of_x, of_y))
    weights = torch.randn(2, *of_x, *of_y, dtype=torch.float64)

    found = matching_confidence(flat(x), flat(y), tau, similarity).view_as(weights)
    literal = literal_confidence(x, y, tau, similarity)

    atol = 1e-13 * product_scale(x, y, tau, similarity)
    torch.testing.assert_close(found, literal, rtol=1e-7, atol=atol)
    torch.testing.assert_close(found.sum((3, 4)), torch.ones_like(found[..., 0, 0]))
    gradients, expected = (torch.autograd.grad((k * weights).sum(), (x, y)) for k in (found, literal))
    torch.testing.assert_close(gradients, expected, rtol=1e-6, atol=1e3 * atol / tau)


@given(
    st.integers(1, 3),
    SIZES,
    SIZES,
    st.integers(2, 6),
    TAUS,
    st.sampled_from(SIMILARITIES),
    st.integers(0, 999),
)
@settings(max_examples=60, deadline=None)
def test_soft_warp_is_equation_8_in_value_and_gradient(pairs, of_x, of_y, channels, tau, similarity, seed):
    torch.manual_seed(seed)
    x, y = (random_maps(pairs, *size, channels).requires_grad_() for size in (of_x, of_y))
    weights = torch.randn(x.shape, dtype=torch.float64)

    found = soft_warp(flat(x), flat(y), tau, similarity).view_as(x)
    literal = literal_warp(x, y, tau, similarity)

    atol = 1e-13 * product_scale(x, y, tau, similarity)
    torch.testing.assert_close(found, literal, rtol=1e-7, atol=10 * atol)
    gradients, expected = (torch.autograd.grad((z * weights).sum(), (x, y)) for z in (found, literal))
    torch.testing.assert_close(gradients, expected, rtol=1e-6, atol=1e4 * atol / tau)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_soft_warp_at_the_papers_size_in_float32(similarity):
    """Relative error below 1e-5: 2048 channels, 8 x 4 positions, temperature 0.05."""
    torch.manual_seed(0)
    x, y = (random_maps(2, 8, 4, 2048).relu() for _ in range(2))
    if similarity == "dot":
        x, y = x / 40, y / 40

    found = soft_warp(flat(x).float(), flat(y).float(), 0.05, similarity).double()

    expected = flat(literal_warp(x, y, 0.05, similarity))
    assert (found - expected).norm() < 1e-5 * expected.norm()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_products_in_the_hundreds_at_a_tiny_temperature_stay_finite(dtype, similarity):
    """The softmax is one-hot there; in float32, exp(100 / 0.001) itself would be infinite."""
    torch.manual_seed(0)
    x = random_maps(2, 6, 40, spread=5, dtype=dtype).requires_grad_()
    y = random_maps(2, 8, 40, spread=5, dtype=dtype).requires_grad_()
    assert (x @ y.mT).max() > 500
    shares = torch.full((2, 6), 1 / 6, dtype=dtype)

    outputs = (
        matching_confidence(x, y, 0.001, similarity),
        soft_warp(x, y, 0.001, similarity),
        pooled_warps(x, y, shares, 0.001, similarity, 10**6),
    )

    for output in outputs:
        assert output.dtype == dtype and output.isfinite().all()
        for gradient in torch.autograd.grad(output.square().sum(), (x, y)):
            assert gradient.isfinite().all()


def test_at_a_tiny_temperature_every_position_takes_its_best_match():
    torch.manual_seed(0)
    x, y = random_maps(3, 6, 5), random_maps(3, 8, 5)

    best = torch.nn.functional.cosine_similarity(x[:, :, None], y[:, None], dim=-1).argmax(2)

    expected = torch.stack([y[pair, places] for pair, places in enumerate(best)])
    torch.testing.assert_close(soft_warp(x, y, 1e-5, "cosine"), expected)


def test_at_a_huge_temperature_every_position_takes_the_mean():
    torch.manual_seed(0)
    x, y = random_maps(2, 6, 5), random_maps(2, 8, 5)

    expected = y.mean(1, keepdim=True).expand_as(x)
    torch.testing.assert_close(soft_warp(x, y, 1e9, "dot"), expected)


@given(SIZES, SIZES, st.sampled_from(SIMILARITIES), st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_lower_temperatures_concentrate_the_confidence(of_x, of_y, similarity, seed):
    """Section 3.1.2: "lower temperature leads to lower entropy"."""
    torch.manual_seed(seed)
    x, y = (flat(random_maps(1, *size, 5)) for size in (of_x, of_y))

    entropies = [
        -torch.xlogy(k, k).sum(-1)
        for k in (matching_confidence(x, y, tau, similarity) for tau in (0.05, 0.5, 1.0, 5.0))
    ]

    for lower, higher in pairwise(entropies):
        assert (lower <= higher + 1e-12).all()
    if y.shape[1] > 1:
        assert entropies[0].sum() < entropies[-1].sum()


def test_cosine_ignores_lengths_in_matching_but_not_in_what_is_warped():
    torch.manual_seed(0)
    x, y = random_maps(2, 6, 5), random_maps(2, 8, 5)

    longer = soft_warp(3 * x, 2 * y, 0.05, "cosine")

    torch.testing.assert_close(longer, 2 * soft_warp(x, y, 0.05, "cosine"))
    assert not torch.allclose(soft_warp(3 * x, 2 * y, 0.05, "dot"), 2 * soft_warp(x, y, 0.05, "dot"))
    torch.testing.assert_close(comparable(x, "cosine").norm(dim=-1), torch.ones(2, 6, dtype=torch.float64))
    assert torch.equal(comparable(x, "dot"), x)


def test_positions_without_any_feature_match_everything_alike():
    """ReLU may leave a position all zero; it has no direction, and no gradient may come from that."""
    torch.manual_seed(0)
    x, y = random_maps(1, 3, 4), random_maps(1, 5, 4).requires_grad_()
    before = x.index_fill(1, torch.tensor([1]), -1.0).requires_grad_()

    warped = soft_warp(before.relu(), y, 0.05, "cosine")
    warped.square().sum().backward()

    torch.testing.assert_close(warped[0, 1], y[0].mean(0))
    assert before.grad is not None and before.grad.isfinite().all()
    assert not before.grad[0, 1].any()


# All pairs


@given(
    st.integers(1, 5),
    st.integers(1, 7),
    SIZES,
    SIZES,
    st.sampled_from([1, 200, 1000, 5000, 20_000, 10**9]),
    st.sampled_from([0.001, 0.05, 1.0]),
    st.sampled_from(SIMILARITIES),
    st.integers(0, 999),
)
@settings(max_examples=60, deadline=None)
def test_pooled_warps_are_the_literal_ones_for_any_tile(
    queries, images, of_x, of_y, tile_bytes, tau, similarity, seed
):
    torch.manual_seed(seed)
    x, y = random_maps(queries, *of_x, 3), random_maps(images, *of_y, 3)
    weights = torch.rand(queries, *of_x, dtype=torch.float64) + 0.1

    with patch.object(Tensor, "new_empty", nan_instead_of_empty):  # a pair that is left out is seen
        found = pooled_warps(flat(x), flat(y), weights.flatten(1), tau, similarity, tile_bytes)

    pooled_x = torch.einsum("bij,bijc->bc", weights, x)
    for q, g in product(range(queries), range(images)):
        difference = literal_difference(x[q, None], y[g, None], weights[q, None], tau, similarity)[0]
        atol = 1e-11 * product_scale(x[q, None], y[g, None], tau, similarity)
        torch.testing.assert_close(found[q, g], pooled_x[q] - difference, rtol=1e-7, atol=atol)


@pytest.mark.parametrize("tile_bytes", [1, 3000, 10**9])
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_pooled_warps_have_the_gradient_of_the_literal_ones(similarity, tile_bytes):
    torch.manual_seed(0)
    x, y = random_maps(3, 2, 3, 4).requires_grad_(), random_maps(5, 3, 2, 4).requires_grad_()
    weights = torch.rand(3, 2, 3, dtype=torch.float64).requires_grad_()
    upstream = torch.randn(3, 5, 4, dtype=torch.float64)
    q, g = torch.tensor(list(product(range(3), range(5)))).unbind(1)

    found = pooled_warps(flat(x), flat(y), weights.flatten(1), 0.3, similarity, tile_bytes)
    literal = torch.einsum("bij,bijc->bc", weights[q], literal_warp(x[q], y[g], 0.3, similarity)).view(
        3, 5, 4
    )

    inputs = (x, y, weights)
    gradients, expected = (torch.autograd.grad((z * upstream).sum(), inputs) for z in (found, literal))
    torch.testing.assert_close(gradients, expected)


@pytest.mark.parametrize("positions", [(8, 4), (16, 8), (32, 16)])
def test_pooled_warps_at_the_papers_sizes_in_float32(positions):
    """Relative error below 1e-5, though eq. 8 sums 512 positions first and here 512 weights come first."""
    torch.manual_seed(0)
    x, y = (
        random_maps(2, *positions, 64, dtype=torch.float32),
        random_maps(3, *positions, 64, dtype=torch.float32),
    )
    weights = torch.full((2, math.prod(positions)), 1 / math.prod(positions))

    found = pooled_warps(flat(x), flat(y), weights, 0.05, "cosine", 2**20).double()

    for q, g in product(range(2), range(3)):
        warped = literal_warp(x[q, None].double(), y[g, None].double(), 0.05, "cosine")[0].mean((0, 1))
        assert (found[q, g] - warped).norm() < 1e-5 * warped.norm()


@pytest.mark.parametrize("tile_bytes", [2**16, 2**18, 2**20])
def test_pooled_warps_stay_within_their_memory(tile_bytes):
    """Beyond the result and the scaled inputs: a tile's products and softmax, and the softmax before them."""
    x, y, weights = torch.randn(16, 32, 8), torch.randn(48, 32, 8), torch.rand(16, 32)

    with PeakMemory() as memory:
        pooled = pooled_warps(x, y, weights, 0.05, "cosine", tile_bytes)

    kept = sum(t.nbytes for t in (pooled, x, y))
    assert memory.peak <= kept + 1.6 * tile_bytes
    assert memory.largest >= min(tile_bytes // 4, 2**18)  # a tile is used, not one pair after the other
