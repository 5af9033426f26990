"""``python -m reproductions.errata [PAPER]``: contradictions inside a paper, recomputed from its cells.

A formula is arithmetic (``+ - * / **`` and parentheses) over numbers and cells. A cell stands in
braces, by its id without the paper's key: ``{table2-MGN-market1501-mAP}``. A pattern with ``*``
stands for all cells that it fits, deviations only if it ends in ``-std``. Functions of cells:

=====================  ==========================================================================
``max(A)``, ``min(A)``  largest and smallest value
``count(A)``           how many cells
``above(A, B)``        on how many (data set, metric) A's value is above B's
``at_least(A, B)``     on how many it is above or equal
``on_grid(A)``         how many are means of scores that were rounded to the table's resolution
``population(A)``      how many printed deviations are possible with divisor n
``sample(A)``          how many are possible with divisor n - 1
=====================  ==========================================================================
"""

import ast
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal, DecimalException
from fnmatch import fnmatchcase
from typing import Annotated

import typer

from reproductions.checks import is_mean, is_spread
from reproductions.paper import Arithmetic, Cell, Erratum, Paper, Spread
from reproductions.spec import load_paper, paper_keys
from reproductions.transcript import decimals, near
from retable.cli import DONE, FAILED, execute
from retable.errors import SpecError

Cells = tuple[Cell, ...]
REFERENCE = re.compile(r"\{([^{}]+)\}")
OPERATORS: dict[type[ast.AST], Callable[..., Decimal]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
}


@dataclass(frozen=True, slots=True)
class Recomputed:
    """A formula's value beside what the erratum states (``gives``) and what the sentence says (``says``)."""

    formula: str
    value: Decimal
    gives: str
    says: str

    @property
    def agrees(self) -> bool:
        """Whether the value rounds to what the erratum states."""
        return rounds_to(self.value, self.gives)

    @property
    def contradicts(self) -> bool:
        """Whether the sentence says something else."""
        return bool(self.says) and not rounds_to(self.value, self.says)


def rounds_to(value: Decimal, printed: str) -> bool:
    """Whether ``value`` can be printed as ``printed``; a half may have been rounded either way."""
    return abs(value - Decimal(printed)) * 2 <= Decimal(1).scaleb(-decimals(printed))


def recompute(paper: Paper, check: Arithmetic) -> Recomputed:
    """Evaluate one formula over the paper's cells.

    Raises ``SpecError`` naming the formula: no such cell, no such function, or no arithmetic.
    """
    try:
        value = _evaluate(paper, check.formula)
    except (ValueError, SyntaxError, DecimalException) as error:
        raise SpecError(f"papers/{paper.key}/paper.toml: formula {check.formula!r}: {error}") from None
    return Recomputed(check.formula, value, check.gives, check.says)


def faults(erratum: Erratum, results: Iterable[Recomputed]) -> list[str]:
    """What is wrong with an erratum, given its recomputed formulas; nothing for a sound one."""
    results = list(results)
    found = [f"{r.formula} is {r.value:f}, not {r.gives}" for r in results if not r.agrees]
    if erratum.mark == "right":
        found += [f"the text says {r.says}, not {r.gives}" for r in results if r.contradicts]
    stated = [result for result in results if result.says]
    if erratum.mark in ("wrong", "rounded") and stated and not any(r.contradicts for r in stated):
        found.append("every number in the text agrees with the cells, so nothing is contradicted")
    return found


def _evaluate(paper: Paper, formula: str) -> Decimal:
    references: dict[str, Cells] = {}

    def name(match: re.Match[str]) -> str:
        key = f"cell{len(references)}"
        references[key] = _cells(paper, match[1])
        return key

    tree = ast.parse(REFERENCE.sub(name, formula), mode="eval")
    return _value(tree.body, references)


def _cells(paper: Paper, pattern: str) -> Cells:
    """The cells that ``pattern`` names. Raises ``ValueError`` with near matches if there are none."""
    full = f"{paper.key}-{pattern}"
    exact = tuple(cell for cell in paper.cells if cell.id == full)
    fitting = tuple(
        cell
        for cell in paper.cells
        if fnmatchcase(cell.id, full) and cell.is_deviation == pattern.endswith("-std")
    )
    if not exact and not fitting:
        raise ValueError(f"no cell {full!r}{near(full, [cell.id for cell in paper.cells])}")
    return exact or fitting


