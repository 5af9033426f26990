"""The vertical convolution network (VCN), and what is put in its place to show what it is good for.

Peng et al., ACM MM 2020 (``methods.sc_stn``), section 3.2, equations 6 and 7, and section 4.4. Each module
makes a vector of a map M^r and knows the vector's width.
Shapes: B images, C channels, H x W positions, K kernels.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Columns = Literal["pooled", "side by side"]


def mean_and_max(x: Tensor, dims: int | tuple[int, ...]) -> Tensor:
    """Average pooling and max pooling over ``dims``, added."""
    return x.mean(dims) + x.amax(dims)


def vertical_convolution(f: Tensor, kernels: Tensor) -> Tensor:
    """f^s(c, k) = sum over h of F(c, h) delta_k^c(h) (eq. 7), (B, C, H) -> (B, C, K).

    This is a convolution of F as C x H x 1 with kernels of H x 1 and a group for each channel. As one matrix
    product a channel it is 7 times as fast on a CPU as torch's grouped convolution.

    Args:
        f: (B, C, H).
        kernels: delta, (C, K, H), or (K, H) for kernels that all channels share.
    """
    return torch.einsum("bch,ckh->bck" if kernels.ndim == 3 else "bch,kh->bck", f, kernels)


class VerticalConvolution(nn.Module):
    """The VCN: pooling over the width, then K kernels over the height for each channel (eq. 6 and 7).

    Kernels start as those of torch's convolutions do, uniform within 1 / sqrt(H).

    Args:
        channels: C.
        height: of the kernels; a higher map is averaged to it.
        kernels: K.
        shared: whether all channels have the same K kernels.
    """

    def __init__(self, channels: int, height: int, kernels: int, *, shared: bool = False) -> None:
        super().__init__()
        self.width = channels * kernels
        self.kernels = nn.Parameter(torch.empty((kernels, height) if shared else (channels, kernels, height)))
        nn.init.uniform_(self.kernels, -(height**-0.5), height**-0.5)

    def forward(self, m: Tensor) -> Tensor:
        """f^s before its BN, the K values of a channel side by side: (B, C, H, W) -> (B, C K)."""
        f = mean_and_max(_of_height(m, self.kernels.shape[-1]), 3)  # eq. 6, (B, C, H)
        return vertical_convolution(f, self.kernels).flatten(1)


class ColumnwiseVerticalConvolution(nn.Module):
    """The VCN without horizontal pooling: the kernels run over every column of the map.

    Args:
        channels: C.
        height: of the kernels; a higher map is averaged to it.
        kernels: K.
        columns: W; what the kernels make of them is pooled over the width, as eq. 6 pools, or kept
            side by side.
        keep: which of the two.
    """

    def __init__(self, channels: int, height: int, kernels: int, columns: int, keep: Columns) -> None:
        super().__init__()
        self.keep = keep
        self.width = channels * kernels * (columns if keep == "side by side" else 1)
        self.kernels = nn.Parameter(torch.empty(channels, kernels, height))
        nn.init.uniform_(self.kernels, -(height**-0.5), height**-0.5)

    def forward(self, m: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C K), or (B, C K W) side by side."""
        m = _of_height(m, self.kernels.shape[-1])
        f = torch.einsum("bchw,ckh->bckw", m, self.kernels)
        return (mean_and_max(f, 3) if self.keep == "pooled" else f).flatten(1)


class GlobalPooling(nn.Module):
    """GP: average and max pooling over all positions, added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.width = channels

    def forward(self, m: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C)."""
        return mean_and_max(m, (2, 3))


class LengthenedPooling(nn.Module):
    """FC: GP and one fully connected layer to the VCN's width."""

    def __init__(self, channels: int, kernels: int) -> None:
        super().__init__()
        self.width = channels * kernels
        self.fc = nn.Linear(channels, self.width)

    def forward(self, m: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C K)."""
        lengthened: Tensor = self.fc(mean_and_max(m, (2, 3)))
        return lengthened


class Stripes(nn.Module):
    """MGN: the map in 2 and in 3 horizontal stripes, each pooled as in GP.

    Stripes of a height that does not divide share the rows between them.
    """

    grains = (2, 3)

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.width = channels * sum(self.grains)

    def forward(self, m: Tensor) -> Tensor:
        """Stripe after stripe, (B, C, H, W) -> (B, 5 C)."""
        stripes = [
            F.adaptive_avg_pool2d(m, (n, 1)) + F.adaptive_max_pool2d(m, (n, 1))  # (B, C, n, 1)
            for n in self.grains
        ]
        return torch.cat([pooled.squeeze(3).mT.flatten(1) for pooled in stripes], 1)


def _of_height(m: Tensor, height: int) -> Tensor:
    """The map with its rows averaged to ``height`` of them, at most as many as it has."""
    return m if m.shape[2] == height else F.adaptive_avg_pool2d(m, (height, m.shape[3]))
