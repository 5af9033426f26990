"""``python -m reproductions.sync [PAPER]``: log records that the tracking store does not hold yet."""

from collections.abc import Iterable
from typing import Annotated

import typer
from rich.console import Console

from reproductions.arguments import Results, TrackingUri
from reproductions.campaign import campaign_name, group_by_row
from reproductions.places import RESULTS
from reproductions.records import SeedRecord, existing, load_records
from reproductions.spec import load_paper
from retable.cli import DONE, execute
from retable.errors import RetableError


def main(
    paper: Annotated[str | None, typer.Argument(help="key of one paper; default: all")] = None,
    tracking_uri: TrackingUri = None,
    results: Results = RESULTS,
) -> int:
    """Log recorded seeds that the MLflow store does not hold, for example after it was unreachable."""
    records = load_records(existing(results), load_paper(paper).key if paper else None)
    logged = log_missing(records, tracking_uri)
    Console().print(f"{logged} of {len(records)} records were missing and are logged now")
    return DONE


def log_missing(records: Iterable[SeedRecord], uri: str | None) -> int:
    """Log what is missing, row by row; returns how many seeds. Raises ``RetableError`` if it cannot."""
    from reproductions.track import Store, default_uri

    uri = uri or default_uri()
    logged = 0
    try:
        store = Store(uri)
        for row in group_by_row(records):
            missing = [record for record in row if not store.has_finished(record)]
            for record in missing:
                store.log_record(record, campaign_name())
            if missing:
                store.summarise(store.parent(row[0], campaign_name()), row)
            logged += len(missing)
    except Exception as error:  # whatever the store or its server raises
        raise RetableError(f"{uri}: {error}; {logged} records were logged, try again later") from error
    return logged


if __name__ == "__main__":
    execute(main)
