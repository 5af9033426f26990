"""Run jobs seed by seed: skip what is recorded, record what is finished, track beside it."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from methods import METHODS
from reproductions.jobs import NO_CHANGES, STREET, Changes, Job, make_job, stands_for
from reproductions.paper import Paper, RunScale
from reproductions.records import (
    WHOLE,
    ScoreKey,
    SeedRecord,
    by_row_hash,
    commit,
    load_records,
    serving,
)
from retable.errors import RetableError


def recorded_seeds(job: Job, records: Sequence[SeedRecord]) -> dict[int, SeedRecord]:
    """The job's recorded seeds in rising order; records of an older definition of it do not count.

    Neither do those that lack the row's scores.
    """
    return serving(job.key, by_row_hash(records).get(job.row_hash, {}))


def networks(jobs: Iterable[Job]) -> list[list[Job]]:
    """Jobs of one network together: what is trained once for several rows, in the order of the jobs.

    Rows by the scores that every network has come first: it is recorded under the first.
    """
    found: dict[str, list[Job]] = {}
    for job in jobs:
        found.setdefault(job.row_hash, []).append(job)
    return [sorted(network, key=lambda job: job.key != WHOLE) for network in found.values()]


def absent_seeds(network: Sequence[Job], seeds: Iterable[int], records: Sequence[SeedRecord]) -> list[int]:
    """Those of ``seeds`` that have no record, or none that serves every row of the network."""
    served = [recorded_seeds(job, records) for job in network]
    return [seed for seed in seeds if any(seed not in own for own in served)]


def can_be_added(network: Iterable[Job], record: SeedRecord) -> bool:
    """Whether all that a record lacks of the rows' scores can be had from the trained weights.

    Parts of the description cannot: they are measured before the first step, too.
    """
    return all(job.key.beside or record.has(job.key) for job in network)


def group_by_row(records: Iterable[SeedRecord]) -> list[list[SeedRecord]]:
    """Records of one definition of a row together, in rising order of seeds."""
    groups: dict[str, list[SeedRecord]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.seed):
        groups[record.row_hash].append(record)
    return list(groups.values())


def campaign_name() -> str:
    """Names a command by its time and commit, for example ``2026-03-01T09:30Z-1a2b3c4``."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}-{(commit() or 'no-git')[:7]}"


def announce(
    console: Console,
    paper: Paper,
    jobs: Sequence[Job],
    seeds: Sequence[int],
    records: Sequence[SeedRecord],
    *,
    changes: Changes = NO_CHANGES,
    table: str | None = None,
) -> None:
    """Print what will run, on what and why, before anything does.

    Args:
        console: where it is printed.
        paper: whose rows they are.
        jobs: of one scale.
        seeds: that are asked for.
        records: what has been run.
        changes: what was changed in the jobs' rows.
        table: where the rows were asked for, instead of the first table that prints them.
    """
    recorded = by_row_hash(records)
    changed = {job.row_hash for job in jobs} - judged(paper, jobs) if str(changes) else set()
    lines = [f"{paper.key}: {paper.title} ({paper.venue} {paper.year})"]
    lines.append(_purpose(jobs[0].scale, bool(changed)))
    if changed:
        lines.append(f"{changes}: rows that this changes have records of their own and are not judged.")
    for network in networks(jobs):
        job, *same = network
        todo = absent_seeds(network, seeds, records)
        own = recorded.get(job.row_hash, {})
        lacking = [seed for seed in todo if seed in own and can_be_added(network, own[seed])]
        kept = _listed(seed for seed in seeds if seed not in todo)
        mark = " (changed)" if job.row_hash in changed else ""
        first = f"{table or job.table}/{job.row}"
        lines.append(
            f"  {first} on {job.dataset} [{job.row_hash}]{_judged_by(job)}{mark}: "
            f"seeds to run {_listed(seed for seed in todo if seed not in lacking)}; "
            + (f"to judge again from kept weights {_listed(lacking)}; " if lacking else "")
            + f"recorded {kept}"
        )
        lines += [
            f"  {table or other.table}/{other.row} on {other.dataset}: "
            f"the same network as {first}{_judged_by(other)}"
            for other in same
        ]
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def _purpose(scale: RunScale, changed: bool) -> str:
    """What runs at this scale are good for; ``changed``: some rows are not as printed."""
    if scale == "proxy":
        return (
            "scale proxy: small networks on the embedded street. It checks that everything runs and "
            "whether the paper's claims show; its scores compare with no published value."
        )
    if changed:
        return "scale paper: real data; rows as printed are compared with the published values."
    return "scale paper: real data and the printed recipe; compared with the published values."


