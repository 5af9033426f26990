"""MLflow: one experiment a paper, a parent run a row, a child run a seed.

Tracking is evidence to browse; the record in ``results/`` is the fact. So a store that cannot be
reached stops nothing: training goes on, and ``python -m reproductions.sync`` logs the records later.
"""

import json
import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from getpass import getuser
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from filelock import FileLock
from rich.console import Console

from reproductions.artefacts import Artefacts, artefacts
from reproductions.jobs import DIALS, Job
from reproductions.judgement import Judgement
from reproductions.paper import Cell
from reproductions.places import PROJECT
from reproductions.records import ScoreKey, SeedRecord, commit, dirty
from reproductions.spec import load_paper
from reproductions.training import Entry
from reproductions.transcript import number
from reproductions.verdicts import Verdict

if TYPE_CHECKING:
    from mlflow.entities import Run

T = TypeVar("T")

DATABASE = PROJECT / "mlflow.db"
ARTIFACTS = PROJECT / "mlruns"

PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
"""MLflow's own defaults wait for minutes; a training must not."""


Row: TypeAlias = Job | SeedRecord
"""What the store needs to know of a row, both have: paper, table, row, dataset, scale, identity."""


def default_uri() -> str:
    """``MLFLOW_TRACKING_URI``, else an SQLite file in the project's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{DATABASE}"


class Store:
    """An open MLflow store. All methods raise what MLflow raises when it cannot be reached.

    Opening runs the migrations of an SQLite file, which are not safe in parallel, so one process at
    a time does it.
    """

    def __init__(self, uri: str) -> None:
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient  # takes seconds

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self.uri = uri
        with (
            FileLock(f"{uri.removeprefix('sqlite:///')}.lock") if uri.startswith("sqlite:") else nullcontext()
        ):
            self.client = MlflowClient(uri)
            self.client.search_experiments(max_results=1)

    def parent(self, row: Row, campaign: str) -> str:
        """Run id of the row's run; made if there is none."""
        found = self._find(row, "tags.`retable.kind` = 'row'")
        if found is not None:
            return str(found.info.run_id)
        run_id = self._create(row, f"{row.table}/{row.row}", {"retable.kind": "row"}, campaign)
        self._log(run_id, params=flatten(row.identity))
        self.client.log_dict(run_id, row.identity, "spec.json")
        return run_id

    def child(self, row: Row, seed: int, campaign: str, again: bool = False) -> str:
        """Run id of one seed's run below the row's; an unfinished one is continued. Both are running then.

        So is a finished one where the same trained network is judged ``again``.
        """
        parent = self.parent(row, campaign)
        self.client.update_run(parent, status="RUNNING")
        found = self._find(row, f"tags.`retable.seed` = '{seed}'")
        if found is not None and (again or found.info.status != "FINISHED"):
            self.client.update_run(found.info.run_id, status="RUNNING")
            return str(found.info.run_id)
        tags = {
            "retable.kind": "seed",
            "retable.seed": str(seed),
            "mlflow.parentRunId": parent,
        }
        return self._create(row, f"seed={seed}", tags, campaign)

    def has_finished(self, record: SeedRecord) -> bool:
        """Whether this seed is in the store already."""
        found = self._find(record, f"tags.`retable.seed` = '{record.seed}'")
        return found is not None and found.info.status == "FINISHED"

    def log_epoch(self, run_id: str, entry: Entry) -> None:
        """One call for all values of an epoch; each call costs about 20 ms on SQLite."""
        values = {f"train/{name}": value for name, value in entry.items() if name != "epoch"}
        self._log(run_id, metrics=values, step=int(entry["epoch"]))

    def finish_seed(self, run_id: str, record: SeedRecord, files: Artefacts) -> None:
        """Test metrics, inputs and artefacts of a finished seed, and epochs that are not there yet."""
        logged = {metric.step for metric in self.client.get_metric_history(run_id, "train/seconds")}
        for entry in record.history:
            if entry["epoch"] not in logged:
                self.log_epoch(run_id, entry)
        metrics = scores(record)
        metrics |= _named("untrained", record.untrained, record.untrained_parts)
        known = self.client.get_run(run_id).data.params  # of a network that is judged again
        params = flatten(record.identity | {"options": record.options})
        self._log(run_id, metrics, {name: value for name, value in params.items() if name not in known})
        self._log_inputs(run_id, record)
        self.client.log_dict(run_id, record.model_dump(mode="json"), "record.json")
        for file in (files.weights, files.ranks):
            if file.exists():
                self.client.log_artifact(run_id, str(file))
        self.client.set_terminated(run_id, "FINISHED")

    def stop_seed(self, run_id: str, status: str) -> None:
        """End the run of a seed that did not finish, and its row's, with this status."""
        parent = self.client.get_run(run_id).data.tags["mlflow.parentRunId"]
        for stopped in (run_id, parent):
            self.client.set_terminated(stopped, status)

    def log_record(self, record: SeedRecord, campaign: str) -> None:
        """A whole finished seed, epochs and all, from its record alone."""
        run_id = self.child(record, record.seed, campaign)
        self.finish_seed(run_id, record, artefacts(record.row_hash, record.seed))

    def summarise(self, run_id: str, records: Sequence[SeedRecord]) -> None:
        """Mean, deviation and number of seeds on the row's run; the UI cannot compute them itself.

        At scale ``paper`` also each printed value, our gap to it and, as a tag, the verdict, those of rows
        of a part of the description under the part's name (``published/global/mAP``). Where the errata
        allow other readings, the value is the one that the verdict and the gap are by.
        """
        values = defaultdict(list)
        for record in records:
            for name, score in scores(record).items():
                values[name].append(score)
        metrics = {f"{name}.mean": fmean(of_seeds) for name, of_seeds in values.items()}
        metrics |= {f"{name}.std": stdev(of_seeds) for name, of_seeds in values.items() if len(of_seeds) > 1}
        metrics |= {f"{name}.n": float(len(of_seeds)) for name, of_seeds in values.items()}
        for name, cell, verdict in judged_cells(records):
            compared = float(number(verdict.reading or cell.printed))
            metrics |= {f"published/{name}": compared, f"gap/{name}": verdict.gap}
            self.client.set_tag(run_id, f"retable.verdict.{name}", verdict.word)
        self._log(run_id, metrics=metrics)
        self.client.set_terminated(run_id, "FINISHED")

    def _experiment(self, paper: str) -> str:
        name = f"retable/{paper}"
        experiment = self.client.get_experiment_by_name(name)
        if experiment is not None:
            return str(experiment.experiment_id)
        # MLflow would put the files of our own database into the current directory.
        ours = self.uri == f"sqlite:///{DATABASE}"
        location = (ARTIFACTS / paper).as_uri() if ours else None
        return str(self.client.create_experiment(name, artifact_location=location))

    def _find(self, row: Row, condition: str) -> "Run | None":
        runs = self.client.search_runs(
            [self._experiment(row.paper)],
            f"tags.`retable.row_hash` = '{row.row_hash}' AND {condition}",
            order_by=["attributes.start_time DESC"],
            max_results=1,
        )
        return runs[0] if runs else None

    def _create(self, row: Row, name: str, tags: Mapping[str, str], campaign: str) -> str:
        shared = {
            "retable.paper": row.paper,
            "retable.row": f"{row.table}/{row.row}",
            "retable.dataset": row.dataset,
            "retable.protocol": row.identity["protocol"][0],
            "retable.scale": row.scale,
            "retable.row_hash": row.row_hash,
            "retable.campaign": campaign,
            "retable.dirty": str(dirty()),
            "mlflow.source.git.commit": commit() or "",
            "mlflow.source.name": "reproductions.run",
            "mlflow.user": getuser(),
            "mlflow.note.content": describe(row),
        }
        run = self.client.create_run(self._experiment(row.paper), tags={**shared, **tags}, run_name=name)
        return str(run.info.run_id)

    def _log(
        self,
        run_id: str,
        metrics: Mapping[str, float] | None = None,
        params: Mapping[str, str] | None = None,
        step: int = 0,
    ) -> None:
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        self.client.log_batch(
            run_id,
            metrics=[Metric(name, value, now, step) for name, value in (metrics or {}).items()],
            params=[Param(name, value) for name, value in (params or {}).items()],
        )

    def _log_inputs(self, run_id: str, record: SeedRecord) -> None:
        """The data set's lists as inputs: names and digest, nothing is uploaded."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        def dataset(part: str, context: str) -> DatasetInput:
            entry = Dataset(
                name=f"{record.dataset}/{part}",
                digest=record.provenance.split[part],
                source_type="retable",
                source=json.dumps(record.identity["data"]),
            )
            return DatasetInput(entry, [InputTag("mlflow.data.context", context)])

        self.client.log_inputs(
            run_id, [dataset("train", "train"), dataset("query", "eval"), dataset("gallery", "eval")]
        )


class Tracker:
    """A store that may fail: after the first failure it is left alone and the user is told once.

    Args:
        uri: of the MLflow store.
        campaign: names the command that started the runs.
        console: where a failure is shown.
    """

    def __init__(self, uri: str, campaign: str, console: Console) -> None:
        self.uri, self.campaign, self.console = uri, campaign, console
        self.store: Store | None = None
        self.store = self._attempt(Store, uri)

    @contextmanager
    def seed(self, row: Row, seed: int, again: bool = False) -> Iterator["SeedRun"]:
        """The run of one seed, see ``Store.child``; left by an exception it is marked so, to be continued."""
        run = SeedRun(self, self.with_store(lambda store: store.child(row, seed, self.campaign, again)))
        try:
            yield run
        except KeyboardInterrupt:
            run.stop("KILLED")
            raise
        except BaseException:
            run.stop("FAILED")
            raise

    def summarise(self, row: Row, records: Sequence[SeedRecord]) -> None:
        """See ``Store.summarise``."""
        self.with_store(lambda store: store.summarise(store.parent(row, self.campaign), records))

    def with_store(self, do: Callable[[Store], T]) -> T | None:
        """The answer of the store, None if it cannot be reached."""
        return None if self.store is None else self._attempt(do, self.store)

    def _attempt(self, do: Callable[[Any], T], argument: object) -> T | None:
        try:
            return do(argument)
        except Exception as error:  # whatever a store, its server or its disk does, training goes on
            self.store = None
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            self.console.print(
                f"tracking stopped: {self.uri}: {reason}\n"
                "Training goes on and every finished seed is recorded. To log them when the store is "
                f"back: python -m reproductions.sync --tracking-uri {self.uri}",
                style="yellow",
                markup=False,
            )
            return None


class SeedRun:
    """One seed in the store; does nothing while the store cannot be reached (``run_id`` is None)."""

    def __init__(self, tracker: Tracker, run_id: str | None) -> None:
        self.tracker, self.run_id = tracker, run_id

    def log_epoch(self, entry: Entry) -> None:
        """See ``Store.log_epoch``."""
        self._tell(lambda store, run_id: store.log_epoch(run_id, entry))

    def finish(self, record: SeedRecord, files: Artefacts) -> None:
        """See ``Store.finish_seed``."""
        self._tell(lambda store, run_id: store.finish_seed(run_id, record, files))

    def stop(self, status: str) -> None:
        """Mark it and its row as interrupted (``KILLED``) or ``FAILED``; the same command continues it."""
        self._tell(lambda store, run_id: store.stop_seed(run_id, status))

    def _tell(self, do: Callable[[Store, str], None]) -> None:
        if (run_id := self.run_id) is not None:
            self.tracker.with_store(lambda store: do(store, run_id))


def scores(record: SeedRecord) -> dict[str, float]:
    """All of a seed's test metrics: ``test/mAP``, ``test/global/mAP``, ``beside/market1501 top-75/rank1``."""
    return _named("test", record.metrics, record.parts) | _named("beside", {}, record.beside)


