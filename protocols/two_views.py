"""Data sets that see everybody from two views: who is asked for in one is sought in the other."""

from collections.abc import Collection, Sequence

from protocols.base import Record, Split
from protocols.splits import Drawing, Item

VIEW_A, VIEW_B = 1, 2


def arranged(images: Sequence[Record], drawing: Drawing) -> tuple[Split, ...]:
    """The lists of every split of ``drawing``, whose parts are ``"train"`` and ``"test"``.

    All images of a training identity are trained on. Of a test identity, those of view A are queries
    and those of view B are the gallery. Each list is in the order of ``images``.
    """
    splits = drawing.splits.items()
    return tuple(split(images, set(parts["train"]), set(parts["test"]), name) for name, parts in splits)


def split(images: Sequence[Record], train: Collection[Item], test: Collection[Item], name: str) -> Split:
    """The lists for given identities to train and to test on."""
    return Split(
        train=tuple(image for image in images if image.pid in train),
        query=tuple(image for image in images if image.pid in test and image.camid == VIEW_A),
        gallery=tuple(image for image in images if image.pid in test and image.camid == VIEW_B),
        name=name,
    )
