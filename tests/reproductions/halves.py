"""A method whose descriptions have parts, so small that a seed takes a moment."""

import torch
from torch import nn
from torch.nn import functional as F

from methods.base import EmbeddingMethod, Options

WIDTH = 12


class HalvesOptions(Options):
    """Whether the halves are ranked on their own, too."""

    split: bool = True


class Halves(EmbeddingMethod):
    """Colours of the upper half and of the lower, each through a layer of its own."""

    Options = HalvesOptions

    def __init__(self, options, num_pids, backbone, weights, network=None):  # noqa: ARG002
        super().__init__()
        self.options = options
        self.upper, self.lower = nn.Linear(12, WIDTH), nn.Linear(12, WIDTH)
        self.classifier = nn.Linear(2 * WIDTH, num_pids)

    @property
    def parts(self):
        return {"upper": slice(WIDTH), "lower": slice(WIDTH, None)} if self.options.split else {}

    def losses(self, images, pids):
        return {"ce": F.cross_entropy(self.classifier(self.describe(images)), pids)}

    def describe(self, images):
        upper, lower = (F.adaptive_avg_pool2d(half, (2, 2)).flatten(1) for half in images.chunk(2, dim=2))
        return torch.cat([self.upper(upper), self.lower(lower)], dim=1)
