"""What a paper is once its folder has been read: rows, cells, claims, errata. See ``reproductions.spec``."""

from collections import ChainMap
from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from reproductions.recipe import Recipe
from reproductions.transcript import half_of_last_digit
from retable.errors import UnknownName

Kind = Literal["proposed", "cited", "statistic"]
Scale = Literal["exact", "paper"]
Spread = Literal["population", "sample"]
ClaimKind = Literal["greater", "step", "monotone", "peak", "flat"]
RunScale = Literal["proxy", "paper"]
Mark = Literal["wrong", "rounded", "unclear", "unsupported", "right"]

PERCENTAGES = frozenset({"mAP", "mAP_trapezoid", "mINP", "rank1", "rank5", "rank10", "rank20"})
PRIMARY = frozenset({"mAP", "rank1"})  # judged; the other ranks are shown
EXTRA = "extra_"  # begins the metric of what a network has beyond the one that it is built on
SIZES = ("parameters", "flops", f"{EXTRA}parameters", f"{EXTRA}flops")  # millions, and 10^9 multiply-adds
NO_DATASET = "-"  # of a size


class Data(BaseModel):
    """Base of everything that is read from a paper's folder: frozen, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Column(Data):
    """What a printed column holds.

    Attributes:
        dataset: key of the data set.
        metric: left out where it changes from row to row.
        setting: how its scores were made, where the columns of a table differ in that.
    """

    dataset: str
    metric: str | None = None
    setting: str = ""


class Network(Data):
    """A network whose size is printed, on the backbone and at the image size of ``recipe.paper``.

    Attributes:
        method: key of the method registry; empty for the backbone alone.
        options: the method's options, or for the backbone those of ``methods.backbones.build_backbone``.
        counts: what its printed FLOPs count beside products, see ``reproductions.flops``.
    """

    method: str = ""
    options: dict[str, Any] = {}
    counts: tuple[Literal["norm", "activation", "addition"], ...] = ("norm", "activation", "addition")


class Table(Data):
    """How a printed table is to be read.

    Attributes:
        source: where it stands, for example ``"Table 2"``.
        files: CSV files in the paper's folder.
        columns: printed header -> data set and metric.
        rows: printed row -> the paper's own row that it is, where the table calls it something else.
        metrics: printed row -> metric, for tables of counts whose rows are the metrics.
        networks: printed row -> the network, for tables of sizes; then each row needs one, every column has
            the data set ``-``, and the metrics are ``SIZES``.
        over: printed row -> the row of the network that its extra sizes are beyond.
        header_lines: lines of the printed header.
        groups: first row of a block -> the block's name.
        setting: ``single-query``, ``multi-query``, ...; ``-`` where there is nothing to query. A column
            may have its own.
        runs: runs behind each mean of the paper's own rows.
        cited_runs: runs behind each cited score.
        resolution: step to which the authors rounded each run before they averaged.
        spread: form of the printed deviations, with divisor n (population) or n - 1 (sample).
        scale: ``exact`` for what needs no data, else ``paper``.
        note: what a reader of the data should know.
    """

    source: str
    files: tuple[str, ...]
    columns: dict[str, Column]
    rows: dict[str, str] = {}
    metrics: dict[str, str] = {}
    networks: dict[str, Network] = {}
    over: dict[str, str] = {}
    header_lines: PositiveInt = 1
    groups: dict[str, str] = {}
    setting: str = "single-query"
    runs: PositiveInt = 1
    cited_runs: PositiveInt = 1
    resolution: Decimal | None = None
    spread: Spread = "sample"
    scale: Scale = "paper"
    note: str = ""

    @model_validator(mode="after")
    def _sizes_are_exact(self) -> "Table":
        if self.networks and self.scale != "exact":
            raise ValueError("sizes of networks need no data, so the scale is exact")
        return self


RecipeChanges = dict[RunScale, dict[str, Any]]
"""For each scale, fields of its recipe with other values."""


class Dataset(Data):
    """A data set that the paper's tables name.

    Attributes:
        queries: how many a single-query run ranks.
        recipe: what its rows change in the recipes.
        beside: other protocols of the same release that every network trained for this one is judged by,
            too. Unless a row is printed for one, its scores are shown and compared with nothing.
        trained_on: the data set, of the same release, whose networks its rows are judged with; empty where
            they are trained on this one.
        starts_from: the data set that the networks of its rows are trained on first, row by row and seed by
            seed; empty where they start from the recipe's weights.
    """

    queries: PositiveInt | None = None
    recipe: RecipeChanges = {}
    beside: tuple[str, ...] = ()
    trained_on: str = ""
    starts_from: str = ""


class OnStreet(Data):
    """The plain street of a paper.

    Attributes:
        protocol: whose rules judge it; it is in the layout of that one's release.
        beside: other protocols of that release that every network is judged by, too.
    """

    protocol: str = "market1501"
    beside: tuple[str, ...] = ()


class RowEntry(Data):
    """How one of the paper's own rows is run.

    Attributes:
        method: key of the method registry.
        options: the method's options, where they differ from its defaults.
        options_on: data set -> options that differ there.
        part: the part of the network's description (``EmbeddingMethod.parts``) whose scores are the row's;
            the whole unless given. Rows of several parts of one network are trained and recorded once.
        rerank: whether the row's scores are after re-ranking by k-reciprocal neighbours. It changes the
            ranking and not the network, which is trained and recorded once for the rows with and without.
        starts_from: labels of other rows, whose networks this one's starts from; they are trained first, on
            the same data set and at the same scale, seed by seed. What becomes of their weights, in this
            order, is the method's to say (``Method.start_from``).
        incomparable: why its runs are not compared with its printed values; empty where they are.
        headline: one of the rows that the paper stands for; they run when none is named.
        datasets: data sets to run it on besides those of its printed cells.
        recipe: what it changes in the recipes, after what its data set changes.
        note: what a reader of the data should know.
    """

    method: str
    options: dict[str, Any] = {}
    options_on: dict[str, dict[str, Any]] = {}
    part: str = ""
    rerank: bool = False
    starts_from: tuple[str, ...] = ()
    incomparable: str = ""
    recipe: RecipeChanges = {}
    headline: bool = False
    datasets: tuple[str, ...] = ()
    note: str = ""


class Row(RowEntry):
    """A row of the paper's own, with its label, the tables that print it and all its data sets."""

    label: str
    tables: tuple[str, ...]


