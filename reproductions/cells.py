"""From printed tables to cells: whose row it is, what the column holds, and whether the numbers can stand."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from reproductions.checks import failures
from reproductions.noise import tolerance, usual_noise
from reproductions.paper import (
    EXTRA,
    NO_DATASET,
    PERCENTAGES,
    SIZES,
    Anomaly,
    Cell,
    Cited,
    Dataset,
    Erratum,
    Kind,
    RowEntry,
    Table,
)
from reproductions.transcript import Entry, decimals, fault, near, number, read_table

FILE = "paper.toml"


def known(names: Iterable[str], choices: Collection[str], where: str, kind: str) -> None:
    """Raise ``SpecError`` for the first of ``names`` that is none of ``choices``."""
    for name in names:
        if name not in choices:
            found = f"{kind} {name!r}{near(name, choices)}"
            raise fault(FILE, where, found=found, expected=f"one of {', '.join(sorted(choices))}")


@dataclass(frozen=True)
class Tables:
    """The sections of one ``paper.toml`` that say how its tables are to be read."""

    folder: Path
    datasets: Mapping[str, Dataset]
    tables: Mapping[str, Table]
    rows: Mapping[str, RowEntry]
    cited: Mapping[str, Cited]

    def cells(self) -> list[Cell]:
        """Every printed number, in printed order. Raises ``SpecError``."""
        cells = [cell for name, table in self.tables.items() for cell in self._table(name, table)]
        ids = [cell.id for cell in cells]
        if len(set(ids)) < len(ids):
            twice = next(id_ for id_ in ids if ids.count(id_) > 1)
            raise fault(FILE, "tables", found=f"two cells {twice!r}", expected="one value for each")
        printed = {cell.row for cell in cells}
        for label in self.cited:  # an own row may be described in words only
            if label not in printed:
                found = f"a row that no table prints{near(label, printed)}"
                raise fault(FILE, f"cited {label!r}", found=found, expected="the label of a printed row")
        return cells

    def _table(self, name: str, table: Table) -> Iterator[Cell]:
        where = f"table {name!r}"
        datasets = (NO_DATASET,) if table.networks else self.datasets
        known((column.dataset for column in table.columns.values()), datasets, where, "data set")
        known((*table.over, *table.over.values()), table.networks, f"{where}, over", "row")
        known(table.rows.values(), self.rows, f"{where}, rows", "row")
        seen: set[str] = set()
        labels: set[str] = set()
        for file in table.files:
            headers, entries = read_table(self.folder / file, table.header_lines)
            known(headers, table.columns, f"{where}, {file}", "column")
            seen |= set(headers)
            group = ""
            for entry in entries:
                group = table.groups.get(entry.row, group)
                labels.add(entry.row)
                yield from self._entry(name, table, group, entry)
        for header in table.columns:
            if header not in seen:
                found = f"no column {header!r}{near(header, seen)}"
                raise fault(FILE, where, found=found, expected=f"it in {' or '.join(table.files)}")
        known(table.groups, labels, f"{where}, groups", "row")
        known(table.rows, labels, f"{where}, rows", "row")
        known(table.networks, labels, f"{where}, networks", "row")

    def _entry(self, name: str, table: Table, group: str, entry: Entry) -> Iterator[Cell]:
        """The cell of one printed field and, if it is printed too, the cell of its deviation."""
        cell = self._cell(name, table, group, entry)
        yield cell
        if entry.spread is not None:
            deviation = {"id": f"{cell.id}-std", "printed": entry.spread, "value": number(entry.spread)}
            without = {"std": None, "kind": "statistic", "method": "", "tolerance": None, "bold": False}
            yield cell.model_copy(update=deviation | without)

    def _cell(self, name: str, table: Table, group: str, entry: Entry) -> Cell:
        kind, metric = self._kind(table, entry), _metric(table, entry)
        _refuse_unknown_size(table, entry, metric)
        column, label = table.columns[entry.column], table.rows.get(entry.row, entry.row)
        dataset, setting = column.dataset, column.setting or table.setting
        own = self.rows[label] if kind == "proposed" else None
        runs = table.cited_runs if kind == "cited" else table.runs
        judged = kind == "proposed" and metric in PERCENTAGES and table.scale == "paper"
        compared = judged and not (own and own.incomparable)
        step = Decimal(1).scaleb(-decimals(entry.printed))
        return Cell(
            id=_id(self.folder.name, name, table, entry, dataset, setting, metric),
            paper=self.folder.name,
            table=name,
            row=label,
            group=group,
            dataset=dataset,
            setting=setting,
            metric=metric,
            printed=entry.printed,
            value=number(entry.printed),
            std=entry.spread,
            runs=runs,
            kind=kind,
            method=own.method if own else "",
            scale=table.scale,
            tolerance=tolerance(usual_noise(dataset, metric), runs) if compared else None,
            resolution=max(table.resolution, step) if judged and table.resolution else step,
            spread=table.spread,
            bold=entry.bold,
        )

    def _kind(self, table: Table, entry: Entry) -> Kind:
        where = (entry.file, f"row {entry.row!r}")
        if table.metrics or table.networks:
            return "statistic"
        if entry.row in table.rows or entry.row in self.rows:
            return "proposed"
        if entry.row not in self.cited:
            labels = [*self.rows, *self.cited]
            found = f"a row that {FILE} has neither under rows nor under cited{near(entry.row, labels)}"
            raise fault(*where, found=found, expected=f"one of {', '.join(labels)}")
        reference = self.cited[entry.row].reference
        if entry.citation is not None and not reference.startswith(f"[{entry.citation}]"):
            expected = f"that of {reference!r} in {FILE}"
            raise fault(*where, found=f"citation [{entry.citation}]", expected=expected)
        return "cited"


def with_errata(cells: Iterable[Cell], errata: Sequence[Erratum]) -> list[Cell]:
    """The cells, each with the values that an erratum allows for it, and the erratum that explains its gap.

    Raises ``SpecError`` for a cell that is unknown, or that two errata have readings of or explain.
    """
    cells = list(cells)
    ids = [cell.id for cell in cells]
    read, explained = (_by_cell(errata, key, ids) for key in ("readings", "explains"))
    readings = {id_: erratum.readings[id_] for id_, erratum in read.items()}
    names = {id_: erratum.id for id_, erratum in explained.items()}
    return [
        cell.model_copy(update={"readings": readings.get(cell.id, ()), "erratum": names.get(cell.id, "")})
        for cell in cells
    ]


def _by_cell(errata: Iterable[Erratum], key: str, ids: Collection[str]) -> dict[str, Erratum]:
    """Which erratum has each cell among its ``readings`` or ``explains``."""
    found: dict[str, Erratum] = {}
    for erratum in errata:
        where = f"erratum {erratum.id!r}, {key}"
        known(getattr(erratum, key), ids, where, "cell")
        for id_ in getattr(erratum, key):
            if id_ in found:
                twice = f"cell {id_!r}, which erratum {found[id_].id!r} has as well"
                raise fault(FILE, where, found=twice, expected="each cell once")
            found[id_] = erratum
    return found


def refuse_two_values(cells: Iterable[Cell]) -> None:
    """The same score printed in two tables is the same number, unless an erratum has it as a reading."""
    first: dict[tuple[str, ...], Cell] = {}
    for cell in cells:
        place = (cell.row, cell.dataset, cell.setting, cell.metric, str(cell.is_deviation))
        other = first.setdefault(place, cell)
        if other.value != cell.value and other.printed not in cell.readings:
            expected = f"{other.printed!r} as in {other.table}, or an erratum with that reading"
            raise fault(*_where(cell), found=repr(cell.printed), expected=expected)


def refuse_impossible(
    cells: Iterable[Cell], datasets: Mapping[str, Dataset], anomalies: Iterable[Anomaly]
) -> None:
    """Every check of ``reproductions.checks`` passes, except for exactly the acknowledged anomalies."""
    accepted = {(anomaly.cell, anomaly.check) for anomaly in anomalies}
    queries = {name: dataset.queries for name, dataset in datasets.items()}
    found = {(failure.cell.id, failure.check): failure for failure in failures(cells, queries)}
    for place, failure in found.items():
        if place not in accepted:
            note = f"check {failure.check!r}; if it is so printed, acknowledge it as an anomaly"
            raise fault(*_where(failure.cell), found=failure.found, expected=f"{failure.expected} ({note})")
    for id_, check in sorted(accepted - found.keys()):
        found_ = f"no such cell that fails {check!r}{near(id_, [cell.id for cell in cells])}"
        raise fault(FILE, f"anomaly {id_!r}", found=found_, expected="one that does")


def _id(paper: str, name: str, table: Table, entry: Entry, dataset: str, setting: str, metric: str) -> str:
    """The row as it is printed; the setting unless it is the usual one, or the data set's name says it."""
    row = "" if table.metrics else entry.row  # such a row is its metric
    if setting in ("single-query", "-") or dataset.endswith(f"/{setting}"):
        setting = ""
    dataset = "" if dataset == NO_DATASET else dataset
    return "-".join(part.replace(" ", "_") for part in (paper, name, row, dataset, setting, metric) if part)


