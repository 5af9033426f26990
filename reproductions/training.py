"""The training loop."""

import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Set
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor

from methods.base import FittedMethod, Method, PairMethod
from reproductions.augment import (
    cutout,
    normalise,
    random_crop,
    random_erasing,
    random_flip,
    random_shift,
    random_step,
)
from reproductions.checkpoint import Checkpoint
from reproductions.frames import Frames
from reproductions.images import Images
from reproductions.recipe import BATCHES, PAIRED, Recipe
from reproductions.sampler import batches
from retable.errors import RetableError, SpecError

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


def refuse_misfit(method: type[Method], recipe: Recipe) -> None:
    """Raise ``SpecError`` when the recipe's sampler does not draw what the method learns from."""
    samplers: Set[str]
    if issubclass(method, PairMethod):
        learns, samplers = "pairs of images", PAIRED
    elif issubclass(method, FittedMethod):
        learns, samplers = "all images at once", {"fitted"}
    else:
        learns, samplers = "images one by one", BATCHES.keys() - PAIRED - {"fitted"}
    if recipe.sampler not in samplers:
        expected = "sampler = " + " or ".join(f'"{name}"' for name in BATCHES if name in samplers)
        raise SpecError(
            f'{method.__name__} learns from {learns}, the recipe has sampler = "{recipe.sampler}"; '
            f"expected {expected}"
        )


def make_optimizer(method: Method, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer over all parameters; groups may have a ``rate``, a factor on theirs."""
    groups: Any = method.parameters()
    if recipe.backbone_rate != 1:
        backbone = dict.fromkeys(method.get_submodule("backbone").parameters())
        others = [parameter for parameter in method.parameters() if parameter not in backbone]
        groups = [{"params": list(backbone), "rate": recipe.backbone_rate}, {"params": others}]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            groups,
            lr=0.0,  # each epoch sets its own
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
    return torch.optim.Adam(groups, weight_decay=recipe.weight_decay, fused=True)


def train(
    method: Method,
    images: Images,
    labels: Tensor,
    recipe: Recipe,
    seed: int,
    accelerator: Accelerator,
    resumed: Checkpoint | None = None,
    progress: Callable[[int], None] = lambda _: None,
    frames: Frames | None = None,
) -> Iterator[tuple[Entry, dict[str, Any]]]:
    """Train epoch by epoch, on from ``resumed`` if given.

    All randomness of an epoch is a function of ``seed`` and the epoch's number, so a resumed
    training equals an uninterrupted one.

    Args:
        method: the network, one that the recipe fits (``refuse_misfit``); trained in place.
        images: (N, 3, H, W) uint8.
        labels: (R,) identities 0..num_pids-1 of the records.
        recipe: sizes, schedule and augmentation.
        seed: decides everything random.
        accelerator: device and precision.
        resumed: state after some finished epoch.
        progress: called with the number of images of each batch.
        frames: which of the N images show each of the R records, of which a step sees one at random; each
            record is an image unless given.

    Yields:
        After each epoch: its entry (mean losses, ``lr``, ``images_per_s``, ``seconds``), and the
        optimizer's state.

    Raises:
        RetableError: a loss is no longer finite.
    """
    method.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(method, recipe)
    if resumed:
        method.load_state_dict(resumed.model)
        optimizer.load_state_dict(resumed.optimizer)
    frames = frames or Frames(torch.ones(len(labels), dtype=torch.int64))
    model, optimizer = accelerator.prepare(method, optimizer)
    for epoch in range(resumed.epoch + 1 if resumed else 1, recipe.epochs + 1):
        seed_everything(seed, "epoch", epoch)
        learning_rate = recipe.learning_rate(epoch)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * group.get("rate", 1.0)
        started = time.perf_counter()
        losses, seen = _train_epoch(model, optimizer, images, frames, labels, recipe, accelerator, progress)
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
    images: Images,
    frames: Frames,
    labels: Tensor,
    recipe: Recipe,
    accelerator: Accelerator,
    progress: Callable[[int], None],
) -> tuple[dict[str, float], int]:
    """Mean of each loss over the epoch's batches, and the number of images seen."""
    model.train()
    sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=accelerator.device))
    steps = seen = 0
    for batch in batches(labels, recipe):
        shown = frames.one_of_each(batch.images)
        pixels = images[shown.to(images.device)].to(accelerator.device, non_blocking=True)
        pids = labels[batch.images].to(accelerator.device)
        pairs = () if batch.pairs is None else (batch.pairs.to(accelerator.device),)
        losses = model(_augment(pixels, recipe), pids, *pairs)
        optimizer.zero_grad()
        accelerator.backward(sum(losses.values()))
        optimizer.step()
        for name, loss in losses.items():  # no .item() here: it would wait for the GPU each step
            sums[name] += loss.detach()
        steps, seen = steps + 1, seen + len(batch.images)
        progress(len(batch.images))
    return {name: float(total) / steps for name, total in sums.items()}, seen


def _augment(images: Tensor, recipe: Recipe) -> Tensor:
    """uint8 (B, 3, H, W) -> what the network sees."""
    images = random_shift(random_flip(images, recipe.flip), recipe.padding)
    images = normalise(random_step(images, *recipe.shift))
    if recipe.crop_area:
        images = random_crop(images, recipe.crop_area, recipe.crop_aspect)
    images = cutout(images, recipe.cutout_probability, recipe.cutout_size)
    return random_erasing(images, recipe.erasing_probability, recipe.erasing_area, recipe.erasing_aspect)
