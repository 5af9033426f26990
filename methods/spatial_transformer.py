"""Spatial transformers: networks that look at a feature map, choose an affine transform and warp the map.

SC-STN, Peng et al., ACM MM 2020 (``methods.sc_stn``), section 3.2, equations 1 to 5, and the original spatial
transformer (Jaderberg, Simonyan, Zisserman and Kavukcuoglu, NeurIPS 2015) that it is compared with.
Coordinates run from -1 to 1, over the width w and the height h of the map; a transform takes each place
of the output to the place of the input that is sampled there:
(w', h') = A (w, h, 1) with A = [[s_w, r_h, t_w], [r_w, s_h, t_h]] (eq. 1).
Shapes: B images, C channels, H x W positions.
"""

from typing import Literal, TypedDict, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.precision import at_least_float32, without_autocast

Start = Literal["identity", "random", "anywhere"]
Outside = Literal["zeros", "border"]


class Settings(TypedDict):
    """Settings of all transformers.

    Attributes:
        start: "random" is torch's initialisation, whose x has mean 0 and variance 1 over a batch from the
            first step; "identity" multiplies x by 0 at first (BN2's weight), so that no map is warped;
            "anywhere" is "random" for an original STN that adds no identity to x.
        outside: what is sampled beyond the map's edge: 0, or the nearest position at the edge.
        align_corners: whether -1 and 1 are the centres of the outermost positions, or their outer edges.
    """

    start: Start
    outside: Outside
    align_corners: bool


class SpatialTransformer(nn.Module):
    """Equations 1, 3 and 4; a subclass says how the layers' output x becomes the matrix A.

    Everything is computed in float32 or better, under autocast too: with 8 bits, places of the map
    could be told apart only to some hundredths of its height.

    Args:
        size: H and W of the maps, on which FC1 depends.
        hidden: outputs of FC1.
        outputs: outputs of FC2.
        settings: see ``Settings``.
    """

    def __init__(
        self, size: tuple[int, int], hidden: int, outputs: int, **settings: Unpack[Settings]
    ) -> None:
        super().__init__()
        self.start = settings["start"]
        self.outside = settings["outside"]
        self.align_corners = settings["align_corners"]
        self.fc1 = nn.Linear(size[0] * size[1], hidden)
        self.bn1 = nn.BatchNorm1d(hidden)
        self.fc2 = nn.Linear(hidden, outputs)
        self.bn2 = nn.BatchNorm1d(outputs)
        if self.start == "identity":
            nn.init.zeros_(self.bn2.weight)

    def forward(self, m: Tensor) -> Tensor:
        """M^r, which is M sampled bilinearly where A says, (B, C, H, W) -> (B, C, H, W)."""
        with without_autocast(m.device):
            m = at_least_float32(m)
            grid = F.affine_grid(self.matrices(m), list(m.shape), align_corners=self.align_corners)
            return F.grid_sample(m, grid, padding_mode=self.outside, align_corners=self.align_corners)

    def matrices(self, m: Tensor) -> Tensor:
        """A of eq. 1, (B, C, H, W) -> (B, 2, 3)."""
        with without_autocast(m.device):
            f_stn = at_least_float32(m).mean(1)  # eq. 3, (B, H, W)
            x = self.bn2(self.fc2(F.relu(self.bn1(self.fc1(f_stn.flatten(1))))))  # eq. 4 without its tanh
            return self.affine(x)

    def affine(self, x: Tensor) -> Tensor:
        """The layers' output as matrices, (B, outputs) -> (B, 2, 3)."""
        raise NotImplementedError


class SelfConstrainedTransformer(SpatialTransformer):
    """SC-STN: scaling and translation, no farther from the identity than an error epsilon (eq. 5).

    Args:
        epsilon: "learned" reads epsilon, between 0 and ``epsilon_max``, off each map; "fixed" is
            ``epsilon_max`` for all, and FC2 then has an output less.
        epsilon_max: above 0.
        size, hidden, settings: see ``SpatialTransformer``.
    """

    def __init__(
        self,
        size: tuple[int, int],
        hidden: int,
        epsilon: Literal["learned", "fixed"] = "learned",
        epsilon_max: float = 0.4,
        **settings: Unpack[Settings],
    ) -> None:
        super().__init__(size, hidden, 5 if epsilon == "learned" else 4, **settings)
        self.epsilon, self.epsilon_max = epsilon, epsilon_max

    def affine(self, x: Tensor) -> Tensor:
        """s_w, s_h in (1 - epsilon, 1 + epsilon) and t_w, t_h in (-epsilon, epsilon), (B, 2, 3)."""
        *x1, x2, x3, x4, x5 = x.tanh().unbind(1)
        epsilon = self.epsilon_max * (x1[0] + 1) / 2 if x1 else self.epsilon_max
        return scale_and_translate(1 + epsilon * x2, 1 + epsilon * x3, epsilon * x4, epsilon * x5)


class OriginalTransformer(SpatialTransformer):
    """The original STN: six free parameters, or four "without rotation", where r_w = r_h = 0.

    The identity is added to x, so that x = 0 is no transform, unless the start is "anywhere".
    """

    def __init__(
        self, size: tuple[int, int], hidden: int, rotation: bool = True, **settings: Unpack[Settings]
    ) -> None:
        super().__init__(size, hidden, 6 if rotation else 4, **settings)
        self.rotation = rotation

    def affine(self, x: Tensor) -> Tensor:
        """x, as the matrix's rows or as s_w, s_h, t_w, t_h, and the identity; (B, 2, 3)."""
        matrices = x.view(-1, 2, 3) if self.rotation else scale_and_translate(*x.unbind(1))
        return matrices if self.start == "anywhere" else matrices + identity(x)


def scale_and_translate(s_w: Tensor, s_h: Tensor, t_w: Tensor, t_h: Tensor) -> Tensor:
    """A of eq. 1 with r_w = r_h = 0, from (B,) each to (B, 2, 3)."""
    r = torch.zeros_like(s_w)
    return torch.stack([s_w, r, t_w, r, s_h, t_h], 1).view(-1, 2, 3)


def identity(like: Tensor) -> Tensor:
    """The matrix that takes every place to itself, once for each of the B rows of ``like``, (B, 2, 3)."""
    return torch.eye(2, 3, dtype=like.dtype, device=like.device).repeat(len(like), 1, 1)
