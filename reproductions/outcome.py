"""What a run command shows at its end: measured mean and deviation, verdicts, claims."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from tabulate import tabulate

from reproductions.compare import (
    BESIDE_COLUMNS,
    BESIDE_NOTE,
    CELL_COLUMNS,
    CLAIM_COLUMNS,
    beside_rows,
    cell_row,
    claim_row,
    mean_and_deviation,
)
from reproductions.jobs import Job
from reproductions.judgement import CellAnswer, ClaimAnswer, Judgement
from reproductions.paper import Paper
from reproductions.records import SeedRecord, judged_by
from retable.cli import show

METRICS = {
    "mAP": "mAP",
    "mAP_trapezoid": "mAP trapezoid",
    "rank1": "rank-1",
    "rank5": "rank-5",
    "rank10": "rank-10",
}


class Outcome:
    """The recorded seeds of some jobs, of those asked for, and what they say of the paper."""

    def __init__(
        self, paper: Paper, jobs: Sequence[Job], seeds: Sequence[int], records: Sequence[SeedRecord]
    ) -> None:
        self.paper, self.jobs, self.seeds = paper, jobs, seeds
        self.judgement = Judgement(paper, records)

    @property
    def compares(self) -> bool:
        """Whether these scores may stand beside published values."""
        return all(job.scale == "paper" for job in self.jobs)

    def records(self, job: Job) -> list[SeedRecord]:
        """The job's records among the seeds asked for."""
        return [record for seed, record in self.judgement.records_of(job).items() if seed in self.seeds]

    def show(self, console: Console) -> None:
        """Print measurements, verdicts (none at scale proxy) and the claims that have runs."""
        console.print(f"\n{self._measurements()}\n", markup=False, highlight=False, soft_wrap=True)
        if beside := self._beside():
            console.print(f"{BESIDE_NOTE}\n", markup=False, highlight=False, soft_wrap=True)
            show(beside, BESIDE_COLUMNS, "table")
        data = self.as_data()
        for name, columns in (("cells", CELL_COLUMNS), ("claims", CLAIM_COLUMNS)):
            if data[name]:
                show(data[name], columns, "table")

    def save(self, path: Path) -> None:
        """Write measurements, cells and claims as JSON."""
        path.write_text(json.dumps(self.as_data(), indent=1) + "\n", encoding="utf-8")

    def as_data(self) -> dict[str, Any]:
        """The same as plain data, unrounded."""
        return {
            "paper": self.paper.key,
            "scale": self.jobs[0].scale,
            "rows": [
                {
                    "row": job.row,
                    "dataset": job.dataset,
                    "judged_by": judged_by(job.identity, job.key),
                    "row_hash": job.row_hash,
                    "seeds": {one.seed: one.scores(job.key) for one in self.records(job)},
                    "beside": {one.seed: one.scores_beside(job.part) for one in self.records(job)},
                    "untrained": {one.seed: one.untrained_scores(job.key) for one in self.records(job)},
                }
                for job in self.jobs
            ],
            "cells": [cell_row(self.judgement, a) for a in self._answers()] if self.compares else [],
            "claims": [claim_row(answer) for answer in self._claims()],
        }

    def _measurements(self) -> str:
        """One line a job: mean and deviation over its seeds, trained and before the first step."""
        lines = []
        for job in self.jobs:
            records = self.records(job)
            trained = [record.scores(job.key) for record in records]
            scores = [mean_and_deviation([metrics[name] for metrics in trained]) for name in METRICS]
            untrained = filter(None, (record.untrained_scores(job.key) for record in records))
            before = mean_and_deviation([metrics["rank1"] for metrics in untrained])
            judge = judged_by(job.identity, job.key)
            lines.append((job.row, job.dataset, judge, len(records), *scores, before))
        headers = ("row", "data set", "judged by", "seeds", *METRICS.values(), "untrained rank-1")
        return str(tabulate(lines, headers, disable_numparse=True))

    def _beside(self) -> list[dict[str, object]]:
        """The jobs' seeds under other protocols and rankings, each part of each network once."""
        asked = {(job.row_hash, job.part): job for job in self.jobs}
        return [
            row
            for job in asked.values()
            for row in beside_rows(self.judgement, self.records(job), [job.part])
        ]

    def _answers(self) -> list[CellAnswer]:
        """Answers to the judged cells of the rows and data sets that were run."""
        run = {(job.row, job.dataset) for job in self.jobs}
        answers = (a for a in self.judgement.cells if (a.cell.row, a.cell.dataset) in run)
        return [answer for answer in answers if answer.verdict is not None]

    def _claims(self) -> list[ClaimAnswer]:
        """Answers to the claims about the rows that were run, where every row has a seed."""
        scale, rows = self.jobs[0].scale, {job.row for job in self.jobs}
        return [
            answer
            for answer in self.judgement.claims
            if answer.scale == scale and rows & set(answer.claim.rows) and answer.verdict.word != "unrun"
        ]
