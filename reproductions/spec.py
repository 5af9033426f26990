"""Read a paper's folder, ``papers/KEY/``: ``paper.toml`` and the tables as printed, all of it checked.

Everything that contradicts the schema or itself is a ``SpecError`` that names file, table, row and
key. Loading imports nothing heavier than pydantic.
"""

import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from reproductions.cells import FILE, Tables, known, refuse_impossible, refuse_two_values, with_errata
from reproductions.paper import (
    PERCENTAGES,
    Anomaly,
    Cell,
    Cited,
    Claim,
    ClaimEntry,
    Dataset,
    Erratum,
    Mechanism,
    OnStreet,
    Paper,
    Row,
    RowEntry,
    RunScale,
    Table,
    Target,
    Unstated,
    changed_recipe,
)
from reproductions.places import papers
from reproductions.recipe import Recipe
from reproductions.transcript import fault, near
from retable.errors import SpecError, UnknownName

UNSTATED_DATASET = "unstated"  # of a number whose data set the paper does not name

PLAIN = ("key", "title", "authors", "venue", "year", "arxiv", "artefacts")
SECTIONS = (
    *("datasets", "street", "tables", "rows", "cited", "recipe"),
    *("unstated", "claim", "mechanism", "erratum", "statement", "anomaly"),
)

M = TypeVar("M", bound=BaseModel)
Toml = dict[str, Any]


def paper_keys(folder: Path | None = None) -> list[str]:
    """Keys of all papers in ``folder`` (``places.papers()``), sorted: the folders with a ``paper.toml``."""
    return sorted(path.parent.name for path in (folder or papers()).glob(f"*/{FILE}"))


def load_paper(key: str, folder: Path | None = None) -> Paper:
    """The paper called ``key`` in ``folder`` (``places.papers()``), read once.

    Raises ``UnknownName`` with near matches, and ``SpecError`` for anything wrong in its files.
    """
    return _load_paper(key, folder or papers())


@cache
def _load_paper(key: str, folder: Path) -> Paper:
    if key not in paper_keys(folder):
        raise UnknownName("paper", key, paper_keys(folder))
    try:
        return _read_paper(folder / key)
    except SpecError as error:
        raise SpecError(f"papers/{key}/{error}") from None


def _read_paper(folder: Path) -> Paper:
    toml = _read_toml(folder / FILE)
    known(toml, (*PLAIN, *SECTIONS), "top level", "key")
    datasets = _blocks(toml, "datasets", Dataset)
    entries, tables = _blocks(toml, "rows", RowEntry), _blocks(toml, "tables", Table)
    cited, anomalies = _blocks(toml, "cited", Cited), _list(toml, "anomaly", Anomaly)
    errata = _list(toml, "erratum", Erratum)
    cells = with_errata(Tables(folder, datasets, tables, entries, cited).cells(), errata)
    refuse_two_values(cells)
    refuse_impossible(cells, datasets, anomalies)
    _check_networks(datasets)
    _check_starts(entries)
    recipes = _recipes(toml)
    _check_changes(recipes, datasets, entries)
    content = {
        **{name: toml[name] for name in PLAIN if name in toml},
        "datasets": datasets,
        "recipes": recipes,
        "unstated": _unstated(toml),
        "tables": tables,
        "rows": {label: _row(label, entry, cells, datasets) for label, entry in entries.items()},
        "street": _validated(OnStreet, toml.get("street", {}), "street"),
        "mechanisms": tuple(_mechanism(one, entries) for one in _list(toml, "mechanism", Mechanism)),
        "cited": cited,
        "cells": tuple(cells),
        "claims": tuple(
            _claim(entry, cells, entries, datasets) for entry in _list(toml, "claim", ClaimEntry)
        ),
        "errata": errata,
        "statements": _list(toml, "statement", Erratum),
        "anomalies": anomalies,
    }
    paper = _validated(Paper, content, "top level")
    if paper.key != folder.name:
        raise fault(FILE, "key", found=repr(paper.key), expected=f"the folder's name, {folder.name!r}")
    return paper