def _refuse_unknown_size(table: Table, entry: Entry, metric: str) -> None:
    """The sizes of networks, and nothing else, are computed from networks."""
    where = (entry.file, f"row {entry.row!r}", f"column {entry.column!r}")
    if table.networks and metric not in SIZES:
        raise fault(*where, found=f"metric {metric!r}{near(metric, SIZES)}", expected=f"one of {SIZES}")
    if metric in SIZES and entry.row not in table.networks:
        found = f"no network for it in {FILE}{near(entry.row, table.networks)}"
        raise fault(*where, found=found, expected=f"one of {', '.join(table.networks) or 'networks'}")
    if metric.startswith(EXTRA) and entry.row not in table.over:
        found = f"nothing in over that {metric!r} is beyond"
        raise fault(*where, found=found, expected=f"one of {', '.join(table.networks)}")
    if metric.startswith(EXTRA):
        own, base = table.networks[entry.row].counts, table.networks[table.over[entry.row]].counts
        if own != base:
            found = f"counts of {own} over a network with {base}"
            raise fault(*where, found=found, expected="the same for both")


def _metric(table: Table, entry: Entry) -> str:
    metric = table.columns[entry.column].metric or table.metrics.get(entry.row)
    if metric is None:
        where = (entry.file, f"row {entry.row!r}", f"column {entry.column!r}")
        found = f"no metric for it{near(entry.row, table.metrics)}"
        raise fault(*where, found=found, expected=f"one of {', '.join(table.metrics)}, or one in the column")
    return metric


def _where(cell: Cell) -> tuple[str, ...]:
    return FILE, f"table {cell.table!r}", f"row {cell.row!r}", f"{cell.dataset} {cell.metric}"
