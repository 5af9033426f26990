"""Several descriptions of one person before one camera become one: tracklets and multi-queries.

Each row is scaled to length 1, the rows of a group are averaged or the largest value of each column
is taken, and the result is scaled to length 1 again (``baseline_evaluation.m`` of the Market-1501
package, ``test_mars.m`` of liangzheng06/MARS-evaluation). A mean need not be divided for that.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.arrays import InputError, check_lengths, integers, is_torch
from protocols.base import Pooling
from protocols.features import check_matrix, chunks, squared_lengths, unit_rows
from protocols.ranking import Ints, Labels

ZERO_FRAME = "check that it was filled; pooling scales every row to length 1, whatever the distance"


@dataclass(frozen=True, slots=True)
class Groups:
    """Which rows are pooled into one.

    Attributes:
        of: (N,) int64; the group 0..n-1 of each row, -1 where it is in none.
        labels: identity and camera of the n groups.
    """

    of: Ints
    labels: Labels


def tracklets(side: str, ids: object, labels: Labels) -> Groups:
    """Group the rows of ``{side}_features`` by the id of their tracklet, in order of first appearance.

    Args:
        side: ``"query"`` or ``"gallery"``, for messages.
        ids: (N,) whole numbers; those of one tracklet need not stand together.
        labels: identity and camera of each of the N rows.

    Raises:
        InputError: another length, no whole numbers, or rows of one tracklet that disagree.
    """
    name = f"{side}_tracklets"
    numbers = integers(name, ids)
    check_lengths({f"{side}_pids": len(labels), name: len(numbers)})
    _, first, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    by_appearance = np.argsort(first)
    place = np.empty_like(by_appearance)
    place[by_appearance] = np.arange(len(first))
    opens, of = first[by_appearance], place[inverse]
    for what, values in (("pid", labels.pids), ("camid", labels.camids)):
        if len(rows := np.flatnonzero(values != values[opens][of])):
            row, other = rows[0], opens[of[rows[0]]]
            raise InputError(
                f"{name}: tracklet {numbers[row]} has {what} {values[other]} in row {other} and "
                f"{values[row]} in row {row}; expected one person before one camera, so give every "
                "tracklet an id of its own"
            )
    return Groups(of, Labels(labels.pids[opens], labels.camids[opens]))


def multi_queries(boxes: Labels, query: Labels) -> tuple[Groups, Ints]:
    """Group the rows of ``multiquery_features`` by person and camera; other rows are in no group.

    Returns:
        The groups, and (Q,) int64, the group of each query.

    Raises:
        InputError: a query without a row.
    """
    keys = np.stack((query.pids, query.camids), axis=1)
    known, first, group = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    numbers = {tuple(key): number for number, key in enumerate(known.tolist())}
    pairs = zip(boxes.pids.tolist(), boxes.camids.tolist(), strict=True)
    of = np.array([numbers.get(pair, -1) for pair in pairs], np.int64)
    empty = (np.bincount(of[of >= 0], minlength=len(known)) == 0)[group]
    if empty.any():
        row = int(np.argmax(empty))
        raise InputError(
            f"multiquery_pids: {empty.sum()} of {len(query)} queries have no box, the first is query {row} "
            f"(pid {query.pids[row]}, camid {query.camids[row]}); expected at least one each, so check "
            "that none was lost while names were read"
        )
    return Groups(of, Labels(query.pids[first], query.camids[first])), group


def pool(name: str, features: object, groups: Groups, how: Pooling) -> Any:
    """(n, d) float32, one row of length 1 for each group, where ``features`` lies.

    Raises:
        InputError: ``features`` is no matrix of floats with a row for each label, a row in a group is
            not finite or 0, or rows of a group cancel each other.
    """
    rows = check_matrix(name, features)
    check_lengths({"its labels": len(groups.of), name: len(rows)})
    pooled = _Pooled(rows, len(groups.labels), how)
    for start, stop, chunk in chunks(rows):
        of = groups.of[start:stop]
        used = np.flatnonzero(of >= 0)
        if len(used):
            pooled.add(name, chunk, start, used[np.argsort(of[used], kind="stable")], of)
    return pooled.unit_rows(name, groups.labels)


class _Pooled:
    """Sums or maxima of groups that grow chunk by chunk."""

    def __init__(self, like: Any, groups: int, how: Pooling) -> None:
        rows: Any = np.full((groups, like.shape[1]), 0 if how == "mean" else -np.inf, np.float32)
        if is_torch(like):
            import torch

            rows = torch.from_numpy(rows).to(like.device)
        self._rows, self._how = rows, how

    def add(self, name: str, chunk: Any, first_row: int, order: NDArray[np.intp], of: Ints) -> None:
        """Add rows ``order`` of ``chunk``, which stand group by group; ``of`` is every row's group."""
        squares = squared_lengths(name, chunk, first_row, ZERO_FRAME)
        group, opens = np.unique(of[order], return_index=True)
        unit = unit_rows(chunk[order], squares[order])
        if is_torch(chunk):
            self._add_torch(unit, group, opens)
        elif self._how == "mean":
            self._rows[group] += np.add.reduceat(unit, opens)
        else:
            self._rows[group] = np.maximum(self._rows[group], np.maximum.reduceat(unit, opens))

    def _add_torch(self, unit: Any, group: Ints, opens: NDArray[np.intp]) -> None:
        import torch

        lengths = torch.from_numpy(np.diff(opens, append=len(unit))).to(unit.device)
        where = torch.from_numpy(group).to(unit.device)
        if self._how == "mean":
            self._rows[where] += torch.segment_reduce(unit, "sum", lengths=lengths)
        else:
            most = torch.segment_reduce(unit, "max", lengths=lengths)
            self._rows[where] = torch.maximum(self._rows[where], most)

    def unit_rows(self, name: str, labels: Labels) -> Any:
        """The groups' rows at length 1."""
        squares = (self._rows**2).sum(1)
        lengths = squares.tolist()
        if 0 in lengths:
            group = lengths.index(0)
            raise InputError(
                f"{name}: rows of pid {labels.pids[group]} and camid {labels.camids[group]} cancel each "
                "other and leave no direction; check the network's output for them"
            )
        return self._rows / squares[:, None] ** 0.5
