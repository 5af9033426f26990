"""The data sets whose files the street can take the form of; each is imported when it is asked for."""

from importlib import import_module
from typing import Any

from protocols.crosswalk.layouts.base import Layout
from retable.errors import UnknownName

LAYOUTS = ("market1501", "dukemtmc", "cuhk03", "cuhk03-np", "cuhk01", "viper", "msmt17", "mars")


def layout_named(name: str) -> Layout[Any]:
    """The layout of that name, one of ``LAYOUTS``; raises ``UnknownName``."""
    if name not in LAYOUTS:
        raise UnknownName("street layout", name, LAYOUTS)
    module = import_module(f"{__name__}.{name.replace('-', '_')}")
    layout: Layout[Any] = module.LAYOUT
    return layout
