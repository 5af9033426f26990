"""Which jobs a command line asks for."""

import os
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from protocols import PROTOCOLS, Protocol
from protocols.base import Part
from protocols.files import lacking, locate_release
from reproductions.jobs import STREET, Changes, Job, has_rules, make_job, on_street, stands_for
from reproductions.paper import Dataset, Paper, RunScale
from retable.errors import DataError, RetableError, UnknownName

RECIPE = "recipe."
EXAMPLES = {"--set": "--set slope=0.01", "--dial": "--dial misalignment=0.3"}


def data_root(given: Path | None) -> Path | None:
    """``--data-root``, else ``REID_DATA``, else nothing. Raises ``DataError`` if it is no folder."""
    root = given or (Path(os.environ["REID_DATA"]) if os.environ.get("REID_DATA") else None)
    if root is not None and not root.is_dir():
        raise DataError(f"{root}: no such folder; --data-root (REID_DATA) names the folder of the data sets")
    return root


def datasets_here(paper: Paper, root: Path | None) -> list[str]:
    """The paper's data sets whose release lies below ``root``, of those that have a protocol.

    One that needs more of its release than others do is not here without that, for example Market-1501 with
    500,000 distractors; a release without what all need is here, and damaged. A data set whose networks
    are trained on another one first needs that, too.
    """

    def is_here(name: str) -> bool:
        if not root or name not in PROTOCOLS.names():
            return False
        protocol = PROTOCOLS.get(name)()
        before = paper.datasets.get(name, Dataset()).starts_from
        if not (root / protocol.folder).is_dir() or (before and not is_here(before)):
            return False
        return all(part in _needed_by_all(protocol) for part in lacking(protocol, root / protocol.folder))

    return list(filter(is_here, paper_datasets(paper)))


def _needed_by_all(protocol: Protocol) -> set[Part]:
    """Parts of a release that all of its protocols need."""
    every = (PROTOCOLS.get(name)() for name in PROTOCOLS.names())
    return set(protocol.needs).intersection(*(one.needs for one in every if one.folder == protocol.folder))


def paper_datasets(paper: Paper) -> list[str]:
    """All data sets that the paper's own rows are printed or described for."""
    return list(dict.fromkeys(name for row in paper.rows.values() for name in row.datasets))


def streets(paper: Paper) -> list[str]:
    """The street's keys: the plain one, and those of the paper's data sets that it has layouts for."""
    others = (f"{STREET}/{name}" for name in paper_datasets(paper))
    return [STREET, *filter(has_rules, others)]


def select_rows(paper: Paper, table: str | None, rows: Sequence[str]) -> list[str]:
    """Labels of the named rows, else of the table's own rows, else of the headline rows.

    Raises ``UnknownName`` for a row or table that is not the paper's.
    """
    if rows:
        chosen = [paper.row(label).label for label in rows]
    elif table:
        chosen = [label for label, row in paper.rows.items() if table in row.tables]
    else:
        chosen = [label for label, row in paper.rows.items() if row.headline]
    if table:
        paper.table(table)
        chosen = [label for label in chosen if table in paper.row(label).tables]
    if not chosen:
        raise RetableError(f"{paper.key}: {table} prints none of the rows asked for; see list {paper.key}")
    return chosen


def select_jobs(
    paper: Paper,
    *,
    table: str | None,
    rows: Sequence[str],
    datasets: Sequence[str],
    scale: RunScale | None,
    root: Path | None,
    changes: Changes,
) -> list[Job]:
    """One job for each row and data set.

    A row runs where scores of it are printed, by the table if one is named; where row and data set are both
    named, on any that the paper has, and is then compared with nothing.

    Raises:
        UnknownName: for a row, table or data set that is not the paper's.
        DataError: a data set that is asked for is not there.
        RetableError: no row has scores printed for a data set.
    """
    labels = select_rows(paper, table, rows)
    known = [*paper_datasets(paper), *streets(paper)]
    for name in datasets:
        if name not in known:
            raise UnknownName(f"data set of {paper.key}", name, known)
    scale = scale or _scale(datasets, root)
    chosen = _on_street(paper, datasets) if scale == "proxy" else _real(paper, datasets, root)
    named = bool(rows and datasets)
    jobs = [
        make_job(paper, label, dataset, scale, root=root, changes=changes)
        for label in labels
        for dataset in chosen
        if named or stands_for(dataset) in (STREET, *_printed(paper, label, table))
    ]
    if not jobs:
        raise RetableError(
            f"{paper.key}: found no score of {', '.join(labels)} printed for {', '.join(chosen)}; "
            "name rows (--row) and data sets (--on) to run them there all the same"
        )
    return jobs


def _printed(paper: Paper, row: str, table: str | None) -> Collection[str]:
    """Data sets on which scores of the row are printed (or described), by the table if one is named."""
    if table is None:
        return paper.row(row).datasets
    return {cell.dataset for cell in paper.select(table=table, row=row)}


def parse_settings(option: str, settings: Sequence[str]) -> dict[str, Any]:
    """``["slope=0.01", 'drop="bfe"']`` by key; a value that is no TOML is a plain string.

    Raises ``RetableError``, naming the command line's ``option``, for a setting without ``=``.
    """
    values = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise RetableError(f"{option} {setting}: expected KEY=VALUE, for example {EXAMPLES[option]}")
        try:
            values[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            values[key] = value
    return values


def split_settings(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of the method, and fields of the recipe: of ``{"slope": 0.2, "recipe.flip": 0}`` one each."""
    fields = {key.removeprefix(RECIPE): value for key, value in settings.items() if key.startswith(RECIPE)}
    return {key: value for key, value in settings.items() if not key.startswith(RECIPE)}, fields


def _scale(datasets: Sequence[str], root: Path | None) -> RunScale:
    """``paper`` if real data were named or a data root was given, else ``proxy``, on the street."""
    if any(map(on_street, datasets)):
        return "proxy"
    return "paper" if datasets or root else "proxy"


def _on_street(paper: Paper, datasets: Sequence[str]) -> list[str]:
    """The streets asked for, else the plain one."""
    if others := [name for name in datasets if not on_street(name)]:
        raise RetableError(
            f"--on {', '.join(sorted(others))} with --scale proxy: proxies run on the street alone, which is "
            f"{', '.join(streets(paper))}"
        )
    return list(datasets) or [STREET]


def _real(paper: Paper, datasets: Sequence[str], root: Path | None) -> list[str]:
    """The data sets asked for, else all that are here, each looked up below the data root."""
    if rendered := [name for name in datasets if on_street(name)]:
        raise RetableError(
            f"--on {rendered[0]} with --scale paper: the street compares with no published value"
        )
    chosen = list(datasets) or datasets_here(paper, root)
    if root is None or not chosen:
        where = f"found {_listing(root)} in {root}" if root else "there is no --data-root and no REID_DATA"
        raise DataError(
            f"no data set of {paper.key} is here: {where}; expected one of "
            f"{', '.join(_folders(paper))}. Unpack one there, or use --scale proxy"
        )
    for name in chosen:
        locate_release(PROTOCOLS.get(name)(), root)
    return chosen


def _folders(paper: Paper) -> list[str]:
    names = (name for name in paper_datasets(paper) if name in PROTOCOLS.names())
    return list(dict.fromkeys(PROTOCOLS.get(name)().folder for name in names))


def _listing(folder: Path) -> str:
    return ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