def judged(paper: Paper, jobs: Iterable[Job]) -> set[str]:
    """Hashes of all rows of the paper, unchanged, on the data sets and at the scales of the jobs."""
    return {
        make_job(paper, label, dataset, scale).row_hash
        for dataset, scale in {(job.dataset, job.scale) for job in jobs}
        for label, row in paper.rows.items()
        if stands_for(dataset) in (STREET, *row.datasets)
    }


def _judged_by(job: Job) -> str:
    """What tells the row's scores from those that every network has."""
    if job.key.beside:
        return f", judged by {job.key.beside}"
    return f", part {job.part}" if job.part else ""


def _listed(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, seeds)) or "none"


def run_jobs(
    jobs: Sequence[Job],
    seeds: Sequence[int],
    *,
    device: str,
    results: Path,
    tracking_uri: str | None,
    fresh: bool,
    console: Console,
) -> None:
    """Run every seed of every job that ``results`` does not hold yet; with ``fresh``, every seed anew.

    Jobs of one network, under several labels, of several parts of its description or judged in several
    ways, run once, under the first label whose scores every network has, if one is. Where a recorded
    network lacks scores that can be added, only those are made, from its weights. Networks that others
    start from come first.

    Raises ``RetableError`` for what stops a run; seeds finished before that are recorded. Options that
    a method does not take stop it before the first.
    """
    records = [] if fresh else load_records(results, jobs[0].paper)
    recorded = by_row_hash(records)
    in_order = sorted(networks(jobs), key=lambda network: network[0].stage)
    todo = [(network, absent_seeds(network, seeds, records)) for network in in_order]
    if not any(missing for _, missing in todo):
        return
    for (job, *_), missing in todo:
        METHODS.get(job.method).parse_options(job.options)
        if any(seed not in recorded.get(job.row_hash, {}) for seed in missing):
            job.refuse_missing_pose()
    # Here, as torch and mlflow take seconds to import.
    from reproductions.execute import alone, artefacts, forget, run_seed
    from reproductions.later_scores import add_scores
    from reproductions.track import Tracker, default_uri

    tracker = Tracker(tracking_uri or default_uri(), campaign_name(), console)
    for network, missing in todo:
        job, *same = network
        for seed in missing:
            known = recorded.get(job.row_hash, {}).get(seed)
            adds = bool(known and can_be_added(network, known))
            kept = artefacts(job.row_hash, seed).weights.is_file()
            try:
                with alone(job, seed), tracker.seed(job.network, seed, again=adds) as run:
                    if fresh:
                        forget(job, seed)
                    if known and adds and not kept:
                        raise RetableError(_without_weights(job, seed))
                    if known and adds:
                        record, files = add_scores(known, network, device, results, console)
                    else:
                        record, files = run_seed(
                            *(job, seed, device, results, console),
                            after_epoch=run.log_epoch,
                            run_id=run.run_id,
                            same=same,
                        )
                    run.finish(record, files)
            except KeyboardInterrupt:
                console.print("interrupted: finished seeds and epochs are kept, the same command goes on")
                raise
            for line in seed_lines(record, network, trained=not adds):
                console.print(line, markup=False, highlight=False, soft_wrap=True)
        if missing:
            done = recorded_seeds(job, load_records(results, job.paper))
            tracker.summarise(job.network, list(done.values()))


def _without_weights(job: Job, seed: int) -> str:
    return (
        f"{job.row} on {job.network.dataset} [{job.row_hash}], seed {seed}: recorded, without scores that "
        "are asked for now, and its weights are not in the cache here; run another seed, or --fresh to train "
        "this one again, which records only what is asked for then"
    )


def seed_lines(record: SeedRecord, network: Iterable[Job], trained: bool = True) -> list[str]:
    """One finished seed: its first scores, a line for each other way of judging rows; what training cost."""
    seconds = sum(entry["seconds"] for entry in record.history)
    speed = sum(entry["images_per_s"] * entry["seconds"] for entry in record.history) / seconds
    rows: dict[ScoreKey, Job] = {}
    for job in network:
        rows.setdefault(job.key, job)
    first, *others = [_scores_line(record, job) for job in rows.values()]
    cost = f"; trained {seconds:.1f} s at {speed:,.0f} images/s" if trained else ""
    return [f"{first}{cost}", *others]


def _scores_line(record: SeedRecord, job: Job) -> str:
    trained, before = record.scores(job.key), record.untrained_scores(job.key)
    untrained = f" (untrained {before['mAP']:.2f}, {before['rank1']:.2f})" if before else ""
    by = f" by {job.key.beside}" if job.key.beside else ""
    return (
        f"{job.row} on {record.dataset}{by}, seed {record.seed}: "
        f"mAP {trained['mAP']:.2f}, rank-1 {trained['rank1']:.2f}{untrained}"
    )
