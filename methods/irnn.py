"""Four-direction IRNN: recurrent layers that sweep over a map, so that each position knows all others.

Wu, Wang, Li and Gao, "Deep Spatially Multiplicative Integration Networks for Person Re-identification",
arXiv:1707.07074, section 3.3 and eq. 4, after Bell et al., "Inside-Outside Net", CVPR 2016. An IRNN is a
ReLU RNN whose recurrent matrix starts as the identity (Le, Jaitly and Hinton, arXiv:1504.00941).
Shapes: B images, C channels of the input, H hidden units, h x w positions; n steps of L lines in each of D
directions.

Open in the paper, and settled without an option: the border state is 0, so that the first cell of a line is
the ReLU of its input (as in stevewongv/DSC-PyTorch); the recurrence has no bias, that of the 1x1 convolution
stands for it (section 3.3); dropout is on the four concatenated hidden states, not inside the recurrence.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from methods.precision import without_autocast

Recurrence = Literal["dense", "diagonal"]

DIRECTIONS = ("right", "left", "down", "up")
"""Where a sweep moves to, in the order of the recurrent weights and of the concatenated hidden states."""


class _Recurrence(torch.autograd.Function):
    """h_t = max(W h_(t-1) + x_t, 0) of eq. 4 along the first axis, h_0 = max(x_0, 0), for all lines at once.

    With delta_t the gradient of x_t, and g_t that of h_t by its direct use:
    delta_t = (g_t + W^T delta_(t+1)) * [h_t > 0], and W gets the sum over t of delta_t h_(t-1)^T.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        """(n, D, B, m, H), and (D, H, H) or, of a diagonal W, (D, H) -> h like x, in the place of x."""
        h = x.flatten(2, 3)  # (n, D, L, H)
        with without_autocast(x.device):
            h[0].relu_()
            for t in range(1, len(h)):
                _add_product(h[t], h[t - 1], weight.mT if weight.dim() == 3 else weight).relu_()
        ctx.mark_dirty(x)
        ctx.save_for_backward(x, weight)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        """Of all steps, and of W by one product over all steps."""
        h, weight = ctx.saved_tensors
        h = h.flatten(2, 3)
        inactive = h <= 0
        delta = grad.flatten(2, 3).clone(memory_format=torch.contiguous_format)
        with without_autocast(h.device):
            delta[-1].masked_fill_(inactive[-1], 0)
            for t in range(len(h) - 1, 0, -1):
                _add_product(delta[t - 1], delta[t], weight).masked_fill_(inactive[t - 1], 0)
            of_weight = _outer_products(delta[1:], h[:-1], weight) if ctx.needs_input_grad[1] else None
        return delta.view_as(grad), of_weight


def _add_product(out: Tensor, h: Tensor, weight: Tensor) -> Tensor:
    """Adds h W, (D, L, H), to ``out`` in its place; W is (D, H, H), or a diagonal (D, H)."""
    if weight.dim() == 2:
        return out.addcmul_(h, weight[:, None])
    return out.baddbmm_(h, weight)


def _outer_products(delta: Tensor, h: Tensor, weight: Tensor) -> Tensor:
    """Sum of delta h^T over steps and lines, (n, D, L, H) each, in the shape of W."""
    if weight.dim() == 2:
        return (delta * h).sum((0, 2))
    delta, h = (x.transpose(0, 1).flatten(1, 2) for x in (delta, h))  # (D, n L, H)
    return delta.mT @ h


def sweeps(x: Tensor, weight: Tensor) -> Tensor:
    """The hidden states of the four directional sweeps of eq. 4 over a map, side by side.

    All lines of a direction take a step together, and on a square map all four directions do, in one batched
    product. The dtype is that of ``x``, under autocast too. The gradient needs the hidden states alone.

    Args:
        x: what the 1x1 convolution makes of the input, (B, h, w, H).
        weight: W_hh of the ``DIRECTIONS``, (4, H, H), or the diagonal of each, (4, H).

    Returns:
        (B, h, w, 4 H).
    """
    _, height, width, _ = x.shape
    weight = weight.to(x.dtype)
    together = (DIRECTIONS,) if height == width else (DIRECTIONS[:2], DIRECTIONS[2:])
    maps: list[Tensor] = []
    for directions, w_hh in zip(together, weight.chunk(len(together)), strict=True):
        lines = torch.stack([_lines(x, direction) for direction in directions], 1)  # (n, D, B, m, H)
        hidden = _Recurrence.apply(lines, w_hh)
        maps += [_map(h, direction) for h, direction in zip(hidden.unbind(1), directions, strict=True)]
    return torch.cat(maps, 3)


def _lines(x: Tensor, direction: str) -> Tensor:
    """A map (B, h, w, H) as the n steps of m lines that a sweep takes, (n, B, m, H)."""
    steps = x.permute(2, 0, 1, 3) if direction in ("right", "left") else x.permute(1, 0, 2, 3)
    return steps.flip(0) if direction in ("left", "up") else steps


def _map(steps: Tensor, direction: str) -> Tensor:
    """The inverse of ``_lines``."""
    steps = steps.flip(0) if direction in ("left", "up") else steps
    return steps.permute(1, 2, 0, 3) if direction in ("right", "left") else steps.permute(1, 0, 2, 3)


class FourDirectionIRNN(nn.Module):
    """One IRNN layer (section 3.3, Figure 5), (B, C, h, w) -> (B, 4 H, h, w).

    Parameters: C H + H of the 1x1 convolution, and 4 H^2 of the dense recurrence or 4 H of the diagonal one.

    Args:
        channels: C.
        hidden: H.
        recurrence: "dense" matrices W_hh, or "diagonal" ones.
    """

    def __init__(self, channels: int, hidden: int, recurrence: Recurrence = "dense") -> None:
        super().__init__()
        self.input = nn.Linear(channels, hidden)  # at each position: the 1x1 convolution of all directions
        start = torch.eye(hidden) if recurrence == "dense" else torch.ones(hidden)
        self.w_hh = nn.Parameter(start.expand(len(DIRECTIONS), *start.shape).clone())

    def forward(self, x: Tensor) -> Tensor:
        """Channels lie together in memory in what is returned (``channels_last``)."""
        hidden: Tensor = self.input(x.permute(0, 2, 3, 1))
        return sweeps(hidden, self.w_hh).permute(0, 3, 1, 2)


class StackedIRNN(nn.Module):
    """Two IRNN layers and a last 1x1 convolution back to the input's size (section 3.3), the pooling P.

    C -> H -> 4 H -> H -> 4 H -> C channels on the same h x w positions: the 1x1 convolution that mixes the
    four directions of the first layer, 4 H -> H, is the input convolution of the second.

    Args:
        channels: C.
        hidden: H.
        dropout: on the four hidden states of both layers.
        recurrence: see ``FourDirectionIRNN``.
    """

    def __init__(
        self, channels: int, hidden: int, dropout: float = 0.0, recurrence: Recurrence = "dense"
    ) -> None:
        super().__init__()
        self.first = FourDirectionIRNN(channels, hidden, recurrence)
        self.second = FourDirectionIRNN(len(DIRECTIONS) * hidden, hidden, recurrence)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(len(DIRECTIONS) * hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        x = self.dropout(self.first(x))
        x = self.dropout(self.second(x))
        y: Tensor = self.output(x.permute(0, 2, 3, 1))
        return y.permute(0, 3, 1, 2)
