"""One seed of one job: from images on disk to a record in ``results/``."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from filelock import FileLock, Timeout
from rich.console import Console
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor

from methods import METHODS
from methods.base import FittedMethod, Method
from methods.openpose_weights import read_openpose
from protocols import Protocol, Split
from protocols.files import read
from protocols.leaks import refuse_leaks
from protocols.ranking import Ranks
from protocols.results import Result
from reproductions.artefacts import Artefacts, artefacts, checkpoint_file, run_folder
from reproductions.checkpoint import Checkpoint
from reproductions.evaluation import Judged, Lists, evaluate, labels_of, pool
from reproductions.fitting import fit
from reproductions.frames import Frames
from reproductions.images import Images, decode
from reproductions.jobs import Job, Release, Street
from reproductions.places import cache
from reproductions.pose_weights import street_pose_weights
from reproductions.records import SeedRecord, provenance
from reproductions.row_scores import (
    other_judges,
    parts_of,
    refuse_unscored,
    reranked_names,
    scorings,
    unasked_names,
)
from reproductions.sampler import images_per_epoch
from reproductions.training import Entry, make_accelerator, refuse_misfit, seed_everything, train
from retable.errors import RetableError, SpecError, WeightsError
from retable.files import write_atomically
from retable.progress import progress_bar


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """A split with its images, resized to one size.

    Attributes:
        split: what is trained on, and judged first.
        train: images of its training list, uint8 (N, 3, H, W), all frames of a tracklet in order.
        test: every test image of all protocols, once; likewise.
        lists: what each protocol asks about them, the split's own first.
        names: what each protocol's scores are filed under.
    """

    split: Split
    train: Images
    test: Images
    lists: tuple[Lists, ...]
    names: dict[str, str]

    @property
    def num_pids(self) -> int:
        """Number of training identities."""
        return len({record.pid for record in self.split.train})

    def labels(self) -> Tensor:
        """(R,) identities of the training records as 0..num_pids-1, in the order of their labels."""
        pids = labels_of(self.split.train).pids
        return torch.from_numpy(np.searchsorted(np.unique(pids), pids))

    def named(self, judged: Sequence[Judged]) -> dict[str, Result]:
        """The result of each, by protocol, split if there are several, part, and way of ranking."""
        return {one.named(self.names[one.protocol]): one.result for one in judged}


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

    Raises ``RetableError`` for missing or damaged data, weights or checkpoints, those of networks that it
    starts from among them, a recipe that does not fit the method, a row whose scores the network cannot have,
    and a full disk.
    """
    started = time.time()
    refuse_misfit(METHODS.get(job.method), job.recipe)
    accelerator = make_accelerator(pick_device(device), job.recipe.precision)
    size = job.recipe.height, job.recipe.width
    network = (job, *same)
    judges = (*job.beside, *other_judges(network))
    data = load_data(job.data, judges, seed, *size, accelerator.device, console)
    method = starting(job, seed, data.num_pids, accelerator.device, console)
    refuse_unscored(method, network, data.lists)
    if isinstance(method, FittedMethod):
        state = _fit(job, seed, method, data, accelerator, console, after_epoch)
    else:
        state = _train(job, seed, method, data, accelerator, console, after_epoch)
    judged = evaluate(
        *(method, data.test, data.lists, accelerator, job.recipe.ranking, console),
        reranked=reranked_names(network),
        known=unasked_names(method, network),
    )
    result, parts, others = _sorted_out(judged)
    beside, computer = data.named(others), device_name(accelerator.device)
    record = SeedRecord(
        paper=job.paper,
        table=job.table,
        row=job.row,
        dataset=job.network.dataset,
        scale=job.scale,
        seed=seed,
        split=data.split.name,
        row_hash=job.row_hash,
        identity=job.identity,
        options=method.options.model_dump(mode="json"),
        headline=result.headline,
        metrics=result.metrics,
        bounds=result.bounds,
        parts=parts,
        beside={name: one.metrics for name, one in beside.items()},
        scorings=scorings(network, beside, started, computer),
        untrained=state.untrained,
        untrained_parts=state.untrained_parts,
        history=state.history,
        provenance=provenance(started, computer, data.split.digests(), job.pose_weights),
        mlflow_run_id=run_id,
    )
    kept = _keep(job, seed, method, result.ranks)
    record.save(results)
    checkpoint_file(job.row_hash, seed).unlink(missing_ok=True)
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
    """The job's network with the weights that its recipe names; ``starting`` is what training starts from."""
    seed_everything(seed, "initial weights")
    method = METHODS.get(job.method)
    return method(
        method.parse_options(job.options),
        num_pids,
        job.recipe.backbone,
        job.weights,
        job.recipe.backbone_options,
    )


