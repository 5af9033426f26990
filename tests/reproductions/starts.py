"""A method that starts from two others, and one that is fitted; so small that a seed takes a moment."""

import torch
from torch.nn import functional as F

from methods.base import FittedMethod, Options
from tests.reproductions.halves import Halves


class Chained(Halves):
    """The layer for upper halves is the first network's, that for lower halves the second one's."""

    def start_from(self, trained):
        first, second = trained
        for name, state in (("upper", first), ("lower", second)):
            taken = {key.partition(".")[2]: value for key, value in state.items() if key.startswith(name)}
            getattr(self, name).load_state_dict(taken)


class Colours(FittedMethod):
    """Mean colours of six bands, less the mean of all training images; the first half is a part."""

    Options = Options

    def __init__(self, options, num_pids, backbone, weights, network=None):  # noqa: ARG002
        super().__init__()
        self.options = options
        self.register_buffer("mean", torch.zeros(18))
        self.register_buffer("noise", torch.zeros(1))

    @property
    def parts(self):
        return {"top": slice(9)}

    def fit(self, batches, progress):
        self.noise.copy_(torch.rand(1))
        for _ in range(2):  # methods may go through the images more than once
            bands = []
            for images in batches():
                bands.append(self.bands(images))
                progress(len(images))
        self.mean.copy_(torch.cat(bands).mean(0))

    def describe(self, images):
        return self.bands(images) - self.mean

    def bands(self, images):
        return F.adaptive_avg_pool2d(images, (6, 1)).flatten(1)
