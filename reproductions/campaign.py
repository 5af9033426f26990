"""Run jobs seed by seed: skip what is recorded, record what is finished, track beside it."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from methods import METHODS
from reproductions.artefacts import artefacts, is_finished
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
    """Jobs of one network together: what is trained once for several rows.

    Rows by the scores that every network has come first: it is recorded under the first. Networks that others
    start from come before those, else they are in the order of the jobs.
    """
    found: dict[str, list[Job]] = {}
    for job in jobs:
        found.setdefault(job.row_hash, []).append(job)
    in_order = sorted(found.values(), key=lambda network: network[0].stage)
    return [sorted(network, key=lambda job: job.key != WHOLE) for network in in_order]


def absent_seeds(network: Sequence[Job], seeds: Iterable[int], records: Sequence[SeedRecord]) -> list[int]:
    """Those of ``seeds`` that have no record, or none that serves every row of the network."""
    served = [recorded_seeds(job, records) for job in network]
    return [seed for seed in seeds if any(seed not in own for own in served)]


def can_be_added(network: Iterable[Job], record: SeedRecord) -> bool:
    """Whether all that a record lacks of the rows' scores can be had from the trained weights.

    Parts of the description cannot: they are measured before the first step, too.
    """
    return all(job.key.beside or record.has(job.key) for job in network)


@dataclass(frozen=True)
class Work:
    """What is to be done about one network.

    Attributes:
        network: its rows; those that were asked for, or one that others start from.
        train: seeds to train, rising.
        judge: seeds that were trained before and lack only scores that can be added.
        again: those of ``train`` that are recorded, and trained once more as their weights are not here.
        begun_by: rows that start from the network, where it was not asked for itself.
    """

    network: list[Job]
    train: list[int]
    judge: list[int]
    again: list[int]
    begun_by: list[str]

    @property
    def seeds(self) -> list[int]:
        """All seeds about which something is done, rising."""
        return sorted((*self.train, *self.judge))


def planned(
    jobs: Iterable[Job], seeds: Sequence[int], records: Sequence[SeedRecord], *, fresh: bool = False
) -> list[Work]:
    """What is to be done for jobs, and before them for the networks that theirs start from.

    Of a job, those of ``seeds`` are trained that have no record, or all with ``fresh``. Of a network that
    others start from, those are that one of the others is trained with now, and whose weights are not in the
    cache; ``fresh`` is not about it unless it is one of the jobs. Such networks are left out where all that
    start from it are done.
    """
    jobs = list(jobs)
    asked = {job.row_hash for job in jobs}
    before = {one.row_hash: one for job in jobs for one in job.all_before if one.row_hash not in asked}
    recorded = by_row_hash(records)
    needed: dict[str, set[int]] = defaultdict(set)
    begun_by: dict[str, list[str]] = defaultdict(list)
    done: list[Work] = []
    # What is trained later decides what has to be there before.
    for network in reversed(networks([*before.values(), *jobs])):
        name = network[0].row_hash
        own = recorded.get(name, {})
        absent = absent_seeds(network, seeds, [] if fresh else records) if name in asked else []
        lost = {seed for seed in needed[name] if not is_finished(name, seed)}
        added = (
            set() if fresh else {seed for seed in absent if seed in own and can_be_added(network, own[seed])}
        )
        judge = added - lost
        train = sorted({*absent} - judge | lost)
        if name in asked or needed[name]:
            work = Work(
                network, train, sorted(judge), sorted((lost & own.keys()) - {*absent}), begun_by[name]
            )
            done.append(work)
        for one in network[0].starts_from:
            needed[one.row_hash].update(train)
            if one.row_hash not in asked:
                begun_by[one.row_hash].append(network[0].row)
    return done[::-1]


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
    fresh: bool = False,
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
        fresh: whether recorded seeds are run again.
    """
    recorded = by_row_hash(records)
    work = planned(jobs, seeds, records, fresh=fresh)
    running = [job for one in work for job in one.network]
    changed = {job.row_hash for job in running} - judged(paper, running) if str(changes) else set()
    lines = [f"{paper.key}: {paper.title} ({paper.venue} {paper.year})"]
    lines.append(_purpose(jobs[0].scale, bool(changed)))
    if changed:
        lines.append(f"{changes}: rows that this changes have records of their own and are not judged.")
    for one in work:
        job, *same = one.network
        mark = f", for {', '.join(one.begun_by)} to start from" if one.begun_by else ""
        mark += " (changed)" if job.row_hash in changed else ""
        own = recorded.get(job.row_hash, {})
        first = f"{job.table if one.begun_by else table or job.table}/{job.row}"
        lines.append(
            f"  {first} on {job.dataset} [{job.row_hash}]{_judged_by(job)}{mark}: "
            f"seeds to run {_listed(one.train)}; "
            + (f"{_listed(one.again)} again, for weights that are not here; " if one.again else "")
            + (f"to judge again from kept weights {_listed(one.judge)}; " if one.judge else "")
            + f"recorded {_listed(seed for seed in seeds if seed in own and seed not in one.seeds)}"
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
    start from come first, also where they are none of the jobs; see ``planned``.

    Raises ``RetableError`` for what stops a run; seeds finished before that are recorded. Options that
    a method does not take, and weights that are not here, stop it before the first.
    """
    records = load_records(results, jobs[0].paper)
    recorded = by_row_hash(records)
    work = [one for one in planned(jobs, seeds, records, fresh=fresh) if one.seeds]
    if not work:
        return
    for one in work:
        _refuse_impossible(one)
    # Here, as torch and mlflow take seconds to import.
    from reproductions.execute import alone, forget, run_seed
    from reproductions.later_scores import add_scores
    from reproductions.track import Tracker, default_uri

    tracker = Tracker(tracking_uri or default_uri(), campaign_name(), console)
    for one in work:
        job, *same = one.network
        for seed in one.seeds:
            adds = seed in one.judge
            try:
                with alone(job, seed), tracker.seed(job.network, seed, again=adds) as run:
                    if fresh and not one.begun_by:
                        forget(job, seed)
                    if adds:
                        known = recorded[job.row_hash][seed]
                        record, files = add_scores(known, one.network, device, results, console)
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
            for line in seed_lines(record, one.network, trained=not adds):
                console.print(line, markup=False, highlight=False, soft_wrap=True)
        done = recorded_seeds(job, load_records(results, job.paper))
        tracker.summarise(job.network, list(done.values()))


def _refuse_impossible(work: Work) -> None:
    """Raise ``RetableError`` for options that the method does not take, and files that are not here."""
    from methods.vgg import refuse_missing_weights  # which imports torch, as the methods do

    job = work.network[0]
    METHODS.get(job.method).parse_options(job.options)
    if work.train:
        job.refuse_missing_pose()
        refuse_missing_weights(job.recipe.backbone, job.weights)
    for seed in work.judge:
        if not artefacts(job.row_hash, seed).weights.is_file():
            raise RetableError(_without_weights(job, seed))


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
