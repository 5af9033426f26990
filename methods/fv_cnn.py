"""FV-CNN: Fisher vectors of a VGG's last convolution.

Wu et al., arXiv:1707.07074, section 4.3 (2), after Cimpoi, Maji and Vedaldi, "Deep Filter Banks for Texture
Recognition and Segmentation", CVPR 2015.

Open in the paper, and settled without an option: the convolutions are FC-CNN's; all positions of the map are
local descriptors, at one scale; they are taken after the ReLU, as section 4.2 has features (the code of
Cimpoi et al. takes them before it), and without PCA, as the final size, 512 x 128 = 2 x 64 x 512, needs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from methods import METHODS
from methods.base import FittedMethod, Options
from methods.fisher_vectors import SAMPLES_PER_GAUSSIAN, FisherVectors, sample
from methods.vgg import build_vgg, start_streams


class FVCNNOptions(Options):
    """Settings of FV-CNN. ``samples_per_gaussian`` is open, see ``FVCNN.UNSTATED``.

    Attributes:
        gaussians: of the mixture.
        samples_per_gaussian: how many local descriptors the mixture is fitted to, at most, for each Gaussian.
    """

    gaussians: int = Field(64, ge=1)
    samples_per_gaussian: int = Field(1000, ge=1)


@METHODS.register("fv-cnn", version=1)
class FVCNN(FittedMethod):
    """The convolutions, as they come, and the mixture that is fitted to their outputs."""

    Options = FVCNNOptions
    UNSTATED = (SAMPLES_PER_GAUSSIAN,)
    options: FVCNNOptions

    def __init__(
        self,
        options: FVCNNOptions,
        num_pids: int,  # noqa: ARG002 - nothing classifies
        backbone: str,
        weights: str,
        network: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.options = options
        self.backbone = build_vgg(backbone, weights, **(network or {}))
        self.fisher = FisherVectors(self.backbone.channels, options.gaussians)

    def start_from(self, trained: Sequence[Mapping[str, Tensor]]) -> None:
        """Take the convolutions of one FC-CNN."""
        start_streams([self.backbone], trained)

    def local_descriptors(self, images: Tensor) -> Tensor:
        """The map's positions, row by row, (B, 3, H, W) -> (B, h w, C)."""
        maps: Tensor = self.backbone(images)
        return maps.flatten(2).mT

    @torch.no_grad()
    def fit(self, batches: Callable[[], Iterable[Tensor]], progress: Callable[[int], object]) -> None:
        """Fit the mixture in one walk through the images."""
        self.eval()

        def descriptors() -> Iterator[NDArray[np.floating]]:
            for images in batches():
                yield self.local_descriptors(images).flatten(0, 1).float().cpu().numpy()
                progress(len(images))

        self.fisher.fit(sample(descriptors(), self.options.gaussians * self.options.samples_per_gaussian))

    def describe(self, images: Tensor) -> Tensor:
        """Fisher vectors, float32, (B, 2 K C)."""
        vectors: Tensor = self.fisher(self.local_descriptors(images))
        return vectors

    @torch.no_grad()
    def feature_maps(self, images: Tensor) -> Tensor:
        """The last convolution's map, (B, C, h, w); call it in evaluation mode."""
        maps: Tensor = self.backbone(images)
        return maps
