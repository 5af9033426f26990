"""Weights that a small network starts from where its paper starts from ImageNet's, kept in the cache.

A few hundred images of a re-identification data set teach next to nothing to a network that knows nothing.
In papers it knows ImageNet; at scale ``proxy``, telling other people of the street apart stands for that.
"""

from pathlib import Path

import torch
from filelock import FileLock
from rich.console import Console
from safetensors.torch import save as to_safetensors

from methods import METHODS
from methods.base import EmbeddingMethod
from reproductions.evaluation import evaluate
from reproductions.execute import build, load_data
from reproductions.jobs import Job
from reproductions.places import cache
from reproductions.sampler import images_per_epoch
from reproductions.training import make_accelerator, train
from retable.errors import SpecError
from retable.files import write_atomically
from retable.progress import progress_bar

SEED = 0
"""Of the only training: all seeds of a row start from the same weights, as they would from ImageNet's."""


def street_weights(job: Job, device: torch.device, console: Console) -> Path:
    """The safetensors file of the weights, trained now if it is not in the cache.

    It holds all of the network but the layers that are as large as there are identities. An interrupted
    training leaves nothing. Whoever asks while another process trains the same network waits for it.

    Args:
        job: the training, ``pretraining`` of the job that starts from them.
        device: where they are trained if need be.
        console: where progress is shown, and what the network finds of people whom it has not seen.

    Raises:
        SpecError: the job's method does not learn from single images.
        RetableError: the loss is no longer finite.
    """
    method = METHODS.get(job.method)
    if not issubclass(method, EmbeddingMethod):
        raise SpecError(
            f"{job.paper}, row {job.row!r}: found weights = 'street' for {job.method}; expected 'none' and "
            "starts_from, as only methods that learn from single images are trained before"
        )
    file = cache() / "pretrained" / f"{job.row_hash}.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        if not file.is_file():
            _train(job, file, device, console)
    return file


def _train(job: Job, file: Path, device: torch.device, console: Console) -> None:
    size = job.recipe.height, job.recipe.width
    accelerator = make_accelerator(device.type, job.recipe.precision)
    data = load_data(job.data, (), SEED, *size, device, console)
    method = build(job, SEED, data.num_pids).to(device)
    total = job.recipe.epochs * images_per_epoch(data.labels(), job.recipe)
    with progress_bar(console, f"{job.row}: other people first", total) as bar:
        epochs = train(method, data.train, data.labels(), job.recipe, SEED, accelerator, progress=bar.advance)
        for _ in epochs:
            pass
    unseen = evaluate(method, data.test, data.lists, accelerator)[0].result.metrics
    told = (
        f"{job.row}: starts from weights trained on {data.num_pids} other people of the street "
        f"(mAP {unseen['mAP']:.2f}, rank-1 {unseen['rank1']:.2f} among others there)"
    )
    console.print(told, markup=False, highlight=False, soft_wrap=True)
    more = build(job, SEED, data.num_pids + 1).state_dict()
    weights = {
        name: tensor.contiguous().cpu()
        for name, tensor in method.state_dict().items()
        if tensor.shape == more[name].shape
    }
    write_atomically(file, lambda opened: opened.write(to_safetensors(weights)))
