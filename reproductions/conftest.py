"""``pytest reproductions/ -m sona``: a paper's printed cells, claims, mechanisms and errata as tests.

They are judged from records: ``within`` passes, ``above`` passes with a warning, ``below`` fails; what
has no answer yet skips and says what is missing, or fails under ``--strict-open``.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn, TypeAlias

import pytest
from rich.console import Console

from reproductions.campaign import run_jobs
from reproductions.effects import mechanism_jobs
from reproductions.jobs import STREET, Changes, Job, make_job
from reproductions.judgement import Judgement
from reproductions.paper import NO_DATASET, Cell, Claim, Mechanism, Paper, RunScale
from reproductions.places import RESULTS
from reproductions.records import SeedRecord, load_records
from reproductions.selection import data_root, datasets_here
from reproductions.spec import load_paper, paper_keys

PAPERS = {key: load_paper(key) for key in paper_keys()}
Words: TypeAlias = dict[str, list[str]]
WORDS = pytest.StashKey[Words]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the records lie, whether absent seeds are run first, and how strict to be."""
    group = parser.getgroup("retable")
    group.addoption("--results", type=Path, default=RESULTS, help="folder of the records")
    group.addoption("--train", choices=("never", "missing"), default="never", help="run absent seeds first")
    group.addoption("--seeds", type=int, default=4, help="with --train missing: seeds of each row")
    group.addoption("--data-root", type=Path, help="with --train missing: folder of the data sets")
    group.addoption("--strict-open", action="store_true", help="what is open or unrun fails instead of skips")


