"""Fisher vectors: how an image's local descriptors differ from a mixture of Gaussians.

Perronnin, Sanchez and Mensink, "Improving the Fisher Kernel for Large-Scale Image Classification", ECCV 2010,
by scikit-image and scikit-learn. What papers leave open follows the code of Cimpoi, Maji and Vedaldi, "Deep
Filter Banks for Texture Recognition and Segmentation", CVPR 2015 (mcimpoi/deep-fbanks).
Shapes: B images of n local descriptors each, d columns of a descriptor, K Gaussians.
"""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from methods.base import Unstated
from retable.errors import SpecError

VARIANCE_FLOOR = 1e-4
"""Added to all variances, as a share of the widest column's, so that a column that is constant in a Gaussian
does not outweigh all others. deep-fbanks has it as the bound of variances."""

SAMPLES_PER_GAUSSIAN = Unstated(
    "samples_per_gaussian",
    (100,),
    "numSamplesPerWord of the code of Cimpoi et al. (os_train.m); with fewer descriptors all are taken",
)


class FisherVectors(nn.Module):
    """Improved Fisher vectors under a mixture of Gaussians with diagonal covariances.

    Gradients by means, then by deviations, of the mean log-likelihood of an image's descriptors, each scaled
    by the root of its Fisher information; then signed square roots, then length 1. There are no gradients
    by weights: 2 K d columns. Those by deviations have scikit-image's sign, which no distance depends on.

    At 64 Gaussians, 196 descriptors of 512 columns an image takes about 7 ms; at 256, 14 and 80, 2 ms.

    Args:
        channels: d.
        gaussians: K.

    Attributes:
        weights: (K,) of the mixture, float64 as all buffers; what is not fitted is the standard normal.
        means: (K, d).
        variances: (K, d).
    """

    weights: Tensor
    means: Tensor
    variances: Tensor

    def __init__(self, channels: int, gaussians: int) -> None:
        super().__init__()
        shape = (gaussians, channels)
        self.register_buffer("weights", torch.full((gaussians,), 1 / gaussians, dtype=torch.float64))
        self.register_buffer("means", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("variances", torch.ones(shape, dtype=torch.float64))

    def fit(self, descriptors: NDArray[np.float64]) -> None:
        """Fit the mixture to (N, d) descriptors by expectation maximisation, from k-means.

        Seeded from torch's global generator. Raises ``SpecError`` for fewer descriptors than Gaussians.
        """
        from skimage.feature import learn_gmm

        gaussians = len(self.weights)
        if len(descriptors) < gaussians:
            raise SpecError(
                f"{len(descriptors)} local descriptors cannot make {gaussians} Gaussians; expected at least "
                "as many, from more training images or with a smaller option gaussians"
            )
        floor = VARIANCE_FLOOR * float(descriptors.var(axis=0).max())
        settings = {"covariance_type": "diag", "reg_covar": floor, "random_state": _seed()}
        mixture = learn_gmm(descriptors, n_modes=gaussians, gm_args=settings)
        for buffer, fitted in (
            (self.weights, mixture.weights_),
            (self.means, mixture.means_),
            (self.variances, mixture.covariances_),
        ):
            buffer.copy_(torch.from_numpy(fitted))

    def forward(self, descriptors: Tensor) -> Tensor:
        """(B, n, d) -> (B, 2 K d), float32; computed on the CPU, in float64, without a gradient."""
        from skimage.feature import fisher_vector
        from sklearn.mixture import GaussianMixture

        mixture = GaussianMixture(len(self.weights), covariance_type="diag")
        mixture.weights_, mixture.means_, mixture.covariances_ = (
            buffer.cpu().numpy() for buffer in (self.weights, self.means, self.variances)
        )
        mixture.precisions_cholesky_ = mixture.covariances_**-0.5
        local = descriptors.detach().double().cpu().numpy()
        whole = np.stack([fisher_vector(x, mixture, improved=True) for x in local])
        # The first K columns are the gradients by weights; without them the length is not 1 any more.
        vectors = torch.from_numpy(whole[:, len(self.weights) :]).to(descriptors.device, torch.float32)
        return F.normalize(vectors)


def sample(batches: Iterable[NDArray[np.floating]], count: int) -> NDArray[np.float64]:
    """``count`` rows of all batches together, (N, d), drawn without replacement; all rows if there are fewer.

    Each row gets a random number, and those of the smallest numbers are kept: one pass, in memory of about
    2 ``count`` rows and a batch. Seeded from torch's global generator.
    """
    generator = np.random.default_rng(_seed())
    keys, rows = np.empty(0), None
    for batch in batches:
        new = generator.random(len(batch))
        ahead = new < (keys.max() if len(keys) >= count else 1.0)
        keys = np.concatenate((keys, new[ahead]))
        rows = batch[ahead] if rows is None else np.concatenate((rows, batch[ahead]))
        if len(keys) > count:
            kept = np.argpartition(keys, count)[:count]
            keys, rows = keys[kept], rows[kept]
    if rows is None:
        raise SpecError("no training images to take local descriptors from; expected at least one")
    return rows[np.argsort(keys)].astype(np.float64)


def _seed() -> int:
    """For generators of numpy and scikit-learn, which take 0 to 2^32 - 1."""
    return int(torch.randint(2**32, ()))
