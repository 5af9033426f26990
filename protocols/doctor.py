"""Is a copy of a data set whole? ``python -m protocols.doctor [NAME...] --data-root DIR``."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from protocols.base import PROTOCOLS, Protocol, Record, Split
from protocols.files import STREET_MANIFEST, differences, locate
from retable.cli import DONE, FAILED, Format, execute, show
from retable.errors import Absent, DataError, Unprepared, some
from retable.progress import progress_bar

State = Literal["whole", "street", "damaged", "unprepared", "absent"]
COLUMNS = ("protocol", "state", "splits", "images", "folder", "problems")
BATCH = 4096
"""Images that wait to be opened at a time: the largest data set has more than a million."""

SHOWN = 20
"""Problems that are printed below a table; all are in the other formats."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one protocol's data set.

    Attributes:
        protocol: the protocol's name.
        state: ``"whole"``; ``"street"``, a whole rendered one in its place; ``"damaged"``;
            ``"unprepared"``, see ``protocols.prepare``; ``"absent"``, it or a file that it needs besides.
        folder: where it lies or is expected.
        problems: what is missing, extra or corrupt, a line each; why it is absent.
        splits: what was read; none if it could not be.
    """

    protocol: str
    state: State
    folder: Path
    problems: tuple[str, ...] = ()
    splits: tuple[Split, ...] = ()

    def records(self) -> set[Record]:
        """Those of all splits, each once."""
        return {record for split in self.splits for record in split.records()}


def examine(protocol: Protocol, data_root: Path) -> Finding:
    """Names and counts of the copy below ``data_root``; images are not opened (see ``unreadable``)."""
    folder = data_root / protocol.folder
    try:
        splits = protocol.load(locate(protocol, data_root))
        problems = tuple(differences(protocol, folder, splits))
    except Absent as error:
        return Finding(protocol.name, "absent", folder, (str(error),))
    except Unprepared as error:
        return Finding(protocol.name, "unprepared", folder, (str(error),))
    except (DataError, OSError) as error:
        return Finding(protocol.name, "damaged", folder, (str(error),))
    whole: State = "street" if (folder / STREET_MANIFEST).exists() else "whole"
    return Finding(protocol.name, "damaged" if problems else whole, folder, problems, splits)


def unreadable(
    images: Iterable[Path], progress: Callable[[int], object] = lambda _: None
) -> Iterator[tuple[Path, str]]:
    """Those of the files that do not decode to the end, and why; ``progress`` counts decoded files."""
    waiting = iter(images)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            while batch := list(islice(waiting, BATCH)):
                for image, fault in pool.map(_fault, batch):
                    progress(1)
                    if fault:
                        yield image, fault
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _fault(path: Path) -> tuple[Path, str]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
    except Exception as error:  # of damaged bytes Pillow raises almost anything
        return path, f"{type(error).__name__}: {error}"
    return path, ""


def main(
    data_root: Annotated[
        Path, typer.Option(envvar="REID_DATA", help="Folder of data sets, each named as it unpacks.")
    ],
    names: Annotated[list[str] | None, typer.Argument(help="Protocols; default: all that are there.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Compare names and counts; open no image.")] = False,
    form: Annotated[Format, typer.Option("--format", help="How to print.")] = "table",
) -> int:
    """Compare copies of data sets with their releases: what is missing, extra or corrupt.

    Exits with 1 if a copy is damaged, or one that was asked for is absent or not prepared.
    """
    console = Console(stderr=True, highlight=False)
    findings = [examine(PROTOCOLS.get(name)(), data_root) for name in names or PROTOCOLS.names()]
    if not names:
        findings = [finding for finding in findings if finding.state != "absent"]
    if not findings:
        raise DataError(
            f"{data_root}: holds no data set that a protocol knows; expected a folder such as "
            f"{PROTOCOLS.get('market1501')().folder}, see --data-root"
        )
    corrupt = {} if quick else _open_all(findings, console)
    rows = [_row(finding, corrupt) for finding in findings]
    _print(rows, form)
    failures = ("damaged", "unprepared", "absent") if names else ("damaged",)
    return FAILED if any(row["state"] in failures for row in rows) else DONE


def _open_all(findings: list[Finding], console: Console) -> dict[Path, str]:
    """Each file once, however many protocols share it; their paths are made as they are opened."""
    records = sorted(set().union(*(finding.records() for finding in findings)))
    images = (image for record in records for image in record.images())
    with progress_bar(console, "opening images", _images(records)) as bar:
        return dict(unreadable(images, bar.advance))


def _images(records: Iterable[Record]) -> int:
    return sum(len(record.frames) or 1 for record in records)


def _row(finding: Finding, corrupt: dict[Path, str]) -> dict[str, Any]:
    records = finding.records()
    bad = [f"corrupt: {path} ({corrupt[path]})" for path in _those_of(records, corrupt)]
    return {
        "protocol": finding.protocol,
        "state": "damaged" if bad else finding.state,
        "splits": len(finding.splits),
        "images": _images(records),
        "folder": str(finding.folder),
        "problems": [*finding.problems, *bad],
    }


def _those_of(records: Iterable[Record], corrupt: dict[Path, str]) -> list[Path]:
    if not corrupt:
        return []
    return sorted(image for record in records for image in record.images() if image in corrupt)


def _print(rows: list[dict[str, Any]], form: Format) -> None:
    if form != "table":
        show(rows, COLUMNS, form)
        return
    show(rows, COLUMNS[:-1], form)
    protocols: dict[str, list[str]] = {}  # that have a problem; those of one folder share most
    for row in rows:
        for problem in row["problems"]:
            protocols.setdefault(problem, []).append(row["protocol"])
    for problem, names in list(protocols.items())[:SHOWN]:
        typer.echo(f"{some(names, 3)}: {problem}")
    if len(protocols) > SHOWN:
        typer.echo(f"and {len(protocols) - SHOWN:,} more; --format json shows all")


if __name__ == "__main__":
    execute(main)
