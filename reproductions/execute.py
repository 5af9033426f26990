"""One seed of one job: from images on disk to a record in ``results/``."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from shutil import rmtree

import numpy as np
import torch
from accelerate import Accelerator
from filelock import FileLock, Timeout
from rich.console import Console
from safetensors.torch import save as to_safetensors
from torch import Tensor

from methods import METHODS
from methods.base import EmbeddingMethod, Method
from protocols import Protocol, Split
from protocols.files import read
from protocols.leaks import refuse_leaks
from protocols.ranking import Ranks
from protocols.results import Result
from reproductions.checkpoint import Checkpoint
from reproductions.evaluation import Judged, Lists, evaluate, labels_of, pool
from reproductions.images import decode
from reproductions.jobs import Job, Release, Street
from reproductions.places import cache
from reproductions.records import SeedRecord, provenance
from reproductions.sampler import images_per_epoch
from reproductions.training import Entry, make_accelerator, refuse_misfit, seed_everything, train
from retable.errors import RetableError, SpecError
from retable.files import write_atomically
from retable.progress import progress_bar


@dataclass(frozen=True, slots=True)
class Artefacts:
    """Files that belong to one finished seed: its weights, and the ranks of all true matches.

    The ranks are by the whole description, also where parts of it are ranked as well.
    """

    weights: Path
    ranks: Path


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """A split with its images, resized to one size.

    Attributes:
        split: what is trained on, and judged first.
        train: images of its training list, uint8 (N, 3, H, W).
        test: every test image of all protocols, once; likewise.
        lists: what each protocol asks about them, the split's own first.
        names: what each protocol's scores are filed under.
    """

    split: Split
    train: Tensor
    test: Tensor
    lists: tuple[Lists, ...]
    names: dict[str, str]

    @property
    def num_pids(self) -> int:
        """Number of training identities."""
        return len({record.pid for record in self.split.train})

    def labels(self) -> Tensor:
        """(N,) identities of the training images as 0..num_pids-1, in the order of their labels."""
        pids = labels_of(self.split.train).pids
        return torch.from_numpy(np.searchsorted(np.unique(pids), pids))

    def beside(self, judged: Sequence[Judged]) -> dict[str, dict[str, float]]:
        """The metrics of each, by protocol, split if there are several, part, and way of ranking."""
        return {one.named(self.names[one.protocol]): one.result.metrics for one in judged}


def run_seed(
    job: Job,
    seed: int,
    device: str,
    results: Path,
    console: Console,
    after_epoch: Callable[[Entry], None] = lambda _: None,
    run_id: str | None = None,
    same: Sequence[Job] = (),
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
        same: other rows that this network stands for.

    Raises ``RetableError`` for missing or damaged data, weights or checkpoints, a recipe that does not
    fit the method, a row of a part that the network's description does not have, and a full disk.
    """
    started = time.time()
    accelerator = make_accelerator(pick_device(device), job.recipe.precision)
    size = job.recipe.height, job.recipe.width
    data = load_data(job.data, job.beside, *size, accelerator.device, console)
    method = build(job, seed, data.num_pids).to(accelerator.device)
    refuse_misfit(method, job.recipe)
    for row in (job, *same):
        refuse_unknown_part(method, row)
    state = _train(job, seed, method, data, accelerator, console, after_epoch)
    judged = evaluate(method, data.test, data.lists, accelerator, job.recipe.ranking, console)
    result, parts, beside = _sorted_out(judged)
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
        parts=parts,
        beside=data.beside(beside),
        untrained=state.untrained,
        untrained_parts=state.untrained_parts,
        history=state.history,
        provenance=provenance(started, device_name(accelerator.device), data.split.digests()),
        mlflow_run_id=run_id,
    )
    kept = _keep(job, seed, method, result.ranks)
    record.save(results)
    (run_folder(job.row_hash, seed) / "checkpoint.pt").unlink(missing_ok=True)
    return record, kept


def refuse_unknown_part(method: Method, job: Job) -> None:
    """Raise ``SpecError`` when the row is of a part that the network's description does not have."""
    parts = _parts(method)
    if job.part and job.part not in parts:
        known = f"one of {', '.join(parts)}, or no part" if parts else "no part: only the whole is ranked"
        raise SpecError(
            f"{job.paper}, row {job.row!r} on {job.dataset}: found part {job.part!r} of {job.method}, with "
            f"its options; expected {known}"
        )


def _parts(method: Method) -> list[str]:
    """Names of the parts of the network's description."""
    return list(method.parts) if isinstance(method, EmbeddingMethod) else []


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
    source: Street | Release,
    beside: tuple[Protocol, ...],
    height: int,
    width: int,
    device: torch.device,
    console: Console,
) -> Data:
    """The one split of ``source``, verified and decoded, and what protocols beside it ask.

    A protocol beside it that has several splits asks about its first. Kept for the next seed.

    Raises:
        RetableError: the protocol has several splits, or several images a record.
        DataError: a file is missing or damaged, or a protocol beside it tests who is trained on.
    """
    root, judge = source.folder(cache(), console), source.protocol
    splits = read(judge, root)
    if len(splits) > 1:
        raise RetableError(
            f"{judge.name}: {len(splits)} splits, and a run trains on one; expected a protocol of one split"
        )
    judges, names = [(judge, splits[0])], {judge.name: judge.name}
    for other in beside:
        first, *rest = read(other, root)
        refuse_leaks(judges[0], (other, first))
        judges.append((other, first))
        names[other.name] = f"{other.name} split {first.name}" if rest else other.name
    tested, lists = pool(judges)
    with progress_bar(console, "decoding", len(splits[0].train) + len(tested)) as bar:
        train, test = (
            decode(records, height, width, device, bar.advance) for records in (splits[0].train, tested)
        )
    return Data(splits[0], train, test, lists, names)


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
    state = resumed or Checkpoint(identity, 0, {}, {}, [], {})
    if resumed is None or set(state.untrained_parts) != set(_parts(method)):  # older than the parts
        judged = evaluate(method, data.test, data.lists[:1], accelerator, job.recipe.ranking[:1], console)
        before, parts, _ = _sorted_out(judged)
        state = replace(state, untrained=before.metrics, untrained_parts=parts)
    an_epoch = images_per_epoch(data.labels(), job.recipe)
    total, done = (an_epoch * epochs for epochs in (job.recipe.epochs, state.epoch))
    with progress_bar(console, f"{job.row} seed {seed}", total, done) as bar:
        epochs = train(method, data.train, data.labels(), job.recipe, seed, accelerator, resumed, bar.advance)
        for entry, optimizer in epochs:
            state = Checkpoint(
                identity,
                state.epoch + 1,
                method.state_dict(),
                optimizer,
                [*state.history, entry],
                state.untrained,
                state.untrained_parts,
            )
            state.save(file)
            after_epoch(entry)
    return state


def _sorted_out(judged: Sequence[Judged]) -> tuple[Result, dict[str, dict[str, float]], list[Judged]]:
    """The first result, the metrics of the parts by the same protocol, by name, and what stands beside."""
    first, *others = judged
    parts = {one.part: one for one in others if one.part and one.protocol == first.protocol}
    beside = [one for one in others if one not in parts.values()]
    return first.result, {name: one.result.metrics for name, one in parts.items()}, beside


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
