"""Samplers: in what batches an epoch goes through the training images.

===========  ========================================================================================
``pk``       P identities with K images each, for losses that mine inside a batch; an epoch takes every
             identity once, or goes on to (nearly) every image
``pairs``    every image asks once about one of its own identity and a fixed number of others
``all pairs`` every image once, and all pairs of a batch
``shuffled`` every image once, for losses over classes
``capped``   as many images as fill a batch, at most K of an identity, for losses over all triplets
===========  ========================================================================================

All draw from torch's global generator.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from reproductions.recipe import Recipe
from retable.errors import RetableError


class Batch(NamedTuple):
    """What one step is made on.

    Attributes:
        images: (B,) indices of training images.
        pairs: (P, 2) places in the batch, who asks and who is asked about; None without pairs.
    """

    images: Tensor
    pairs: Tensor | None = None


def batches(labels: Tensor, recipe: Recipe) -> Iterator[Batch]:
    """One epoch of batches by the recipe's sampler; ``labels`` are the identities of the images, (N,).

    Recipes of fitted methods have none.

    Raises ``RetableError`` for data that cannot fill a batch.
    """
    match recipe.sampler:
        case "pk":
            draw = pk_batches if recipe.epoch == "identities" else pk_batches_of_all
            yield from map(Batch, draw(labels, recipe.ids_per_batch, recipe.images_per_id))
        case "pairs":
            yield from pair_batches(labels, recipe.anchors_per_batch, recipe.negatives)
        case "all pairs":
            yield from all_pairs_batches(len(labels), recipe.images_per_batch)
        case "shuffled":
            yield from map(Batch, shuffled_batches(len(labels), recipe.images_per_batch))
        case "capped":
            sizes = recipe.images_per_id, recipe.images_per_batch, recipe.batches_per_epoch
            yield from map(Batch, capped_batches(labels, *sizes))


def images_per_epoch(labels: Tensor, recipe: Recipe) -> int:
    """How many images the batches of one epoch hold together; the most, where that is left to chance."""
    match recipe.sampler:
        case "pk":
            groups = len(torch.unique(labels))
            if recipe.epoch == "images":
                counts = torch.unique(labels, return_counts=True)[1]
                groups = int((counts // recipe.images_per_id).clamp_min(1).sum())
            return groups // recipe.ids_per_batch * recipe.batch_size
        case "pairs":
            return len(_anchors(labels)) * (2 + recipe.negatives)
        case "all pairs" | "shuffled":
            return len(labels) // recipe.batch_size * recipe.batch_size
        case "capped":
            return recipe.batches_per_epoch * recipe.batch_size
        case "fitted":
            return 0


def pk_batches(labels: Tensor, ids_per_batch: int, images_per_id: int) -> Iterator[Tensor]:
    """Each identity once, in random order, with K of its images.

    Images repeat only for identities with fewer than K; identities that do not fill a last batch
    are left out of this epoch.

    Args:
        labels: (N,) identity of each image.
        ids_per_batch: P, at least 1.
        images_per_id: K, at least 1.

    Yields:
        (P * K,) indices into ``labels``, identity after identity.

    Raises:
        RetableError: there are fewer than P identities.
    """
    of_identity = _images_of_each(labels, ids_per_batch)
    order = torch.split(torch.randperm(len(of_identity)), ids_per_batch)
    for identities in order[: len(of_identity) // ids_per_batch]:
        yield torch.cat([_draw(of_identity[i], images_per_id) for i in identities])


def pk_batches_of_all(labels: Tensor, ids_per_batch: int, images_per_id: int) -> Iterator[Tensor]:
    """As ``pk_batches``, but on and on, until fewer than P identities have K images that were not drawn.

    This is the sampler of public strong baselines (michuanhaohao/reid-strong-baseline,
    data/samplers/triplet_sampler.py). The images of an identity are shuffled and cut into groups of K;
    each batch takes a group of each of P identities that have one left. Images that fill no group are
    left out of this epoch; only an identity with fewer than K images repeats them, in its one group.
    An identity that others leave behind at the end has groups that are not drawn, either.

    Args, yields and raises: as ``pk_batches``.
    """
    groups = [
        list(torch.split(images[torch.randperm(len(images))], images_per_id))[: len(images) // images_per_id]
        or [_draw(images, images_per_id)]
        for images in _images_of_each(labels, ids_per_batch)
    ]
    while len(left := [i for i, own in enumerate(groups) if own]) >= ids_per_batch:
        chosen = torch.randperm(len(left))[:ids_per_batch].tolist()
        yield torch.cat([groups[left[i]].pop() for i in chosen])


def _images_of_each(labels: Tensor, ids_per_batch: int) -> list[Tensor]:
    """The images of each identity. Raises ``RetableError`` for fewer identities than a batch has."""
    found = _by_identity(labels)
    if len(found) < ids_per_batch:
        raise RetableError(
            f"{len(found)} identities cannot fill a batch of {ids_per_batch}; use a larger data set or "
            "fewer ids_per_batch in the recipe"
        )
    return found


def _by_identity(labels: Tensor) -> list[Tensor]:
    """The images of each identity, in rising order of both."""
    counts = torch.unique(labels, return_counts=True)[1]
    return list(torch.split(labels.argsort(stable=True), counts.tolist()))


def _draw(images: Tensor, count: int) -> Tensor:
    if len(images) < count:
        return images[torch.randint(len(images), (count,))]
    return images[torch.randperm(len(images))[:count]]


def shuffled_batches(images: int, images_per_batch: int) -> Iterator[Tensor]:
    """Every image once in random order; those that do not fill a last batch are left out of this epoch.

    A last batch of one image would have no statistics to be normalised by.

    Yields:
        (images_per_batch,) indices 0..images-1.

    Raises:
        RetableError: there are fewer images than a batch holds.
    """
    if images < images_per_batch:
        raise RetableError(
            f"{images} images cannot fill a batch of {images_per_batch}; use a larger data set or fewer "
            "images_per_batch in the recipe"
        )
    order = torch.split(torch.randperm(images), images_per_batch)
    yield from order[: images // images_per_batch]


def all_pairs_batches(images: int, images_per_batch: int) -> Iterator[Batch]:
    """As ``shuffled_batches``, and every pair of two images of a batch: B (B - 1) / 2 of them, each once.

    The image that comes first in the batch is the one that asks.
    """
    pairs = torch.combinations(torch.arange(images_per_batch))
    for batch in shuffled_batches(images, images_per_batch):
        yield Batch(batch, pairs)


def capped_batches(
    labels: Tensor, images_per_id: int, images_per_batch: int, batches_per_epoch: int
) -> Iterator[Tensor]:
    """Identities in random order, at most K random images of each, until a batch is full.

    This is the sampler of Zhao et al., ICCV 2017 (zlmzju/part_reid, reid_layer/data_layer.py), but for which
    images are taken: there the first K of an identity. A walk through all identities goes on from batch
    to batch, and another one in new order follows it. The last identity of a batch may find room for fewer
    than K. One that a new walk would bring into the same batch again waits for the next,
    so that no image is in a batch twice.

    Args:
        labels: (N,) identity of each image.
        images_per_id: K, at least 1.
        images_per_batch: B, at least 1.
        batches_per_epoch: number of batches.

    Yields:
        (B,) indices into ``labels``, identity after identity.

    Raises:
        RetableError: all identities together cannot fill a batch.
    """
    of_identity = _by_identity(labels)
    there = sum(min(len(images), images_per_id) for images in of_identity)
    if there < images_per_batch:
        raise RetableError(
            f"{len(of_identity)} identities with at most {images_per_id} images each are {there} images and "
            f"cannot fill a batch of {images_per_batch}; use a larger data set or fewer images_per_batch in "
            "the recipe"
        )
    walk: list[int] = []
    for _ in range(batches_per_epoch):
        batch: dict[int, Tensor] = {}
        room = images_per_batch
        while room:
            coming = next((identity for identity in walk if identity not in batch), None)
            if coming is None:
                walk += torch.randperm(len(of_identity)).tolist()
                continue
            walk.remove(coming)
            images = of_identity[coming]
            batch[coming] = images[torch.randperm(len(images))[: min(images_per_id, room)]]
            room -= len(batch[coming])
        yield torch.cat(list(batch.values()))


def pair_batches(labels: Tensor, anchors_per_batch: int, negatives: int) -> Iterator[Batch]:
    """Every image asks once, in random order: about 1 image of its identity and ``negatives`` of others.

    So each batch has exactly 1 pair of one identity to ``negatives`` pairs of two. The image that
    asks is in the batch once, however many pairs it is in. The images it is asked about are drawn
    evenly, without repetition for one asker. Images that are the only one of their identity never
    ask. The last batch holds the askers that are left and may be smaller.

    Args:
        labels: (N,) identity of each image.
        anchors_per_batch: A, images that ask, at least 1.
        negatives: r, at least 1.

    Yields:
        A * (2 + r) images: those that ask, then one of each one's identity, then each one's r of
        others; and A * (1 + r) pairs, asker after asker, the one of the same identity first.

    Raises:
        RetableError: no identity has two images, or some image has fewer than r of others.
    """
    anchors = _anchors(labels)
    if not len(anchors):
        raise RetableError(
            f"none of the {len(labels)} training images has another of its identity, so there is no pair of "
            "one identity to learn from; use a larger data set"
        )
    _, counts = torch.unique(labels, return_counts=True)
    others = len(labels) - int(counts.max())
    if others < negatives:
        raise RetableError(
            f"{len(counts)} identities leave {others} images of others to ask about, expected {negatives} or "
            "more; use a larger data set or fewer negatives in the recipe"
        )
    of_identities = _ByIdentity(labels)
    for asking in torch.split(anchors[torch.randperm(len(anchors))], anchors_per_batch):
        same, different = of_identities.same(asking), of_identities.different(asking, negatives)
        yield Batch(torch.cat([asking, same, different.flatten()]), _pairs(len(asking), negatives))


def _anchors(labels: Tensor) -> Tensor:
    """Images whose identity has another one, in rising order."""
    _, identity, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    several: Tensor = counts[identity] > 1
    return several.nonzero().flatten()


def _pairs(asking: int, negatives: int) -> Tensor:
    """Places in a batch as ``pair_batches`` lays it out, (asking * (1 + negatives), 2)."""
    asker = torch.arange(asking)
    different = 2 * asking + torch.arange(asking * negatives).view(asking, negatives)
    asked_about = torch.cat([(asking + asker)[:, None], different], dim=1)
    return torch.stack([asker[:, None].expand_as(asked_about), asked_about], dim=2).flatten(0, 1)


class _ByIdentity:
    """Images in order of identity, so that those of one are a range and a draw is arithmetic."""

    def __init__(self, labels: Tensor) -> None:
        _, identity, counts = torch.unique(labels, return_inverse=True, return_counts=True)
        self.order = labels.argsort(stable=True)
        self.place = torch.empty_like(self.order)
        self.place[self.order] = torch.arange(len(labels))
        self.count = counts[identity]
        self.start = (counts.cumsum(0) - counts)[identity]

    def same(self, images: Tensor) -> Tensor:
        """Another image of each one's identity, (A,)."""
        drawn = self.start[images] + below(self.count[images] - 1)
        return self.order[drawn + (drawn >= self.place[images])]

    def different(self, images: Tensor, number: int) -> Tensor:
        """Distinct images of other identities for each, (A, number).

        Floyd's way to draw without repetition (Bentley and Floyd, CACM 30(9), 1987): one draw a
        column, whatever the size of the data set.
        """
        start, count = self.start[images], self.count[images]
        others = len(self.order) - count
        drawn = torch.full((len(images), number), -1)
        for column in range(number):
            last = others - number + column
            fresh = below(last + 1)
            taken = (drawn == fresh[:, None]).any(1)
            drawn[:, column] = torch.where(taken, last, fresh)
        return self.order[drawn + (drawn >= start[:, None]) * count[:, None]]


def below(bounds: Tensor) -> Tensor:
    """One number 0..bound-1 for each bound, evenly; double precision keeps that for any data set."""
    return (torch.rand(len(bounds), dtype=torch.float64) * bounds).long()
