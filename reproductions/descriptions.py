"""What a method keeps of every image, described once and stored where it fits.

Feature maps of KPM's three scales are 0.9 MB an image, 18 GB for Market-1501's test images: on a GPU with
room for them they stay there, else in memory, else in a file that is mapped into memory.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from methods.base import EmbeddingMethod, PairMethod
from protocols.base import Pooling
from protocols.pooling import Groups, pool
from reproductions.augment import normalise
from reproductions.images import Images
from reproductions.memory import SHARE_OF_FREE_MEMORY, available_memory
from reproductions.places import cache
from retable.errors import RetableError

Described: TypeAlias = Tensor | dict[str, Tensor]
"""Of some images, as a method's ``describe`` gives it: a tensor, or several by name, the images first."""

AnyMethod: TypeAlias = EmbeddingMethod | PairMethod

Place: TypeAlias = Literal["device", "memory", "disk"]

TEST_BATCH = 256

_ALONE = ""
"""The name inside of a description that is one tensor."""


class Descriptions:
    """Descriptions of a list of images, in its order; whole lists are never copied.

    Args:
        stored: tensors by name, (M, ...), the images first, all in one place.
        device: where rows are handed out.
        order: (N,) which of the M images the list is; all of them unless given. One may stand twice.
        mapped: whether the tensors lie in a file.
    """

    def __init__(
        self,
        stored: Mapping[str, Tensor],
        device: torch.device,
        order: Tensor | None = None,
        mapped: bool = False,
    ) -> None:
        self._stored = dict(stored)
        self._device = torch.empty(0, device=device).device  # "cuda" becomes "cuda:0", as of any tensor there
        images = len(next(iter(self._stored.values())))
        self._order = torch.arange(images) if order is None else order
        self.mapped = mapped

    def __len__(self) -> int:
        return len(self._order)

    @property
    def device(self) -> torch.device:
        """Where rows are handed out."""
        return self._device

    @property
    def row_bytes(self) -> int:
        """What one image takes."""
        return sum(_row_bytes(tensor) for tensor in self._stored.values())

    def of(self, rows: NDArray[np.int64]) -> "Descriptions":
        """Those of some images of this list, (n,) places in it, in that order."""
        return Descriptions(self._stored, self._device, self._order[torch.from_numpy(rows)], self.mapped)

    def first(self, count: int) -> "Descriptions":
        """Those of the first ``count`` images, or of all there are."""
        return Descriptions(self._stored, self._device, self._order[:count], self.mapped)

    def only(self, name: str) -> "Descriptions":
        """The tensor of that name alone, handed out as a tensor."""
        return Descriptions({_ALONE: self._stored[name]}, self._device, self._order, self.mapped)

    def columns(self, part: slice) -> "Descriptions":
        """A stretch of descriptions that are one vector each, (D,) -> (d,); nothing is copied."""
        return Descriptions({_ALONE: self._stored[_ALONE][:, part]}, self._device, self._order, self.mapped)

    def pooled(self, groups: Groups, how: Pooling) -> "Descriptions":
        """Descriptions that are one vector each, (D,), pooled into one of length 1 for each group.

        Args:
            groups: of all images that are stored, in their order.
            how: see ``protocols.pooling``.

        Raises:
            InputError: a description is 0 or not finite, or those of a group cancel each other.
        """
        rows = pool("descriptions", self._stored[_ALONE], groups, how)
        return Descriptions({_ALONE: rows}, self._device)

    @property
    def width(self) -> int:
        """D, of descriptions that are one vector each."""
        return self._stored[_ALONE].shape[1]

    def vectors(self) -> Tensor:
        """All of them on the device, (N, D), of descriptions that are one vector each; to be read only."""
        return self._rows_of(self._stored[_ALONE], self._order)

    def rows(self, which: slice | Tensor) -> Described:
        """Some rows of the list on the device, to be read only.

        Args:
            which: a slice, or (n,) int64 places in the list, on any device. A place may come several
                times: its row travels to the device once.
        """
        order = self._order[which if isinstance(which, slice) else which.to(self._order.device)]
        found = {name: self._rows_of(tensor, order) for name, tensor in self._stored.items()}
        return found.get(_ALONE, found)

    def _rows_of(self, tensor: Tensor, order: Tensor) -> Tensor:
        if len(order) and bool((order.diff() == 1).all()):
            return tensor[int(order[0]) : int(order[-1]) + 1].to(self._device)  # no copy where it lies
        if tensor.device == self._device:
            return tensor[order.to(self._device)]
        once, place = torch.unique(order, return_inverse=True)
        if len(once) == len(order):
            return tensor[order].to(self._device)
        return tensor[once].to(self._device)[place.to(self._device)]