def starting(job: Job, seed: int, num_pids: int, device: torch.device, console: Console) -> Method:
    """The job's network as it is when its own training starts, on the device.

    That is with the weights of the networks that it starts from, if there are any, else with those of the
    recipe, which are trained now if they are the street's; and with a pose network that was trained before.

    Raises ``RetableError`` when a network that it starts from is not in the cache, else ``WeightsError`` and
    ``SpecError`` for weights that do not fit, and what ``load_pose`` does.
    """
    files = [_weights_of(one, seed, job) for one in job.starts_from]
    # Whatever was trained before has the recipe's weights in it already.
    unread = files or job.pretraining
    method = build(replace(job, weights="none") if unread else job, seed, num_pids).to(device)
    if job.pretraining and not files:
        from reproductions.pretraining import street_weights  # which builds and trains by this module

        learned = load_file(street_weights(job.pretraining, device, console))
        method.load_state_dict(method.state_dict() | learned)
    if job.goes_on:
        _take_over(method, files[0], job, num_pids)
        return method
    if job.recipe.pose != "none":
        load_pose(method, job, device.type, console)
    if files:
        method.start_from([load_file(file) for file in files])
    return method


def _weights_of(before: Job, seed: int, job: Job) -> Path:
    """The weights of a network that a job starts from. Raises ``RetableError`` when they are not here."""
    weights = artefacts(before.row_hash, seed).weights
    if not weights.is_file():
        raise RetableError(
            f"{job.row} on {job.dataset} starts from {before.row} on {before.dataset}, seed {seed}: no "
            f"{weights}; run python -m reproductions.run {job.paper}, which trains that first"
        )
    return weights


def load_pose(method: Any, job: Job, device: str, console: Console) -> None:
    """Let the pose network inside the method start from the recipe's weights.

    Raises ``WeightsError`` for a file that was not given, or is not the published network, and
    ``SpecError`` for a method without a pose network.
    """
    if not hasattr(method, "load_pose"):
        raise SpecError(
            f"{job.paper}, row {job.row!r}: found a recipe with pose = {job.recipe.pose!r}; expected 'none', "
            f"as {job.method} has no pose network"
        )
    job.refuse_missing_pose()
    if job.recipe.pose == "street":
        method.load_pose(load_file(street_pose_weights(*job.pose_network, device, console)))
    else:
        method.load_pose(read_openpose(Path(job.pose_weights)))


def _take_over(method: Method, file: Path, job: Job, num_pids: int) -> None:
    """Start from trained weights; layers that are as large as there are identities stay as they are.

    They do where their number differs. Raises ``WeightsError`` for weights of another network.
    """
    own, taken = method.state_dict(), load_file(file)
    shapes = {name: tensor.shape for name, tensor in own.items()}
    differing = {name for name, tensor in taken.items() if name in own and tensor.shape != shapes[name]}
    if differing:
        more = build(replace(job, weights="none"), 0, num_pids + 1).state_dict()
        differing &= {name for name, shape in shapes.items() if more[name].shape != shape}
    if missing := sorted(own.keys() - taken.keys()):
        raise WeightsError(f"{file}: has no {missing[0]}, expected all of {job.method}'s; delete it")
    try:
        method.load_state_dict(taken | {name: own[name] for name in differing})
    except RuntimeError as error:
        fault = str(error).splitlines()[-1].strip()
        raise WeightsError(f"{file}: of another network than {job.row}'s ({fault}); delete it") from error


def load_data(
    source: Street | Release,
    beside: tuple[Protocol, ...],
    seed: int,
    height: int,
    width: int,
    device: torch.device,
    console: Console,
) -> Data:
    """A split of ``source``, verified and decoded, and what protocols beside it ask.

    Of n splits, seed s has the one at place s mod n, in the protocol's order, and each protocol beside it
    the one at that place of its own, counted round likewise. Kept for the next seed that has the same.

    Raises ``DataError`` when a file is missing or damaged, or a protocol beside it tests who is trained on.
    """
    (_, splits), *_ = _splits(source, beside, console)
    return _decoded(source, beside, seed % len(splits), height, width, device, console)


