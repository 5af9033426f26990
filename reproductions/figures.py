"""``python -m reproductions.figures PAPER``: where a trained network looks, and where it finds it again."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reproductions.arguments import DataRoot, Device, Scale, StreetSize
from reproductions.records import UNSAFE
from retable.cli import DONE, execute
from retable.errors import RetableError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from reproductions.jobs import Job
    from reproductions.trained import Pair, Trained

TEMPERATURES = (0.05, 0.5, 1.0)
MARKS = ((0.12, 0.5), (0.38, 0.5), (0.75, 0.5))
"""Head, trunk and legs of somebody who fills the image, as shares (down, right)."""

SHOWN_HEIGHT = 256
"""Pixels of an image on the page; the width keeps the recipe's ratio."""


def main(
    paper: Annotated[str, typer.Argument(help="key of the paper, see reproductions.list")],
    row: Annotated[
        str | None, typer.Option(help="a row's label (default: the last headline row that has maps)")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="whose weights")] = 0,
    count: Annotated[int, typer.Option(min=1, help="queries, spread over the list")] = 4,
    on: Annotated[str | None, typer.Option(help="a data set's key, or crosswalk")] = None,
    scale: Scale = None,
    root: DataRoot = None,
    street: StreetSize = None,
    device: Device = "auto",
    out: Annotated[Path, typer.Option("--out", "-o", help="folder of the pictures")] = Path("figures"),
) -> int:
    """Draw attention and matching confidence of a trained seed: queries, each with its nearest true match.

    One more picture shows a mistake, if there is one: the first query with another person before every
    true match, beside that person.
    """
    # Imported here, as --help need not wait for them.
    from rich.console import Console

    from reproductions.jobs import Changes
    from reproductions.selection import data_root, select_jobs
    from reproductions.spec import load_paper
    from reproductions.trained import Trained

    jobs = select_jobs(
        load_paper(paper),
        table=None,
        rows=[row] if row else [],
        datasets=[on] if on else [],
        scale=scale,
        root=data_root(root),
        changes=Changes(street=street),
    )
    trained = Trained(with_maps(jobs), seed, device, Console(stderr=True))
    mistake = trained.mistake()
    out.mkdir(parents=True, exist_ok=True)
    for pair in [*trained.matches(count), *([mistake] if mistake else [])]:
        path = out / file_name(trained, pair)
        draw(trained, pair).savefig(path)
        typer.echo(path)
    return DONE


def with_maps(jobs: "Sequence[Job]") -> "Job":
    """The last job whose method has confidence maps. Raises ``RetableError`` naming the methods that have."""
    from methods import METHODS

    having = [name for name in METHODS.names() if hasattr(METHODS.get(name), "confidence_maps")]
    found = [job for job in jobs if job.method in having]
    if not found:
        rows = ", ".join(dict.fromkeys(f"{job.row} (method {job.method})" for job in jobs))
        raise RetableError(
            f"{rows}: found no confidence maps to draw; expected a row of a method that has them: "
            f"{', '.join(having)}"
        )
    return found[-1]


def file_name(trained: "Trained", pair: "Pair") -> str:
    """For example ``kpm-Baseline+KPM-crosswalk-seed0-query12-match.png``."""
    job = trained.job
    name = f"{job.paper}-{job.row}-{job.dataset}-seed{trained.seed}-query{pair.query}-{pair.relation}.png"
    return UNSAFE.sub("-", name).replace(" ", "-")


def draw(trained: "Trained", pair: "Pair") -> "Figure":
    """The figure of one query and one gallery image; ``Figure.savefig`` or a report takes it."""
    from reproductions.matching_figure import matching_figure
    from reproductions.trained import shown

    recipe = trained.job.recipe
    size = SHOWN_HEIGHT, SHOWN_HEIGHT * recipe.width // recipe.height
    asking, asked = trained.queries(pair.query), trained.gallery(pair.other)
    by_temperature = {tau: trained.method.confidence_maps(asking, asked, tau) for tau in TEMPERATURES}
    return matching_figure(
        shown(trained.query(pair.query), *size),
        shown(trained.other(pair.other), *size),
        {scale: maps[0].cpu().numpy() for scale, maps in trained.method.attention_maps(asking).items()},
        {
            scale: {tau: maps[scale][0].cpu().numpy() for tau, maps in by_temperature.items()}
            for scale in by_temperature[TEMPERATURES[0]]
        },
        MARKS,
        title(trained, pair),
    )


def title(trained: "Trained", pair: "Pair") -> str:
    """What the figure shows, in two lines."""
    job, query, other = trained.job, trained.query(pair.query), trained.other(pair.other)
    relation = {"match": "its nearest true match", "mistake": "nearer than any true match: somebody else"}
    return (
        f"{job.paper.upper()}, {job.row} on {job.dataset} (scale {job.scale}), seed {trained.seed}\n"
        f"query {query.path.name} (camera {query.camid}) and {relation[pair.relation]}, "
        f"{other.path.name} (camera {other.camid})"
    )


if __name__ == "__main__":
    execute(main)
