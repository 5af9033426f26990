"""``python -m reproductions.run PAPER``: train a paper's rows, record every seed and show what came out."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from reproductions.arguments import (
    DEFAULT_SEEDS,
    DataRoot,
    Device,
    Dial,
    PoseWeights,
    Results,
    Scale,
    Seed,
    StreetSize,
    TrackingUri,
    chosen_seeds,
)
from reproductions.places import RESULTS
from retable.cli import DONE, execute


def main(
    paper: Annotated[str, typer.Argument(help="key of the paper, see reproductions.list")],
    table: Annotated[str | None, typer.Option(help="only rows of this table, for example table5")] = None,
    row: Annotated[list[str] | None, typer.Option(help="a row's label; may be repeated")] = None,
    on: Annotated[
        list[str] | None,
        typer.Option(help="a data set's key, crosswalk, or e.g. crosswalk/mars; may be repeated"),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="run seeds 0..N-1 (default: 4)")] = None,
    seed: Seed = None,
    scale: Scale = None,
    root: DataRoot = None,
    street: StreetSize = None,
    weights: Annotated[
        str | None, typer.Option(help="imagenet, street, none or a file (default: the recipe's)")
    ] = None,
    pose_weights: PoseWeights = None,
    recipe: Annotated[
        Literal["paper", "proxy"] | None,
        typer.Option(help="train by another scale's recipe (default: the scale's own)"),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="KEY=VALUE, an option of the method, or recipe.KEY=VALUE, a field of the recipe; "
            "value as in TOML; may be repeated",
        ),
    ] = None,
    dial: Dial = None,
    device: Device = "auto",
    precision: Annotated[
        Literal["bf16", "fp32"] | None, typer.Option(help="arithmetic (default: the recipe's)")
    ] = None,
    tracking_uri: TrackingUri = None,
    results: Results = RESULTS,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh",
            help="run recorded seeds again, from the start; not those of networks that the rows start from, "
            "unless they are named, too",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show what would run, and stop")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="also write the outcome to this file")
    ] = None,
) -> int:
    """Train rows of a paper's tables, seed by seed, and show measured mean and deviation.

    Without --row or --table these are the paper's headline rows. Seeds that are recorded already are
    not run again; an interrupted command goes on after its last finished epoch. What --weights,
    --recipe, --precision, --set, --street and --dial change has records of its own and is not judged.

    Networks that the rows start from are trained and recorded first, seed by seed, unless their weights are
    in the cache; --set does not change them, and the table at the end is without them.
    """
    # Imported here, as --help need not wait for them.
    from rich.console import Console

    from reproductions.campaign import announce, run_jobs
    from reproductions.jobs import Changes
    from reproductions.outcome import Outcome
    from reproductions.records import load_records
    from reproductions.selection import data_root, parse_settings, select_jobs, split_settings
    from reproductions.spec import load_paper

    console = Console()
    spec = load_paper(paper)
    chosen = chosen_seeds(seed, seeds) or list(range(DEFAULT_SEEDS))
    options, fields = split_settings(parse_settings("--set", setting or []))
    changes = Changes(
        recipe=recipe,
        weights=weights,
        precision=precision,
        pose_weights=pose_weights,
        options=options,
        recipe_fields=fields,
        street=street,
        dials=parse_settings("--dial", dial or []),
    )
    jobs = select_jobs(
        spec,
        table=table,
        rows=row or [],
        datasets=on or [],
        scale=scale,
        root=data_root(root),
        changes=changes,
    )
    records = load_records(results, spec.key)
    announce(console, spec, jobs, chosen, records, changes=changes, table=table, fresh=fresh)
    if dry_run:
        return DONE
    for file in (results / "record", json_file):
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)  # before hours of training, not after
    run_jobs(
        jobs,
        chosen,
        device=device,
        results=results,
        tracking_uri=tracking_uri,
        fresh=fresh,
        console=console,
    )
    outcome = Outcome(spec, jobs, chosen, load_records(results, spec.key))
    outcome.show(console)
    if json_file:
        outcome.save(json_file)
    return DONE


if __name__ == "__main__":
    execute(main)
