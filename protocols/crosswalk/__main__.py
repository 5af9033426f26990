"""Command line of the embedded street: ``python -m protocols.crosswalk DIR``."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from protocols.crosswalk import LAYOUTS, Dials, Layout, StreetError, layout_named, write_street
from retable.cli import DONE, execute
from retable.progress import progress_bar

say = Console(stderr=True, highlight=False)
DEFAULTS = Dials()


def _dial(text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(help=f"{text}, 0..1.", rich_help_panel="Dials")
    return option


def main(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Data root; gets the release's folder.")
    ] = None,
    layout: Annotated[
        str, typer.Option(help=f"Data set whose files are imitated: {', '.join(LAYOUTS)}.")
    ] = "market1501",
    size: Annotated[
        str, typer.Option(help="tiny, default or release (of market1501 also called market).")
    ] = "default",
    seed: Annotated[int, typer.Option(min=0, help="Decides everything that is drawn at random.")] = 0,
    misalignment: Annotated[float, _dial("Error of the detector's boxes")] = DEFAULTS.misalignment,
    occlusion: Annotated[float, _dial("Share of images with something in front")] = DEFAULTS.occlusion,
    viewpoint: Annotated[float, _dial("Spread of walking directions")] = DEFAULTS.viewpoint,
    camera_shift: Annotated[float, _dial("Difference between cameras")] = DEFAULTS.camera_shift,
    confusers: Annotated[
        float, _dial("Share of identities with a twin in swapped colours")
    ] = DEFAULTS.confusers,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one per core.")] = None,
    truth: Annotated[
        bool, typer.Option("--truth", help="Also write joints and part masks, truth/*.npz.")
    ] = False,
    preview: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Write a contact sheet.")] = None,
) -> int:
    """Render a street of synthetic pedestrians in the layout of a re-identification data set."""
    dials = Dials(
        misalignment=misalignment,
        occlusion=occlusion,
        viewpoint=viewpoint,
        camera_shift=camera_shift,
        confusers=confusers,
    )
    form = layout_named(layout)
    chosen = form.size_named(size)
    if folder is None and preview is None:
        raise StreetError("nothing to do: give a folder DIR, or --preview FILE.png for a contact sheet only")
    if preview is not None and preview.suffix.lower() != ".png":
        raise StreetError(f"--preview {preview}: a contact sheet is a PNG; give a name that ends in .png")
    if preview is not None:
        _write_preview(preview, form, chosen, seed, dials)
    if folder is not None:
        _write_street(folder, form, chosen, seed, dials, workers, truth)
    return DONE


def _write_preview(file: Path, layout: Layout[Any], size: Any, seed: int, dials: Dials) -> None:
    from protocols.crosswalk.preview import contact_sheet
    from protocols.crosswalk.walks import Street

    file.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(layout.plan(size, seed, dials), Street(seed, dials)).save(file, "PNG")
    say.print(f"contact sheet: {file}", markup=False, soft_wrap=True)


def _write_street(
    folder: Path,
    layout: Layout[Any],
    size: Any,
    seed: int,
    dials: Dials,
    workers: int | None,
    truth: bool,
) -> None:
    say.print(
        f"rendering a {size.name} street, seed {seed}, laid out as {layout.name}: {dials}", markup=False
    )
    with progress_bar(say, "rendering") as bar:
        release = write_street(folder, layout.name, size, seed, dials, workers, bar.update, truth)
    typer.echo(release)


if __name__ == "__main__":
    execute(main)
