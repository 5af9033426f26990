import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from methods.spatial_transformer import (
    OriginalTransformer,
    SelfConstrainedTransformer,
    Settings,
    SpatialTransformer,
)

SIZE = (5, 3)
IDENTITY = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
AT_REST: Settings = {"start": "identity", "outside": "zeros", "align_corners": False}
KINDS = {
    "self-constrained": lambda **given: SelfConstrainedTransformer(SIZE, 7, **AT_REST | given),
    "fixed epsilon": lambda **given: SelfConstrainedTransformer(SIZE, 7, "fixed", **AT_REST | given),
    "stn": lambda **given: OriginalTransformer(SIZE, 7, rotation=True, **AT_REST | given),
    "stn without rotation": lambda **given: OriginalTransformer(SIZE, 7, rotation=False, **AT_REST | given),
}
OUTPUTS = {"self-constrained": 5, "fixed epsilon": 4, "stn": 6, "stn without rotation": 4}

each_kind = pytest.mark.parametrize("kind", KINDS)


def moving(kind: str, **settings) -> SpatialTransformer:
    """A transformer, in double precision and evaluation, whose transforms differ from map to map."""
    torch.manual_seed(0)
    transformer = KINDS[kind](**settings).double().eval()
    for norm in (transformer.bn1, transformer.bn2):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.3, 0.5)
        norm.running_mean.uniform_(-0.2, 0.2)
        norm.running_var.uniform_(0.05, 0.2)
    return transformer


def maps(count: int = 3, channels: int = 2) -> Tensor:
    return torch.randn(
        count, channels, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )


def constant(transformer: SpatialTransformer, x: list[float]) -> SpatialTransformer:
    """Makes BN2 give x for every map."""
    nn.init.zeros_(transformer.bn2.weight)
    transformer.bn2.bias.data = torch.tensor(x, dtype=transformer.bn2.bias.dtype)
    return transformer.eval()


# The equations, written out


def literal_x(transformer: SpatialTransformer, m: Tensor) -> Tensor:
    """Eq. 3 and 4 without the tanh, in evaluation."""
    channels = m.shape[1]
    f_stn = sum(m[:, c] for c in range(channels)) / channels
    f = torch.stack([f_stn[:, h, w] for h in range(m.shape[2]) for w in range(m.shape[3])], 1)

    def layer(x: Tensor, fc: nn.Linear, bn: nn.BatchNorm1d) -> Tensor:
        x = torch.einsum("bi,oi->bo", x, fc.weight) + fc.bias
        return (x - bn.running_mean) / (bn.running_var + bn.eps).sqrt() * bn.weight + bn.bias

    hidden = layer(f, transformer.fc1, transformer.bn1).clamp(min=0)
    return layer(hidden, transformer.fc2, transformer.bn2)


def literal_matrix(kind: str, x: list[float], epsilon_max: float = 0.4) -> list[list[float]]:
    """Eq. 5 for one map, and its counterparts."""
    if kind == "stn":
        return [[1 + x[0], x[1], x[2]], [x[3], 1 + x[4], x[5]]]
    if kind == "stn without rotation":
        return [[1 + x[0], 0, x[2]], [0, 1 + x[1], x[3]]]
    t = [math.tanh(value) for value in x]
    if kind == "fixed epsilon":
        t = [1.0, *t]
    epsilon = epsilon_max * (t[0] + 1) / 2
    s_w, s_h, t_w, t_h = 1 + epsilon * t[1], 1 + epsilon * t[2], epsilon * t[3], epsilon * t[4]
    return [[s_w, 0, t_w], [0, s_h, t_h]]


def literal_warp(m: Tensor, matrices: Tensor, outside: str, align_corners: bool) -> Tensor:
    """Eq. 1 and bilinear sampling, one position at a time."""
    b, _, height, width = m.shape
    out = torch.zeros_like(m)

    def coordinate(i: int, n: int) -> float:
        return 2 * i / (n - 1) - 1 if align_corners else (2 * i + 1) / n - 1

    def index(x: float, n: int) -> float:
        i = (x + 1) / 2 * (n - 1) if align_corners else ((x + 1) * n - 1) / 2
        return min(max(i, 0), n - 1) if outside == "border" else i

    for image, h, w in product(range(b), range(height), range(width)):
        target = torch.tensor([coordinate(w, width), coordinate(h, height), 1], dtype=m.dtype)
        x, y = (matrices[image] @ target).tolist()
        column, row = index(x, width), index(y, height)
        for i, j in product(range(height), range(width)):
            share = max(0, 1 - abs(row - i)) * max(0, 1 - abs(column - j))
            out[image, :, h, w] += share * m[image, :, i, j]
    return out


