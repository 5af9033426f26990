"""FV-SIFT: Fisher vectors of dense SIFT descriptors. Nothing in it is a network.

Wu et al., arXiv:1707.07074, section 4.3 (3), by OpenCV, scikit-learn and scikit-image.
Shapes: B images of n regions, c colour channels, d principal components, K Gaussians.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from methods import METHODS
from methods.base import FittedMethod, Options, Unstated
from methods.fisher_vectors import SAMPLES_PER_GAUSSIAN, FisherVectors, sample
from methods.input_conventions import to_uint8
from retable.errors import SpecError

Colour = Literal["lab", "grey"]
CHANNELS: dict[Colour, int] = {"lab": 3, "grey": 1}

REGION, STEP = 32, 16
"""Sides of a region, and how far regions are apart both ways, in pixels (section 4.3)."""

SIZE = 128
"""Columns of a SIFT descriptor: 4 x 4 cells of 8 directions."""


class FVSIFTOptions(Options):
    """Settings of FV-SIFT. ``colour`` and ``samples_per_gaussian`` are open, see ``FVSIFT.UNSTATED``.

    Attributes:
        colour: what SIFT is taken of, each channel of CIE Lab or grey values.
        components: d; the paper's final size, 512 x 80 = 2 x 256 d, gives 80.
        gaussians: K.
        samples_per_gaussian: how many local descriptors PCA and mixture are fitted to, at most, for each
            Gaussian.
    """

    colour: Colour = "lab"
    components: int = Field(80, ge=1)
    gaussians: int = Field(256, ge=1)
    samples_per_gaussian: int = Field(1000, ge=1)

    @model_validator(mode="after")
    def _fit_together(self) -> "FVSIFTOptions":
        if self.components > (columns := SIZE * CHANNELS[self.colour]):
            raise ValueError(
                f"components = {self.components}: {self.colour!r} descriptors have {columns} columns"
            )
        return self


@METHODS.register("fv-sift", version=1)
class FVSIFT(FittedMethod):
    """Dense SIFT, PCA and Fisher vectors.

    Attributes:
        mean: (128 c,) of descriptors, float64 as ``projection``.
        projection: (d, 128 c), the principal components.
    """

    Options = FVSIFTOptions
    UNSTATED = (
        Unstated(
            "colour",
            ("grey",),
            "section 4.3 cites Zhao et al., CVPR 2014, for the features, who take SIFT in the three of Lab",
        ),
        SAMPLES_PER_GAUSSIAN,
    )
    options: FVSIFTOptions
    mean: Tensor
    projection: Tensor

    def __init__(
        self,
        options: FVSIFTOptions,
        num_pids: int,  # noqa: ARG002 - nothing classifies
        backbone: str,  # noqa: ARG002 - there is none
        weights: str,  # noqa: ARG002
        network: Mapping[str, Any] | None = None,  # noqa: ARG002
    ) -> None:
        super().__init__()
        self.options = options
        columns = SIZE * CHANNELS[options.colour]
        self.register_buffer("mean", torch.zeros(columns, dtype=torch.float64))
        self.register_buffer("projection", torch.eye(options.components, columns, dtype=torch.float64))
        self.fisher = FisherVectors(options.components, options.gaussians)

    def fit(self, batches: Callable[[], Iterable[Tensor]], progress: Callable[[int], object]) -> None:
        """Fit PCA, and the mixture to its output, in one walk through the images.

        Raises ``SpecError`` for fewer descriptors than components or Gaussians.
        """
        from sklearn.decomposition import PCA

        options = self.options

        def descriptors() -> Iterator[NDArray[np.floating]]:
            for images in batches():
                yield np.concatenate(dense_sift(images, options.colour))
                progress(len(images))

        local = sample(descriptors(), options.gaussians * options.samples_per_gaussian)
        if len(local) < options.components:
            raise SpecError(
                f"{len(local)} local descriptors cannot make {options.components} components; expected at "
                "least as many, from more training images or with a smaller option components"
            )
        pca = PCA(options.components).fit(local)
        self.mean.copy_(torch.from_numpy(pca.mean_))
        self.projection.copy_(torch.from_numpy(pca.components_))
        self.fisher.fit(pca.transform(local))

    def describe(self, images: Tensor) -> Tensor:
        """Fisher vectors, float32, (B, 2 K d)."""
        local = torch.from_numpy(dense_sift(images, self.options.colour)).to(self.mean)
        vectors: Tensor = self.fisher((local - self.mean) @ self.projection.mT)
        return vectors


def dense_sift(images: Tensor, colour: Colour) -> NDArray[np.float32]:
    """One SIFT descriptor of each region, regions row by row, upright.

    Args:
        images: (B, 3, H, W), normalised; 128 x 48 have 7 x 2 regions.
        colour: which channels; the descriptors of one region stand side by side.

    Returns:
        (B, n, 128 c); each 128 have length 1, or 0 where nothing changes.

    Raises:
        SpecError: images are smaller than a region.
    """
    import cv2

    height, width = images.shape[2:]
    if min(height, width) < REGION:
        raise SpecError(
            f"images of {height}x{width} have no region of {REGION}x{REGION}; resize them to 128x48"
        )
    # A keypoint's descriptor has 4 x 4 cells with sides of 3 size / 2 pixels (OpenCV's SIFT_DESCR_SCL_FCTR is
    # 3, of half the size), so 4 x 3 size / 2 = REGION. As in every SIFT, votes are interpolated between cells
    # (pixels half a cell outside still count a little), and the image is smoothed by 1.6 pixels before.
    # Angle 0 is upright; OpenCV would take -1, its default, for a degree.
    size = REGION / 6
    keypoints = [
        cv2.KeyPoint(float(x), float(y), size, 0.0)
        for y in range(REGION // 2, height - REGION // 2 + 1, STEP)
        for x in range(REGION // 2, width - REGION // 2 + 1, STEP)
    ]
    sift = cv2.SIFT.create()
    conversion = cv2.COLOR_RGB2Lab if colour == "lab" else cv2.COLOR_RGB2GRAY
    descriptors = np.empty((len(images), len(keypoints), CHANNELS[colour], SIZE), np.float32)
    for i, rgb in enumerate(to_uint8(images).permute(0, 2, 3, 1).contiguous().cpu().numpy()):
        for c, channel in enumerate(cv2.split(cv2.cvtColor(rgb, conversion))):
            _, descriptors[i, :, c] = sift.compute(channel, keypoints)
    lengths = np.linalg.norm(descriptors, axis=-1, keepdims=True)
    descriptors /= np.maximum(lengths, 1.0)
    return descriptors.reshape(len(images), len(keypoints), -1)
