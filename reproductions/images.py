"""Images of a split, decoded once and kept as uint8."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from protocols import Record
from retable.errors import DataError

SHARE_OF_FREE_MEMORY = 0.5
"""Of a GPU's free memory that cached images may take, and of any memory that descriptions may."""


def decode(
    records: Sequence[Record],
    height: int,
    width: int,
    device: torch.device,
    progress: Callable[[int], object] = lambda _: None,
) -> Tensor:
    """All images resized (bilinear), uint8 (N, 3, height, width), on ``device`` if they fit there.

    ``progress`` is called with the number of images decoded since the last call. Raises
    ``DataError`` naming the first file that is truncated or no image.
    """
    images = torch.empty((len(records), 3, height, width), dtype=torch.uint8)
    pixels = images.numpy()

    def fill(index: int) -> None:
        pixels[index] = _decode_one(records[index], height, width)

    with ThreadPoolExecutor(cpu_count()) as pool:
        try:
            for _ in pool.map(fill, range(len(records))):
                progress(1)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return images.to(device) if _fits(images, device) else images


def _decode_one(record: Record, height: int, width: int) -> NDArray[np.uint8]:
    try:
        with Image.open(record.path) as image:
            resized = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(
            f"{record.path}: cannot be read as an image ({error}); "
            "unpack the release again or restore the file"
        ) from error
    return np.asarray(resized).transpose(2, 0, 1)


def _fits(images: Tensor, device: torch.device) -> bool:
    if device.type != "cuda":
        return device.type == "cpu"
    free, _ = torch.cuda.mem_get_info(device)
    return images.nbytes < SHARE_OF_FREE_MEMORY * free
