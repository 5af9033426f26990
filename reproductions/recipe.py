"""How a row is trained, as data: everything between the files on disk and the last epoch."""

from bisect import bisect_right
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator

TRAINING_VERSION = 1
"""Raised with every change of the loop, the sampler or the augmentation that may give other numbers."""

Probability = Annotated[float, Field(ge=0, le=1)]


class Recipe(BaseModel):
    """One training recipe. A paper's folder holds two: ``paper`` (as printed) and ``proxy`` (small).

    Attributes:
        backbone: a timm model name.
        backbone_options: further arguments of ``timm.create_model``, for example ``channels``.
        weights: ``"imagenet"`` or ``"none"``; the command line may name a file instead.
        height: pixels, after resizing.
        width: pixels, after resizing.
        flip: chance that a training image is mirrored.
        cutout_probability: chance that a training image loses a square.
        cutout_size: side of that square in pixels.
        ids_per_batch: identities in a batch (P).
        images_per_id: images of each identity in a batch (K).
        epochs: number of epochs; they are counted from 1.
        optimizer: ``"adam"``, with its usual moments (0.9, 0.999).
        weight_decay: L2 penalty inside Adam.
        schedule: ``(first epoch, learning rate)`` in rising order, from epoch 1; each rate holds until
            the next entry.
        method_options: options of the method that only this recipe changes, for example block sizes
            on small maps.
        precision: arithmetic of the forward pass.
        street: size of the embedded street, where that is what is trained on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: str
    backbone_options: dict[str, Any] = {}
    weights: Literal["imagenet", "none"]
    height: PositiveInt
    width: PositiveInt
    flip: Probability
    cutout_probability: Probability = 0.0
    cutout_size: PositiveInt = 1
    ids_per_batch: PositiveInt
    images_per_id: Annotated[int, Field(ge=2)]
    epochs: PositiveInt
    optimizer: Literal["adam"]
    weight_decay: Annotated[float, Field(ge=0)]
    schedule: tuple[tuple[int, Annotated[float, Field(gt=0)]], ...]
    method_options: dict[str, Any] = {}
    precision: Literal["bf16", "fp32"]
    street: str = "default"

    @field_validator("schedule")
    @classmethod
    def _rises_from_epoch_one(cls, schedule: tuple[tuple[int, float], ...]) -> tuple[tuple[int, float], ...]:
        starts = [first for first, _ in schedule]
        if starts[:1] != [1] or any(b <= a for a, b in pairwise(starts)):
            raise ValueError(f"first epochs must rise strictly from 1, found {starts}")
        return schedule

    @model_validator(mode="after")
    def _fits(self) -> "Recipe":
        if self.cutout_size > min(self.height, self.width):
            raise ValueError(f"a cutout of {self.cutout_size} exceeds images of {self.height} x {self.width}")
        if self.schedule[-1][0] > self.epochs:
            raise ValueError(f"the last rate starts at epoch {self.schedule[-1][0]} of {self.epochs}")
        return self

    @property
    def batch_size(self) -> int:
        """Images in a training batch, P x K."""
        return self.ids_per_batch * self.images_per_id

    def learning_rate(self, epoch: int) -> float:
        """The rate during ``epoch``, counted from 1. Raises ``ValueError`` outside 1..epochs."""
        if not 1 <= epoch <= self.epochs:
            raise ValueError(f"epoch {epoch} is outside 1..{self.epochs}")
        return self.schedule[bisect_right(self.schedule, epoch, key=lambda entry: entry[0]) - 1][1]
