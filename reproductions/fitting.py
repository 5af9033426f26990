"""Fitting a method to all training images at once, where others are trained step by step."""

import time
from collections.abc import Iterator

import torch
from accelerate import Accelerator
from rich.console import Console
from torch import Tensor

from methods.base import FittedMethod
from reproductions.augment import normalise
from reproductions.descriptions import batches
from reproductions.images import Images
from reproductions.training import Entry, seed_everything
from retable.progress import progress_bar


def fit(method: FittedMethod, images: Images, seed: int, accelerator: Accelerator, console: Console) -> Entry:
    """Fit the method to training images, without gradients; it is in evaluation mode then.

    Args:
        method: on the accelerator's device; fitted in place.
        images: (N, 3, H, W) uint8, all training images.
        seed: decides everything random.
        accelerator: device and precision.
        console: where progress is shown.

    Returns:
        What stands for an epoch's entry in the record: ``epoch`` (1), ``seconds``, and ``images_per_s`` over
        all times that the images were gone through.
    """
    seen = 0

    def walk() -> Iterator[Tensor]:
        nonlocal seen
        for _, batch in batches(images, len(images)):
            seen += len(batch)
            yield normalise(batch.to(accelerator.device))

    seed_everything(seed, "fit")
    method.eval()
    started = time.perf_counter()
    # How often it will go through the images, the method alone knows: the bar has no end.
    with torch.no_grad(), accelerator.autocast(), progress_bar(console, "fitting") as bar:
        method.fit(walk, bar.advance)
    seconds = time.perf_counter() - started
    return {"epoch": 1, "images_per_s": seen / seconds, "seconds": seconds}
