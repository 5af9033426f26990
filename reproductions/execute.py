"""One seed of one job: from images on disk to a record in ``results/``."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from shutil import rmtree

import numpy as np
import torch
from accelerate import Accelerator
from filelock import FileLock, Timeout
from rich.console import Console
from safetensors.torch import save as to_safetensors

from methods import METHODS
from methods.base import Method
from protocols import Split
from protocols.files import read
from protocols.ranking import Ranks
from reproductions.checkpoint import Checkpoint
from reproductions.evaluation import Gallery, evaluate
from reproductions.images import decode
from reproductions.jobs import Job, Release, Street
from reproductions.places import cache
from reproductions.records import SeedRecord, provenance
from reproductions.training import Entry, make_accelerator, seed_everything, train
from retable.errors import RetableError
from retable.files import write_atomically
from retable.progress import progress_bar


@dataclass(frozen=True, slots=True)
class Artefacts:
    """Files that belong to one finished seed: its weights, and the ranks of all true matches."""

    weights: Path
    ranks: Path


@dataclass(frozen=True, slots=True)
class Data:
    """A split with its images, resized to one size."""

    split: Split
    train: Gallery
    query: Gallery
    gallery: Gallery

    @property
    def num_pids(self) -> int:
        """Number of training identities."""
        return len({record.pid for record in self.train.records})

    def labels(self) -> torch.Tensor:
        """(N,) identities of the training images as 0..num_pids-1, in the order of their labels."""
        pids = self.train.labels().pids
        return torch.from_numpy(np.searchsorted(np.unique(pids), pids))


def run_seed(
    job: Job,
    seed: int,
    device: str,
    results: Path,
    console: Console,
    after_epoch: Callable[[Entry], None] = lambda _: None,
    run_id: str | None = None,
) -> tuple[SeedRecord, Artefacts]:
    """Train (on from the last finished epoch, if any), evaluate and record one seed.

    Args:
        job: what to run.
        seed: decides everything random.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``, which takes a GPU if there is one.
        results: folder of the records.
        console: where progress is shown.
        after_epoch: called with each new epoch's entry.
        run_id: the tracking run that belongs to this seed.

    Raises ``RetableError`` for missing or damaged data, weights or checkpoints, and a full disk.
    """
    started = time.time()
    accelerator = make_accelerator(pick_device(device), job.recipe.precision)
    data = load_data(job.data, job.recipe.height, job.recipe.width, accelerator.device, console)
    method = build(job, seed, data.num_pids).to(accelerator.device)
    state = _train(job, seed, method, data, accelerator, console, after_epoch)
    result = evaluate(method, data.query, data.gallery, job.data.protocol, accelerator)
    record = SeedRecord(
        paper=job.paper,
        table=job.table,
        row=job.row,
        dataset=job.dataset,
        scale=job.scale,
        seed=seed,
        row_hash=job.row_hash,
        identity=job.identity,
        options=method.options.model_dump(mode="json"),
        headline=result.headline,
        metrics=result.metrics,
        bounds=result.bounds,
        untrained=state.untrained,
        history=state.history,
        provenance=provenance(started, device_name(accelerator.device), data.split.digests()),
        mlflow_run_id=run_id,
    )
    kept = _keep(job, seed, method, result.ranks)
    record.save(results)
    (run_folder(job.row_hash, seed) / "checkpoint.pt").unlink(missing_ok=True)
    return record, kept


@contextmanager
def alone(job: Job, seed: int) -> Iterator[None]:
    """Keep other processes from this seed. Raises ``RetableError`` if one is at it already."""
    folder = run_folder(job.row_hash, seed)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{folder}.lock", timeout=0):
            yield
    except Timeout as error:
        raise RetableError(
            f"{job.row}, seed {seed}: another process runs it at this moment; wait for it, or run other seeds"
        ) from error


def build(job: Job, seed: int, num_pids: int) -> Method:
    """The job's network as it is before its first step."""
    seed_everything(seed, "initial weights")
    method = METHODS.get(job.method)
    return method(
        method.parse_options(job.options),
        num_pids,
        job.recipe.backbone,
        job.weights,
        job.recipe.backbone_options,
    )


@lru_cache(maxsize=1)
def load_data(
    source: Street | Release, height: int, width: int, device: torch.device, console: Console
) -> Data:
    """The one split of ``source``, verified and decoded; kept for the next seed."""
    (split,) = read(source.protocol, source.folder(cache(), console))
    total = len(split.train) + len(split.query) + len(split.gallery)
    with progress_bar(console, "decoding", total) as bar:
        train, query, gallery = (
            Gallery(records, decode(records, height, width, device, bar.advance))
            for records in (split.train, split.query, split.gallery)
        )
    return Data(split, train, query, gallery)


def _train(
    job: Job,
    seed: int,
    method: Method,
    data: Data,
    accelerator: Accelerator,
    console: Console,
    after_epoch: Callable[[Entry], None],
) -> Checkpoint:
    """Train to the last epoch, saving a checkpoint after each; returns the last one."""
    file = run_folder(job.row_hash, seed) / "checkpoint.pt"
    identity = f"{job.row_hash}/seed-{seed}"
    resumed = Checkpoint.load(file, identity)
    if resumed is None:
        before = evaluate(method, data.query, data.gallery, job.data.protocol, accelerator)
        state = Checkpoint(identity, 0, {}, {}, [], before.metrics)
    else:
        state = resumed
    images_per_epoch = data.num_pids // job.recipe.ids_per_batch * job.recipe.batch_size
    total, done = (images_per_epoch * epochs for epochs in (job.recipe.epochs, state.epoch))
    with progress_bar(console, f"{job.row} seed {seed}", total, done) as bar:
        epochs = train(
            method, data.train.images, data.labels(), job.recipe, seed, accelerator, resumed, bar.advance
        )
        for entry, optimizer in epochs:
            state = Checkpoint(
                identity,
                state.epoch + 1,
                method.state_dict(),
                optimizer,
                [*state.history, entry],
                state.untrained,
            )
            state.save(file)
            after_epoch(entry)
    return state


def run_folder(row_hash: str, seed: int) -> Path:
    """Where the checkpoint and the artefacts of one seed lie."""
    return cache() / "runs" / row_hash / f"seed-{seed}"


def artefacts(row_hash: str, seed: int) -> Artefacts:
    """The files of a finished seed; they exist until the cache is deleted."""
    folder = run_folder(row_hash, seed)
    return Artefacts(folder / "weights.safetensors", folder / "ranks.npz")


def forget(job: Job, seed: int) -> None:
    """Delete the checkpoint and the artefacts of a seed, so that it starts anew."""
    rmtree(run_folder(job.row_hash, seed), ignore_errors=True)


def _keep(job: Job, seed: int, method: Method, ranks: Ranks) -> Artefacts:
    """Write weights and ranks; the checkpoint stays until the record is written, too."""
    kept = artefacts(job.row_hash, seed)
    weights = {name: tensor.contiguous().cpu() for name, tensor in method.state_dict().items()}
    write_atomically(kept.weights, lambda file: file.write(to_safetensors(weights)))
    write_atomically(
        kept.ranks,
        lambda file: np.savez_compressed(file, ends=ranks.ends, gallery=ranks.gallery, rank=ranks.rank),
    )
    return kept


def pick_device(device: str) -> str:
    """What ``"auto"`` means here."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_name(device: torch.device) -> str:
    """What computed: the GPU's name, or the processor's and its number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.backends.cpu.get_cpu_capability()} CPU, {torch.get_num_threads()} threads"
