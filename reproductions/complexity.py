"""``python -m reproductions.complexity PAPER``: printed sizes of networks, and those of the networks built.

``reproductions.flops`` says what counts. torch is imported where a network is built, not to read a paper.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reproductions.paper import EXTRA, SIZES, Cell, Network, Paper
from reproductions.recipe import Recipe
from reproductions.spec import load_paper
from reproductions.verdicts import judge_exact
from retable.cli import DONE, Format, execute, show
from retable.errors import RetableError, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

PRODUCTS = ("convolution", "other_products")
KINDS = (*PRODUCTS, "norm", "activation", "addition")
COLUMNS = ("table", "row", "metric", "printed", "computed", "verdict", *KINDS)
UNITS = {"parameters": 10**6, "flops": 10**9}
"""What printed sizes are given in: M and B."""


@dataclass(frozen=True, slots=True)
class Complexity:
    """Size of a network, or what one has beyond another.

    Attributes:
        parameters: numbers that are learned, without those of classifiers.
        multiply_adds: for one image, by kind (``KINDS``).
    """

    parameters: int
    multiply_adds: Mapping[str, int]

    @property
    def flops(self) -> int:
        """All multiply-adds for one image."""
        return sum(self.multiply_adds.values())

    def __sub__(self, other: "Complexity") -> "Complexity":
        """What this network has beyond another."""
        kinds = {kind: self.multiply_adds[kind] - other.multiply_adds[kind] for kind in KINDS}
        return Complexity(self.parameters - other.parameters, kinds)


def computed(paper: Paper, cell: Cell) -> Decimal:
    """What a cell of a table of networks should hold: millions of parameters, or 10^9 multiply-adds.

    Raises ``SpecError`` for a network that cannot be built.
    """
    metric = cell.metric.removeprefix(EXTRA)
    return Decimal(getattr(complexity_of(paper, cell), metric)) / UNITS[metric]


def complexity_of(paper: Paper, cell: Cell) -> Complexity:
    """Size of the network of a cell's row; beyond what it is built on, where the metric says so.

    Raises ``SpecError`` for a network that cannot be built.
    """
    table = paper.table(cell.table)
    size = _named(paper, cell.table, cell.row)
    return size - _named(paper, cell.table, table.over[cell.row]) if cell.metric.startswith(EXTRA) else size


def _named(paper: Paper, table: str, row: str) -> Complexity:
    try:
        return complexity(paper.table(table).networks[row], paper.recipes["paper"])
    except RetableError as error:
        place = f"papers/{paper.key}/paper.toml, table {table!r}, networks {row!r}"
        raise SpecError(f"{place}: {error}") from error


_counted: dict[str, Complexity] = {}


def complexity(network: Network, recipe: Recipe) -> Complexity:
    """Size of a network on the recipe's backbone, for images of its size; counted once in a process.

    Multiply-adds of kinds that it does not count are 0.
    """
    key = repr((network, recipe.backbone, recipe.backbone_options, recipe.height, recipe.width))
    if key not in _counted:
        from reproductions.flops import count, shapes_only

        with shapes_only():
            model, describe = build(network, recipe)
            size = count(model, describe, recipe.height, recipe.width)
        counts = {*PRODUCTS, *network.counts}
        counted = {kind: n if kind in counts else 0 for kind, n in size.multiply_adds.items()}
        _counted[key] = Complexity(size.parameters, counted)
    return _counted[key]


def build(network: Network, recipe: Recipe) -> "tuple[nn.Module, Callable[[Tensor], object]]":
    """The network with random weights, and what an image becomes: for a bare backbone, its last map.

    Raises ``RetableError`` for an unknown method or option.
    """
    if not network.method:
        from methods.backbones import build_backbone

        options: dict[str, Any] = {**network.options, **recipe.backbone_options}
        backbone = build_backbone(recipe.backbone, "none", **options)
        return backbone, backbone
    from methods import METHODS

    method: Any = METHODS.get(network.method)
    options = method.parse_options(network.options)
    model = method(options, 1, recipe.backbone, "none", recipe.backbone_options)
    return model, model.describe


def size_row(paper: Paper, cell: Cell) -> dict[str, object]:
    """One printed size by ``COLUMNS``; multiply-adds of each kind in 10^9."""
    size, value = complexity_of(paper, cell), computed(paper, cell)
    row: dict[str, object] = cell.model_dump(include={"table", "row", "metric", "printed"})
    row |= {"computed": f"{value:.6f}", "verdict": judge_exact(value, cell.printed, *cell.readings).word}
    if cell.metric.removeprefix(EXTRA) == "flops":
        counted = {*PRODUCTS, *paper.table(cell.table).networks[cell.row].counts}
        row |= {
            kind: f"{size.multiply_adds[kind] / UNITS['flops']:.6f}" if kind in counted else "not counted"
            for kind in KINDS
        }
    return row


def main(
    paper: Annotated[str, typer.Argument(help="key of one paper")],
    form: Annotated[Format, typer.Option("--format", help="how to print")] = "table",
) -> int:
    """Build the networks whose size a paper prints: each size computed, printed, and by kind of layer."""
    one = load_paper(paper)
    sizes = [cell for cell in one.cells if cell.metric in SIZES]
    if not sizes:
        raise RetableError(
            f"{paper} prints no sizes of networks; expected a paper whose tables name networks"
        )
    show([size_row(one, cell) for cell in sizes], COLUMNS, form)
    return DONE


if __name__ == "__main__":
    execute(main)
