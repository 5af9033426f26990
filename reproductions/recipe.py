"""How a row is trained, as data: everything between the files on disk and the last epoch."""

from bisect import bisect_right
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator

TRAINING_VERSION = 1
"""Raised with every change of the loop, the sampler or the augmentation that may give other numbers."""

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
BATCHES = {
    "pk": ("ids_per_batch", "images_per_id", "epoch"),
    "pairs": ("anchors_per_batch", "negatives"),
    "all pairs": ("images_per_batch",),
    "shuffled": ("images_per_batch",),
    "capped": ("images_per_id", "images_per_batch", "batches_per_epoch"),
    "fitted": (),
}
"""The fields that say how large each sampler's batches are."""

PAIRED = frozenset({"pairs", "all pairs"})
"""Samplers whose batches say which images are compared."""

STEPS = frozenset(
    {
        *("flip", "crop_area", "crop_aspect", "padding", "shift", "cutout_probability", "cutout_size"),
        *("erasing_probability", "erasing_area", "erasing_aspect"),
        *("epochs", "optimizer", "momentum", "nesterov", "weight_decay", "backbone_rate", "schedule"),
    }
)
"""The fields that say what a step of training sees and does; a fitted method takes none."""

Way = Literal["all"] | PositiveInt
"""How pairs are ranked: all are scored, or this many nearest of a coarse search are."""


def way_name(way: Way) -> str:
    """For people and records: ``"exhaustive"`` or, for example, ``"top-75"``."""
    return "exhaustive" if way == "all" else f"top-{way}"