def _recipes(toml: Toml) -> dict[RunScale, Recipe]:
    """``paper`` as it stands, and ``proxy`` with whatever it does not change from ``paper``."""
    sections: dict[RunScale, Toml] = toml.get("recipe", {})
    if set(sections) != {"paper", "proxy"}:
        raise fault(FILE, "recipe", found=f"{sorted(sections)}", expected="recipe.paper and recipe.proxy")
    return {
        name: _validated(Recipe, sections["paper"] | section, f"recipe.{name}")
        for name, section in sections.items()
    }


def _check_networks(datasets: Mapping[str, Dataset]) -> None:
    """Raise ``SpecError`` unless what a data set's networks come from trains networks of its own."""
    for name, dataset in datasets.items():
        where = f"datasets {name!r}"
        for key in ("trained_on", "starts_from"):
            other = getattr(dataset, key)
            known(filter(None, [other]), datasets, f"{where}, {key}", "data set")
            if other and (other == name or datasets[other].trained_on):
                expected = "another data set, which networks are trained on"
                raise fault(FILE, where, key, found=repr(other), expected=expected)
        for key in ("recipe", "beside", "starts_from"):
            if dataset.trained_on and getattr(dataset, key):
                expected = f"it with {dataset.trained_on!r}, which the networks are trained on"
                raise fault(FILE, where, found=f"{key} and trained_on", expected=expected)


def _check_starts(rows: Mapping[str, RowEntry]) -> None:
    """Raise ``SpecError`` unless each row starts from other rows, and never by way of them from itself."""
    for label, row in rows.items():
        known(row.starts_from, rows, f"rows {label!r}, starts_from", "row")
    for label in rows:
        before = list(rows[label].starts_from)
        for one in before:  # grows as rows are found, each once
            before += [other for other in rows[one].starts_from if other not in before]
        if label in before:
            expected = "rows that do not start from it"
            raise fault(FILE, f"rows {label!r}", "starts_from", found=f"the row {label!r}", expected=expected)


def _check_changes(
    recipes: Mapping[RunScale, Recipe], datasets: Mapping[str, Dataset], rows: Mapping[str, RowEntry]
) -> None:
    """Raise ``SpecError`` unless rows, data sets and both together make a recipe of each scale's."""
    some_datasets = {"": None} | {f"datasets {name!r}": one for name, one in datasets.items() if one.recipe}
    some_rows = {"": None} | {f"rows {name!r}": one for name, one in rows.items() if one.recipe}
    for scale, recipe in recipes.items():
        for (on, dataset), (label, row) in product(some_datasets.items(), some_rows.items()):
            where = ", ".join(filter(None, (on, label, f"recipe.{scale}")))
            _made(Recipe, partial(changed_recipe, recipe, scale, dataset, row), where)


def _mechanism(mechanism: Mechanism, rows: Mapping[str, RowEntry]) -> Mechanism:
    where = f"mechanism {mechanism.id!r}"
    known(mechanism.rows, rows, where, "row")
    known(mechanism.metrics, PERCENTAGES, where, "metric")
    return mechanism


def _unstated(toml: Toml) -> tuple[Unstated, ...]:
    choices = _list(toml, "unstated", Unstated)
    known((choice.key for choice in choices), Recipe.model_fields, "unstated", "key")
    return choices


def _row(label: str, entry: RowEntry, cells: Sequence[Cell], known_datasets: Mapping[str, Dataset]) -> Row:
    known((*entry.datasets, *entry.options_on), known_datasets, f"row {label!r}", "data set")
    for name in entry.options_on:
        if other := known_datasets[name].trained_on:
            expected = f"{other!r}, which its network is trained on"
            raise fault(FILE, f"row {label!r}", "options_on", found=repr(name), expected=expected)
    own = [cell for cell in cells if cell.row == label and cell.kind == "proposed"]
    datasets = dict.fromkeys((*(cell.dataset for cell in own), *entry.datasets))
    return Row(
        **entry.model_dump(exclude={"datasets"}),
        label=label,
        tables=tuple(dict.fromkeys(cell.table for cell in own)),
        datasets=tuple(name for name in datasets if name != UNSTATED_DATASET),
    )


