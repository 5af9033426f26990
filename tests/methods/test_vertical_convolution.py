from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from methods.vertical_convolution import (
    ColumnwiseVerticalConvolution,
    GlobalPooling,
    LengthenedPooling,
    Stripes,
    VerticalConvolution,
    mean_and_max,
    vertical_convolution,
)

B, C, H, W, K = 2, 3, 5, 4, 2


def a_map(height: int = H) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(B, C, height, W, dtype=torch.float64, requires_grad=True)


def literal_pooled(m: Tensor) -> Tensor:
    """Eq. 6, F(c, h)."""
    return torch.stack(
        [
            torch.stack([sum(m[b, c, h]) / m.shape[3] + max(m[b, c, h]) for h in range(m.shape[2])])
            for b, c in product(range(B), range(C))
        ]
    ).view(B, C, -1)


def literal_spatial(f: Tensor, kernels: Tensor) -> Tensor:
    """Eq. 7, f^s(c, k), concatenated channel after channel."""
    out = [
        sum(f[b, c, h] * kernels[c, k, h] for h in range(f.shape[2]))
        for b, c, k in product(range(B), range(C), range(K))
    ]
    return torch.stack(out).view(B, C * K)


def gradients(out: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad((out * torch.arange(1.0, out.numel() + 1).view_as(out).sin()).sum(), inputs)


def test_vcn_is_equations_6_and_7_in_value_and_gradient():
    m, vcn = a_map(), VerticalConvolution(C, H, K).double()

    out, expected = vcn(m), literal_spatial(literal_pooled(m), vcn.kernels)

    assert vcn.width == C * K
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(gradients(out, m, vcn.kernels), gradients(expected, m, vcn.kernels))


def test_vcn_is_a_grouped_convolution_in_value_and_gradient():
    f = torch.randn(B, C, H, dtype=torch.float64, requires_grad=True)
    kernels = torch.randn(C, K, H, dtype=torch.float64, requires_grad=True)

    out = vertical_convolution(f, kernels).flatten(1)

    expected = F.conv2d(f[..., None], kernels.reshape(C * K, 1, H, 1), groups=C).flatten(1)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(gradients(out, f, kernels), gradients(expected, f, kernels))


def test_shared_kernels_are_the_same_for_every_channel():
    m, vcn = a_map(), VerticalConvolution(C, H, K, shared=True).double()

    out = vcn(m)

    assert vcn.kernels.shape == (K, H)
    torch.testing.assert_close(out, literal_spatial(literal_pooled(m), vcn.kernels.repeat(C, 1, 1)))


def test_without_horizontal_pooling_the_kernels_see_every_column():
    m = a_map()
    vcn = ColumnwiseVerticalConvolution(C, H, K, W, "pooled").double()
    aside = ColumnwiseVerticalConvolution(C, H, K, W, "side by side").double()
    aside.load_state_dict(vcn.state_dict())

    columns = torch.stack([literal_spatial(m[..., w], vcn.kernels) for w in range(W)], 2)  # (B, C K, W)

    assert (vcn.width, aside.width) == (C * K, C * K * W)
    torch.testing.assert_close(vcn(m), columns.mean(2) + columns.max(2).values)
    torch.testing.assert_close(aside(m), columns.flatten(1))


@pytest.mark.parametrize(
    "head",
    [
        VerticalConvolution(C, H, K),
        VerticalConvolution(C, H, K, shared=True),
        ColumnwiseVerticalConvolution(C, H, K, W, "pooled"),
    ],
    ids=["vcn", "shared", "columns"],
)
def test_a_map_of_twice_the_height_is_averaged_in_pairs_of_rows(head):
    m = a_map(2 * H)
    halved = (m[:, :, 0::2] + m[:, :, 1::2]) / 2

    torch.testing.assert_close(head.double()(m), head.double()(halved))


@pytest.mark.parametrize("height", [4, 24])
def test_kernels_start_uniform_as_those_of_a_convolution(height):
    def spread(kernels: Tensor) -> list[float]:
        return [kernels.min().item(), kernels.max().item(), kernels.std().item()]

    torch.manual_seed(0)
    expected = spread(torch.nn.Conv2d(500, 3000, (height, 1), groups=500, bias=False).weight.detach())

    assert spread(VerticalConvolution(500, height, 6).kernels) == pytest.approx(expected, rel=0.02)
    columnwise = ColumnwiseVerticalConvolution(500, height, 6, 1, "pooled")
    assert spread(columnwise.kernels) == pytest.approx(expected, rel=0.02)
    assert abs(VerticalConvolution(1, height, 999, shared=True).kernels).max() <= height**-0.5


def test_gp_ignores_where_and_the_vcn_does_not():
    m = a_map()
    upside_down, mirrored = m.flip(2), m.flip(3)
    gp, vcn = GlobalPooling(C), VerticalConvolution(C, H, K).double()

    torch.testing.assert_close(gp(m), m.mean((2, 3)) + m.flatten(2).max(2).values)
    torch.testing.assert_close(gp(m), gp(upside_down))
    torch.testing.assert_close(vcn(m), vcn(mirrored))
    assert (vcn(m) - vcn(upside_down)).abs().max() > 0.1


def test_fc_lengthens_gp_to_the_width_of_the_vcn():
    m, lengthened = a_map(), LengthenedPooling(C, K).double()

    expected = GlobalPooling(C)(m) @ lengthened.fc.weight.mT + lengthened.fc.bias

    assert lengthened.width == C * K
    torch.testing.assert_close(lengthened(m), expected)


@pytest.mark.parametrize(
    ("height", "stripes"),
    [(6, [(0, 3), (3, 6), (0, 2), (2, 4), (4, 6)]), (4, [(0, 2), (2, 4), (0, 2), (1, 3), (2, 4)])],
)
def test_stripes_are_two_halves_and_three_thirds(height, stripes):
    m = a_map(height)

    expected = torch.cat([mean_and_max(m[:, :, start:end], (2, 3)) for start, end in stripes], 1)

    assert Stripes(C).width == 5 * C
    torch.testing.assert_close(Stripes(C)(m), expected)


@pytest.mark.parametrize("channels_last", [False, True])
def test_heads_run_in_bfloat16_under_autocast(channels_last):
    m = a_map().detach().float()
    if channels_last:
        m = m.contiguous(memory_format=torch.channels_last)
    heads = [
        VerticalConvolution(C, H, K),
        VerticalConvolution(C, H, K, shared=True),
        ColumnwiseVerticalConvolution(C, H, K, W, "pooled"),
        GlobalPooling(C),
        LengthenedPooling(C, K),
        Stripes(C),
    ]

    for head in heads:
        with torch.autocast("cpu", torch.bfloat16):
            out = head(m.bfloat16())
        torch.testing.assert_close(out.float(), head(m), rtol=0.03, atol=0.05)
