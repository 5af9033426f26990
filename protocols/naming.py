"""What images and tracklets are called in tables of single queries."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.arrays import check_lengths, strings
from protocols.pooling import Groups
from protocols.ranking import Ints


@dataclass(frozen=True, slots=True)
class Naming:
    """Names of the N images, or tracklets, of a list.

    Attributes:
        names: (N,) strings; None if there are none.
        tracklets: (N,) ids of tracklets; None where rows are images.
    """

    names: NDArray[np.str_] | None = None
    tracklets: Ints | None = None

    def columns(self) -> dict[str, NDArray[Any]]:
        """What tells a list's own rows apart besides their positions."""
        columns = {"name": self.names, "tracklet": self.tracklets}
        return {name: column for name, column in columns.items() if column is not None}

    def of(self, positions: Ints) -> NDArray[Any]:
        """What stands for images in other images' rows: the tracklet, else the name, else the position."""
        called = self.names if self.tracklets is None else self.tracklets
        return positions if called is None else called[positions]


def given_names(side: str, given: Mapping[str, Any], rows: int) -> Naming:
    """Names of the ``rows`` rows of a list. Raises ``InputError`` unless there are as many, or none."""
    name = f"{side}_names"
    if name not in given:
        return Naming()
    names = strings(name, given[name])
    check_lengths({f"{side}_pids": rows, name: len(names)})
    return Naming(names)


def of_tracklets(naming: Naming, ids: Ints, groups: Groups) -> Naming:
    """Naming of groups of rows; a tracklet's name is its first frame's.

    Args:
        naming: of the N rows.
        ids: (N,) the tracklet of each.
        groups: the same as groups, each with at least one row.
    """
    first = np.unique(groups.of, return_index=True)[1]
    return Naming(None if naming.names is None else naming.names[first], ids[first])
