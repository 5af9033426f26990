"""One row for each query: what it scored and where its true matches came."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from protocols.arrays import InputError
from protocols.metrics import Floats, average_precisions, first_ranks
from protocols.naming import Naming
from protocols.ranking import Labels, Ranks
from retable.files import write_atomically

if TYPE_CHECKING:
    from pandas import DataFrame

WRITERS = (".parquet", ".csv")


def per_query_table(
    query: Labels,
    ranks: Ranks,
    listed: Floats,
    summed: Floats,
    naming: tuple[Naming, Naming],
    rank1: Floats | None,
) -> "DataFrame":
    """What each query scored, as a pandas data frame of Q rows.

    Columns: ``query`` (its index), ``name`` and ``tracklet`` (where there are such), ``pid``, ``camid``,
    ``AP`` and ``AP_trapezoid`` (percent, NaN without a match), ``rank1_expected`` (percent, for
    single-shot protocols: the chance of rank 1 over all galleries), ``first_rank`` (in the whole gallery;
    NaN without a match), ``matches`` (how many), ``ranks`` and ``gallery`` (lists: the 1-based rank of each
    true match, nearest first, and its tracklet, else its name, else its position in the gallery).

    Args:
        query: labels of the Q queries.
        ranks: those of their true matches.
        listed: (M,) ranks as CMC sees them.
        summed: (M,) ranks as average precision sees them.
        naming: what queries and gallery images are called.
        rank1: (Q,) percent, each query's expected rank-1; None without a single-shot gallery.
    """
    from pandas import DataFrame

    step, trapezoid = average_precisions(summed, ranks.ends)
    starts = ranks.ends[:-1]
    return DataFrame(
        {
            "query": np.arange(len(query)),
            **naming[0].columns(),
            "pid": query.pids,
            "camid": query.camids,
            "AP": 100 * step,
            "AP_trapezoid": 100 * trapezoid,
            **({} if rank1 is None else {"rank1_expected": rank1}),
            "first_rank": first_ranks(listed, ranks.ends),
            "matches": np.diff(ranks.ends, prepend=0),
            "ranks": [part.tolist() for part in np.split(ranks.rank, starts)],
            "gallery": [part.tolist() for part in np.split(naming[1].of(ranks.gallery), starts)],
        }
    )


def check_table_path(path: Path) -> None:
    """Raise ``InputError`` for a file name that says neither Parquet nor CSV, or for want of pyarrow."""
    if path.suffix not in WRITERS:
        raise InputError(
            f"{path}: found the suffix {path.suffix!r}, expected {' or '.join(WRITERS)}; rename it"
        )
    if path.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise InputError(f"{path}: Parquet needs pyarrow; install it, or give a name in .csv")


def write_table(table: "DataFrame", path: Path) -> None:
    """Write ``table`` as Parquet, or as CSV with what lists hold between spaces, by the name of ``path``."""
    check_table_path(path)
    if path.suffix == ".csv":
        lists = {name: table[name].map(_between_spaces) for name in ("ranks", "gallery")}
        whole = table["first_rank"].map("{:.0f}".format, na_action="ignore")  # a float for want of a NaN
        flat = table.assign(**lists, first_rank=whole)
        write_atomically(path, lambda file: flat.to_csv(file, index=False, lineterminator="\n"))
    else:
        write_atomically(path, lambda file: table.to_parquet(file, index=False))


def _between_spaces(values: Any) -> str:
    return " ".join(map(str, values))
