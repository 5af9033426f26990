"""Run jobs seed by seed: skip what is recorded, record what is finished, track beside it."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from reproductions.jobs import Job
from reproductions.records import SeedRecord, commit, load_records


def recorded_seeds(job: Job, records: Sequence[SeedRecord]) -> dict[int, SeedRecord]:
    """The job's recorded seeds in rising order; records of an older definition of it do not count."""
    found = {record.seed: record for record in records if record.row_hash == job.row_hash}
    return dict(sorted(found.items()))


def group_by_row(records: Iterable[SeedRecord]) -> list[list[SeedRecord]]:
    """Records of one definition of a row together, in rising order of seeds."""
    groups: dict[str, list[SeedRecord]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.seed):
        groups[record.row_hash].append(record)
    return list(groups.values())


def campaign_name() -> str:
    """Names a command by its time and commit, for example ``2026-03-01T09:30Z-1a2b3c4``."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}-{(commit() or 'no-git')[:7]}"


def run_jobs(
    jobs: Sequence[Job],
    seeds: Sequence[int],
    *,
    device: str,
    results: Path,
    tracking_uri: str,
    console: Console,
) -> None:
    """Run every seed of every job that ``results`` does not hold yet.

    Raises ``RetableError`` for what stops a run; seeds finished before that are recorded.
    """
    records = load_records(results)
    todo = [(job, seed) for job in jobs for seed in seeds if seed not in recorded_seeds(job, records)]
    if not todo:
        return
    from reproductions.execute import run_seed  # torch takes seconds to import
    from reproductions.track import Tracker

    tracker = Tracker(tracking_uri, campaign_name(), console)
    for job in jobs:
        missing = [seed for one, seed in todo if one is job]
        for seed in missing:
            run_id = tracker.start_seed(job, seed)
            finished = False
            try:
                record, files = run_seed(
                    job,
                    seed,
                    device,
                    results,
                    console,
                    after_epoch=lambda entry, run_id=run_id: tracker.log_epoch(run_id, entry),
                    run_id=run_id,
                )
                finished = True
            finally:
                if not finished:
                    tracker.stop_seed(run_id)
            tracker.finish_seed(run_id, record, files)
            console.print(seed_line(record))
        if missing:
            tracker.summarise(job, recorded_seeds(job, load_records(results)).values(), {})


def seed_line(record: SeedRecord) -> str:
    """One finished seed in one line: its first scores, and what it cost."""
    seconds = sum(entry["seconds"] for entry in record.history)
    speed = sum(entry["images_per_s"] * entry["seconds"] for entry in record.history) / seconds
    return (
        f"{record.row} on {record.dataset}, seed {record.seed}: "
        f"mAP {record.metrics['mAP']:.2f}, rank-1 {record.metrics['rank1']:.2f} "
        f"(untrained {record.untrained['mAP']:.2f}, {record.untrained['rank1']:.2f}); "
        f"trained {seconds:.0f} s at {speed:,.0f} images/s"
    )
