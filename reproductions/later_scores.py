"""Scores that a recorded network lacks, from its kept weights: it is judged, not trained again."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from reproductions.artefacts import Artefacts, artefacts
from reproductions.evaluation import evaluate
from reproductions.execute import build, device_name, load_data, pick_device, with_weights
from reproductions.jobs import Job
from reproductions.records import SeedRecord
from reproductions.row_scores import (
    other_judges,
    refuse_unscored,
    reranked_names,
    scorings,
    unasked_names,
)
from reproductions.training import make_accelerator


def add_scores(
    record: SeedRecord, network: Sequence[Job], device: str, results: Path, console: Console
) -> tuple[SeedRecord, Artefacts]:
    """Judge a trained network for rows whose scores its record lacks, and record both together.

    What the record holds stays as it is, but for scores by rules that have changed since.

    Args:
        record: of the network, whose weights are kept.
        network: rows of it; each lacks at most scores that are filed in ``SeedRecord.beside``.
        device: as for ``execute.run_seed``.
        results: folder of the records.
        console: where progress is shown.

    Raises ``RetableError`` for missing or damaged data or weights, rows that the method cannot be judged
    for, and a full disk.
    """
    started = time.time()
    lacking = [job for job in network if not record.has(job.key)]
    job, seed, recipe = network[0], record.seed, network[0].recipe
    accelerator = make_accelerator(pick_device(device), recipe.precision)
    data = load_data(
        job.data, other_judges(lacking), seed, recipe.height, recipe.width, accelerator.device, console
    )
    kept = artefacts(record.row_hash, seed)
    untrained = build(replace(job, weights="none"), seed, data.num_pids)
    method = with_weights(untrained, kept.weights).to(accelerator.device)
    refuse_unscored(method, lacking, data.lists)
    wanted = {one.key.beside for one in lacking}
    judged = evaluate(
        *(method, data.test, data.lists, accelerator, recipe.ranking, console),
        reranked=reranked_names(lacking),
        known=(record.names() | unasked_names(method, lacking)) - wanted,
    )
    found = {name: result for name, result in data.named(judged).items() if name in wanted}
    added = scorings(lacking, found, started, device_name(accelerator.device))
    record = record.model_copy(
        update={
            "beside": record.beside | {name: result.metrics for name, result in found.items()},
            "scorings": record.scorings | added,
        }
    )
    record.save(results)
    return record, kept
