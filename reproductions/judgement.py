"""From recorded runs to an answer for every cell and every claim of a paper."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from protocols import PROTOCOLS, Counts
from reproductions.claims import ClaimVerdict, judge_claim
from reproductions.complexity import computed
from reproductions.effects import MechanismVerdict, Trial, mechanism_jobs
from reproductions.jobs import STREET, Job, beside_it, has_rules, make_job, stands_for
from reproductions.paper import PERCENTAGES, SIZES, Cell, Claim, Paper, RunScale
from reproductions.records import ScoreKey, SeedRecord, by_row_hash, serving
from reproductions.transcript import number
from reproductions.verdicts import Verdict, Word, judge_cell, judge_exact, seeds_needed, usual_noise


@dataclass(frozen=True, slots=True)
class CellAnswer:
    """What can be said of one printed number.

    ``verdict`` is None for numbers that are not ours to judge, and ``reason`` then says why; with a
    verdict it says what is missing, if anything is. ``readings`` are the words of our seeds against
    each value that the errata allow, the printed one first; empty where there is only that.
    """

    cell: Cell
    verdict: Verdict | None
    reason: str
    readings: tuple[tuple[str, Word], ...] = ()

    @property
    def fails(self) -> bool:
        """Whether this speaks against the paper or our code, and no erratum explains it."""
        return self.verdict is not None and self.verdict.fails and not self.explained

    @property
    def explained(self) -> bool:
        """Whether this speaks against the paper or our code, for a reason that an erratum gives."""
        return self.verdict is not None and self.verdict.fails and bool(self.cell.erratum)

    @property
    def computed(self) -> float:
        """What an exact cell should hold, by our own count; nan without a verdict."""
        if self.verdict is None:
            return math.nan
        return float(number(self.verdict.reading or self.cell.printed)) + self.verdict.gap

    @property
    def note(self) -> str:
        """What a reader should know beside the word."""
        return "; ".join(self._notes())

    def _notes(self) -> Iterator[str]:
        if self.reason:
            yield self.reason
        if self.verdict is None:
            return
        if self.explained:
            yield f"explained by erratum {self.cell.erratum}"
        if self.verdict.exceeds:
            yield "exceeds the printed value"
        if self.readings:
            (printed, word), *others = self.readings
            yield f"as printed {printed}: {word}"
            yield from (f"read as {reading}, see errata: {word}" for reading, word in others)
        elif self.verdict.word == "within" and self.verdict.reading not in (None, self.cell.printed):
            yield f"read as {self.verdict.reading}, see errata"


@dataclass(frozen=True, slots=True)
class ClaimAnswer:
    """The answer to one claim at one scale."""

    claim: Claim
    scale: RunScale
    verdict: ClaimVerdict


class Judgement:
    """All answers for one paper, from the records that belong to its present definition.

    Records of a row whose recipe, options, protocol or data have changed since do not count.
    """

    def __init__(self, paper: Paper, records: Sequence[SeedRecord]) -> None:
        self.paper = paper
        self._by_hash = by_row_hash(records)
        self._jobs: dict[tuple[str, str, RunScale], Job | None] = {}

    @cached_property
    def cells(self) -> list[CellAnswer]:
        """An answer for each cell, in printed order."""
        return [self.answer(cell) for cell in self.paper.cells]

    @cached_property
    def claims(self) -> list[ClaimAnswer]:
        """An answer for each claim at each of its scales."""
        return [self.answer_claim(claim, scale) for claim in self.paper.claims for scale in claim.scales]

    def answer(self, cell: Cell) -> CellAnswer:
        """Judge one printed number."""
        if cell.kind == "cited":
            return CellAnswer(cell, None, f"quoted: {self.paper.cited[cell.row].reference}")
        if cell.scale == "exact":
            return self._answer_size(cell) if cell.metric in SIZES else _answer_count(cell)
        if cell.is_deviation:
            return CellAnswer(cell, None, "a printed deviation: shown beside its mean, not judged")
        if cell.metric not in PERCENTAGES:
            return CellAnswer(cell, None, f"{cell.metric} depends on hardware or data that are not named")
        if why := self.paper.row(cell.row).incomparable:
            return CellAnswer(cell, None, why)
        scores = list(self.scores(cell.row, cell.dataset, cell.metric, "paper").values())
        verdict = judge_cell(cell, scores)
        return CellAnswer(cell, verdict, self._missing(cell, verdict), _each_reading(cell, scores))

    def _answer_size(self, cell: Cell) -> CellAnswer:
        """The size of a network, against that of the network built."""
        counts = ""
        if cell.metric.endswith("flops"):
            network = self.paper.table(cell.table).networks[cell.row]
            counts = "counted: " + ", ".join(("products", *network.counts))
        return CellAnswer(cell, judge_exact(computed(self.paper, cell), cell.printed, *cell.readings), counts)

    def answer_claim(self, claim: Claim, scale: RunScale) -> ClaimAnswer:
        """Judge one claim, at scale ``proxy`` on the embedded street."""
        verdict = judge_claim(
            claim,
            lambda row, dataset, metric: self.scores(row, dataset, metric, scale),
            scale=scale,
            datasets=[STREET] if scale == "proxy" else None,
        )
        return ClaimAnswer(claim, scale, verdict)

    @cached_property
    def mechanisms(self) -> list[MechanismVerdict]:
        """An answer for each mechanism, from the embedded street with its dial turned."""
        records = [record for seeds in self._by_hash.values() for record in seeds.values()]
        return [Trial(self.paper, mechanism, records).verdict for mechanism in self.paper.mechanisms]

    def measured(self) -> list[list[SeedRecord]]:
        """Records of each definition of each row that was run, in printed order of rows."""
        order = {row: place for place, row in enumerate(self.paper.rows)}
        groups = [list(seeds.values()) for seeds in self._by_hash.values()]
        return sorted(
            (group for group in groups if group[0].row in order),
            key=lambda group: (group[0].scale, group[0].dataset, order[group[0].row], group[0].row_hash),
        )

    def is_present(self, record: SeedRecord) -> bool:
        """Whether the record belongs to the present definition of a row or of a mechanism's trials."""
        return bool(self.labels(record)) or record.row_hash in self.trials

    @cached_property
    def trials(self) -> dict[str, str]:
        """Hashes of the runs that mechanisms are judged by, with what was turned: ``misalignment 0.15``.

        Runs that those start from are among them.
        """
        return {job.row_hash: turned for turned, job in self._trial_jobs}

    @cached_property
    def _trial_jobs(self) -> list[tuple[str, Job]]:
        return [
            (f"{mechanism.dial} {level:g}", one)
            for mechanism in self.paper.mechanisms
            for (_, level), job in mechanism_jobs(self.paper, mechanism).items()
            for one in (*job.all_before, job)
        ]

    def shown(self, record: SeedRecord) -> dict[ScoreKey, str]:
        """What a record's network is shown as: which of its scores -> label of the rows that have them.

        Rows of the same scores are one, for example ``Baseline = CE``; rows of different ones never are.
        On a turned dial the label says so: ``Baseline (misalignment 0.3)``. A network whose definition
        was changed since has the label that it was run under.
        """
        labels = _by_key((job.key, job.row) for job in self.jobs_of(record)) or {
            self._key_of(record): [record.row]
        }
        shown = {key: " = ".join(same) for key, same in labels.items()}
        if turned := self.trials.get(record.row_hash):
            tried = [job for _, job in self._trial_jobs if job.row_hash == record.row_hash]
            run_as = (self._key_of(record), record.row)
            labels = _by_key([run_as, *((job.key, job.row) for job in tried)])
            shown |= {key: f"{same[0]} ({turned})" for key, same in labels.items()}
        return {key: label for key, label in shown.items() if record.has(key)}

    def _key_of(self, record: SeedRecord) -> ScoreKey:
        """Which scores the row has that a record was run under, as far as its label still tells."""
        row = self.paper.rows.get(record.row)
        return ScoreKey(row.part if row else "")

    def labels(self, record: SeedRecord) -> list[str]:
        """Labels of all rows that this record stands for, in printed order: one network may have several."""
        return list(dict.fromkeys(job.row for job in self.jobs_of(record)))

    def jobs_of(self, record: SeedRecord) -> list[Job]:
        """All rows that this record stands for, each on each data set, in printed order of each.

        Where none has scores on any of them, both were named on the command line, and any may be meant.
        """
        same = [
            job
            for dataset in self._judged_on(record.dataset)
            for label in self.paper.rows
            if (job := self._job(label, dataset, record.scale)) and job.row_hash == record.row_hash
        ]
        printed = [
            job for job in same if stands_for(job.dataset) in (STREET, *self.paper.row(job.row).datasets)
        ]
        return printed or same

    def _judged_on(self, dataset: str) -> list[str]:
        """The data set that networks were trained on, and all that they may be judged on."""
        own = stands_for(dataset)
        if own not in (STREET, *self.paper.datasets):
            return []
        names = (own, self.paper.street.protocol) if dataset == STREET else (own,)
        others = (name for name, one in self.paper.datasets.items() if one.trained_on in names)
        return [dataset, *(beside_it(dataset, name) for name in others)]

    def records(self, row: str, dataset: str, scale: RunScale) -> dict[int, SeedRecord]:
        """Recorded seeds of a row, in rising order; none where the data set has no protocol."""
        job = self._job(row, dataset, scale)
        return self.records_of(job) if job else {}

    def records_of(self, job: Job) -> dict[int, SeedRecord]:
        """Recorded seeds of a job, in rising order."""
        return serving(job.key, self._by_hash.get(job.row_hash, {}))

    def _job(self, row: str, dataset: str, scale: RunScale) -> Job | None:
        """A row's present definition; None where the data set has no protocol."""
        at = row, dataset, scale
        if at not in self._jobs:
            self._jobs[at] = make_job(self.paper, *at) if has_rules(dataset) else None
        return self._jobs[at]

    def scores(self, row: str, dataset: str, metric: str, scale: RunScale) -> Mapping[int, float]:
        """``{seed: score}`` of the row's own scores on the data set; see ``SeedRecord.score``."""
        job = self._job(row, dataset, scale)
        if job is None:
            return {}
        return {seed: one.score(job.key, metric) for seed, one in self.records_of(job).items()}

    def _missing(self, cell: Cell, verdict: Verdict) -> str:
        if cell.dataset not in PROTOCOLS.names():
            return f"no protocol for {cell.dataset} yet"
        command = f'python -m reproductions.run {self.paper.key} --row "{cell.row}" --on {cell.dataset}'
        match verdict.word:
            case "unrun":
                return f"no seeds at scale paper: {command} --seeds 4 --data-root DIR"
            case "open":
                needed = seeds_needed(usual_noise(cell.dataset, cell.metric), verdict.edge)
                return f"open with {verdict.n} seeds, {needed} settle a gap of 0: {command} --data-root DIR"
            case _:
                return ""