def pytest_configure(config: pytest.Config) -> None:
    """Register papers, tables, data sets and scales as markers: a new paper edits no configuration."""
    config.stash[WORDS] = Words()
    names = dict.fromkeys(("exact", "paper", "proxy"), "scale of a test")
    for paper in PAPERS.values():
        names[paper.key] = paper.title
        names |= dict.fromkeys(paper.tables, "a printed table, of any paper")
        names |= dict.fromkeys((cell.dataset for cell in paper.cells), "a data set")
    names.pop(NO_DATASET, None)
    names[STREET] = "the embedded street"
    for name, text in names.items():
        config.addinivalue_line("markers", f"{name}: {text}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each cell, each claim at each of its scales, each mechanism and each erratum."""
    names = metafunc.fixturenames
    if "cell" in names:
        parameters = [
            pytest.param(cell, id=cell.id, marks=_marks(cell.paper, cell.table, cell.dataset, cell.scale))
            for paper in PAPERS.values()
            for cell in paper.cells
        ]
        metafunc.parametrize("cell", parameters)
    if "claim" in names:
        parameters = [
            pytest.param(paper, claim, scale, id=f"{key}-{claim.id}-{scale}", marks=_marks(key, scale))
            for key, paper in PAPERS.items()
            for claim in paper.claims
            for scale in claim.scales
        ]
        metafunc.parametrize(("paper", "claim", "scale"), parameters)
    if "mechanism" in names:
        parameters = [
            pytest.param(paper, mechanism, id=f"{key}-{mechanism.id}", marks=_marks(key, "proxy", STREET))
            for key, paper in PAPERS.items()
            for mechanism in paper.mechanisms
        ]
        metafunc.parametrize(("paper", "mechanism"), parameters)
    if "erratum" in names:
        parameters = [
            pytest.param(paper, erratum, id=f"{key}-{erratum.id}", marks=_marks(key, "exact"))
            for key, paper in PAPERS.items()
            for erratum in (*paper.errata, *paper.statements)
        ]
        metafunc.parametrize(("paper", "erratum"), parameters)


def _marks(*names: str) -> list[pytest.MarkDecorator]:
    return [getattr(pytest.mark, name) for name in names if name != NO_DATASET]


def pytest_collection_finish(session: pytest.Session) -> None:
    """With ``--train missing``: run the absent seeds that the selected tests need."""
    config = session.config
    if config.getoption("train") == "missing" and not config.getoption("collectonly"):
        for jobs in _jobs_of(session).values():
            run_jobs(
                jobs,
                range(config.getoption("seeds")),
                device="auto",
                results=config.getoption("results"),
                tracking_uri=None,
                fresh=False,
                console=Console(),
            )


def _jobs_of(session: pytest.Session) -> dict[str, list[Job]]:
    """Jobs of the selected cells whose data set is here, and of selected claims and mechanisms, each once."""
    root = data_root(session.config.getoption("data_root"))
    here = {STREET, *(name for paper in PAPERS.values() for name in datasets_here(paper, root))}
    wanted: dict[str, set[tuple[str, str, RunScale]]] = defaultdict(set)
    jobs: dict[str, list[Job]] = defaultdict(list)
    for arguments in _arguments(session.items):
        for key, row, dataset, scale in _runs_of(arguments):
            if dataset in here:
                wanted[key].add((row, dataset, scale))
        match arguments:
            case {"paper": Paper() as paper, "mechanism": Mechanism() as mechanism}:
                jobs[paper.key] += mechanism_jobs(paper, mechanism).values()
    changes = Changes(pose_weights=os.environ.get("REID_POSE_WEIGHTS"))
    for key, rows in wanted.items():
        made = (make_job(PAPERS[key], *row, root=root, changes=changes) for row in sorted(rows))
        jobs[key] += [job for job in made if not job.lacks_pose]
    return {key: own for key, own in jobs.items() if own}


def _arguments(items: Iterable[pytest.Item]) -> Iterator[Mapping[str, object]]:
    for item in items:
        if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            yield item.callspec.params


def _runs_of(arguments: Mapping[str, object]) -> list[tuple[str, str, str, RunScale]]:
    """Paper, row, data set and scale of the runs that a test with these arguments is judged by."""
    match arguments:
        case {"cell": Cell(tolerance=float()) as cell} if cell.kind == "proposed":
            return [(cell.paper, cell.row, cell.dataset, "paper")]
        case {"paper": Paper() as paper, "claim": Claim() as claim, "scale": "proxy"}:
            return [(paper.key, row, STREET, "proxy") for row in claim.rows]
        case {"paper": Paper() as paper, "claim": Claim() as claim}:
            return [(paper.key, row, name, "paper") for row in claim.rows for name in claim.datasets]
    return []


@pytest.fixture(scope="session")
def records(request: pytest.FixtureRequest) -> dict[str, list[SeedRecord]]:
    """All records, by paper."""
    return {key: load_records(request.config.getoption("results"), key) for key in PAPERS}


@pytest.fixture(scope="session")
def judgements(records: dict[str, list[SeedRecord]]) -> dict[str, Judgement]:
    """Answers to all cells and claims, by paper."""
    return {key: Judgement(paper, records[key]) for key, paper in PAPERS.items()}


class Verdicts:
    """Turns a word into a test's outcome and remembers it for the summary."""

    def __init__(self, words: Words, name: str, strict: bool) -> None:
        self.words, self.name, self.strict = words, name, strict

    def settle(self, word: str, reason: str, explained: str = "") -> None:
        """Pass, fail or skip the running test.

        A failure that the paper's data explain is expected (xfail), and what agrees all the same is a
        failure: its gap has closed.
        """
        self.words.setdefault(word, []).append(self.name)
        if word in ("below", "differs", "reversed", "shrinks"):
            if explained:
                pytest.xfail(f"{word}: {reason}; explained: {explained}")
            pytest.fail(f"{word}: {reason}", pytrace=False)
        if explained and word in ("within", "above", "holds"):
            pytest.fail(
                f"{word}: {reason}; the paper's data explain a gap that is no longer there ({explained}): "
                "take it out of them",
                pytrace=False,
            )
        if word in ("open", "unrun", "undecided"):
            self._unanswered(f"{word}: {reason}")

    def _unanswered(self, reason: str) -> NoReturn:
        if self.strict:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@pytest.fixture
def verdicts(request: pytest.FixtureRequest) -> Verdicts:
    """For the running test."""
    strict = request.config.getoption("strict_open")
    return Verdicts(request.config.stash[WORDS], request.node.callspec.id, strict)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Counts of all words, then what was found against the papers and what is still open, by name."""
    words = config.stash[WORDS]
    if not words:
        return
    terminalreporter.section("verdicts")
    terminalreporter.line(", ".join(f"{len(names)} {word}" for word, names in sorted(words.items())))
    for word in ("below", "differs", "reversed", "shrinks", "above", "open", "undecided"):
        for name in words.get(word, []):
            terminalreporter.line(f"{word:10} {name}")
