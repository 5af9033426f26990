"""A finished seed, ready to be asked: its weights, its test images and how its queries were ranked."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from methods.base import Method
from protocols import Record
from reproductions.augment import normalise
from reproductions.descriptions import TEST_BATCH
from reproductions.evaluation import Lists
from reproductions.execute import Data, artefacts, build, load_data, pick_device
from reproductions.jobs import STREET, Job
from retable.errors import RetableError, WeightsError


class Pair(NamedTuple):
    """Places of an image in the list of queries and of one in the gallery, and what that is to the query."""

    query: int
    other: int
    relation: str


class Trained:
    """One seed of a job: the network in evaluation mode, the images, the ranks of its true matches.

    Raises:
        RetableError: the seed was not trained on this machine, or its files are gone.
        WeightsError: its weights are another network's.
    """

    def __init__(self, job: Job, seed: int, device: str, console: Console) -> None:
        self.job, self.seed = job, seed
        kept = artefacts(job.row_hash, seed)
        for file in (kept.weights, kept.ranks):
            if not file.is_file():
                raise RetableError(_absent(job, seed, file))
        self.device = torch.device(pick_device(device))
        size = job.recipe.height, job.recipe.width
        self.data: Data = load_data(job.data, job.beside, *size, self.device, console)
        network = build(replace(job, weights="none"), seed, self.data.num_pids)
        self.method: Any = _with_weights(network, kept.weights).to(self.device).eval()
        with np.load(kept.ranks) as ranks:
            self._ranks: Mapping[str, NDArray[np.int64]] = dict(ranks)

    def query(self, place: int) -> Record:
        """The query at that place of the list."""
        return self.data.split.query[place]

    def other(self, place: int) -> Record:
        """The gallery image at that place of the list."""
        return self.data.split.gallery[place]

    def queries(self, *places: int) -> Tensor:
        """Queries as the network sees them, (B, 3, H, W)."""
        return self._images(self._asked.query[list(places)])

    def gallery(self, *places: int) -> Tensor:
        """Gallery images as the network sees them, (B, 3, H, W)."""
        return self._images(self._asked.gallery[list(places)])

    def matches(self, count: int) -> list[Pair]:
        """At most ``count`` queries, spread over those with true matches, each with its nearest one."""
        asking = np.flatnonzero(self._found > 0)
        chosen = asking[np.linspace(0, len(asking) - 1, min(count, len(asking))).astype(int)]
        return [Pair(q, int(self._ranks["gallery"][self._first[q]]), "match") for q in chosen.tolist()]

    def mistake(self) -> Pair | None:
        """The first query with another person before every true match, and the nearest other person to it."""
        asking = np.flatnonzero(self._found > 0)
        wrong = asking[self._ranks["rank"][self._first[asking]] > 1]
        if not len(wrong):
            return None
        query = int(wrong[0])
        return Pair(query, self.nearest_other(query), "mistake")

    @torch.inference_mode()
    def nearest_other(self, query: int) -> int:
        """Place of the gallery image of another identity at the smallest distance, junk apart."""
        asked, distances = self.method.describe(self.queries(query)), []
        for batch in torch.split(torch.from_numpy(self._asked.gallery), TEST_BATCH):
            described = self.method.describe(self._images(batch.numpy()))
            distances.append(self.method.distance(asked, described)[0].cpu())
        pids = self._asked.gallery_labels.pids
        nobody = (self._asked.query_labels.pids[query], *self._asked.protocol.rules.junk_pids)
        passed_over = torch.from_numpy(np.isin(pids, nobody))
        return int(torch.cat(distances).masked_fill(passed_over, torch.inf).argmin())

    @cached_property
    def _first(self) -> NDArray[np.int64]:
        """Where each query's matches begin, the nearest first."""
        return np.concatenate(([0], self._ranks["ends"][:-1]))

    @cached_property
    def _found(self) -> NDArray[np.int64]:
        """Number of true matches of each query."""
        return np.asarray(self._ranks["ends"] - self._first)

    @property
    def _asked(self) -> Lists:
        """What the protocol asks by whose rules the seed was ranked."""
        return self.data.lists[0]

    def _images(self, places: NDArray[np.int64]) -> Tensor:
        return normalise(self.data.test[torch.from_numpy(places)].to(self.device))


def shown(record: Record, height: int, width: int) -> NDArray[np.uint8]:
    """An image for the page, (height, width, 3), from its file."""
    with Image.open(record.path) as image:
        return np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC))


def _with_weights(network: Method, file: Path) -> Method:
    try:
        network.load_state_dict(load_file(file))
    except (OSError, RuntimeError, SafetensorError) as error:
        first = str(error).splitlines()[0]
        raise WeightsError(
            f"{file}: cannot be loaded ({first}); delete it and run the seed --fresh"
        ) from error
    return network


def _absent(job: Job, seed: int, file: Path) -> str:
    on = "" if job.dataset == STREET else f" --on {job.dataset} --data-root DIR"
    return (
        f"{job.row} on {job.dataset} [{job.row_hash}], seed {seed}: no {file}, so it was not trained here; "
        f'run python -m reproductions.run {job.paper} --row "{job.row}" --seed {seed}{on} (with the same '
        "--street, and with --fresh if it is recorded already)"
    )
