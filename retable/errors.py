"""Errors that a user can act on; the commands print them without a traceback and exit with 2."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches


def some(items: Collection[object], shown: int = 5) -> str:
    """The first items of many for a message, for example ``a, b, c, d, e and 1,204 more``."""
    first = ", ".join(str(item) for _, item in zip(range(shown), items, strict=False))
    return first + (f" and {len(items) - shown:,} more" if len(items) > shown else "")


class RetableError(Exception):
    """A request that cannot be met; the message names what was found, what was expected and what to do."""


class DataError(RetableError):
    """A data set on disk is missing, incomplete or damaged."""


class Absent(DataError):
    """A data set, or what a protocol needs besides the release, is not here; what is here is whole."""


class Unprepared(DataError):
    """A release is here, but not yet turned into what its protocols read."""


class SpecError(RetableError):
    """A paper's data files contradict their schema or themselves."""


class WeightsError(RetableError):
    """Network weights are missing, unreadable or belong to another network."""


class UnknownName(RetableError):
    """A name that nothing answers to; the message lists near matches, then all names."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        near = get_close_matches(name.lower(), [k.lower() for k in known], n=3, cutoff=0.5)
        near = [k for k in known if k.lower() in near]
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        super().__init__(f"unknown {kind} {name!r}: {hint}known: {', '.join(known) or 'none'}")
