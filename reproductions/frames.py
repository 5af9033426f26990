"""Which images show each training record: its one image, or the frames of its tracklet."""

from collections.abc import Iterable

import torch
from torch import Tensor

from protocols import Record
from reproductions.sampler import below


class Frames:
    """A list of records over the images of all their frames, record after record.

    Args:
        counts: (R,) int64 number of images of each record, at least 1.
    """

    def __init__(self, counts: Tensor) -> None:
        self._count = counts
        self._first = counts.cumsum(0) - counts
        self._single = bool((counts == 1).all())

    @classmethod
    def of(cls, records: Iterable[Record]) -> "Frames":
        """Those of records whose images are decoded in this order."""
        return cls(torch.tensor([len(record.images()) for record in records], dtype=torch.int64))

    def one_of_each(self, records: Tensor) -> Tensor:
        """A random image of each of some records, (B,) places of records to (B,) places of images.

        All of a tracklet's frames are as likely. Drawn from torch's global generator, from which nothing
        is taken where every record is an image.
        """
        if self._single:
            return records
        return self._first[records] + below(self._count[records])
