"""How to evaluate beyond what a protocol says, checked before anything is computed."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from operator import index
from typing import Any

import numpy as np

from protocols.arrays import InputError
from protocols.base import Pooling, Protocol
from protocols.deviations import check_deviations
from protocols.features import Metric


@dataclass(frozen=True, slots=True)
class Options:
    """Attributes as the arguments of ``evaluate``; None leaves it to the protocol."""

    metric: Metric
    pooling: Pooling | None
    rerank: bool
    deviations: tuple[str, ...]
    seed: int
    repeats: int | None
    split: str


def check_options(
    protocol: Protocol,
    *,
    metric: object,
    pooling: object,
    rerank: object,
    deviations: str | Collection[str],
    seed: object,
    repeats: object,
    split: object,
) -> Options:
    """Options of fit types and values.

    Raises ``InputError`` for another type or value, and for draws where the protocol draws nothing.
    """
    if not isinstance(rerank, bool | np.bool_):
        raise InputError(f"rerank: found {rerank!r}, expected True or False")
    if not isinstance(split, str):
        raise InputError(f"split: found {split!r}, expected its name, such as '0'")
    if protocol.single_shot is None:
        for name, value in (("repeats", repeats), ("seed", seed)):
            if value is not None:
                raise InputError(
                    f"{name}: {protocol.name} ranks the whole gallery and draws nothing; leave it out"
                )
    return Options(
        metric=_one_of("metric", metric or "cosine", ("cosine", "euclidean")),
        pooling=None if pooling is None else _one_of("pooling", pooling, ("mean", "max")),
        rerank=bool(rerank),
        deviations=check_deviations(deviations),
        seed=0 if seed is None else _whole("seed", seed),
        repeats=None if repeats is None else _whole("repeats", repeats, lowest=1),
        split=split,
    )


def refuse_beside_distances(given: Iterable[str], *, metric: object, pooling: object, rerank: object) -> None:
    """Raise ``InputError`` for what needs features where distances are given."""
    if given := sorted(given):
        raise InputError(
            f"distances: given beside {', '.join(given)}; give either distances, or features with "
            "what belongs to them"
        )
    if rerank or pooling:
        raise InputError(
            "distances: re-ranking and pooling need features, as they look at more than queries and gallery; "
            "give features, or leave both out"
        )
    if metric:
        raise InputError(f"distances: given beside metric {metric!r}, which is for features; leave it out")


def _one_of(name: str, value: object, choices: tuple[str, ...]) -> Any:
    if value in choices:
        return value
    near = get_close_matches(str(value), choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise InputError(f"{name}: found {value!r}, expected {' or '.join(map(repr, choices))}{hint}")


def _whole(name: str, value: Any, lowest: int | None = None) -> int:
    """As Python's own integer, which JSON knows."""
    try:
        number = None if isinstance(value, bool | np.bool_) else index(value)
    except TypeError:
        number = None
    if number is None:
        raise InputError(f"{name}: found {value!r}, expected a whole number")
    if lowest is not None and number < lowest:
        raise InputError(f"{name}: found {number}, expected at least {lowest}")
    return number
