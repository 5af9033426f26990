"""What a method is: losses to train by, a description per image, and a distance to rank by."""

from collections.abc import Mapping
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


class Method(nn.Module):
    """Base class of all methods. Images are normalised floats (B, 3, H, W).

    Subclasses define ``Options`` (a pydantic model) and ``UNSTATED``, take
    ``(options, num_pids, backbone, weights, network=None)`` and implement ``losses`` and ``describe``.

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

    def forward(self, images: Tensor, pids: Tensor) -> Mapping[str, Tensor]:
        """The losses: training wraps the call of the module (mixed precision)."""
        return self.losses(images, pids)

    def losses(self, images: Tensor, pids: Tensor) -> Mapping[str, Tensor]:
        """Named scalars whose sum is minimised; ``pids`` are labels 0..num_pids-1, shape (B,)."""
        raise NotImplementedError

    def describe(self, images: Tensor) -> Tensor:
        """What is stored per image at test time; for embedding methods (B, D)."""
        raise NotImplementedError

    def distance(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """Distances between descriptions, (Q, D) x (G, D) -> (Q, G); smaller is more alike."""
        return squared_euclidean(queries, gallery)


def _complaint(options: type[BaseModel], details: Mapping[str, Any]) -> str:
    """One pydantic error in this project's words."""
    key = ".".join(map(str, details["loc"]))
    if details["type"] == "extra_forbidden":
        return str(UnknownName("option", key, options.model_fields))
    return f"{key} = {details['input']!r}: {details['msg']}"


def squared_euclidean(a: Tensor, b: Tensor) -> Tensor:
    """|a_i|^2 - 2 a_i.b_j + |b_j|^2 for rows of (M, D) and (N, D), never below 0, shape (M, N)."""
    squares_a = torch.linalg.vector_norm(a, dim=1, keepdim=True).square()
    squares_b = torch.linalg.vector_norm(b, dim=1).square()
    # In place: at Market-1501 scale this costs next to nothing beyond the matrix product.
    return torch.addmm(squares_b, a, b.mT, alpha=-2).add_(squares_a).clamp_min_(0)