@torch.inference_mode()
def describe_all(
    method: AnyMethod,
    images: Images,
    accelerator: Accelerator,
    *,
    count: int | None = None,
    progress: Callable[[int], object] = lambda _: None,
    place: Place | None = None,
) -> Descriptions:
    """Describe images batch by batch; what is stored is never held twice.

    A method's single tensor is kept in float32; tensors by name keep the type that it gives them.

    Args:
        method: put into evaluation mode.
        images: (N, 3, H, W) uint8, one or more, on any device or in their files.
        accelerator: device and precision.
        count: describe only the first so many of the images.
        progress: called with the number of images of each batch.
        place: where to store; unless given, the first of ``"device"``, ``"memory"`` and ``"disk"`` (below
            ``reproductions.places.cache()``) that has room.

    Raises:
        RetableError: the disk has no room either.
    """
    method.eval()
    stored: dict[str, Tensor] = {}
    count = len(images) if count is None else count
    for start, batch in batches(images, count):
        with accelerator.autocast():
            described = _by_name(method.describe(normalise(batch.to(accelerator.device))))
        if not stored:
            place = place or _place_for(described, count, accelerator.device)
            stored = _allocate(described, count, accelerator.device, place)
        for name, tensor in described.items():
            stored[name][start : start + len(batch)] = tensor
        progress(len(batch))
    return Descriptions(stored, accelerator.device, mapped=place == "disk")


def batches(images: Images, count: int) -> Iterator[tuple[int, Tensor]]:
    """The first ``count`` images by ``TEST_BATCH``, (B, 3, H, W) uint8, each with its first one's place."""
    for start in range(0, count, TEST_BATCH):
        yield start, images[start : min(start + TEST_BATCH, count)]


def _by_name(described: Any) -> dict[str, Tensor]:
    return {_ALONE: described.float()} if isinstance(described, Tensor) else dict(described)


def _place_for(described: Mapping[str, Tensor], images: int, device: torch.device) -> Place:
    """Where ``images`` descriptions like these have room."""
    needed = images * sum(_row_bytes(tensor) for tensor in described.values())
    if device.type == "cuda" and needed <= SHARE_OF_FREE_MEMORY * torch.cuda.mem_get_info(device)[0]:
        return "device"
    return "memory" if needed <= SHARE_OF_FREE_MEMORY * available_memory() else "disk"


def _allocate(
    described: Mapping[str, Tensor], images: int, device: torch.device, place: Place
) -> dict[str, Tensor]:
    """Empty tensors for ``images`` descriptions like these."""
    shapes = {name: (images, *tensor.shape[1:]) for name, tensor in described.items()}
    if place == "disk":
        return {name: _mapped(shape, described[name].dtype) for name, shape in shapes.items()}
    where = device if place == "device" else torch.device("cpu")
    return {
        name: torch.empty(shape, dtype=described[name].dtype, device=where) for name, shape in shapes.items()
    }


def _mapped(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A tensor in a file that has no name, so that it goes when the tensor does, or the process.

    Its bytes are claimed beforehand: a disk that fills up under a mapped file kills the process.
    """
    elements = int(np.prod(shape))
    folder = cache()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix="descriptions-") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, elements * dtype.itemsize)
        except OSError as error:
            raise RetableError(
                f"{folder}: no room for {elements * dtype.itemsize / 1e9:.1f} GB of descriptions "
                f"({error.strerror}), and none in memory; make room, or let RETABLE_CACHE name a folder on "
                "a larger disk"
            ) from error
        return torch.from_file(file.name, shared=True, size=elements, dtype=dtype).view(shape)


def _row_bytes(tensor: Tensor) -> int:
    return int(np.prod(tensor.shape[1:])) * tensor.element_size()
