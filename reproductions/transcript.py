"""Printed tables as CSV files: one line a printed line, every field as printed.

* Headers may span lines; a field left empty above a filled one belongs to the merged cell on its left.
* In the body an empty field continues the merged cell on its left, and ``-`` is the paper's dash.
* ``**88.83**`` was printed in bold.
* A label that ends in ``MEAN`` or ``DEVIATION`` (Greek letters, as printed) is a line of means or of
  their deviations; ``8.44 ± 0.09`` is both in one field.
* ``≈10^-4`` is an order of magnitude, printed with an exponent.
* ``NAME [39]`` carries the citation that the paper prints.
"""

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path

from retable.errors import SpecError

MEAN = "\N{GREEK SMALL LETTER MU}"
DEVIATION = "\N{GREEK SMALL LETTER SIGMA}"
NUMBER = r"[+-]?\d+(?:,\d{3})*\.?\d*"
MAGNITUDE = r"[+-]?≈10\^-?\d+"
FIELD = re.compile(rf"(?P<mean>{MAGNITUDE}|{NUMBER})(?:\s*(?P<spread>±\s*{NUMBER}))?|(?P<alone>±\s*{NUMBER})")
LABEL = re.compile(rf"(?P<name>.+?)(?:\s+\[(?P<citation>\d+)\])?(?:\s+(?P<part>[{MEAN}{DEVIATION}]))?")
DASH = "-"


@dataclass(frozen=True, slots=True)
class Entry:
    """One filled field of a printed table.

    ``row`` is the label without citation, mean or deviation; ``column`` is the header, its lines
    joined by a space; ``spread`` is the deviation as printed, for example ``"±0.08"``.
    """

    file: str
    row: str
    citation: int | None
    column: str
    printed: str
    bold: bool
    spread: str | None


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the body: its label taken apart, and its fields by column."""

    name: str
    citation: int | None
    part: str
    fields: dict[str, str]

    @property
    def label(self) -> str:
        """The label without its citation."""
        return f"{self.name} {self.part}".strip()


def near(name: str, known: Iterable[str]) -> str:
    """``", did you mean 'x'?"`` with up to three names like ``name``, or nothing."""
    matches = get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f", did you mean {' or '.join(map(repr, matches))}?" if matches else ""


def fault(file: str, *where: str, found: str, expected: str) -> SpecError:
    """An error that says where in the data files something is wrong; ``where`` goes from large to small."""
    return SpecError(f"{', '.join((file, *where))}: found {found}, expected {expected}")


def magnitude(printed: str) -> int | None:
    """The exponent of a printed order of magnitude, -4 for ``"+≈10^-4"``; None for other numbers."""
    return int(printed.partition("^")[2]) if re.fullmatch(MAGNITUDE, printed) else None


def number(printed: str) -> Decimal:
    """The value of a printed number: ``"±0.08"`` is 0.08, ``"66."`` is 66, ``"7,368"`` is 7368.

    An order of magnitude is that power of ten.
    """
    if (exponent := magnitude(printed)) is not None:
        return Decimal(-1 if printed.startswith("-") else 1).scaleb(exponent)
    return Decimal(printed.replace(",", "").replace("±", "").strip())


def decimals(printed: str) -> int:
    """Printed digits after the point: 2 for ``"88.67"``, 0 for ``"34"``; 4 for ``"≈10^-4"``, as in 0.0001."""
    if (exponent := magnitude(printed)) is not None:
        return max(0, -exponent)
    return len(printed.partition(".")[2])


def half_of_last_digit(printed: str) -> Decimal:
    """How far the true value may lie from the printed one: 0.005 for ``"88.67"``, 0.5 for ``"34"``."""
    return Decimal(5).scaleb(-decimals(printed) - 1)


def read_table(path: Path, header_lines: int = 1) -> tuple[list[str], list[Entry]]:
    """Column names and filled fields of one file, in printed order.

    Raises ``SpecError`` for a file that is missing, a line of another length, a label that occurs
    twice, a deviation without its mean, and a field that is no number.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file))
    except OSError as error:
        raise fault(path.name, found=f"no readable file ({error.strerror})", expected="a CSV table") from None
    columns = _columns(path.name, lines[:header_lines])
    body = [_line(path.name, columns, fields) for fields in lines[header_lines:]]
    return columns, [entry for line in _paired(path.name, body) for entry in line]


def _columns(file: str, header: list[list[str]]) -> list[str]:
    """Names of the value columns: header lines joined, merged cells spread to the right."""
    above: list[str] = [""] * len(header[0]) if header else []
    for line in header:
        if len(line) != len(above):
            raise fault(
                file, "header", found=f"lines of {len(above)} and {len(line)} fields", expected="equal"
            )
        filled = list(line)
        for i in range(1, len(line)):
            if not line[i] and line is header[0] and len(header) > 1 and header[1][i]:
                filled[i] = filled[i - 1]
        above = [f"{a} {b}".strip() for a, b in zip(above, filled, strict=True)]
    columns = above[1:]
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None or "" in columns:
        raise fault(file, "header", found=f"column {twice or ''!r} twice or empty", expected="distinct names")
    return columns


def _line(file: str, columns: list[str], fields: list[str]) -> Line:
    if len(fields) != len(columns) + 1:
        where = f"row {fields[0]!r}" if fields else "an empty line"
        raise fault(file, where, found=f"{len(fields)} fields", expected=f"{len(columns) + 1}")
    match = LABEL.fullmatch(fields[0].strip())
    if match is None:
        raise fault(
            file, "a row without a label", found=repr(fields[0]), expected="a label such as 'MGN [39]'"
        )
    citation = int(match["citation"]) if match["citation"] else None
    values: dict[str, str] = {}
    left = ""
    for column, field in zip(columns, fields[1:], strict=True):
        left = field.strip() or left
        values[column] = left
    return Line(match["name"], citation, match["part"] or "", values)


def _paired(file: str, body: list[Line]) -> Iterable[list[Entry]]:
    """Each mean or plain line, its deviations beside its values."""
    by_part: dict[tuple[str, str], Line] = {}
    for line in body:
        if (line.name, line.part) in by_part:
            raise fault(file, f"row {line.label!r}", found="it twice", expected="it once")
        by_part[line.name, line.part] = line
    for line in body:
        if line.part != DEVIATION:
            spreads = by_part.get((line.name, DEVIATION)) if line.part == MEAN else None
            yield list(_entries(file, line, spreads))
        elif (line.name, MEAN) not in by_part:
            expected = f"'{line.name} {MEAN}' too"
            raise fault(file, f"row {line.label!r}", found="no line of its means", expected=expected)


def _entries(file: str, line: Line, spreads: Line | None) -> Iterable[Entry]:
    for column, field in line.fields.items():
        where = (f"row {line.name!r}", f"column {column!r}")
        spread = spreads.fields[column] if spreads else DASH
        if (field == DASH) and spread == DASH:
            continue
        bold = field.startswith("**") and field.endswith("**")
        value = _parse(file, where, field.strip("*"), "mean")
        own = value["spread"] or (_parse(file, where, spread, "alone")["alone"] if spreads else None)
        printed = value["mean"]
        yield Entry(
            file, line.name, line.citation, column, printed, bold, own.replace(" ", "") if own else None
        )


def _parse(file: str, where: tuple[str, ...], field: str, group: str) -> re.Match[str]:
    match = FIELD.fullmatch(field)
    if match is None or match[group] is None:
        expected = "a deviation such as ±0.08" if group == "alone" else "a number such as 88.67, or -"
        raise fault(file, *where, found=repr(field), expected=expected)
    return match
