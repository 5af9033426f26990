import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from methods.irnn import DIRECTIONS, FourDirectionIRNN, StackedIRNN, sweeps
from tests.methods.irnn_literal import literal_layer, literal_stack, literal_sweeps

RECURRENCES = ["dense", "diagonal"]


def weights(hidden: int, recurrence: str, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(4, *[hidden] * (2 if recurrence == "dense" else 1), dtype=dtype).requires_grad_()


@given(
    images=st.integers(0, 3),
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    hidden=st.integers(1, 4),
    recurrence=st.sampled_from(RECURRENCES),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_sweeps_are_the_loop_over_cells_in_value_and_gradient(images, size, hidden, recurrence, seed):
    torch.manual_seed(seed)
    x = torch.randn(images, *size, hidden, dtype=torch.float64).requires_grad_()
    w, given_x = weights(hidden, recurrence), x.detach().clone()
    out = torch.randn(images, *size, 4 * hidden, dtype=torch.float64)

    found, expected = (f(x, w) for f in (sweeps, literal_sweeps))

    torch.testing.assert_close(found, expected)
    assert torch.equal(x, given_x)
    gradients, literal = (
        torch.autograd.grad(y, (x, w), out, materialize_grads=True) for y in (found, expected)
    )
    torch.testing.assert_close(gradients, literal)


@pytest.mark.parametrize("recurrence", RECURRENCES)
@pytest.mark.parametrize("shape", [(1, 3, 3, 2), (2, 2, 3, 2)])
def test_gradients_are_those_of_small_differences(shape, recurrence):
    torch.manual_seed(1)
    x = torch.randn(*shape, dtype=torch.float64).requires_grad_()
    w = weights(shape[-1], recurrence)

    assert torch.autograd.gradcheck(sweeps, (x, w))


def test_sweeps_by_hand():
    """A row and a column; lines start with the ReLU of their first cell, and a negative sum starts anew."""
    x = torch.tensor([1.0, -2.0, 3.0])
    one = torch.ones(4, 1, 1)

    right, left, down, up = sweeps(x.view(1, 1, 3, 1), one)[0, 0].unbind(1)

    assert right.tolist() == [1, 0, 3] and left.tolist() == [2, 1, 3]
    assert down.tolist() == up.tolist() == [1, 0, 3]  # lines of one cell
    turned = sweeps(x.view(1, 3, 1, 1), one)[0, :, 0]
    assert torch.equal(turned, torch.stack((down, up, right, left), 1))


@pytest.mark.parametrize("size", [(3, 3), (2, 4)])
@pytest.mark.parametrize("i", range(4), ids=DIRECTIONS)
def test_each_direction_has_its_own_weights(i, size):
    torch.manual_seed(0)
    x, w = torch.rand(1, *size, 2), torch.eye(2).expand(4, 2, 2).clone()
    before = sweeps(x, w)

    w[i] *= 0.5

    changed = (sweeps(x, w) != before).unflatten(3, (4, 2)).any(4).any(1).any(1)[0]
    assert changed.tolist() == [direction == i for direction in range(4)]


@pytest.mark.parametrize("recurrence", RECURRENCES)
@pytest.mark.parametrize("size", [(3, 3), (4, 2)])
def test_layers_are_convolutions_and_sweeps(recurrence, size):
    torch.manual_seed(0)
    x = torch.randn(2, 5, *size, dtype=torch.float64)
    layer = FourDirectionIRNN(5, 3, recurrence).double()
    stack = StackedIRNN(5, 3, 0.5, recurrence).double().eval()
    for parameter in (layer.w_hh, stack.first.w_hh, stack.second.w_hh):
        nn.init.normal_(parameter)

    assert layer(x).shape == (2, 12, *size) and stack(x).shape == x.shape
    torch.testing.assert_close(layer(x), literal_layer(x, layer))
    torch.testing.assert_close(stack(x), literal_stack(x, stack))


@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_recurrent_weights_start_as_the_identity(recurrence):
    w = FourDirectionIRNN(5, 3, recurrence).w_hh

    matrices = w if recurrence == "dense" else torch.diag_embed(w)
    assert torch.equal(matrices, torch.eye(3).expand(4, 3, 3))


def size_of(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("recurrence", "recurrent"), [("dense", 1_048_576), ("diagonal", 2048)])
def test_parameter_counts(recurrence, recurrent):
    """At 512 channels and hidden units: 4 x 512^2 a dense layer."""
    with torch.device("meta"):
        stack = StackedIRNN(512, 512, 0.5, recurrence)

    assert stack.first.w_hh.numel() == stack.second.w_hh.numel() == recurrent
    assert size_of(stack.first) == 262_656 + recurrent
    assert size_of(stack.second) == 1_049_088 + recurrent
    assert size_of(stack) == 262_656 + 2 * 1_049_088 + 2 * recurrent


def test_after_two_layers_each_position_knows_all():
    """Of the first, a position knows its row and its column."""
    torch.manual_seed(0)
    x = torch.rand(1, 2, 4, 3).requires_grad_()
    stack = StackedIRNN(2, 6)
    for layer in (stack.first.input, stack.second.input):
        nn.init.uniform_(layer.weight)  # so that no ReLU is off

    one = torch.autograd.grad(stack.first(x)[0, :, 1, 2].sum(), x)[0][0].sum(0) != 0
    both = torch.autograd.grad(stack(x)[0, :, 1, 2].sum(), x)[0][0].sum(0) != 0

    assert one.tolist() == [[i == 1 or j == 2 for j in range(3)] for i in range(4)]
    assert both.all()


def test_dropout_is_on_the_hidden_states_of_both_layers_in_training_only():
    torch.manual_seed(0)
    stack, x = StackedIRNN(3, 8, 0.5), torch.randn(2, 3, 4, 4)
    for layer in (stack.first.input, stack.second.input):
        nn.init.uniform_(layer.weight)
        nn.init.constant_(layer.bias, 20)  # no hidden state is 0 by itself
    given_states: list[Tensor] = []
    for layer in (stack.second.input, stack.output):
        layer.register_forward_hook(lambda _module, given, _made: given_states.append(given[0]))

    stack(x)
    shares = [(states == 0).float().mean().item() for states in given_states]
    given_states.clear()
    stack.eval()(x)

    assert shares == pytest.approx([0.5, 0.5], abs=0.1)
    assert all((states != 0).all() for states in given_states)


@pytest.mark.parametrize("size", [(4, 4), (3, 5)])
@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_bfloat16_autocast(recurrence, size):
    torch.manual_seed(0)
    stack = StackedIRNN(6, 8, 0.0, recurrence)
    x = torch.randn(2, 6, *size).requires_grad_()
    expected = stack(x)
    gradients = torch.autograd.grad(expected.square().sum(), (x, *stack.parameters()))

    with torch.autocast("cpu", torch.bfloat16):
        found = stack(x)
        rounded = torch.autograd.grad(found.float().square().sum(), (x, *stack.parameters()))

    assert found.dtype == torch.bfloat16
    for ours, exact in zip((found, *rounded), (expected, *gradients), strict=True):
        assert (ours - exact).norm() < 0.1 * exact.norm()
    assert all(g.dtype == torch.float32 for g in rounded)


def test_float32_maps_stay_float32_under_autocast():
    torch.manual_seed(0)
    x, w = torch.randn(1, 3, 3, 4).requires_grad_(), weights(4, "dense", torch.float32)
    expected = sweeps(x, w)
    gradients = torch.autograd.grad(expected.sum(), (x, w))

    with torch.autocast("cpu", torch.bfloat16):
        found = sweeps(x, w)
        under_autocast = torch.autograd.grad(found.sum(), (x, w))

    torch.testing.assert_close((found, *under_autocast), (expected, *gradients))


@pytest.mark.gpu
@pytest.mark.parametrize("recurrence", RECURRENCES)
@pytest.mark.parametrize("size", [(5, 5), (3, 6)])
def test_cuda_gives_the_values_and_gradients_of_a_cpu(recurrence, size):
    torch.manual_seed(0)
    x, w = torch.randn(3, *size, 8, dtype=torch.float64).requires_grad_(), weights(8, recurrence)
    out = torch.randn(3, *size, 32, dtype=torch.float64)
    expected = sweeps(x, w)

    found = sweeps(x.cuda(), w.cuda())

    torch.testing.assert_close(found.cpu(), expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, (x, w), out.cuda()), torch.autograd.grad(expected, (x, w), out)
    )