@lru_cache(maxsize=1)
def _splits(
    source: Street | Release, beside: tuple[Protocol, ...], console: Console
) -> list[tuple[Protocol, tuple[Split, ...]]]:
    """Each protocol with all of its splits, verified; the one that is trained for first."""
    root = source.folder(cache(), console)
    return [(judge, read(judge, root)) for judge in (source.protocol, *beside)]


@lru_cache(maxsize=1)
def _decoded(
    source: Street | Release,
    beside: tuple[Protocol, ...],
    place: int,
    height: int,
    width: int,
    device: torch.device,
    console: Console,
) -> Data:
    """One split of each protocol; the first is trained on. See ``load_data``."""
    (judge, splits), *others = _splits(source, beside, console)
    split = splits[place]
    judges, names = [(judge, split)], {judge.name: judge.name}
    for other, own in others:
        tested = own[place % len(own)]
        refuse_leaks(judges[0], (other, tested))
        judges.append((other, tested))
        names[other.name] = f"{other.name} split {tested.name}" if len(own) > 1 else other.name
    trained = [image for record in split.train for image in record.images()]
    asked, lists = pool(judges)
    with progress_bar(console, "decoding", len(trained) + len(asked)) as bar:
        train, test = (decode(paths, height, width, device, bar.advance) for paths in (trained, asked))
    return Data(split, train, test, lists, names)


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
    file = checkpoint_file(job.row_hash, seed)
    identity = f"{job.row_hash}/seed-{seed}"
    resumed = Checkpoint.load(file, identity)
    state = resumed or Checkpoint(identity, 0, {}, {}, [], {})
    if resumed is None or set(state.untrained_parts) != set(parts_of(method)):  # older than the parts
        judged = evaluate(method, data.test, data.lists[:1], accelerator, job.recipe.ranking[:1], console)
        before, parts, _ = _sorted_out(judged)
        state = replace(state, untrained=before.metrics, untrained_parts=parts)
    an_epoch = images_per_epoch(data.labels(), job.recipe)
    total, done = (an_epoch * epochs for epochs in (job.recipe.epochs, state.epoch))
    with progress_bar(console, f"{job.row} seed {seed}", total, done) as bar:
        frames, labels = Frames.of(data.split.train), data.labels()
        epochs = train(
            method, data.train, labels, job.recipe, seed, accelerator, resumed, bar.advance, frames
        )
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


def _fit(
    job: Job,
    seed: int,
    method: FittedMethod,
    data: Data,
    accelerator: Accelerator,
    console: Console,
    after_epoch: Callable[[Entry], None],
) -> Checkpoint:
    """Fit the method, in one step that is kept as one epoch is; nothing is measured before it.

    What is there before would describe images by the numbers that buffers are made with.
    """
    file = checkpoint_file(job.row_hash, seed)
    identity = f"{job.row_hash}/seed-{seed}"
    if resumed := Checkpoint.load(file, identity):
        method.load_state_dict(resumed.model)
        return resumed
    entry = fit(method, data.train, seed, accelerator, console)
    untrained_parts: dict[str, dict[str, float]] = {part: {} for part in parts_of(method)}
    state = Checkpoint(identity, 1, method.state_dict(), {}, [entry], {}, untrained_parts)
    state.save(file)
    after_epoch(entry)
    return state


def _sorted_out(judged: Sequence[Judged]) -> tuple[Result, dict[str, dict[str, float]], list[Judged]]:
    """The first result, the metrics of the parts by the same protocol, by name, and what stands beside."""
    first, *others = judged
    parts = {one.part: one for one in others if one.part and one.protocol == first.protocol and not one.way}
    beside = [one for one in others if one not in parts.values()]
    return first.result, {name: one.result.metrics for name, one in parts.items()}, beside


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


def with_weights(network: Method, file: Path) -> Method:
    """The network with its trained weights. Raises ``WeightsError`` for those of another network."""
    try:
        network.load_state_dict(load_file(file))
    except (OSError, RuntimeError, SafetensorError) as error:
        first = str(error).splitlines()[0]
        raise WeightsError(
            f"{file}: cannot be loaded ({first}); delete it and run the seed --fresh"
        ) from error
    return network


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