@each_kind
def test_matrices_are_equations_3_to_5(kind):
    transformer, m = moving(kind), maps()

    expected = [literal_matrix(kind, x) for x in literal_x(transformer, m).tolist()]

    matrices = transformer.matrices(m)
    torch.testing.assert_close(matrices, torch.tensor(expected, dtype=torch.float64))
    assert (matrices[0] - matrices[1]).abs().max() > 0.01  # each map has its own


@each_kind
@pytest.mark.parametrize("outside", ["zeros", "border"])
@pytest.mark.parametrize("align_corners", [False, True])
def test_warp_is_equation_1_sampled_bilinearly(kind, outside, align_corners):
    transformer = moving(kind, outside=outside, align_corners=align_corners)
    m = maps()

    expected = literal_warp(m, transformer.matrices(m), outside, align_corners)

    torch.testing.assert_close(transformer(m), expected)
    assert (expected - m).abs().max() > 0.1


@given(
    x=st.lists(st.floats(-50, 50), min_size=5, max_size=5),
    epsilon_max=st.sampled_from([0.4, 1.0, 0.1]),
    epsilon=st.sampled_from(["learned", "fixed"]),
)
@settings(max_examples=100, deadline=None)
def test_self_constrained_factors_stay_within_their_own_error(x, epsilon_max, epsilon):
    transformer = SelfConstrainedTransformer(SIZE, 7, epsilon, epsilon_max, **AT_REST)
    given = x if epsilon == "learned" else x[1:]

    (s_w, r_h, t_w), (r_w, s_h, t_h) = transformer.affine(torch.tensor([given], dtype=torch.float64))[
        0
    ].tolist()

    error = epsilon_max if epsilon == "fixed" else epsilon_max * (math.tanh(x[0]) + 1) / 2
    assert r_h == r_w == 0
    assert all(abs(factor) <= error * (1 + 1e-9) <= epsilon_max * (1 + 1e-8) for factor in (t_w, t_h))
    assert all(abs(factor - 1) <= error + 1e-9 for factor in (s_w, s_h))
    kind = "self-constrained" if epsilon == "learned" else "fixed epsilon"
    torch.testing.assert_close(
        torch.tensor([[s_w, r_h, t_w], [r_w, s_h, t_h]]),
        torch.tensor(literal_matrix(kind, given, epsilon_max)),
    )


