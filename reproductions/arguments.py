"""Options that several commands take, spelt once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from retable.errors import RetableError

DEFAULT_SEEDS = 4

Scale: TypeAlias = Annotated[
    Literal["paper", "proxy"] | None,
    typer.Option(help="paper: real data; proxy: the street (default: paper if data are found)"),
]
DataRoot: TypeAlias = Annotated[
    Path | None, typer.Option("--data-root", help="folder of the data sets (default: $REID_DATA)")
]
StreetSize: TypeAlias = Annotated[
    str | None, typer.Option(help="tiny, default or market: size of the street (default: the recipe's)")
]
PoseWeights: TypeAlias = Annotated[
    str | None,
    typer.Option(envvar="REID_POSE_WEIGHTS", help="OpenPose's weights, for rows that start from them"),
]
Dial: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(help="KEY=VALUE in 0..1, a dial of the street, e.g. misalignment=0.3; may be repeated"),
]
Device: TypeAlias = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option(help="auto takes a GPU if there is one")
]
TrackingUri: TypeAlias = Annotated[
    str | None, typer.Option(help="MLflow store (default: $MLFLOW_TRACKING_URI, else mlflow.db here)")
]
Results: TypeAlias = Annotated[Path, typer.Option(help="folder of the records")]
Seed: TypeAlias = Annotated[list[int] | None, typer.Option(min=0, help="run this seed; may be repeated")]


def chosen_seeds(seed: Sequence[int] | None, seeds: int | None) -> list[int] | None:
    """The seeds that --seed names, or the first that --seeds counts; None without either.

    Raises ``RetableError`` for both.
    """
    if seed and seeds:
        raise RetableError("--seeds N and --seed S name seeds twice; give one of them")
    if seed:
        return sorted(set(seed))
    return list(range(seeds)) if seeds else None