class Cited(Data):
    """A row quoted from another paper; ``auxiliary``: it uses information beyond the images and labels."""

    reference: str
    auxiliary: bool = False


class Cell(Data):
    """One printed number.

    Attributes:
        id: permanent name, for example ``sona-table2-SONA2-Net-market1501-mAP``; ``-std`` ends the
            name of a printed deviation.
        printed: the characters of the page, for example ``"88.67"`` or ``"±0.08"``.
        value: their value, without the sign ±.
        std: the deviation printed with it.
        kind: ``proposed`` for a result of the paper's own, ``cited`` for another paper's, ``statistic`` for
            deviations, counts of a data set and sizes of networks.
        method: key of the method that runs it; empty where there is none.
        row: label of its row; of the paper's own row where the table calls that something else.
        tolerance: distance that counts as reproduced; ``None`` for what is not judged as a score.
        resolution: step to which each run behind the number was rounded.
        spread: form of the deviations in its table.
        bold: printed in bold.
        readings: other values that the errata allow for it, as printed.
        erratum: id of the erratum that explains why our own numbers contradict it; empty where none does.
    """

    id: str
    paper: str
    table: str
    row: str
    group: str
    dataset: str
    setting: str
    metric: str
    printed: str
    value: Decimal
    std: str | None
    runs: int
    kind: Kind
    method: str
    scale: Scale
    tolerance: float | None
    resolution: Decimal
    spread: Spread
    bold: bool
    readings: tuple[str, ...] = ()
    erratum: str = ""

    @property
    def is_deviation(self) -> bool:
        """Whether this is the printed deviation of another cell."""
        return self.id.endswith("-std")

    @property
    def is_primary(self) -> bool:
        """Whether this cell counts in lists of findings: a score of the paper's own in mAP or rank 1."""
        return self.kind == "proposed" and self.metric in PRIMARY

    @property
    def half_step(self) -> Decimal:
        """Half of the last printed digit: the printed value is known to this, plus or minus."""
        return half_of_last_digit(self.printed)