def _named(
    first: str, metrics: Mapping[str, float], groups: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    """Metrics as ``first/mAP``, and those of each group as ``first/group/mAP``."""
    named = {f"{first}/{name}": value for name, value in metrics.items()}
    for group, own in groups.items():
        named |= {f"{first}/{safe(group)}/{name}": value for name, value in own.items()}
    return named


def judged_cells(records: Sequence[SeedRecord]) -> list[tuple[str, Cell, Verdict]]:
    """Printed cells of the records' network and data set: names in the store, cells, verdicts.

    They are those of the row that was run, and of one row for each other part of the description and each
    other way of judging it; none for proxies.
    """
    one = records[0]
    if one.scale != "paper":
        return []
    paper = load_paper(one.paper)
    judgement = Judgement(paper, records)
    rows: dict[ScoreKey, Job] = {}
    for job in sorted(judgement.jobs_of(one), key=lambda job: job.row != one.row):
        rows.setdefault(job.key, job)
    return [
        ("/".join(filter(None, (safe(key.beside) or key.part, cell.metric))), cell, answer.verdict)
        for key, job in rows.items()
        for cell in paper.select(row=job.row, dataset=job.dataset)
        if (answer := judgement.answer(cell)).verdict is not None and answer.verdict.n
    ]


def safe(name: str) -> str:
    """A name of scores in characters that MLflow takes: ``market1501+500k`` has one that it does not."""
    return name.replace("+", " with ")


def describe(row: Row) -> str:
    """The note on a run: what it is and the command that makes it."""
    data = row.identity["data"]
    street = f" --street {data['size']['name']}" if "size" in data else ""
    street += "".join(
        f" --dial {name}={value}"
        for name, value in data.get("dials", {}).items()
        if value != getattr(DIALS, name)
    )
    return (
        f"{row.paper}, {row.table}, row {row.row} on {row.dataset}, scale {row.scale}\n\n"
        f'`python -m reproductions.run {row.paper} --row "{row.row}" --on {row.dataset} '
        f"--scale {row.scale}{street} --seeds 4`"
    )


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested mappings as ``{"recipe.height": "96", ...}``, in the names that MLflow takes."""
    flat: dict[str, str] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = str(value)
    return flat
