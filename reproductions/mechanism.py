"""``python -m reproductions.mechanism PAPER``: does a gain grow with its supposed cause, on the street?"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from reproductions.arguments import DEFAULT_SEEDS, Results, Seed, StreetSize, TrackingUri, chosen_seeds
from reproductions.campaign import announce, run_jobs
from reproductions.claims import Difference
from reproductions.compare import mean_and_deviation
from reproductions.effects import Effect, Level, Trial, mechanism_jobs
from reproductions.paper import Mechanism, Paper
from reproductions.places import RESULTS
from reproductions.records import load_records
from reproductions.spec import load_paper
from retable.cli import DONE, Format, execute, show
from retable.errors import RetableError, UnknownName

LEVEL_COLUMNS = (
    *("metric", "dial", "level", "first", "second", "gain", "low", "high"),
    *("first_untrained", "second_untrained", "seeds"),
)
TREND_COLUMNS = ("mechanism", "metric", "rise", "low", "high", "verdict")


def main(
    paper: Annotated[str, typer.Argument(help="key of the paper, see reproductions.list")],
    mechanism: Annotated[
        list[str] | None, typer.Option("--id", help="only this mechanism; may be repeated")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="seeds 0..N-1 (default: 4; --no-run: all that are recorded)")
    ] = None,
    seed: Seed = None,
    street: StreetSize = None,
    run: Annotated[bool, typer.Option("--run/--no-run", help="train absent seeds first")] = True,
    tracking_uri: TrackingUri = None,
    results: Results = RESULTS,
    figures: Annotated[Path | None, typer.Option(help="also draw each curve into this folder")] = None,
    form: Annotated[Format, typer.Option("--format", help="how to print")] = "table",
) -> int:
    """Judge whether the gain of one row over another grows with a dial of the street.

    Both rows are trained at every level of the dial; seeds that are recorded already are not run
    again. The answer is grows, shrinks, undecided or unrun, by the 95 % interval of the rise of a
    straight line through the gains (see reproductions.effects). Progress goes to standard error.
    """
    chosen = chosen_seeds(seed, seeds)
    spec = load_paper(paper)
    wanted = select_mechanisms(spec, mechanism or [])
    if run:
        chosen = chosen or list(range(DEFAULT_SEEDS))
        train(spec, wanted, chosen, street=street, results=results, tracking_uri=tracking_uri)
    records = load_records(results, spec.key)
    trials = [Trial(spec, one, records, street=street, seeds=chosen) for one in wanted]
    if form == "json":
        print(json.dumps({"paper": spec.key, "mechanisms": list(map(as_data, trials))}, indent=1))
    else:
        for trial in trials:
            _print(trial, form)
    if figures:
        _draw(trials, figures)
    return DONE


def select_mechanisms(paper: Paper, ids: Sequence[str]) -> list[Mechanism]:
    """The named mechanisms, else all of the paper's.

    Raises:
        UnknownName: for an id that is none of the paper's.
        RetableError: when the paper has no mechanism.
    """
    known = {mechanism.id: mechanism for mechanism in paper.mechanisms}
    if not known:
        raise RetableError(f"{paper.key} states no mechanism: its paper.toml has no [[mechanism]]")
    for name in ids:
        if name not in known:
            raise UnknownName(f"mechanism of {paper.key}", name, known)
    return [known[name] for name in dict.fromkeys(ids)] or list(known.values())


def train(
    paper: Paper,
    mechanisms: Iterable[Mechanism],
    seeds: Sequence[int],
    *,
    street: str | None,
    results: Path,
    tracking_uri: str | None,
) -> None:
    """Run and record the absent seeds of both rows at every level; a level's rows follow each other."""
    console = Console(stderr=True)
    jobs = [job for one in mechanisms for job in mechanism_jobs(paper, one, street).values()]
    announce(console, paper, jobs, seeds, load_records(results, paper.key))
    results.mkdir(parents=True, exist_ok=True)  # before hours of training, not after
    run_jobs(
        jobs,
        seeds,
        device="auto",
        results=results,
        tracking_uri=tracking_uri,
        fresh=False,
        console=console,
    )