def _by_key(labels: Iterable[tuple[ScoreKey, str]]) -> dict[ScoreKey, list[str]]:
    """Labels by which scores their rows have, each label once."""
    by_key: dict[ScoreKey, list[str]] = {}
    for key, label in labels:
        if label not in by_key.setdefault(key, []):
            by_key[key].append(label)
    return by_key


def _each_reading(cell: Cell, scores: Sequence[float]) -> tuple[tuple[str, Word], ...]:
    """See ``CellAnswer.readings``; nothing without seeds either."""
    if not cell.readings or not scores:
        return ()
    alone = (
        cell.model_copy(update={"printed": one, "readings": ()}) for one in (cell.printed, *cell.readings)
    )
    return tuple((one.printed, judge_cell(one, scores).word) for one in alone)


def _answer_count(cell: Cell) -> CellAnswer:
    """A count of a data set, against the protocol's own."""
    if cell.dataset not in PROTOCOLS.names():
        return CellAnswer(cell, None, f"no protocol for {cell.dataset} yet")
    values = _exact_values(PROTOCOLS.get(cell.dataset)().counts)
    if cell.metric not in values:
        return CellAnswer(cell, None, f"protocols do not count {cell.metric}")
    value = values[cell.metric]
    if value is None:
        return CellAnswer(cell, None, f"the splits of {cell.dataset} differ in it")
    return CellAnswer(cell, judge_exact(value, cell.printed, *cell.readings), "")


def _exact_values(counts: Counts) -> dict[str, int | None]:
    both = None not in (counts.train_pids, counts.test_pids)
    return {
        "identities": (counts.train_pids or 0) + (counts.test_pids or 0) if both else None,
        "images": counts.images,
        "cameras": counts.cameras,
        "train_pids": counts.train_pids,
        "test_pids": counts.test_pids,
        "train_images": counts.train,
        "query_images": counts.query,
        "gallery_images": counts.gallery,
        "query_pids": counts.query_pids,
        "distractors": counts.distractors,
        "train_tracklets": counts.train,
        "test_tracklets": counts.gallery,
    }
