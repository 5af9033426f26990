"""Eq. 4 of the MI-IRNN paper read literally, cell by cell, for tests and benchmarks."""

import torch
from torch import Tensor

from methods.irnn import DIRECTIONS, FourDirectionIRNN, StackedIRNN

STEPS = {"right": (0, 1), "left": (0, -1), "down": (1, 0), "up": (-1, 0)}
"""How a sweep moves on the map, in rows and columns."""


def literal_sweeps(x: Tensor, weight: Tensor) -> Tensor:
    """Each cell of each direction by itself, for the whole batch: (B, h, w, H) -> (B, h, w, 4 H)."""
    _, height, width, _ = x.shape
    maps = []
    for direction, w_hh in zip(DIRECTIONS, weight, strict=True):
        down, right = STEPS[direction]
        rows = range(height) if down >= 0 else reversed(range(height))
        cells: dict[tuple[int, int], Tensor] = {}
        for i in rows:
            for j in range(width) if right >= 0 else reversed(range(width)):
                before = cells.get((i - down, j - right))
                cells[i, j] = x[:, i, j] if before is None else literal_step(before, w_hh) + x[:, i, j]
                cells[i, j] = cells[i, j].clamp(min=0)
        maps.append(
            torch.stack([torch.stack([cells[i, j] for j in range(width)], 1) for i in range(height)], 1)
        )
    return torch.cat(maps, 3)


def literal_step(h: Tensor, w_hh: Tensor) -> Tensor:
    """W_hh h for each image of a batch, (B, H), of a matrix or of a diagonal."""
    return h @ w_hh.mT if w_hh.dim() == 2 else h * w_hh


def literal_convolution(x: Tensor, layer: torch.nn.Linear) -> Tensor:
    """A 1x1 convolution, (B, C, h, w) -> (B, h, w, H)."""
    return torch.einsum("hc,bcij->bijh", layer.weight, x) + layer.bias


def literal_layer(x: Tensor, layer: FourDirectionIRNN) -> Tensor:
    """One IRNN layer, (B, C, h, w) -> (B, 4 H, h, w)."""
    return literal_sweeps(literal_convolution(x, layer.input), layer.w_hh).permute(0, 3, 1, 2)


def literal_stack(x: Tensor, stack: StackedIRNN) -> Tensor:
    """Both layers and the last 1x1 convolution, without dropout, (B, C, h, w) -> (B, C, h, w)."""
    x = literal_layer(literal_layer(x, stack.first), stack.second)
    return literal_convolution(x, stack.output).permute(0, 3, 1, 2)
