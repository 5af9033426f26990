"""What every command shares: exit codes, errors without a traceback, rows as table, CSV, JSON or Markdown.

Exit codes: 0 done, 1 a verdict or a check failed, 2 the request cannot be met, 130 interrupted.
"""

import csv
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Literal, TextIO

import typer

from retable.errors import RetableError

DONE, FAILED, REFUSED = 0, 1, 2  # typer itself answers an interrupt with 130

Format = Literal["table", "csv", "json", "markdown"]
Rows = Sequence[Mapping[str, object]]


def application(command: Callable[..., int]) -> typer.Typer:
    """``command`` as a program that exits with the code that it returns.

    A ``RetableError`` or ``OSError`` is printed without a traceback and exits with 2, like a wrong argument.
    """

    @wraps(command)
    def exiting(*args: object, **options: object) -> None:
        try:
            code = command(*args, **options)
        except RetableError as error:
            typer.echo(f"error: {error}", err=True)
            code = REFUSED
        except OSError as error:  # a folder that cannot be written, a full disk
            typer.echo(f"error: {error.filename or 'file'}: {error.strerror or error}", err=True)
            code = REFUSED
        raise typer.Exit(code)

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(exiting)
    return app


def execute(command: Callable[..., int]) -> None:
    """Run ``command`` on the program's arguments."""
    application(command)()


def show(rows: Rows, columns: Sequence[str], form: Format, file: TextIO | None = None) -> None:
    """Print ``rows``, of each the given columns; what is ``None`` or missing stays empty (JSON: null)."""
    file = file or sys.stdout
    if form == "json":
        print(json.dumps([{name: row.get(name) for name in columns} for row in rows], indent=1), file=file)
    elif form == "csv":
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([text(row.get(name)) for name in columns] for row in rows)
    elif form == "markdown":
        from tabulate import tabulate

        body = [[text(row.get(name)).replace("|", "\\|") for name in columns] for row in rows]
        print(tabulate(body, columns, tablefmt="github", disable_numparse=True), file=file)
    else:
        _show_table(rows, columns, file)


def text(value: object) -> str:
    """A value as one field: nothing for ``None`` and no, ``yes``, lists by commas, settings by spaces."""
    match value:
        case None | False:
            return ""
        case True:
            return "yes"
        case list() | tuple():
            return ",".join(map(str, value))
        case dict():
            return " ".join(f"{key}={text(v) or '-'}" for key, v in value.items())
        case _:
            return str(value)


def _show_table(rows: Rows, columns: Sequence[str], file: TextIO) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(escape(text(row.get(name))) for name in columns))
    Console(file=file, width=None if file.isatty() else 200).print(table)
