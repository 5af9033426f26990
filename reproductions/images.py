"""Images of a split as uint8: decoded once and kept, or decoded whenever they are asked for."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from reproductions.memory import SHARE_OF_FREE_MEMORY, available_memory
from retable.errors import DataError

Progress: TypeAlias = Callable[[int], object]


class ImageFiles:
    """Images that stay in their files, for as many as memory does not hold.

    It answers as the tensor of all images would, (N, 3, height, width) uint8 on the CPU, to what trains
    and describes: how many there are, and some of them by slice or by places.

    Args:
        paths: the N files.
        height: pixels, after resizing.
        width: pixels, after resizing.
    """

    device = torch.device("cpu")

    def __init__(self, paths: Sequence[Path], height: int, width: int) -> None:
        self._paths, self._size = paths, (height, width)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, which: slice | Tensor) -> Tensor:
        """Those of a slice, or at (n,) int64 places; raises ``DataError`` as ``decode`` does."""
        if isinstance(which, Tensor):
            return _decoded([self._paths[place] for place in which.tolist()], *self._size)
        return _decoded(self._paths[which], *self._size)


Images: TypeAlias = Tensor | ImageFiles
"""(N, 3, height, width) uint8."""


def decode(
    paths: Sequence[Path],
    height: int,
    width: int,
    device: torch.device,
    progress: Progress = lambda _: None,
) -> Images:
    """All images resized (bilinear), uint8 (N, 3, height, width), on ``device`` if they fit there.

    Where they would take more than ``SHARE_OF_FREE_MEMORY`` of what is free, they stay in their files.

    ``progress`` is called with the number of images decoded since the last call. Raises
    ``DataError`` naming the first file that is truncated or no image.
    """
    if len(paths) * 3 * height * width > SHARE_OF_FREE_MEMORY * available_memory():
        progress(len(paths))
        return ImageFiles(paths, height, width)
    images = _decoded(paths, height, width, progress)
    return images.to(device) if _fits(images, device) else images


def _decoded(paths: Sequence[Path], height: int, width: int, progress: Progress = lambda _: None) -> Tensor:
    images = torch.empty((len(paths), 3, height, width), dtype=torch.uint8)
    pixels = images.numpy()

    def fill(index: int) -> None:
        pixels[index] = _decode_one(paths[index], height, width)

    with ThreadPoolExecutor(cpu_count()) as pool:
        try:
            for _ in pool.map(fill, range(len(paths))):
                progress(1)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return images


def _decode_one(path: Path, height: int, width: int) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            resized = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(
            f"{path}: cannot be read as an image ({error}); unpack the release again or restore the file"
        ) from error
    return np.asarray(resized).transpose(2, 0, 1)


def _fits(images: Tensor, device: torch.device) -> bool:
    if device.type != "cuda":
        return device.type == "cpu"
    free, _ = torch.cuda.mem_get_info(device)
    return images.nbytes < SHARE_OF_FREE_MEMORY * free