def mechanism_rows(trial: Trial) -> dict[str, list[dict[str, object]]]:
    """Lines for a page: ``levels`` by ``LEVEL_COLUMNS`` and ``trends`` by ``TREND_COLUMNS``, in points."""
    effects = trial.verdict.effects
    return {
        "levels": [_level_row(trial, effect, level) for effect in effects for level in effect.levels],
        "trends": [_trend_row(trial, effect) for effect in effects],
    }


def _level_row(trial: Trial, effect: Effect, at: Level) -> dict[str, object]:
    untrained = [
        mean_and_deviation(list(trial.untrained(row, at.level, effect.metric).values()))
        for row in trial.mechanism.rows
    ]
    row: dict[str, object] = {
        "metric": effect.metric,
        "dial": trial.mechanism.dial,
        "level": at.level,
        "first": mean_and_deviation(list(at.first.values())),
        "second": mean_and_deviation(list(at.second.values())),
        "first_untrained": untrained[0],
        "second_untrained": untrained[1],
        "seeds": f"{len(at.first)} / {len(at.second)}",
    }
    return row | _interval("gain", at.gain)


def _trend_row(trial: Trial, effect: Effect) -> dict[str, object]:
    row: dict[str, object] = {
        "mechanism": trial.mechanism.id,
        "metric": effect.metric,
        "verdict": effect.word,
    }
    return row | _interval("rise", effect.rise)


def _interval(name: str, found: Difference | None) -> dict[str, object]:
    """A difference and its interval; nothing where seeds are missing."""
    if found is None:
        return {}
    return {name: f"{found.gap:+.2f}", "low": f"{found.low:+.2f}", "high": f"{found.high:+.2f}"}


def as_data(trial: Trial) -> dict[str, Any]:
    """The outcome as plain data, unrounded: every seed's score, each gain and the rise with intervals."""
    mechanism = trial.mechanism
    return mechanism.model_dump(mode="json", exclude={"metrics"}) | {
        "scale": "proxy",
        "verdict": trial.verdict.word,
        "row_hashes": [
            [trial.jobs[row, level].row_hash for row in mechanism.rows] for level in mechanism.levels
        ],
        "metrics": {
            effect.metric: {
                "verdict": effect.word,
                "rise": _numbers(effect.rise),
                "levels": [_level_data(trial, effect.metric, level) for level in effect.levels],
            }
            for effect in trial.verdict.effects
        },
    }


def _level_data(trial: Trial, metric: str, at: Level) -> dict[str, Any]:
    first, second = (trial.untrained(row, at.level, metric) for row in trial.mechanism.rows)
    return {
        "level": at.level,
        "first": dict(at.first),
        "second": dict(at.second),
        "first_untrained": first,
        "second_untrained": second,
        "gain": _numbers(at.gain),
    }


def _numbers(found: Difference | None) -> dict[str, float] | None:
    return None if found is None else found._asdict()


def _print(trial: Trial, form: Format) -> None:
    one, mark = trial.mechanism, "## " if form == "markdown" else ""
    first, second = one.rows
    typer.echo(f"{mark}{trial.paper.key}, {one.id}: {trial.verdict.word}\n")
    typer.echo(f"{one.statement} ({one.source})\n")
    typer.echo(f"First is {first}, second {second}; scale proxy, which compares with no published value.\n")
    for kind, columns in (("levels", LEVEL_COLUMNS), ("trends", TREND_COLUMNS)):
        show(mechanism_rows(trial)[kind], columns, form)
        typer.echo("")


def _draw(trials: Iterable[Trial], folder: Path) -> None:
    from reproductions.effect_figure import gain_figure  # matplotlib takes a while to import

    folder.mkdir(parents=True, exist_ok=True)
    for trial in trials:
        path = folder / f"{trial.paper.key}-{trial.mechanism.id}.png"
        gain_figure(trial).savefig(path)
        typer.echo(f"drawn: {path}", err=True)


if __name__ == "__main__":
    execute(main)