@each_kind
def test_every_transform_is_the_identity_at_first(kind):
    transformer, m = KINDS[kind](), maps(6).float()

    torch.testing.assert_close(transformer.matrices(m), IDENTITY.repeat(6, 1, 1), rtol=0, atol=0)
    torch.testing.assert_close(transformer(m), m, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(transformer.eval()(m), m, rtol=1e-4, atol=1e-5)


@each_kind
def test_a_random_start_spreads_around_the_identity(kind):
    torch.manual_seed(0)
    x = KINDS[kind](start="random").matrices(maps(200).float()) - IDENTITY

    free = [0, 1, 2, 3, 4, 5] if kind == "stn" else [0, 2, 4, 5]
    spread, centre = x.flatten(1).std(0)[free], x.flatten(1).mean(0)[free]
    if kind.startswith("stn"):
        torch.testing.assert_close(spread, torch.ones(len(free)), rtol=0.02, atol=0)
    else:
        assert (spread > 0.05).all() and (spread < 0.4).all()
    assert (centre.abs() < 0.1).all()


@pytest.mark.parametrize("kind", ["stn", "stn without rotation"])
def test_a_start_anywhere_is_a_random_start_without_the_identity(kind):
    m = maps(50).float()
    torch.manual_seed(0)
    around = KINDS[kind](start="random").matrices(m)
    torch.manual_seed(0)
    anywhere = KINDS[kind](start="anywhere").matrices(m)

    torch.testing.assert_close(anywhere + IDENTITY, around)


def test_a_translation_by_one_position_shifts_the_map_and_lets_zeros_in():
    height, width = SIZE
    m = maps()
    shift = math.atanh(2 / height)  # positions are 2 / height apart
    sideways = math.atanh(2 / width)
    down = constant(SelfConstrainedTransformer(SIZE, 7, "fixed", 1.0, **AT_REST).double(), [0, 0, 0, shift])
    left = constant(
        SelfConstrainedTransformer(SIZE, 7, "fixed", 1.0, **AT_REST).double(), [0, 0, -sideways, 0]
    )

    below, before = torch.zeros_like(m), torch.zeros_like(m)
    below[:, :, :-1] = m[:, :, 1:]  # t_h > 0: each row shows the row below it
    before[..., 1:] = m[..., :-1]
    torch.testing.assert_close(down(m), below)
    torch.testing.assert_close(left(m), before)


def test_a_scale_below_one_zooms_into_the_middle():
    m = torch.arange(5.0).view(1, 1, 5, 1).repeat(1, 1, 1, 3)
    zoomed = constant(
        SelfConstrainedTransformer(SIZE, 7, "fixed", 1.0, **AT_REST), [0, math.atanh(-0.5), 0, 0]
    )(m)

    torch.testing.assert_close(zoomed[0, 0, :, 1], torch.tensor([1.0, 1.5, 2.0, 2.5, 3.0]))


@each_kind
def test_both_layers_and_both_norms_are_learnt_and_nothing_else(kind):
    hidden, outputs = 7, OUTPUTS[kind]

    count = sum(p.numel() for p in KINDS[kind]().parameters())

    assert count == (5 * 3 + 1) * hidden + 2 * hidden + (hidden + 1) * outputs + 2 * outputs


@each_kind
def test_gradients_reach_every_layer_and_the_map_in_both_ways(kind):
    transformer, m = moving(kind).train(), maps(6).requires_grad_()
    target = torch.randn(6, 2, *SIZE, dtype=torch.float64)

    (transformer(m) * target).sum().backward()
    assert all(
        p.grad is not None and p.grad.any() for n, p in transformer.named_parameters() if n != "fc1.bias"
    )
    whole = m.grad.clone()

    m.grad = None
    with torch.no_grad():
        matrices = transformer.matrices(m)
    transformer.matrices = lambda _: matrices
    (transformer(m) * target).sum().backward()
    assert m.grad.any()  # through the samples
    assert (whole - m.grad).abs().max() > 1e-3  # and through f_stn


@each_kind
def test_it_learns_from_its_start_to_undo_a_shift(kind):
    """At the identity every sample lies on a position, where a careless warp has no gradient."""
    torch.manual_seed(0)
    transformer = KINDS[kind]()
    rows = torch.randint(2, (64,)) * 2 - 1  # up or down by a row
    aligned = torch.zeros(64, 1, 7, 3)
    aligned[:, :, 2:5] = torch.tensor([1.0, 3.0, 2.0]).view(3, 1)
    shifted = torch.stack([a.roll(int(r), 1) for a, r in zip(aligned, rows, strict=True)])[:, :, 1:6]
    aligned = aligned[:, :, 1:6]
    optimizer = torch.optim.Adam(transformer.parameters(), 0.01)
    errors = []
    for _ in range(60):
        error = (transformer(shifted) - aligned).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())

    assert errors[-1] < 0.4 * errors[0]


@each_kind
@pytest.mark.parametrize("channels_last", [False, True])
def test_bfloat16_maps_are_warped_in_float32_under_autocast(kind, channels_last):
    transformer, m = moving(kind).float(), maps().bfloat16()
    if channels_last:
        m = m.contiguous(memory_format=torch.channels_last)

    with torch.autocast("cpu", torch.bfloat16):
        matrices, warped = transformer.matrices(m), transformer(m)

    assert warped.dtype == matrices.dtype == torch.float32
    torch.testing.assert_close(matrices, transformer.matrices(m.float()), rtol=0, atol=0)
    torch.testing.assert_close(warped, transformer(m.float()), rtol=0, atol=1e-6)
