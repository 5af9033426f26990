"""What a printed table holds, for tests that compare a transcription with counts and sums from the page."""

from collections import Counter, defaultdict
from decimal import Decimal

from reproductions.paper import Paper


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
