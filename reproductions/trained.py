"""A finished seed, ready to be asked: its weights, its test images and how its queries were ranked."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from torch import Tensor

from protocols import Record
from protocols.metrics import average_precisions, first_ranks
from protocols.ranking import Labels, counted, rank_matches
from reproductions.artefacts import artefacts
from reproductions.augment import normalise
from reproductions.descriptions import TEST_BATCH, Descriptions, batches, describe_all
from reproductions.evaluation import Lists, sides
from reproductions.execute import Data, build, load_data, pick_device, starting, with_weights
from reproductions.jobs import STREET, Job, on_street
from reproductions.pair_ranking import AllPairs, TwoStage, ranked_by
from reproductions.row_scores import refuse_unknown_part
from reproductions.training import make_accelerator
from retable.errors import RetableError
from retable.progress import progress_bar


class Pair(NamedTuple):
    """Places of an image in the list of queries and of one in the gallery, and what that is to the query."""

    query: int
    other: int
    relation: str


class Network:
    """One seed's network in evaluation mode, and its images: what all rows of the network share.

    Raises:
        RetableError: the seed was not trained on this machine, or its files are gone.
        WeightsError: its weights are another network's.
    """

    def __init__(self, job: Job, seed: int, device: str, console: Console) -> None:
        self.seed = seed
        self.kept = artefacts(job.row_hash, seed)
        for file in (self.kept.weights, self.kept.ranks):
            if not file.is_file():
                raise RetableError(_absent(job, seed, file))
        self.device = torch.device(pick_device(device))
        size = job.recipe.height, job.recipe.width
        self.data: Data = load_data(job.data, job.beside, seed, *size, self.device, console)
        network = build(replace(job, weights="none"), seed, self.data.num_pids)
        self.method: Any = with_weights(network, self.kept.weights).to(self.device).eval()
        self.console = console
        self._job = job

    @cached_property
    def described(self) -> Descriptions:
        """Descriptions of all test images."""
        images = self.data.test
        accelerator = make_accelerator(self.device.type, self._job.recipe.precision)
        with progress_bar(self.console, f"describing by {self._job.row}", len(images)) as bar:
            return describe_all(self.method, images, accelerator, progress=bar.advance)

    @cached_property
    def untrained(self) -> Any | None:
        """The network as it is when its own training starts, see ``execute.starting``.

        None where that takes a file of pose weights that was not given, or the weights of a network that are
        not in the cache here.
        """
        before = (artefacts(one.row_hash, self.seed).weights for one in self._job.starts_from)
        if self._job.lacks_pose or not all(file.is_file() for file in before):
            return None
        return starting(self._job, self.seed, self.data.num_pids, self.device, self.console).eval()


def load(jobs: Sequence[Job], seed: int, device: str, console: Console) -> list["Trained"]:
    """One seed of each job; rows of one network share it. Raises what ``Network`` and ``Trained`` do."""
    networks: dict[str, Network] = {}
    for job in jobs:
        if job.row_hash not in networks:
            networks[job.row_hash] = Network(job, seed, device, console)
    return [Trained(job, networks[job.row_hash]) for job in jobs]


class Trained:
    """A job with one seed of its network: the images, and how its queries were ranked.

    Places are those of images in the list of queries or in the gallery.

    Raises ``SpecError`` when the row is of a part that the network's description does not have, and
    ``RetableError`` when it is judged in another way than every network is.
    """

    def __init__(self, job: Job, network: Network) -> None:
        refuse_unknown_part(network.method, job)
        if job.key.beside:
            raise RetableError(
                f"{job.row} on {job.dataset}: found scores by {job.key.beside}, and pictures are of the "
                f"ranking that every network has; expected a row without re-ranking, on {job.network.dataset}"
            )
        self.job, self.seed = job, network.seed
        self.data, self.method = network.data, network.method
        self._network = network

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
        return Pair(query, self.nearest_wrong(query), "mistake")

    def nearest_wrong(self, query: int) -> int:
        """Place of the image nearest to a query that does not show its person."""
        ranked = self.nearest(query)
        pid = self._asked.query_labels.pids[query]
        return int(ranked[self._asked.gallery_labels.pids[ranked] != pid][0])

    def nearest(self, query: int) -> NDArray[np.int64]:
        """Places of all gallery images that count for a query, nearest first, ties in gallery order."""
        labels = self._asked.query_labels
        one = Labels(labels.pids[[query]], labels.camids[[query]])
        places = np.flatnonzero(counted(one, self._asked.gallery_labels, self._asked.protocol.rules)[0])
        distances = self._distances(query, query + 1)[0].cpu().numpy()[places]
        return places[np.argsort(distances, kind="stable")]

    def average_precisions(self) -> NDArray[np.float64]:
        """Of each query, (Q,) percent, by the protocol's headline rule; NaN without a true match."""
        both = average_precisions(self._ranks["rank"], self._ranks["ends"])
        return 100 * both[self._asked.protocol.rules.headline_ap == "trapezoid"]

    def first_ranks(self) -> NDArray[np.float64]:
        """Rank of each query's first true match, (Q,); NaN without one."""
        return first_ranks(self._ranks["rank"], self._ranks["ends"])

    def people(self) -> NDArray[np.int64]:
        """Places of the gallery images that show somebody who is asked for: neither junk nor distractors."""
        rules = self._asked.protocol.rules
        nobody = (*rules.junk_pids, *rules.distractor_pids)
        return np.flatnonzero(~np.isin(self._asked.gallery_labels.pids, nobody))

    def transforms(self, places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Matrices A of eq. 1 of SC-STN for images of the gallery, (n,) to (n, 2, 3)."""
        some = np.split(places, range(TEST_BATCH, len(places), TEST_BATCH))
        found = [self.method.transforms(self.gallery(*batch)).double().cpu() for batch in some]
        return np.asarray(torch.cat(found))

    @property
    def untrained(self) -> Any | None:
        """See ``Network.untrained``."""
        return self._network.untrained

    def test_images(self) -> Iterator[Tensor]:
        """All test images of the row's protocol as the network sees them, some at a time, (B, 3, H, W)."""
        count = self._asked.images
        with progress_bar(
            self._network.console, f"looking through {self.job.row}'s test images", count
        ) as bar:
            for _, images in batches(self.data.test, count):
                yield normalise(images.to(self._network.device))
                bar.advance(len(images))

    def activations(self, *queries: int) -> NDArray[np.float32]:
        """Mean over the channels of the last feature map of queries, (B, h, w)."""
        maps: Tensor = self.method.feature_maps(self.queries(*queries))
        return np.asarray(maps.float().abs().mean(1).cpu())

    @cached_property
    def _distances(self) -> AllPairs | TwoStage:
        """Of queries to the gallery, by the row's part of the description and its way of ranking."""
        described = self._network.described
        if self.job.part:
            described = described.columns(self.method.parts[self.job.part])
        query, gallery = sides(described, self._asked)
        return ranked_by(self.job.recipe.ranking[0], self.method, query, gallery)

    @cached_property
    def _ranks(self) -> Mapping[str, NDArray[np.int64]]:
        """``ends``, ``gallery`` and ``rank`` of ``protocols.ranking.Ranks``, of the row's part."""
        if not self.job.part:
            with np.load(self._network.kept.ranks) as ranks:
                return dict(ranks)
        asked = self._asked
        labels = asked.query_labels, asked.gallery_labels
        found = rank_matches(self._distances, *labels, asked.protocol.rules)
        return {"ends": found.ends, "gallery": found.gallery, "rank": found.rank}

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
        return normalise(self.data.test[torch.from_numpy(places)].to(self._network.device))


def shown(record: Record, height: int, width: int) -> NDArray[np.uint8]:
    """An image for the page, (height, width, 3), from its file; of several, the first."""
    with Image.open(record.images()[0]) as image:
        return np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC))


def _absent(job: Job, seed: int, file: Path) -> str:
    on = "" if job.dataset == STREET else f" --on {job.dataset}"
    on += "" if on_street(job.dataset) else " --data-root DIR"
    return (
        f"{job.row} on {job.dataset} [{job.row_hash}], seed {seed}: no {file}, so it was not trained here; "
        f'run python -m reproductions.run {job.paper} --row "{job.row}" --seed {seed}{on} (with the same '
        "--street and --dial, and with --fresh if it is recorded already)"
    )
