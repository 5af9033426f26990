"""``python -m protocols.evaluate FEATURES --protocol NAME``: judge features, or distances, by a protocol.

This is the command alone; the function of the same name is ``from protocols import evaluate``.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from protocols import PROTOCOLS
from retable.cli import DONE, execute

if TYPE_CHECKING:
    from protocols.results import Result, Summary

Shown = Literal["both", "step", "trapezoid"]
Metric = Literal["cosine", "euclidean"]
Pooling = Literal["mean", "max"]


def main(
    features: Annotated[
        list[Path],
        typer.Argument(
            help="an .npz file, or a folder of .npy files (read in pieces), with the arrays query_features, "
            "query_pids, query_camids, gallery_features, gallery_pids, gallery_camids; for frames also "
            "query_tracklets and gallery_tracklets; several are the splits of one protocol, in order"
        ),
    ],
    protocol: Annotated[str, typer.Option(help="whose rules, for example market1501")],
    multi_query: Annotated[
        bool, typer.Option("--multi-query", help="ask with the arrays multiquery_features, _pids, _camids")
    ] = False,
    pooling: Annotated[
        Pooling | None, typer.Option(help="how frames or boxes become one; default: by the protocol")
    ] = None,
    rerank: Annotated[bool, typer.Option("--rerank", help="re-rank by k-reciprocal neighbours")] = False,
    ap: Annotated[Shown, typer.Option(help="which average precision to print")] = "both",
    metric: Annotated[Metric, typer.Option(help="distance of features")] = "cosine",
    distances: Annotated[
        Path | None, typer.Option(help="a (queries, gallery) .npy matrix in place of features")
    ] = None,
    deviation: Annotated[
        list[str] | None,
        typer.Option(
            help="follow another evaluator's habit, may be repeated: ap-top-50, truncate-4000, "
            "drop-matchless, zero-matchless"
        ),
    ] = None,
    repeats: Annotated[int | None, typer.Option(help="draws of single-shot galleries")] = None,
    seed: Annotated[int, typer.Option(help="of those draws")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="write all numbers here")] = None,
    per_query: Annotated[
        Path | None, typer.Option(help="write a row for each query here, .parquet or .csv")
    ] = None,
) -> int:
    """Judge features of your own by a protocol's rules: CMC, mAP (both definitions) and mINP, in percent."""
    PROTOCOLS.get(protocol)  # an unknown name is refused before anything large is read
    _check(features, distances, per_query)
    options = {
        "metric": metric,
        "pooling": pooling,
        "rerank": rerank,
        "deviations": deviation or (),
        "repeats": repeats,
        "seed": seed,
    }
    results = [
        _evaluate(
            protocol, path, multi_query, distances, options | {"split": str(number) if features[1:] else ""}
        )
        for number, path in enumerate(features)
    ]
    outcome = _outcome(results)
    typer.echo(outcome.table(ap))
    _write(outcome, results, json_file, per_query)
    return DONE


def _check(features: list[Path], distances: Path | None, per_query: Path | None) -> None:
    """Refuse what would fail after a long evaluation."""
    from protocols.arrays import InputError
    from protocols.per_query import check_table_path

    if distances and len(features) > 1:
        raise InputError(f"--distances {distances}: one matrix, but {len(features)} splits; give one split")
    if per_query:
        check_table_path(per_query)


def _evaluate(
    protocol: str, path: Path, multi_query: bool, distances: Path | None, options: dict[str, Any]
) -> "Result":
    """The result of one split."""
    from protocols import evaluate
    from protocols.arrays import InputError
    from protocols.given_arrays import DISTANCES, FEATURES, MULTIQUERY, read_array, read_arrays

    arrays: dict[str, Any] = dict(read_arrays(path))
    if multi_query and (missing := [name for name in MULTIQUERY if name not in arrays]):
        raise InputError(
            f"{path}: --multi-query needs the arrays {', '.join(MULTIQUERY)}; missing {missing[0]}"
        )
    if distances:
        arrays[DISTANCES] = read_array(distances)
    unused = {*(() if multi_query else MULTIQUERY), *(FEATURES if distances else ())}
    return evaluate(protocol, **{name: arrays[name] for name in arrays if name not in unused}, **options)


def _outcome(results: list["Result"]) -> "Result | Summary":
    from protocols import summarise

    return summarise(results) if len(results) > 1 else results[0]


def _write(
    outcome: "Result | Summary", results: list["Result"], json_file: Path | None, per_query: Path | None
) -> None:
    from protocols.per_query import write_table
    from retable.files import write_atomically

    if json_file:
        content = json.dumps(outcome.to_dict(), indent=1).encode()
        write_atomically(json_file, lambda file: file.write(content))
    if per_query:
        from pandas import concat

        tables = [result.per_query().assign(split=result.split) for result in results]
        write_table(
            concat(tables, ignore_index=True) if len(tables) > 1 else results[0].per_query(), per_query
        )


if __name__ == "__main__":
    execute(main)
