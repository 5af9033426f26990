import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from methods.bilinear import CompactBilinear, TensorSketch, bilinear
from tests.methods.bilinear_literal import literal_bilinear, literal_sketch_then_pool


def random_maps(seed: int, b: int, c_a: int, c_p: int, h: int, w: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a, p = (torch.randn(b, c, h, w, dtype=torch.float64, generator=generator) for c in (c_a, c_p))
    return a.requires_grad_(), p.requires_grad_()


def assert_same_in_value_and_gradient(found: Tensor, expected: Tensor, inputs: tuple[Tensor, Tensor]):
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(expected)
    gradients = [torch.autograd.grad((f * weights).sum(), inputs) for f in (found, expected)]
    torch.testing.assert_close(*gradients)


sizes = {
    "b": st.integers(1, 3),
    "c_a": st.integers(1, 9),
    "c_p": st.integers(1, 9),
    "h": st.integers(1, 4),
    "w": st.integers(1, 4),
}


@given(seed=st.integers(0, 99), **sizes)
@settings(max_examples=30, deadline=None)
def test_bilinear_is_equation_3_in_value_and_gradient(seed, **size):
    a, p = random_maps(seed, **size)

    assert_same_in_value_and_gradient(bilinear(a, p), literal_bilinear(a, p), (a, p))


def test_order_is_equation_5():
    a, p = torch.tensor([2.0, 3.0, 5.0]), torch.tensor([7.0, 11.0])

    found = bilinear(a.view(1, 3, 1, 1), p.view(1, 2, 1, 1)).flatten()

    assert found.tolist() == [14, 21, 35, 22, 33, 55]


@given(seed=st.integers(0, 99), dimension=st.integers(1, 12), **sizes)
@settings(max_examples=50, deadline=None)
def test_compact_bilinear_is_sketch_then_pool_in_value_and_gradient(seed, dimension, **size):
    a, p = random_maps(seed, **size)
    sketch = CompactBilinear(
        (size["c_a"], size["c_p"]), dimension, seeds=(seed, seed + 1, seed + 2, seed + 3)
    )

    assert_same_in_value_and_gradient(sketch(a, p), literal_sketch_then_pool(a, p, sketch), (a, p))


def test_channels_last_maps_are_the_same():
    a, p = (x.detach() for x in random_maps(0, 2, 5, 3, 4, 2))
    sketch = CompactBilinear((5, 3), 7)

    found = sketch(*(x.contiguous(memory_format=torch.channels_last) for x in (a, p)))

    torch.testing.assert_close(found, sketch(a, p))


def test_inner_products_are_the_exact_ones_in_expectation():
    (a, p), (b, q) = ([x.detach() for x in random_maps(seed, 1, 6, 4, 3, 2)] for seed in (0, 1))
    b, q = a + 0.5 * b, p + 0.5 * q
    exact = (bilinear(a, p) * bilinear(b, q)).sum()
    seeds = np.random.default_rng(0).integers(2**31, size=(150, 4)).tolist()

    found = torch.empty(len(seeds), dtype=torch.float64)
    for n, seed in enumerate(seeds):
        sketch = CompactBilinear((6, 4), 16, seeds=tuple(seed))
        found[n] = (sketch(a, p) * sketch(b, q)).sum()

    error = found.std() / len(seeds) ** 0.5
    assert (found.mean() - exact).abs() < 3 * error
    assert error < 0.15 * exact


def test_bins_and_signs_are_those_of_the_authors_code():
    sketch = CompactBilinear((512, 128), 512)

    for name, seed, count in (("a", (1, 3), 512), ("p", (5, 7), 128)):
        np.random.seed(seed[0])  # noqa: NPY002
        assert sketch.get_buffer(f"h_{name}").tolist() == np.random.randint(512, size=count).tolist()  # noqa: NPY002
        np.random.seed(seed[1])  # noqa: NPY002
        signs = 2 * np.random.randint(2, size=count) - 1  # noqa: NPY002
        assert sketch.get_buffer(f"s_{name}").tolist() == signs.tolist()


@pytest.mark.parametrize(
    "form",
    [bilinear, CompactBilinear((5, 3), 7), TensorSketch((5, 3), 7)],
    ids=["exact", "compact", "position by position"],
)
def test_mixed_precision_pools_in_float32(form):
    a, p = (x.detach().float() for x in random_maps(0, 2, 5, 3, 4, 2))

    with torch.autocast("cpu", torch.bfloat16):
        found = form(a, p)

    assert found.dtype == torch.float32
    assert torch.equal(found, form(a, p))
    assert form(a.bfloat16(), p.bfloat16()).dtype == torch.float32
