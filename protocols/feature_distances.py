"""Distances from features, a block of queries against the gallery chunk by chunk.

Products are made and kept in float32 where the features lie.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from protocols.arrays import is_torch
from protocols.features import Features, Metric, in_float32, is_mapped
from protocols.precision import full_products
from protocols.ranking import BLOCK_BYTES

if TYPE_CHECKING:
    import torch

    Array: TypeAlias = NDArray[np.floating] | torch.Tensor

MAPPED_BLOCK_BYTES = 4 * BLOCK_BYTES
"""A larger block of queries where the gallery is read from a file for each."""


class FeatureDistances:
    """Distances of queries to a gallery up to a constant of each query, which changes no order.

    Cosine: minus the cosine times the query's length. Euclidean: the squared distance less the query's
    squared length. Without the constant there is one rounding less, and so fewer ties.

    Args:
        query: the Q queries.
        gallery: the G gallery images, as wide and on the same device.
        metric: by what distance.

    Attributes:
        block_bytes: how large a block should be, for ``protocols.ranking.blocks``.
    """

    def __init__(self, query: Features, gallery: Features, metric: Metric) -> None:
        self._query, self._gallery = query, gallery
        self._scaled = metric == "cosine"
        self._factor = -1 if self._scaled else -2
        self._term = in_float32(gallery.squares**-0.5 if self._scaled else gallery.squares)
        self._buffer: Any = None
        self.block_bytes = MAPPED_BLOCK_BYTES if is_mapped(gallery.rows) else BLOCK_BYTES

    def __call__(self, start: int, stop: int) -> "Array":
        """(stop - start, G) float32 for queries start..stop-1; valid until the next call."""
        own = self._query.part(start, stop) * self._factor
        block = self._block(stop - start)
        product, precision = _product(own)
        with precision:
            for first, end, chunk in self._gallery.chunks():
                part = block[:, first:end]
                product(own, chunk.T, out=part)
                if self._scaled:
                    part *= self._term[first:end]
                else:
                    part += self._term[first:end]
        return block  # type: ignore[no-any-return]

    def _block(self, rows: int) -> Any:
        """The one block that is filled again and again."""
        if self._buffer is None:
            shape = rows, len(self._gallery)
            term = self._term
            self._buffer = term.new_empty(shape) if is_torch(term) else np.empty(shape, np.float32)
        if rows > len(self._buffer):
            self._buffer = None
            return self._block(rows)
        return self._buffer[:rows]


def _product(features: Any) -> tuple[Any, AbstractContextManager[None]]:
    """The library's matrix product, and what keeps all of its bits."""
    if not is_torch(features):
        return np.matmul, nullcontext()
    import torch

    return torch.matmul, full_products(features.device.type)
