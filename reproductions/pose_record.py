"""What a trained pose network finds, as one JSON file beside its weights."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from reproductions.pose_recipe import PoseRecipe
from reproductions.records import Provenance
from retable.errors import RetableError
from retable.files import write_atomically

MEASURES = ("body", "torso")
"""What ``pose_evaluation.PCK`` holds."""

Scores = dict[str, dict[str, float | None]]
"""Percent by measure, then by joint; None where no image shows the joint."""


class PoseRecord(BaseModel):
    """One pose network, trained on the street.

    ``identity`` is everything that decides the weights (``pose_weights``) and ``digest`` its hash;
    ``trained`` and ``untrained`` are of the network after its training and before its first step,
    ``mean_place`` of a guess that puts each joint where it is on average in the training images; ``loss``
    is the mean of the last epoch. ``provenance.split`` holds a digest of the pixels and joints.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    digest: str
    identity: dict[str, Any]
    trained: Scores
    untrained: Scores
    mean_place: Scores
    loss: float
    train_seconds: float
    provenance: Provenance

    @property
    def name(self) -> str:
        """For example ``openpose-0.125-128x64-1a2b3c4d5e6f``."""
        height, width = self.identity["image"]
        return f"{self.identity['network']}-{self.identity['width']:g}-{height}x{width}-{self.digest}"

    @property
    def recipe(self) -> PoseRecipe:
        """How it was trained."""
        return PoseRecipe(**self.identity["recipe"])

    def save(self, path: Path) -> None:
        """Write ``path``, in place of what is there."""
        text = self.model_dump_json(indent=1) + "\n"
        write_atomically(path, lambda file: file.write(text.encode()))

    @classmethod
    def load(cls, path: Path) -> "PoseRecord":
        """Raises ``RetableError`` for a file that is no such record."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise RetableError(
                f"{path}: not a record of a pose network; delete its folder, and it is trained again"
            ) from error


def mean(scores: dict[str, float | None]) -> float | None:
    """Over the joints that some image shows; None without any."""
    known = [value for value in scores.values() if value is not None]
    return sum(known) / len(known) if known else None