def _value(node: ast.AST, references: dict[str, Cells]) -> Decimal:
    match node:
        case ast.BinOp(left, op, right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](_value(left, references), _value(right, references))
        case ast.UnaryOp(op, operand) if type(op) in OPERATORS:
            return OPERATORS[type(op)](_value(operand, references))
        case ast.Constant(int() | float() as constant):
            return Decimal(str(constant))
        case ast.Name():
            cells = _named(node, references)
            if len(cells) != 1:
                raise ValueError(f"{len(cells)} cells where one number is needed")
            return cells[0].value
        case ast.Call(ast.Name(function), arguments, []) if function in FUNCTIONS:
            return Decimal(FUNCTIONS[function](*(_named(argument, references) for argument in arguments)))
    raise ValueError(f"cannot read {ast.unparse(node)!r}; known functions: {', '.join(FUNCTIONS)}")


def _named(node: ast.AST, references: dict[str, Cells]) -> Cells:
    if not isinstance(node, ast.Name) or node.id not in references:
        raise ValueError(f"{ast.unparse(node)!r} is not a cell in braces")
    return references[node.id]


def _largest(cells: Cells) -> Decimal:
    return max(cell.value for cell in cells)


def _smallest(cells: Cells) -> Decimal:
    return min(cell.value for cell in cells)


def _pairs(a: Cells, b: Cells) -> list[tuple[Decimal, Decimal]]:
    """Values of ``a`` and ``b`` for the same data set and metric."""
    by_place = {(cell.dataset, cell.metric): cell.value for cell in b}
    places = [(cell, (cell.dataset, cell.metric)) for cell in a]
    return [(cell.value, by_place[place]) for cell, place in places if place in by_place]


def _above(a: Cells, b: Cells) -> int:
    return sum(x > y for x, y in _pairs(a, b))


def _at_least(a: Cells, b: Cells) -> int:
    return sum(x >= y for x, y in _pairs(a, b))


def _own(cells: Cells) -> list[Cell]:
    return [cell for cell in cells if cell.std is not None]


def _on_grid(cells: Cells) -> int:
    return sum(is_mean(cell.value, cell.half_step, cell.runs, cell.resolution) for cell in _own(cells))


def _possible(cells: Cells, form: Spread) -> int:
    return sum(is_spread(cell, str(cell.std), form) for cell in _own(cells))


FUNCTIONS: dict[str, Callable[..., Decimal | int]] = {
    "max": _largest,
    "min": _smallest,
    "count": len,
    "above": _above,
    "at_least": _at_least,
    "on_grid": _on_grid,
    "population": lambda cells: _possible(cells, "population"),
    "sample": lambda cells: _possible(cells, "sample"),
}


def _report(paper: Paper, erratum: Erratum) -> list[str]:
    """Print one erratum; what is wrong with it comes back."""
    results = [recompute(paper, check) for check in erratum.check]
    wrong = faults(erratum, results)
    typer.echo(f"{paper.key} {erratum.id}  {erratum.mark}  {erratum.source}")
    typer.echo(f"    printed: {erratum.printed}")
    typer.echo(f"    follows: {erratum.follows}")
    for result in results:
        says = f"; the text says {result.says}" if result.says else ""
        typer.echo(f"      {result.formula} = {result.gives}{says}")
    for fault in wrong:
        typer.echo(f"    FAILED: {fault}")
    return wrong


def main(
    paper: Annotated[str | None, typer.Argument(help="key of one paper; default: all")] = None,
    verified: Annotated[bool, typer.Option("--verified", help="show sentences that check out, too")] = False,
) -> int:
    """Recompute every known contradiction from the printed cells; exit 1 if one does not come out."""
    failed = 0
    for one in [load_paper(key) for key in ([paper] if paper else paper_keys())]:
        for erratum in (*one.errata, *(one.statements if verified else ())):
            failed += bool(_report(one, erratum))
        right = [s for s in one.statements if not faults(s, [recompute(one, check) for check in s.check])]
        failed += 0 if verified else len(one.statements) - len(right)
        typer.echo(
            f"{one.key}: {len(one.errata)} contradictions and doubts; {len(right)} of {len(one.statements)} "
            "other sentences of numbers check out"
        )
    return FAILED if failed else DONE


if __name__ == "__main__":
    execute(main)