class Target(NamedTuple):
    """What the printed cells say about a claim on one data set, in one metric.

    ``size`` is the printed first row minus the second, ``None`` unless both are printed; ``runs``
    is behind each printed mean and ``resolution`` the step to which each run was rounded.
    """

    dataset: str
    metric: str
    size: Decimal | None
    runs: int
    resolution: Decimal


class ClaimEntry(Data):
    """Something the paper says about its rows; ``reproductions.claims`` has the rule of each kind.

    Attributes:
        id: permanent name inside the paper.
        kind: ``greater`` (the first row scores higher than the second), ``step`` (by as much as printed),
            ``monotone`` (scores rise in the order given), ``peak`` (no row beats the first), ``flat``.
        rows: labels of the paper's own rows.
        datasets: on each of which it is claimed.
        metrics: in each of which it is claimed.
        scales: where it can be tested; a ``step`` is a size, so only at ``paper``.
        source: where the paper says it.
        statement: what it says, in our words.
        tolerance: percentage points that do not count; by default the cells' tolerance.
        on_street: why it is reversed at scale proxy, where that is understood: nobody has to be told of it
            again until it is not.
    """

    id: str
    kind: ClaimKind
    rows: Annotated[tuple[str, ...], Field(min_length=2)]
    datasets: Annotated[tuple[str, ...], Field(min_length=1)]
    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = ("mAP",)
    scales: tuple[RunScale, ...] = ("paper",)
    source: str
    statement: str
    tolerance: Annotated[float, Field(gt=0)] | None = None
    on_street: str = ""

    @model_validator(mode="after")
    def _shape(self) -> "ClaimEntry":
        if self.kind in ("greater", "step") and len(self.rows) != 2:
            raise ValueError(f"{self.kind} compares two rows, found {len(self.rows)}")
        if self.kind == "monotone" and len(self.rows) < 3:
            raise ValueError("monotone needs three rows or more")
        if self.on_street and "proxy" not in self.scales:
            raise ValueError("on_street explains what is tested at scale proxy, which is none of its scales")
        if self.kind == "step" and "proxy" in self.scales:
            raise ValueError("a printed size says nothing about the proxy scale")
        if self.kind in ("peak", "flat") and "proxy" in self.scales and self.tolerance is None:
            raise ValueError(f"{self.kind} at the proxy scale needs a tolerance")
        return self


class Claim(ClaimEntry):
    """A claim, and what the printed cells say about it on each data set and in each metric."""

    targets: tuple[Target, ...]


class Mechanism(Data):
    """A reason that the paper gives for a gain, tested on the street: does the gain rise with its cause?

    Attributes:
        id: permanent name inside the paper.
        rows: labels of two own rows; the first has the part that is said to help.
        dial: dial of the street (``protocols.crosswalk.dials``) that turns the cause.
        levels: its settings, rising.
        metrics: in each of which the gain is looked at.
        statement: what the paper says, in our words.
        source: where it says it.
    """

    id: str
    rows: tuple[str, str]
    dial: str
    levels: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=2)]
    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = ("mAP",)
    statement: str
    source: str

    @model_validator(mode="after")
    def _rises(self) -> "Mechanism":
        if any(b <= a for a, b in pairwise(self.levels)):
            raise ValueError(f"levels must rise strictly, found {self.levels}")
        if self.rows[0] == self.rows[1]:
            raise ValueError(f"a gain is between two rows, found {self.rows[0]!r} twice")
        return self


class Arithmetic(Data):
    """One recomputation.

    Attributes:
        formula: arithmetic over printed cells; ``reproductions.errata`` has the grammar.
        gives: its result, to as many digits as are shown.
        says: what the sentence says instead, or as well; empty where it gives no number.
    """

    formula: str
    gives: str
    says: str = ""


