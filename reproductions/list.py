"""``python -m reproductions.list [PAPER]``: what is pinned, as rows or as cells."""

from collections.abc import Iterable
from typing import Annotated

import typer

from reproductions.paper import Cell, Paper
from reproductions.spec import load_paper, paper_keys
from retable.cli import DONE, Format, execute, show

ROW_COLUMNS = (
    *("paper", "row", "kind", "headline", "method", "options", "part", "rerank"),
    *("datasets", "tables", "reference"),
)
UNSTATED_COLUMNS = ("paper", "where", "key", "chosen", "alternatives", "reason")
CELL_COLUMNS = (
    *("paper", "table", "row", "group", "dataset", "setting", "metric"),
    *("published", "std", "runs", "kind", "method", "scale"),
)


def row_records(paper: Paper) -> list[dict[str, object]]:
    """The paper's own rows, then the rows that it quotes, by ``ROW_COLUMNS``."""
    own = [
        {
            "paper": paper.key,
            "row": row.label,
            "kind": "proposed",
            "headline": row.headline,
            "method": row.method,
            "options": row.options,
            "part": row.part,
            "rerank": row.rerank,
            "datasets": row.datasets,
            "tables": row.tables,
        }
        for row in paper.rows.values()
    ]
    quoted = [
        {
            "paper": paper.key,
            "row": label,
            "kind": "cited",
            "headline": False,
            "datasets": _distinct(cell.dataset for cell in paper.select(row=label)),
            "tables": _distinct(cell.table for cell in paper.select(row=label)),
            "reference": cited.reference,
        }
        for label, cited in paper.cited.items()
    ]
    return [*own, *quoted]


def unstated_records(paper: Paper) -> list[dict[str, object]]:
    """Choices of the recipe and of the paper's methods, by ``UNSTATED_COLUMNS``; imports the methods."""
    from methods import METHODS

    recipe: list[dict[str, object]] = [
        {"paper": paper.key, "where": f"--set recipe.{choice.key}"} | choice.model_dump()
        for choice in paper.unstated
    ]
    options: list[dict[str, object]] = [
        {
            "paper": paper.key,
            "where": f"--set, method {name}",
            "key": choice.option,
            "chosen": METHODS.get(name).Options.model_fields[choice.option].default,
            "alternatives": choice.alternatives,
            "reason": choice.reason,
        }
        for name in dict.fromkeys(row.method for row in paper.rows.values())
        for choice in METHODS.get(name).UNSTATED
    ]
    return recipe + options


def cell_record(cell: Cell) -> dict[str, object]:
    """One printed number by ``CELL_COLUMNS``; ``published`` and ``std`` as printed."""
    return cell.model_dump(include=set(CELL_COLUMNS)) | {"published": cell.printed}


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def main(
    paper: Annotated[str | None, typer.Argument(help="key of one paper; default: all")] = None,
    cells: Annotated[bool, typer.Option("--cells", help="every printed number instead of every row")] = False,
    unstated: Annotated[
        bool, typer.Option("--unstated", help="what the paper leaves open, what was chosen, and why")
    ] = False,
    form: Annotated[Format, typer.Option("--format", help="how to print")] = "table",
) -> int:
    """List every pinned row, printed number (--cells) or open choice (--unstated) of one paper or of all."""
    papers = [load_paper(key) for key in ([paper] if paper else paper_keys())]
    if unstated:
        show([record for one in papers for record in unstated_records(one)], UNSTATED_COLUMNS, form)
    elif cells:
        show([cell_record(cell) for one in papers for cell in one.cells], CELL_COLUMNS, form)
    else:
        show([record for one in papers for record in row_records(one)], ROW_COLUMNS, form)
    return DONE


if __name__ == "__main__":
    execute(main)
