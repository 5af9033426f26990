"""How much memory an expression takes, counted in tensors and not measured: the same on every machine."""

from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakMemory(TorchDispatchMode):
    """Counts what operations inside a ``with`` put into memory and has not been freed again.

    Attributes:
        peak: bytes of all such tensors at the worst moment.
        largest: bytes of the largest.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = self.largest = 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {storage_key(leaf) for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, Tensor)}
        result = func(*args, **(kwargs or {}))
        self._live = {key: entry for key, entry in self._live.items() if not entry[0].expired()}
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and storage_key(leaf) not in given:  # a view takes nothing
                storage = leaf.untyped_storage()
                self._live[storage_key(leaf)] = (StorageWeakRef(storage), storage.nbytes())
                self.largest = max(self.largest, storage.nbytes())
        self.peak = max(self.peak, sum(size for _, size in self._live.values()))
        return result


def storage_key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
