"""``python -m reproductions.pose PAPER``: train a paper's pose networks on the street, and what they find."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from reproductions.arguments import Device
from retable.cli import DONE, Format, execute, show
from retable.errors import RetableError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

    from reproductions.jobs import Job
    from reproductions.paper import Paper
    from reproductions.pose_record import PoseRecord

MEASURES = ("body", "torso")
GUESSES = ("mean_place", "untrained", "trained")
COLUMNS = ("network", "joint", *(f"{measure}_{guess}" for measure in MEASURES for guess in GUESSES))


def main(
    paper: Annotated[str, typer.Argument(help="key of the paper, see reproductions.list")],
    row: Annotated[
        list[str] | None, typer.Option(help="a row's label; may be repeated (default: all rows)")
    ] = None,
    scale: Annotated[Literal["paper", "proxy"], typer.Option(help="whose sizes the networks have")] = "proxy",
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE, for example pose_width=0.25 or recipe.height=160"),
    ] = None,
    device: Device = "auto",
    form: Annotated[Format, typer.Option("--format", help="how to print")] = "table",
    records: Annotated[
        Path | None, typer.Option(metavar="DIR", help="also write each network's record here, as JSON")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="draw here what each finds in test images")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="images of a picture")] = 12,
) -> int:
    """Train the pose networks that a paper's rows start from on rendered people, or find them in the cache.

    Shows how many joints of other people each finds, in percent (PCK): within 0.1 of the longer side of the
    box around a person's joints (body), and within 0.2 of the distance from left shoulder to right hip
    (torso). mean_place always answers where a joint is on average.
    """
    # Imported here, as --help need not wait for them.
    from rich.console import Console

    from reproductions.execute import pick_device
    from reproductions.pose_record import PoseRecord
    from reproductions.pose_weights import SCORES, street_pose_weights
    from reproductions.spec import load_paper

    say = Console(stderr=True, highlight=False)
    found = []
    for network in dict.fromkeys(job.pose_network for job in _jobs(load_paper(paper), row, scale, setting)):
        weights = street_pose_weights(*network, pick_device(device), say)
        record = PoseRecord.load(weights.with_name(SCORES))
        say.print(f"{record.name}: {weights}", markup=False, soft_wrap=True)
        if records:
            record.save(records / f"{record.name}.json")
        if pictures:
            pictures.mkdir(parents=True, exist_ok=True)
            draw(record, weights, count, say).savefig(pictures / f"{record.name}.png")
        found.append(record)
    show([line for record in found for line in lines_of(record)], COLUMNS, form)
    return DONE


def _jobs(
    paper: "Paper", rows: list[str] | None, scale: Literal["paper", "proxy"], setting: list[str] | None
) -> "list[Job]":
    """The rows that start from a pose network of the street.

    Raises ``RetableError`` where none does.
    """
    from reproductions.jobs import STREET, Changes, make_job
    from reproductions.selection import parse_settings, split_settings

    options, fields = split_settings(parse_settings("--set", setting or []))
    changes = Changes(options=options, recipe_fields=fields)
    jobs = [
        make_job(
            paper, label, STREET if scale == "proxy" else paper.row(label).datasets[0], scale, changes=changes
        )
        for label in rows or paper.rows
        if scale == "proxy" or paper.row(label).datasets
    ]
    found = [job for job in jobs if job.recipe.pose == "street"]
    if not found:
        raise RetableError(
            f"{paper.key}, scale {scale}: found no row that starts from the street's poses; expected a "
            'recipe with pose = "street" (or --set recipe.pose=street)'
        )
    return found


def lines_of(record: "PoseRecord") -> list[dict[str, object]]:
    """A line a joint by ``COLUMNS``, and their mean."""
    from protocols.crosswalk.truth import JOINTS
    from reproductions.pose_record import mean

    lines = []
    for joint in (*JOINTS, "mean"):
        line: dict[str, object] = {"network": record.name, "joint": joint}
        for measure in MEASURES:
            for guess in GUESSES:
                scores = getattr(record, guess)[measure]
                value = mean(scores) if joint == "mean" else scores[joint]
                line[f"{measure}_{guess}"] = None if value is None else f"{value:.1f}"
        lines.append(line)
    return lines


def draw(record: "PoseRecord", weights: Path, count: int, console: "Console") -> "Figure":
    """The network's joints in test images, spread evenly over them."""
    import numpy as np
    from safetensors.torch import load_file

    from protocols.crosswalk.truth import OUTSIDE
    from reproductions.pose_evaluation import joint_maps_of, places_of
    from reproductions.pose_figure import Posed, pose_figure
    from reproductions.pose_people import people
    from reproductions.pose_record import mean
    from reproductions.pose_training import first_network

    height, width = record.identity["image"]
    _, tested = people(record.recipe, height, width, console)
    network = first_network(record.identity["network"], record.identity["width"], record.recipe.seed)
    network.load_state_dict(load_file(weights))
    chosen = np.linspace(0, len(tested.images) - 1, min(count, len(tested.images))).round().astype(int)
    images, joints = tested.images[chosen], tested.joints[chosen]
    maps = joint_maps_of(network, images)
    true = joints[..., :2].masked_fill(joints[..., 2:] == OUTSIDE, float("nan"))
    posed = [
        Posed(image.permute(1, 2, 0).numpy(), f"test image {place}", one.numpy(), guess.numpy(), most.numpy())
        for place, image, one, guess, most in zip(
            chosen.tolist(), images, true, places_of(maps), maps[:, :-1].amax(1), strict=True
        )
    ]
    scores = ", ".join(f"{mean(record.trained[measure]):.1f} ({measure})" for measure in MEASURES)
    return pose_figure(
        posed, f"{record.name}: joints found in test images", f"PCK of all test images: {scores}"
    )


if __name__ == "__main__":
    execute(main)
