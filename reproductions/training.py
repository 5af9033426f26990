"""The training loop."""

import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor

from methods.base import Method
from reproductions.augment import cutout, normalise, random_flip
from reproductions.checkpoint import Checkpoint
from reproductions.recipe import Recipe
from reproductions.sampler import pk_batches
from retable.errors import RetableError

Entry = dict[str, float]


def seed_everything(seed: int, *names: object) -> None:
    """Seed all generators with a number that depends on ``seed`` and on what it is for."""
    digest = sha256("/".join(map(str, (seed, *names))).encode()).digest()
    number = int.from_bytes(digest[:4], "little")
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002 - for libraries that draw from it
    torch.manual_seed(number)


def make_accelerator(device: str, precision: str) -> Accelerator:
    """An accelerator on ``"cpu"`` or ``"cuda"``, computing in ``"bf16"`` or ``"fp32"``.

    Raises ``RetableError`` for a device that is not there, or under a multi-process launcher.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise RetableError("--device cuda: torch sees no GPU here; use --device cpu")
    torch.backends.cudnn.allow_tf32 = precision != "fp32"  # on by default, with 10 bits of fp32's 23
    AcceleratorState._reset_state(reset_partial_state=True)  # rows may differ in precision
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision="bf16" if precision == "bf16" else "no")
    if accelerator.num_processes > 1:
        raise RetableError(
            f"{accelerator.num_processes} processes were launched, but batches are mined whole on one "
            "device; start one process per run"
        )
    return accelerator


def train(
    method: Method,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    seed: int,
    accelerator: Accelerator,
    resumed: Checkpoint | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[tuple[Entry, dict[str, Any]]]:
    """Train epoch by epoch, on from ``resumed`` if given.

    All randomness of an epoch is a function of ``seed`` and the epoch's number, so a resumed
    training equals an uninterrupted one.

    Args:
        method: the network; trained in place.
        images: (N, 3, H, W) uint8.
        labels: (N,) identities 0..num_pids-1.
        recipe: sizes, schedule and augmentation.
        seed: decides everything random.
        accelerator: device and precision.
        resumed: state after some finished epoch.
        progress: called with the number of images of each batch.

    Yields:
        After each epoch: its entry (mean losses, ``lr``, ``images_per_s``, ``seconds``), and the
        optimizer's state.

    Raises:
        RetableError: a loss is no longer finite.
    """
    method.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(method.parameters(), weight_decay=recipe.weight_decay, fused=True)
    if resumed:
        method.load_state_dict(resumed.model)
        optimizer.load_state_dict(resumed.optimizer)
    model, optimizer = accelerator.prepare(method, optimizer)
    for epoch in range(resumed.epoch + 1 if resumed else 1, recipe.epochs + 1):
        seed_everything(seed, "epoch", epoch)
        learning_rate = recipe.learning_rate(epoch)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        started = time.perf_counter()
        losses, seen = _train_epoch(model, optimizer, images, labels, recipe, accelerator, progress)
        seconds = time.perf_counter() - started
        if broken := [name for name, value in losses.items() if not math.isfinite(value)]:
            raise RetableError(
                f"epoch {epoch}: the loss {broken[0]} is {losses[broken[0]]}; training diverged. "
                "The checkpoint of the epoch before is kept; try --precision fp32"
            )
        entry = {"epoch": epoch, **losses, "lr": learning_rate}
        entry |= {"images_per_s": seen / seconds, "seconds": seconds}
        yield entry, optimizer.state_dict()


def _train_epoch(
    model: Any,
    optimizer: Any,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    accelerator: Accelerator,
    progress: Callable[[int], None],
) -> tuple[dict[str, float], int]:
    """Mean of each loss over the epoch's batches, and the number of images seen."""
    model.train()
    sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=accelerator.device))
    batches = seen = 0
    for batch in pk_batches(labels, recipe.ids_per_batch, recipe.images_per_id):
        pixels = images[batch.to(images.device)].to(accelerator.device, non_blocking=True)
        pixels = normalise(random_flip(pixels, recipe.flip))
        pixels = cutout(pixels, recipe.cutout_probability, recipe.cutout_size)
        losses = model(pixels, labels[batch].to(accelerator.device))
        optimizer.zero_grad()
        accelerator.backward(sum(losses.values()))
        optimizer.step()
        for name, loss in losses.items():  # no .item() here: it would wait for the GPU each step
            sums[name] += loss.detach()
        batches, seen = batches + 1, seen + len(batch)
        progress(len(batch))
    return {name: float(total) / batches for name, total in sums.items()}, seen