class Recipe(BaseModel):
    """One training recipe. A paper's folder holds two: ``paper`` (as printed) and ``proxy`` (small).

    A row's hash leaves out every field at its default, so that a new field with a default of "off"
    leaves old records valid. For the same reason a default is never changed.

    Attributes:
        backbone: a timm model name.
        backbone_options: further arguments of ``timm.create_model``, for example ``channels``.
        weights: ``"imagenet"``, ``"none"``, or ``"street"`` for what telling other people of the street apart
            has taught (``reproductions.pretraining``); the command line may name a file instead.
        height: pixels, after resizing.
        width: pixels, after resizing.
        flip: chance that a training image is mirrored.
        crop_area: least and greatest share of a training image that a random crop keeps, stretched to its
            size again (``augment.random_crop``); none unless given.
        crop_aspect: least and greatest height per width of such a crop.
        padding: pixels of black around a training image, of which a random crop of the image's own size
            is kept (``augment.random_shift``).
        shift: pixels down and across by which a training image is moved, or not, either way
            (``augment.random_step``).
        cutout_probability: chance that a training image loses a square.
        cutout_size: side of that square in pixels.
        erasing_probability: chance that a training image loses a rectangle (``augment.random_erasing``).
        erasing_area: least and greatest share of the image that it covers.
        erasing_aspect: least height per width; the greatest is its inverse.
        sampler: ``"pk"``, ``"pairs"``, ``"all pairs"``, ``"shuffled"`` or ``"capped"``, see
            ``reproductions.sampler``; ``"fitted"`` for methods that are fitted to all images at once
            (``FittedMethod``), for which nothing that speaks of steps or of changed images has a meaning.
        ids_per_batch: for pk, identities in a batch (P).
        images_per_id: for pk, images of each identity in a batch (K); for capped, the most.
        epoch: for pk, what an epoch takes once: every identity, or all images that make groups of K.
        anchors_per_batch: for pairs, images in a batch that ask.
        negatives: for pairs, images of others that each is asked about, beside one of its own identity.
        images_per_batch: for all pairs, shuffled and capped.
        batches_per_epoch: for capped.
        epochs: number of epochs; they are counted from 1.
        optimizer: ``"adam"``, with its usual moments (0.9, 0.999), or ``"sgd"``.
        momentum: of SGD.
        nesterov: whether that momentum is Nesterov's.
        weight_decay: L2 penalty, added to the gradient.
        backbone_rate: factor on the learning rate of the method's ``backbone``.
        schedule: ``(first epoch, learning rate)`` in rising order, from epoch 1; each rate holds until
            the next entry.
        method_options: options of the method that only this recipe changes, for example block sizes
            on small maps.
        pose: what a network of poses inside the method starts from: nothing; ``"openpose"``, the published
            weights, from a file that the command line names; ``"street"``, training on a street of other
            people whose joints are known (``reproductions.pose``).
        precision: arithmetic of the forward pass.
        street: size of the embedded street, where that is what is trained on.
        ranking: ways to rank by a method that scores pairs: ``"all"`` pairs are scored, or the K nearest
            of a coarse search. The first is what a row's scores are, the others stand beside it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: str
    backbone_options: dict[str, Any] = {}
    weights: Literal["imagenet", "none", "street"]
    height: PositiveInt
    width: PositiveInt
    flip: Probability
    crop_area: tuple[Probability, Probability] | None = None
    crop_aspect: tuple[Positive, Positive] = (2.0, 3.0)
    padding: Annotated[int, Field(ge=0)] = 0
    shift: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] = (0, 0)
    cutout_probability: Probability = 0.0
    cutout_size: PositiveInt = 1
    erasing_probability: Probability = 0.0
    erasing_area: tuple[Probability, Probability] = (0.02, 0.4)
    erasing_aspect: Annotated[float, Field(gt=0, le=1)] = 0.3
    sampler: Literal["pk", "pairs", "all pairs", "shuffled", "capped", "fitted"] = "pk"
    ids_per_batch: Annotated[int, Field(ge=0)] = 0
    images_per_id: Annotated[int, Field(ge=0)] = 0
    epoch: Literal["identities", "images"] = "identities"
    anchors_per_batch: PositiveInt = 1
    negatives: PositiveInt = 1
    images_per_batch: PositiveInt = 1
    batches_per_epoch: PositiveInt = 1
    epochs: PositiveInt
    optimizer: Literal["adam", "sgd"]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    nesterov: bool = False
    weight_decay: Annotated[float, Field(ge=0)]
    backbone_rate: Positive = 1.0
    schedule: tuple[tuple[int, Positive], ...]
    method_options: dict[str, Any] = {}
    pose: Literal["none", "openpose", "street"] = "none"
    precision: Literal["bf16", "fp32"]
    street: str = "default"
    ranking: Annotated[tuple[Way, ...], Field(min_length=1)] = ("all",)

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
        for name in ("crop_area", "crop_aspect", "erasing_area"):
            limits = getattr(self, name)
            if limits and limits[0] > limits[1]:
                raise ValueError(f"{name} must be (least, greatest), found {limits}")
        if len(set(self.ranking)) < len(self.ranking):
            raise ValueError(f"ranking names a way twice: {self.ranking}")
        if self.optimizer == "adam" and self.momentum:
            raise ValueError(f"adam has its usual moments and takes no momentum, found {self.momentum}")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov is a form of momentum, and there is none")
        if self.sampler == "pk" and (self.ids_per_batch < 1 or self.images_per_id < 2):
            raise ValueError(
                "sampler pk needs ids_per_batch of 1 or more and images_per_id of 2 or more, found "
                f"{self.ids_per_batch} and {self.images_per_id}"
            )
        if self.sampler == "all pairs" and self.images_per_batch < 2:
            raise ValueError(
                f"sampler all pairs needs images_per_batch of 2 or more, found {self.images_per_batch}"
            )
        if self.sampler == "capped" and not 1 < self.images_per_id < self.images_per_batch:
            raise ValueError(
                "sampler capped needs images_per_id of 2 or more and below images_per_batch, found "
                f"{self.images_per_id} and {self.images_per_batch}"
            )
        return self

    def stated(self) -> dict[str, Any]:
        """What decides a training's numbers, as plain data: fields at their defaults are left out.

        So are the sizes of batches that other samplers draw, all of training where a method is fitted, and
        what a job states elsewhere.
        """
        others = {field for fields in BATCHES.values() for field in fields} - {*BATCHES[self.sampler]}
        others |= STEPS if self.sampler == "fitted" else set()
        apart = {"weights", "method_options", "street", *others}
        return self.model_dump(mode="json", exclude=apart, exclude_defaults=True)

    @property
    def batch_size(self) -> int:
        """Images in a full training batch; 0 where a method is fitted."""
        match self.sampler:
            case "pk":
                return self.ids_per_batch * self.images_per_id
            case "pairs":
                return self.anchors_per_batch * (2 + self.negatives)
            case "all pairs" | "shuffled" | "capped":
                return self.images_per_batch
            case "fitted":
                return 0

    def learning_rate(self, epoch: int) -> float:
        """The rate during ``epoch``, counted from 1. Raises ``ValueError`` outside 1..epochs."""
        if not 1 <= epoch <= self.epochs:
            raise ValueError(f"epoch {epoch} is outside 1..{self.epochs}")
        return self.schedule[bisect_right(self.schedule, epoch, key=lambda entry: entry[0]) - 1][1]
