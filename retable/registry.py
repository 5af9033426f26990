"""Plug-in registries: names are listed without importing what they stand for.

A plug-in is a module of the registry's package with a decorated object in it::

    @METHODS.register("sona")
    class SONA(Method): ...

or an entry point of another distribution (group ``retable.methods`` or ``retable.protocols``).
"""

import importlib
import re
from collections.abc import Callable
from functools import cached_property
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Generic, TypeVar

from retable.errors import RetableError, UnknownName

T = TypeVar("T")


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
        self._decorator = re.compile(rf'^@{variable}\.register\("([^"]+)"\)', re.MULTILINE)
        self._objects: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
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

    def get(self, name: str) -> T:
        """The object called ``name``; imports the one module that holds it.

        Raises ``UnknownName`` with near matches.
        """
        if name not in self._objects:
            if name not in self._sources:
                raise UnknownName(self.kind, name, self.names())
            module, _, attribute = self._sources[name].partition(":")
            loaded = importlib.import_module(module)
            if attribute:  # an entry point need not use the decorator
                self._objects.setdefault(name, getattr(loaded, attribute))
        return self._objects[name]

    @cached_property
    def _sources(self) -> dict[str, str]:
        """``{name: "module" or "module:attribute"}``, read from source text and package metadata."""
        spec = find_spec(self.package)
        assert spec is not None and spec.submodule_search_locations
        found = [
            (name, f"{self.package}.{path.stem}")
            for folder in spec.submodule_search_locations
            for path in sorted(Path(folder).glob("*.py"))
            for name in self._decorator.findall(path.read_text(encoding="utf-8"))
        ]
        found += [(entry.name, entry.value) for entry in entry_points(group=self.group)]
        sources: dict[str, str] = {}
        for name, source in found:
            if name in sources:
                raise RetableError(
                    f"{self.kind} {name!r} is registered by both {sources[name]} and {source}; rename one"
                )
            sources[name] = source
        return sources
