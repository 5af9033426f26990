"""The online instance matching loss, which compares features with a table of one feature per identity.

Xiao, Li, Wang, Lin and Wang, "Joint Detection and Identification Feature Learning for Person Search",
CVPR 2017, section 3.3, without its queue of people who have no label: re-identification data has none.
Shapes: B images, K identities, D channels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class OnlineInstanceMatching(nn.Module):
    """Cross entropy over scaled similarities with each identity's running feature.

    The table is state, not a parameter: it starts at 0 and moves with the features of each training batch.

    Attributes:
        table: v_1 .. v_K, (K, D); rows have length 1 once their identity was seen, and are 0 before.
        scalar: 1 / tau, what similarities are multiplied by.
        momentum: gamma, how much of a row stays when its identity is seen, 0 to 1.
    """

    table: Tensor

    def __init__(self, num_pids: int, dim: int, scalar: float, momentum: float) -> None:
        super().__init__()
        self.scalar, self.momentum = scalar, momentum
        self.register_buffer("table", torch.zeros(num_pids, dim))

    def forward(self, features: Tensor, pids: Tensor) -> Tensor:
        """Mean over the batch of -ln p_t, with p = softmax(scalar v_i . x) over all identities.

        In training the table is updated afterwards, so the loss and its gradient are those of the table
        before this batch. Computed in the table's precision, also under autocast.

        Args:
            features: x, (B, D), of length 1 for similarities to be cosines.
            pids: t, labels 0..K-1, (B,).
        """
        x = features.to(self.table.dtype)
        table = self.table.clone()  # the backward pass needs it as it was
        with torch.autocast(x.device.type, enabled=False):
            loss = F.cross_entropy(self.scalar * F.linear(x, table), pids)
        if self.training:
            self._update(x.detach(), pids)
        return loss

    @torch.no_grad()
    def _update(self, x: Tensor, pids: Tensor) -> None:
        """v_t <- gamma v_t + (1 - gamma) x, scaled to length 1, image after image.

        Images of different people do not meet, so everybody's first image is one step, then everybody's
        second, and so on. A row that would come out as 0 stays 0.
        """
        earlier = (pids[:, None] == pids).tril(-1).sum(1)  # (B,): images of the same person before this one
        for step in range(int(earlier.max()) + 1):
            now = earlier == step
            rows = pids[now]
            self.table[rows] = F.normalize(self.momentum * self.table[rows] + (1 - self.momentum) * x[now])
