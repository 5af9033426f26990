"""What a method is judged on: files on disk -> split -> evaluation rules -> metrics.

====================  ======================================================================
values                ``base``
data sets             ``market1501`` to ``viper``: one module a data set, helpers beside it
copies of them        ``files``, ``folders``, ``doctor``, ``prepare``, ``archives``, ``splits``, ``leaks``
features              ``features``, ``feature_distances``, ``pooling``, ``multi_query``, ``precision``
ranks and numbers     ``ranking``, ``single_shot``, ``reranking``, ``metrics``, ``deviations``
one evaluation        ``evaluation`` (of ``sources``, with ``options``), ``results``, ``per_query``
                      and its command, ``evaluate``
rendered data sets    ``crosswalk``
====================  ======================================================================

Modules that end in ``_loops`` are compiled on first use.
"""

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
    """``evaluate`` is the function, also where the command's module was imported (see there)."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