def _claim(
    entry: ClaimEntry, cells: Sequence[Cell], rows: Mapping[str, RowEntry], datasets: Mapping[str, Dataset]
) -> Claim:
    where = f"claim {entry.id!r}"
    known(entry.rows, rows, where, "row")
    known(entry.datasets, datasets, where, "data set")
    known(entry.metrics, PERCENTAGES, where, "metric")
    if entry.kind == "step" and (others := [row for row in entry.rows if rows[row].incomparable]):
        found = f"row {others[0]!r}, whose runs are not compared with printed values"
        raise fault(FILE, where, found=found, expected="rows whose printed difference can be compared")
    return Claim(**entry.model_dump(), targets=tuple(_targets(entry, cells)))


def _targets(entry: ClaimEntry, cells: Sequence[Cell]) -> Iterator[Target]:
    """What is printed about a claim's rows, for each data set and metric."""
    for dataset in entry.datasets:
        for metric in entry.metrics:
            printed = {
                cell.row: cell
                for cell in cells
                if cell.kind == "proposed" and (cell.dataset, cell.metric) == (dataset, metric)
            }
            own = [printed[row] for row in entry.rows if row in printed]
            both = all(row in printed for row in entry.rows[:2])
            if entry.kind == "step" and not both:
                found = f"a row without a printed {metric} on {dataset}"
                raise fault(FILE, f"claim {entry.id!r}", found=found, expected="two printed cells for a step")
            yield Target(
                dataset,
                metric,
                own[0].value - own[1].value if both else None,
                min((cell.runs for cell in own), default=1),
                max((cell.resolution for cell in own), default=Decimal(0)),
            )


def _read_toml(path: Path) -> Toml:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SpecError(f"{path.name}: no readable TOML: {error}") from None


def _blocks(toml: Toml, section: str, model: type[M]) -> dict[str, M]:
    """``[section.NAME]`` blocks by name."""
    blocks: Toml = toml.get(section, {})
    return {name: _validated(model, block, f"{section} {name!r}") for name, block in blocks.items()}


def _list(toml: Toml, section: str, model: type[M]) -> tuple[M, ...]:
    """``[[section]]`` blocks in order, their ids distinct."""
    blocks: list[Toml] = toml.get(section, [])
    names = [block.get("id", f"number {i}") for i, block in enumerate(blocks, start=1)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise fault(FILE, section, found=f"id {twice!r} twice", expected="distinct ids")
    return tuple(
        _validated(model, block, f"{section} {name!r}") for name, block in zip(names, blocks, strict=True)
    )


def _validated(model: type[M], content: Mapping[str, Any], where: str) -> M:
    """``content`` as a ``model``; the first thing wrong with it as a ``SpecError``."""
    return _made(model, lambda: model.model_validate(content), where)


def _made(model: type[M], make: Callable[[], M], where: str) -> M:
    """What ``make`` validates as a ``model``; the first thing wrong with it as a ``SpecError``."""
    try:
        return make()
    except ValidationError as error:
        errors = error.errors(include_url=False)
    # A misspelt key is an unknown one and leaves another missing; the first is the better message.
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    path = first["loc"]
    place = (where, *map(str, path))
    if first["type"] == "extra_forbidden":
        key, fields = str(path[-1]), _fields_at(model, path[:-1])
        found = f"key {key!r}{near(key, fields)}"
        raise fault(FILE, *place[:-1], found=found, expected=f"one of {', '.join(fields)}")
    if first["type"] == "missing":
        raise fault(FILE, *place[:-1], found=f"no key {str(path[-1])!r}", expected="one")
    found = repr(first["input"]) if path else "values that do not fit together"
    raise fault(FILE, *place, found=found, expected=first["msg"])


def _fields_at(model: type[BaseModel], path: Iterable[int | str]) -> list[str]:
    """Field names of the model that validates what lies at ``path`` below ``model``."""
    for step in path:
        field = model.model_fields.get(str(step))
        if field is not None:
            inner = (field.annotation, *get_args(field.annotation))
            model = next((m for m in inner if isinstance(m, type) and issubclass(m, BaseModel)), model)
    return list(model.model_fields)
