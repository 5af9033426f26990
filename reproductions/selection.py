"""Which jobs a command line asks for."""

import os
from collections.abc import Sequence
from pathlib import Path

from protocols import PROTOCOLS
from reproductions.jobs import STREET, Job, make_job
from reproductions.paper import Paper, RunScale
from retable.errors import DataError, RetableError, UnknownName


def data_root(given: Path | None) -> Path | None:
    """``--data-root``, else ``REID_DATA``, else nothing. Raises ``DataError`` if it is no folder."""
    root = given or (Path(os.environ["REID_DATA"]) if os.environ.get("REID_DATA") else None)
    if root is not None and not root.is_dir():
        raise DataError(f"{root}: no such folder; --data-root (REID_DATA) names the folder of the data sets")
    return root


def datasets_here(paper: Paper, root: Path | None) -> list[str]:
    """The paper's data sets whose release lies below ``root``, of those that have a protocol."""
    return [
        name
        for name in paper_datasets(paper)
        if root and name in PROTOCOLS.names() and (root / PROTOCOLS.get(name)().folder).is_dir()
    ]


def paper_datasets(paper: Paper) -> list[str]:
    """All data sets that the paper's own rows are printed or described for."""
    return list(dict.fromkeys(name for row in paper.rows.values() for name in row.datasets))


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
    weights: str | None,
    precision: str | None,
    street_size: str,
) -> list[Job]:
    """One job for each row and data set.

    Without a scale it is ``paper`` when a data set of the paper is found (or named), else
    ``proxy``, which runs on the embedded street.

    Raises:
        UnknownName: for a row, table or data set that is not the paper's.
        DataError: no data set of the paper is found at scale ``paper``.
    """
    labels = select_rows(paper, table, rows)
    known = [*paper_datasets(paper), STREET]
    for name in datasets:
        if name not in known:
            raise UnknownName(f"data set of {paper.key}", name, known)
    here = datasets_here(paper, root)
    if scale is None:
        scale = "paper" if (here and STREET not in datasets) or set(datasets) - {STREET} else "proxy"
    if scale == "proxy":
        if others := set(datasets) - {STREET}:
            raise RetableError(
                f"--on {', '.join(sorted(others))} with --scale proxy: proxies run on the street alone"
            )
        datasets = [STREET]
    elif STREET in datasets:
        raise RetableError(f"--on {STREET} with --scale paper: the street compares with no published value")
    datasets = datasets or here
    if not datasets:
        raise DataError(
            f"no data set of {paper.key} is here (looked in {root or 'no --data-root, no REID_DATA'}); it "
            f"has {', '.join(paper_datasets(paper))}. Unpack one there, or use --scale proxy"
        )
    return [
        make_job(
            paper,
            label,
            dataset,
            scale,
            root=root,
            weights=weights,
            precision=precision,
            street_size=street_size,
        )
        for label in labels
        for dataset in datasets
        if dataset == STREET or dataset in paper.row(label).datasets
    ]
