"""What a layout is: one data set's files, as a value."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from protocols.crosswalk.dials import Dials
from protocols.crosswalk.shots import Shot
from retable.errors import UnknownName


class Named(Protocol):
    """A dataclass of numbers of images and identities; it refuses what cannot be planned."""

    @property
    def name(self) -> str:
        """Appears in paths and in ``crosswalk.json``."""


S = TypeVar("S", bound=Named)


@dataclass(frozen=True)
class Layout(Generic[S]):
    """How one data set lies on disk: its names, its numbers, its file formats and its extra files.

    Attributes:
        name: key on the command line, for example ``"viper"``.
        root: the release's folder as it unpacks, below the data root.
        sizes: sizes by name, ``"tiny"``, ``"default"`` and the release's own.
        plan: (size, seed, dials) -> all image files, sorted by folder and name. Pure, renders nothing.
        encode: (image (128, 64, 3) uint8, JPEG quality of its camera 1..95, its shot) -> bytes of the
            file, in the data set's own format and image size. Pure and importable by name, because
            other processes call it.
        complete: (release folder, shots) -> writes what lies beside the images (lists, MATLAB files,
            licence texts); may remove images that it has packed into another file.
        counts: (size, shots) -> for each protocol of the data set, by its key, those of ``train``,
            ``query``, ``gallery``, ``train_pids`` and ``query_pids`` that hold for its every split.
        aliases: other names of sizes; all layouts answer to ``"release"``.
    """

    name: str
    root: str
    sizes: Mapping[str, S]
    plan: Callable[[S, int, Dials], tuple[Shot, ...]]
    encode: Callable[[NDArray[np.uint8], int, Shot], bytes]
    complete: Callable[[Path, Sequence[Shot]], None]
    counts: Callable[[S, Sequence[Shot]], dict[str, dict[str, int]]]
    aliases: Mapping[str, str] = field(default_factory=dict)

    def size_named(self, size: S | str) -> S:
        """``size`` itself, or the one of that name; raises ``UnknownName`` listing the layout's own."""
        if not isinstance(size, str):
            return size
        name = self.aliases.get(size, size)
        if name not in self.sizes:
            raise UnknownName("street size", size, [*self.sizes, *self.aliases])
        return self.sizes[name]