class Erratum(Data):
    """A sentence held against the cells: a contradiction, or (mark ``right``) one that checks out.

    Attributes:
        id: permanent name inside the paper.
        mark: ``wrong``; ``rounded`` where digits were cut off; ``unclear``; ``unsupported`` where no
            table prints what it speaks of; ``right``.
        source: where it stands.
        printed: what it says, in our words.
        follows: what the cells or other sources say.
        check: recomputations from the printed cells.
        readings: cell id -> other values it may have been meant to hold.
        explains: ids of cells that our own numbers contradict for this reason: a gap that is understood, and
            that nobody has to be told of again until it closes.
    """

    id: str
    mark: Mark
    source: str
    printed: str
    follows: str
    check: tuple[Arithmetic, ...] = ()
    readings: dict[str, tuple[str, ...]] = {}
    explains: tuple[str, ...] = ()


class Unstated(Data):
    """A choice that the paper leaves open and the recipe has to make; ``key`` is a field of the recipe."""

    key: str
    chosen: Any
    alternatives: tuple[Any, ...]
    reason: str


class Anomaly(Data):
    """A printed number that fails a check of ``reproductions.checks``, looked into and kept as printed."""

    cell: str
    check: Literal["percentage", "order", "grim", "mean", "spread"]
    reason: str


def changed_recipe(recipe: Recipe, scale: RunScale, *changing: Dataset | RowEntry | None) -> Recipe:
    """``recipe`` with what data set and row change in it, the last one first to be heard.

    Raises ``ValidationError`` (pydantic's) for what is no recipe.
    """
    changes = [one.recipe.get(scale, {}) for one in changing if one]
    if not any(changes):
        return recipe
    return Recipe.model_validate(dict(ChainMap(*reversed(changes), recipe.model_dump())))


class Paper(Data):
    """Everything that a paper's folder says, checked.

    Attributes:
        artefacts: what the authors released: with code or weights a rerun *reproduces*, without it
            *replicates* (ACM terminology, version 1.1).
        recipes: those of the scales, before data sets and rows change anything; see ``recipe``.
        rows: the paper's own rows by label, in printed order.
        street: how its rows are judged on the embedded street.
        mechanisms: what is to be tested by turning the street's dials.
        cells: every printed number, in printed order.
        errata: contradictions; ``statements`` are sentences that check out.
    """

    key: str
    title: str
    authors: str
    venue: str
    year: int
    arxiv: str
    artefacts: str
    datasets: dict[str, Dataset]
    recipes: dict[str, Recipe]
    unstated: tuple[Unstated, ...]
    tables: dict[str, Table]
    rows: dict[str, Row]
    street: OnStreet
    mechanisms: tuple[Mechanism, ...]
    cited: dict[str, Cited]
    cells: tuple[Cell, ...]
    claims: tuple[Claim, ...]
    errata: tuple[Erratum, ...]
    statements: tuple[Erratum, ...]
    anomalies: tuple[Anomaly, ...]

    def row(self, label: str) -> Row:
        """The paper's own row called ``label``. Raises ``UnknownName`` with near matches."""
        if label not in self.rows:
            raise UnknownName(f"row of {self.key}", label, self.rows)
        return self.rows[label]

    def recipe(self, scale: RunScale, row: str, dataset: str) -> Recipe:
        """A scale's recipe as the row is trained on the data set; a street's key changes nothing."""
        return changed_recipe(self.recipes[scale], scale, self.datasets.get(dataset), self.row(row))

    def table(self, name: str) -> Table:
        """The table called ``name``, for example ``"table5"``. Raises ``UnknownName`` with near matches."""
        if name not in self.tables:
            raise UnknownName(f"table of {self.key}", name, self.tables)
        return self.tables[name]

    def select(
        self,
        *,
        table: str | None = None,
        row: str | None = None,
        dataset: str | None = None,
        metric: str | None = None,
        kind: Kind | None = None,
    ) -> list[Cell]:
        """Cells that agree with everything named, in printed order; none is an empty list."""
        wanted = {"table": table, "row": row, "dataset": dataset, "metric": metric, "kind": kind}
        named = [(field, value) for field, value in wanted.items() if value is not None]
        return [cell for cell in self.cells if all(getattr(cell, field) == value for field, value in named)]
