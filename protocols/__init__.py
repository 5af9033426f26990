"""What a method is judged on: files on disk -> split -> evaluation rules -> metrics."""

from typing import TYPE_CHECKING

from protocols.base import (
    PROTOCOLS,
    Counts,
    Pooling,
    Protocol,
    Record,
    Rules,
    SingleShot,
    Split,
)

if TYPE_CHECKING:
    from protocols.evaluation import evaluate
    from protocols.results import Result, Summary, summarise

__all__ = [
    "PROTOCOLS",
    "Counts",
    "Pooling",
    "Protocol",
    "Record",
    "Result",
    "Rules",
    "SingleShot",
    "Split",
    "Summary",
    "evaluate",
    "summarise",
]

_LAZY = {
    "evaluate": "protocols.evaluation",
    "Result": "protocols.results",
    "Summary": "protocols.results",
    "summarise": "protocols.results",
}
"""What needs NumPy, so that names of protocols are listed without it."""


def __getattr__(name: str) -> object:
    """``evaluate`` is the function; the command of that name is only ever run, not imported."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
