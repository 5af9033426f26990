"""Plug-in registries: names are listed without importing what they stand for.

A plug-in is a module of the registry's package with a decorated object in it::

    @METHODS.register("sona", version=1)
    class SONA(Method): ...

The version is raised with every change after which a plug-in may give other numbers; records
of runs hold it.

or an entry point of another distribution (group ``retable.methods`` or ``retable.protocols``).
"""

import importlib
import re
from collections.abc import Callable
from functools import cached_property
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from retable.errors import RetableError, UnknownName

T = TypeVar("T")


class Source(NamedTuple):
    """Where a plug-in comes from, ``module`` or ``module:attribute``, and its version."""

    place: str
    version: str


class Registry(Generic[T]):
    """Names to objects, for one kind of plug-in.

    Args:
        kind: the singular noun for messages, for example ``"method"``.
        package: the in-tree package whose modules register plug-ins.
        variable: the registry's own name, as the decorator lines spell it.
    """

    def __init__(self, kind: str, package: str, variable: str) -> None:
        self.kind = kind
        self.package = package
        self.group = f"retable.{package}"
        self._decorator = re.compile(
            rf'^@{variable}\.register\("([^"]+)"(?:, version=(\d+))?\)', re.MULTILINE
        )
        self._objects: dict[str, T] = {}

    def register(self, name: str, version: int = 1) -> Callable[[T], T]:  # noqa: ARG002 - read as text
        """Decorator: file ``obj`` under ``name``. Raises ``RetableError`` when the name is taken."""

        def decorate(obj: T) -> T:
            if name in self._objects:
                raise RetableError(f"two {self.kind}s register the name {name!r}; rename one")
            self._objects[name] = obj
            return obj

        return decorate

    def names(self) -> list[str]:
        """All names, sorted; imports no plug-in."""
        return sorted(self._sources | self._objects.keys())

    def version(self, name: str) -> str:
        """The version that stands in the decorator, or of the distribution behind an entry point.

        Imports no plug-in. Raises ``UnknownName``.
        """
        if name not in self._sources:
            raise UnknownName(self.kind, name, self.names())
        return self._sources[name].version

    def get(self, name: str) -> T:
        """The object called ``name``; imports the one module that holds it.

        Raises ``UnknownName`` with near matches.
        """
        if name not in self._objects:
            if name not in self._sources:
                raise UnknownName(self.kind, name, self.names())
            module, _, attribute = self._sources[name].place.partition(":")
            loaded = importlib.import_module(module)
            if attribute:  # an entry point need not use the decorator
                self._objects.setdefault(name, getattr(loaded, attribute))
        return self._objects[name]

    @cached_property
    def _sources(self) -> dict[str, "Source"]:
        """All plug-ins by name, read from source text and package metadata."""
        spec = find_spec(self.package)
        assert spec is not None and spec.submodule_search_locations
        found = [
            (name, Source(f"{self.package}.{path.stem}", version or "1"))
            for folder in spec.submodule_search_locations
            for path in sorted(Path(folder).glob("*.py"))
            for name, version in self._decorator.findall(path.read_text(encoding="utf-8"))
        ]
        found += [
            (entry.name, Source(entry.value, entry.dist.version if entry.dist else "1"))
            for entry in entry_points(group=self.group)
        ]
        sources: dict[str, Source] = {}
        for name, source in found:
            if name in sources:
                raise RetableError(
                    f"{self.kind} {name!r} is registered by both {sources[name].place} and "
                    f"{source.place}; rename one"
                )
            sources[name] = source
        return sources
