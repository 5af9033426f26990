import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from methods.oim import OnlineInstanceMatching


class LiteralMatching(torch.autograd.Function):
    """The definition: similarities forward; backward the gradient, then the table, image after image."""

    @staticmethod
    def forward(ctx, x: Tensor, pids: Tensor, table: Tensor, momentum: float) -> Tensor:
        ctx.save_for_backward(x, pids)
        ctx.table, ctx.momentum = table, momentum
        return torch.stack([torch.stack([v.dot(row) for v in table]) for row in x])

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, pids = ctx.saved_tensors
        to_x = torch.stack([sum(g * v for g, v in zip(row, ctx.table, strict=True)) for row in gradient])
        for row, t in zip(x, pids.tolist(), strict=True):
            moved = ctx.momentum * ctx.table[t] + (1 - ctx.momentum) * row
            ctx.table[t] = moved / moved.square().sum().sqrt()
        return to_x, None, None, None


def literal_step(x: Tensor, pids: Tensor, table: Tensor, scalar: float, momentum: float):
    """Loss and gradient of one batch; ``table`` is updated."""
    x = x.clone().requires_grad_()
    logits = scalar * LiteralMatching.apply(x, pids, table, momentum)
    loss = torch.stack(
        [-(row[t].exp() / row.exp().sum()).log() for row, t in zip(logits, pids, strict=True)]
    ).mean()
    return loss.detach(), torch.autograd.grad(loss, x)[0]


def step(matching: OnlineInstanceMatching, x: Tensor, pids: Tensor):
    x = x.clone().requires_grad_()
    loss = matching(x, pids)
    return loss.detach(), torch.autograd.grad(loss, x)[0]


def units(*shape: int) -> Tensor:
    return F.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1)


@given(
    batches=st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=7), min_size=1, max_size=3),
    dim=st.integers(1, 6),
    scalar=st.sampled_from([1.0, 10.0, 30.0]),
    momentum=st.sampled_from([0.0, 0.5, 0.9]),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_batches_in_a_row_are_the_definition_in_value_gradient_and_table(
    batches, dim, scalar, momentum, seed
):
    torch.manual_seed(seed)
    matching = OnlineInstanceMatching(5, dim, scalar, momentum).double()
    table = torch.zeros(5, dim, dtype=torch.float64)
    for pids in map(torch.tensor, batches):
        x = torch.randn(len(pids), dim, dtype=torch.float64)  # as after dropout: not of length 1

        got, expected = step(matching, x, pids), literal_step(x, pids, table, scalar, momentum)

        torch.testing.assert_close(got, expected)
        torch.testing.assert_close(matching.table, table)


def test_the_second_image_of_a_person_meets_the_row_that_the_first_one_left():
    """Each step ends at length 1, so the mean of both images, or the other order, would give another row."""
    matching = OnlineInstanceMatching(2, 2, 30.0, 0.5).double()
    x = torch.tensor([[1.0, 0.0], [0.0, 4.0]], dtype=torch.float64)

    matching(x, torch.tensor([1, 1]))

    expected = torch.tensor([[0.0, 0.0], [1 / math.sqrt(17), 4 / math.sqrt(17)]], dtype=torch.float64)
    torch.testing.assert_close(matching.table, expected)


def test_an_empty_table_costs_the_logarithm_of_the_number_of_people_and_teaches_nothing():
    loss, gradient = step(OnlineInstanceMatching(7, 3, 30.0, 0.5).double(), units(4, 3), torch.arange(4))

    assert loss.item() == pytest.approx(math.log(7))
    assert not gradient.any()


def test_rows_have_length_one_or_are_still_empty():
    matching = OnlineInstanceMatching(6, 4, 30.0, 0.5).double()
    for _ in range(3):
        matching(3 * units(8, 4), torch.arange(8) % 4)

    lengths = matching.table.norm(dim=1)

    torch.testing.assert_close(lengths, torch.tensor([1.0, 1, 1, 1, 0, 0], dtype=torch.float64))


def test_a_feature_of_zeros_leaves_the_table_finite():
    matching = OnlineInstanceMatching(2, 3, 30.0, 0.5)

    loss = matching(torch.zeros(2, 3), torch.tensor([0, 0]))

    assert loss.isfinite() and not matching.table.any()


def test_the_table_moves_once_a_training_step_and_never_in_evaluation():
    matching = OnlineInstanceMatching(3, 4, 30.0, 0.5).double()
    x, pids = units(3, 4).requires_grad_(), torch.arange(3)

    loss = matching(x, pids)
    after_forward = matching.table.clone()
    loss.backward()
    assert torch.equal(matching.table, after_forward) and after_forward.any()

    matching.eval()(units(3, 4).requires_grad_(), pids).backward()
    assert torch.equal(matching.table, after_forward)


def test_evaluation_gives_the_loss_of_the_table_as_it_is():
    matching = OnlineInstanceMatching(3, 4, 2.0, 0.5).double()
    matching(units(3, 4), torch.arange(3))
    x, pids = units(5, 4), torch.tensor([0, 2, 2, 1, 0])

    expected = F.cross_entropy(2 * x @ matching.table.T, pids)

    torch.testing.assert_close(matching.eval()(x, pids), expected)


def test_the_table_is_state_but_no_parameter():
    matching, copy = (OnlineInstanceMatching(3, 4, 30.0, 0.5) for _ in range(2))
    matching(torch.randn(3, 4), torch.arange(3))

    copy.load_state_dict(matching.state_dict())

    assert not list(matching.parameters())
    assert torch.equal(copy.table, matching.table) and copy.table.any()


def test_bfloat16_features_are_matched_in_float32():
    """Similarities times 30 keep three digits in bfloat16, and a table in it would hardly move any more."""
    torch.manual_seed(0)
    low, full = (OnlineInstanceMatching(5, 16, 30.0, 0.9) for _ in range(2))
    pids = torch.arange(10) % 5
    for _ in range(3):
        x = F.normalize(torch.randn(10, 16)).bfloat16()
        with torch.autocast("cpu", torch.bfloat16):
            loss = low(x, pids)
        expected = full(x.float(), pids)

        torch.testing.assert_close(loss, expected, rtol=0, atol=0)
        torch.testing.assert_close(low.table, full.table, rtol=0, atol=0)
    assert loss.dtype == low.table.dtype == torch.float32


@pytest.mark.gpu
def test_cuda_is_the_processor():
    torch.manual_seed(0)
    cpu = OnlineInstanceMatching(5, 16, 30.0, 0.5)
    cuda = OnlineInstanceMatching(5, 16, 30.0, 0.5).cuda()
    for _ in range(3):
        x, pids = F.normalize(torch.randn(12, 16)), torch.randint(5, (12,))
        torch.testing.assert_close(cuda(x.cuda(), pids.cuda()).cpu(), cpu(x, pids), rtol=1e-4, atol=1e-5)

    torch.testing.assert_close(cuda.table.cpu(), cpu.table, rtol=1e-4, atol=1e-5)
