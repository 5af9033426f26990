"""A paper as its tests look at it: what a printed table holds, how each row is run, what a claim says."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import TypeAlias

from reproductions.jobs import STREET, Job, make_job
from reproductions.paper import PERCENTAGES, Claim, Paper, RunScale

Jobs: TypeAlias = dict[tuple[RunScale, str, str], Job]
"""By scale, row and data set."""


def sizes(paper: Paper, table: str) -> tuple[int, int, int, int]:
    """Rows of a table, and its cells of kind cited, proposed and statistic."""
    cells = paper.select(table=table)
    kinds = Counter(cell.kind for cell in cells)
    return len({cell.row for cell in cells}), kinds["cited"], kinds["proposed"], kinds["statistic"]


def column_sums(paper: Paper, table: str) -> list[Decimal]:
    """The sum of each column's cells, in printed order of columns."""
    sums: dict[tuple[str, str | None], Decimal] = defaultdict(Decimal)
    for cell in paper.select(table=table):
        sums[cell.dataset, cell.metric] += cell.value
    return [sums[column.dataset, column.metric] for column in paper.table(table).columns.values()]


def values(paper: Paper, row: str, *tables: str) -> dict[tuple[str, str], Decimal]:
    """Scores of a row by data set and metric, those of ``tables`` only if any are named."""
    cells = [cell for cell in paper.select(row=row) if cell.metric in PERCENTAGES]
    return {(c.dataset, c.metric): c.value for c in cells if not tables or c.table in tables}


def every_job(paper: Paper) -> Jobs:
    """Each trained row's job on the street, and on every data set that it is printed for or described on."""
    trained = {label: row for label, row in paper.rows.items() if row.datasets}
    on_street: Jobs = {("proxy", label, STREET): make_job(paper, label, STREET, "proxy") for label in trained}
    return on_street | {
        ("paper", label, name): make_job(paper, label, name, "paper")
        for label, row in trained.items()
        for name in row.datasets
    }


def agrees(claim: Claim, scores: Sequence[Decimal]) -> bool:
    """Whether scores of a claim's rows, in its order, are as it says; a step as any greater score."""
    match claim.kind:
        case "monotone":
            return all(a < b for a, b in pairwise(scores))
        case "flat":
            return claim.tolerance is not None and float(max(scores) - min(scores)) < claim.tolerance
        case "peak":
            return all(scores[0] >= other for other in scores[1:])
        case "greater" | "step":
            return all(scores[0] > other for other in scores[1:])
