"""``python -m reproductions.figures PAPER``: what trained networks look at, transform, find and mistake."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from reproductions.arguments import DataRoot, Device, Dial, PoseWeights, Scale, StreetSize
from retable.cli import DONE, execute
from retable.errors import RetableError


class KindName(StrEnum):
    """Keys of ``reproductions.pictures.KINDS``, known before that is imported."""

    MATCHING = "matching"
    GATE = "gate"
    BOXES = "boxes"
    HEAT = "heat"
    LISTS = "lists"
    COMPONENTS = "components"
    EMBEDDING = "embedding"


def main(
    paper: Annotated[str, typer.Argument(help="key of the paper, see reproductions.list")],
    row: Annotated[
        list[str] | None,
        typer.Option(
            help="a row's label; give two to compare them, the baseline first (default: a headline row)"
        ),
    ] = None,
    kind: Annotated[
        list[KindName] | None,
        typer.Option(help="what to draw; may be repeated (default: all that the rows' methods have)"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="whose weights")] = 0,
    count: Annotated[int, typer.Option(min=1, help="images or queries of a picture")] = 4,
    on: Annotated[str | None, typer.Option(help="a data set's key, or crosswalk")] = None,
    scale: Scale = None,
    root: DataRoot = None,
    pose_weights: PoseWeights = None,
    street: StreetSize = None,
    dial: Dial = None,
    device: Device = "auto",
    out: Annotated[Path, typer.Option("--out", "-o", help="folder of the pictures")] = Path("figures"),
) -> int:
    """Draw what trained seeds do with test images, one row or several side by side.

    matching: attention and matching confidence, queries with their nearest true match, and a mistake.
    gate: what queries activate together with their nearest true match, and with somebody else.
    boxes: images before and after a learned spatial transform.
    heat: activations of the backbone's feature map.
    lists: queries and the images nearest to them, true matches in green.
    components: local appearance and part descriptors and joint maps as colours, alike where they are alike.
    embedding: local appearance and part descriptors in the plane, as patches and by part of the body.
    """
    # Imported here, as --help need not wait for them.
    from rich.console import Console

    from reproductions.jobs import Changes
    from reproductions.pictures import KINDS, chosen
    from reproductions.selection import data_root, parse_settings, select_jobs
    from reproductions.spec import load_paper
    from reproductions.trained import load

    jobs = select_jobs(
        load_paper(paper),
        table=None,
        rows=row or [],
        datasets=[on] if on else [],
        scale=scale,
        root=data_root(root),
        changes=Changes(pose_weights=pose_weights, street=street, dials=parse_settings("--dial", dial or [])),
    )
    jobs, kinds = chosen(jobs, kind or [], named=bool(row))
    console = Console(stderr=True)
    rows = load(jobs, seed, device, console)
    out.mkdir(parents=True, exist_ok=True)
    for name in kinds:
        having = [one for one in rows if KINDS[name].has(one.job)]
        drawn = 0
        for file, figure in KINDS[name].draw(having, count):
            figure.savefig(out / file)
            typer.echo(out / file)
            drawn += 1
        if not drawn and name in (kind or []):
            labels = ", ".join(one.job.row for one in having)
            raise RetableError(f"--kind {name}: found no {KINDS[name].shows} in {labels}; name other rows")
    return DONE


if __name__ == "__main__":
    execute(main)
