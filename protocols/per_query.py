"""One row for each query: what it scored and where its true matches came."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from protocols.arrays import InputError
from protocols.metrics import Floats, average_precisions, first_ranks
from protocols.ranking import Labels, Ranks
from retable.files import write_atomically

if TYPE_CHECKING:
    from pandas import DataFrame

WRITERS = (".parquet", ".csv")


def per_query_table(query: Labels, ranks: Ranks, listed: Floats, summed: Floats) -> "DataFrame":
    """What each query scored, as a pandas data frame of Q rows.

    Columns: ``query`` (its index), ``pid``, ``camid``, ``AP`` and ``AP_trapezoid`` (percent, NaN
    without a match), ``first_rank`` (NaN without), ``matches`` (how many), ``ranks`` and ``gallery``
    (lists: the 1-based rank of each true match, nearest first, and its position in the gallery).

    Args:
        query: labels of the Q queries.
        ranks: those of their true matches.
        listed: (M,) ranks as CMC sees them.
        summed: (M,) ranks as average precision sees them.
    """
    from pandas import DataFrame

    step, trapezoid = average_precisions(summed, ranks.ends)
    starts = ranks.ends[:-1]
    return DataFrame(
        {
            "query": np.arange(len(query)),
            "pid": query.pids,
            "camid": query.camids,
            "AP": 100 * step,
            "AP_trapezoid": 100 * trapezoid,
            "first_rank": first_ranks(listed, ranks.ends),
            "matches": np.diff(ranks.ends, prepend=0),
            "ranks": [part.tolist() for part in np.split(ranks.rank, starts)],
            "gallery": [part.tolist() for part in np.split(ranks.gallery, starts)],
        }
    )


def check_table_path(path: Path) -> None:
    """Raise ``InputError`` for a file name that says neither Parquet nor CSV."""
    if path.suffix not in WRITERS:
        raise InputError(
            f"{path}: found the suffix {path.suffix!r}, expected {' or '.join(WRITERS)}; rename it"
        )


def write_table(table: "DataFrame", path: Path) -> None:
    """Write ``table`` as Parquet, or as CSV with lists as numbers between spaces, by the name of ``path``."""
    check_table_path(path)
    if path.suffix == ".csv":
        flat = table.assign(**{name: table[name].map(_between_spaces) for name in ("ranks", "gallery")})
        write_atomically(path, lambda file: flat.to_csv(file, index=False, lineterminator="\n"))
        return
    try:
        write_atomically(path, lambda file: table.to_parquet(file, index=False))
    except ImportError as error:
        raise InputError(f"{path}: Parquet needs pyarrow; install it, or give a name in .csv") from error


def _between_spaces(numbers: Any) -> str:
    return " ".join(map(str, numbers))
