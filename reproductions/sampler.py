"""PK sampling: every batch holds P identities with K images each."""

from collections.abc import Iterator

import torch
from torch import Tensor

from retable.errors import RetableError


def pk_batches(labels: Tensor, ids_per_batch: int, images_per_id: int) -> Iterator[Tensor]:
    """One epoch of batches: each identity once, in random order, with K of its images.

    Images repeat only for identities with fewer than K; identities that do not fill a last batch
    are left out of this epoch. Draws from torch's global generator.

    Args:
        labels: (N,) identity of each image.
        ids_per_batch: P, at least 1.
        images_per_id: K, at least 1.

    Yields:
        (P * K,) indices into ``labels``, identity after identity.

    Raises:
        RetableError: there are fewer than P identities.
    """
    of_identity = [(labels == label).nonzero().flatten() for label in torch.unique(labels)]
    if len(of_identity) < ids_per_batch:
        raise RetableError(
            f"{len(of_identity)} identities cannot fill a batch of {ids_per_batch}; use a larger data set or "
            "fewer ids_per_batch in the recipe"
        )
    order = torch.split(torch.randperm(len(of_identity)), ids_per_batch)
    for identities in order[: len(of_identity) // ids_per_batch]:
        yield torch.cat([_draw(of_identity[i], images_per_id) for i in identities])


def _draw(images: Tensor, count: int) -> Tensor:
    if len(images) < count:
        return images[torch.randint(len(images), (count,))]
    return images[torch.randperm(len(images))[:count]]
