"""Command line of the embedded street: ``python -m protocols.crosswalk DIR``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from protocols.crosswalk import Dials, StreetError, write_market1501
from protocols.crosswalk.sizes import SIZES, Size, size_named
from retable.cli import DONE, execute
from retable.progress import progress_bar

say = Console(stderr=True, highlight=False)
DEFAULTS = Dials()


class Layout(StrEnum):
    """Data sets whose layout can be written."""

    MARKET1501 = "market1501"


def _dial(text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(help=f"{text}, 0..1.", rich_help_panel="Dials")
    return option


def main(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Data root; gets the release's folder.")
    ] = None,
    layout: Annotated[Layout, typer.Option(help="Data set whose files are imitated.")] = Layout.MARKET1501,
    size: Annotated[str, typer.Option(help=f"One of {', '.join(SIZES)}.")] = "default",
    seed: Annotated[int, typer.Option(min=0, help="Decides everything that is drawn at random.")] = 0,
    misalignment: Annotated[float, _dial("Error of the detector's boxes")] = DEFAULTS.misalignment,
    occlusion: Annotated[float, _dial("Share of images with something in front")] = DEFAULTS.occlusion,
    viewpoint: Annotated[float, _dial("Spread of walking directions")] = DEFAULTS.viewpoint,
    camera_shift: Annotated[float, _dial("Difference between cameras")] = DEFAULTS.camera_shift,
    confusers: Annotated[
        float, _dial("Share of identities with a twin in swapped colours")
    ] = DEFAULTS.confusers,
    workers: Annotated[int | None, typer.Option(help="Processes; default: one per core.")] = None,
    truth: Annotated[
        bool, typer.Option("--truth", help="Also write joints and part masks, truth/*.npz.")
    ] = False,
    preview: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Write a contact sheet.")] = None,
) -> int:
    """Render a street of synthetic pedestrians in the layout of a re-identification data set."""
    dials = Dials(misalignment, occlusion, viewpoint, camera_shift, confusers)
    chosen = size_named(size)
    if folder is None and preview is None:
        raise StreetError("nothing to do: give a folder DIR, or --preview FILE.png for a contact sheet only")
    if preview is not None:
        _write_preview(preview, chosen, seed, dials)
    if folder is not None:
        _write_street(folder, layout, chosen, seed, dials, workers, truth)
    return DONE


def _write_preview(file: Path, size: Size, seed: int, dials: Dials) -> None:
    from protocols.crosswalk.preview import contact_sheet

    file.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(size, seed, dials).save(file, "PNG")
    say.print(f"contact sheet: {file}", markup=False, soft_wrap=True)


def _write_street(
    folder: Path, layout: Layout, size: Size, seed: int, dials: Dials, workers: int | None, truth: bool
) -> None:
    say.print(f"rendering a {size.name} street, seed {seed}, laid out as {layout}: {dials}", markup=False)
    with progress_bar(say, "rendering") as bar:
        release = write_market1501(folder, size, seed, dials, workers, progress=bar.update, truth=truth)
    typer.echo(release)


if __name__ == "__main__":
    execute(main)
