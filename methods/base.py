"""What a method is: losses to train by, a description per image, and a distance to rank by."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from retable.errors import SpecError, UnknownName


@dataclass(frozen=True, slots=True)
class Unstated:
    """A choice that the paper leaves open.

    Attributes:
        option: the field of the method's ``Options`` that selects it.
        alternatives: other values that the field takes.
        reason: why the default is what it is, with its source.
        when: options under which the choice arises at all; empty when it always does.
    """

    option: str
    alternatives: tuple[Any, ...]
    reason: str
    when: Mapping[str, Any] = field(default_factory=dict)


class Options(BaseModel):
    """A method's settings; unknown keys and wrong values are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def _refuse(self, needed: str, found: str, names: Sequence[str]) -> None:
        """Settings of what is not there keep their defaults, or one network would have several records.

        Args:
            needed: what the settings are of.
            found: the setting by which it is not there.
            names: fields that have to be at their defaults.

        Raises:
            ValueError: one is not, which pydantic collects.
        """
        for name in names:
            if (value := getattr(self, name)) != type(self).model_fields[name].default:
                raise ValueError(f"{name} {value!r} needs {needed}, but {found}")


class Method(nn.Module):
    """Base class of all methods. Images are normalised floats (B, 3, H, W).

    A method is an ``EmbeddingMethod``, which may be a ``FittedMethod``, or a ``PairMethod``. It defines
    ``Options`` (a pydantic model) and ``UNSTATED`` and takes ``(options, num_pids, backbone, weights,
    network=None)``.

    Args of subclasses:
        options: an instance of the class's ``Options``.
        num_pids: number of training identities.
        backbone: a timm model name.
        weights: ``"imagenet"``, ``"none"`` or a file (see ``methods.backbones``).
        network: what to change in the timm model, for example its ``channels``; None changes nothing.
    """

    Options: ClassVar[type[Options]]
    UNSTATED: ClassVar[tuple[Unstated, ...]] = ()
    options: BaseModel

    @classmethod
    def parse_options(cls, given: Mapping[str, Any]) -> BaseModel:
        """``given`` (from a spec or a command line) as an instance of the method's ``Options``.

        Raises ``SpecError`` with one line for each unknown key (and its near matches) or wrong value.
        """
        try:
            return cls.Options.model_validate(given)
        except ValidationError as error:
            complaints = [_complaint(cls.Options, details) for details in error.errors()]
        raise SpecError(f"options of {cls.__name__}: " + "\n".join(complaints))

    def forward(self, *batch: Tensor) -> Mapping[str, Tensor]:
        """The losses of a batch: training wraps the call of the module (mixed precision)."""
        return self.losses(*batch)

    losses: Callable[..., Mapping[str, Tensor]]

    def start_from(self, trained: Sequence[Mapping[str, Tensor]]) -> None:
        """Take over weights of other networks, those of the rows that a row starts from, in their order.

        They were trained before on the same images and identities; this one's training goes on from there.

        Args:
            trained: state dicts, on the CPU.

        Raises:
            SpecError: the method starts from no other network.
            WeightsError: they are of networks that do not fit.
        """
        raise SpecError(
            f"{type(self).__name__}: found starts_from in its row, with {len(trained)} networks; expected "
            "none, as it takes over no weights of other methods"
        )


class EmbeddingMethod(Method):
    """Base class of methods that describe an image by one vector; they implement the first two."""

    @property
    def parts(self) -> Mapping[str, slice]:
        """Stretches of the description, by name, that are ranked on their own as well: none by default.

        Each is some of the D columns, of step 1. They are ranked by the method's own ``distance``, which
        then gets the columns of the stretch alone. The names are identifiers, such as ``"global"``.
        """
        return {}

    def losses(self, images: Tensor, pids: Tensor) -> Mapping[str, Tensor]:
        """Named scalars whose sum is minimised; ``pids`` are labels 0..num_pids-1, shape (B,)."""
        raise NotImplementedError

    def describe(self, images: Tensor) -> Tensor:
        """What is stored per image at test time, (B, D)."""
        raise NotImplementedError

    def distance(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """Distances between descriptions, (Q, D) x (G, D) -> (Q, G); smaller is more alike."""
        return squared_euclidean(queries, gallery)


class FittedMethod(EmbeddingMethod):
    """Base class of methods that are fitted to the training images at once, without steps down a loss.

    What is fitted lies in buffers of shapes that the options decide, so that a state dict holds all of it.
    """

    def fit(self, batches: Callable[[], Iterable[Tensor]], progress: Callable[[int], object]) -> None:
        """Fit to the training images, whose identities are not told.

        Random numbers come from the global generators of torch and numpy, which are seeded before.

        Args:
            batches: each call goes through all training images once, in one order: normalised floats
                (B, 3, H, W) on the network's device.
            progress: told the number of images of each batch, as often as they are gone through.
        """
        raise NotImplementedError


class PairMethod(Method):
    """Base class of methods that score pairs of images, so that no vector stands for an image.

    Attributes:
        tile_bytes: memory that scoring pairs may take beyond its input and output, about.
    """

    tile_bytes: int = 32 * 2**20

    def losses(self, images: Tensor, pids: Tensor, pairs: Tensor) -> Mapping[str, Tensor]:
        """Named scalars whose sum is minimised.

        Args:
            images: (B, 3, H, W).
            pids: labels 0..num_pids-1, (B,).
            pairs: (P, 2) places in the batch: who asks, and who is asked about.
        """
        raise NotImplementedError

    def describe(self, images: Tensor) -> dict[str, Tensor]:
        """What is stored per image at test time, each with the images first.

        ``"pooled"`` (B, D) is the vector that a coarse search goes by; feature maps are bfloat16.
        """
        raise NotImplementedError

    def distance(self, queries: Mapping[str, Tensor], gallery: Mapping[str, Tensor]) -> Tensor:
        """Distances of all pairs of two lists of descriptions, float32 (Q, G); smaller is more alike."""
        raise NotImplementedError

    def pair_distance(self, queries: Mapping[str, Tensor], gallery: Mapping[str, Tensor]) -> Tensor:
        """The same for P given pairs, one description of each list a pair, float32 (P,)."""
        raise NotImplementedError


def tile_sides(pairs: int, queries: int) -> tuple[int, int]:
    """How many queries and how many gallery images a tile of at most ``pairs`` pairs, 1 or more, has.

    As many of both as can be, so that what is read of each serves many pairs, but not more than ``queries``.
    """
    per_query = max(1, min(queries, math.isqrt(pairs)))
    return per_query, pairs // per_query


def _complaint(options: type[BaseModel], details: Mapping[str, Any]) -> str:
    """One pydantic error in this project's words."""
    key = ".".join(map(str, details["loc"]))
    if details["type"] == "extra_forbidden":
        return str(UnknownName("option", key, options.model_fields))
    if not key:  # options that do not fit together
        return str(details["msg"]).removeprefix("Value error, ")
    return f"{key} = {details['input']!r}: {details['msg']}"


def squared_euclidean(a: Tensor, b: Tensor) -> Tensor:
    """|a_i|^2 - 2 a_i.b_j + |b_j|^2 for rows of (M, D) and (N, D), never below 0, shape (M, N)."""
    squares_a = torch.linalg.vector_norm(a, dim=1, keepdim=True).square()
    squares_b = torch.linalg.vector_norm(b, dim=1).square()
    # In place: at Market-1501 scale this costs next to nothing beyond the matrix product.
    return torch.addmm(squares_b, a, b.mT, alpha=-2).add_(squares_a).clamp_min_(0)
