"""``python -m protocols.evaluate FEATURES --protocol NAME``: judge features, or distances, by a protocol.

This is the command; the function of the same name is ``from protocols import evaluate``.
"""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from retable.cli import DONE, execute

if TYPE_CHECKING:
    from protocols.base import Protocol
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
            "query_tracklets and gallery_tracklets; for --per-query also query_names and gallery_names; "
            "several are the splits of one protocol, named 0, 1, ... in order"
        ),
    ],
    protocol: Annotated[str, typer.Option(help="whose rules, for example market1501")],
    multi_query: Annotated[
        bool,
        typer.Option(
            "--multi-query",
            help="ask with the arrays multiquery_features, _pids, _camids: the protocol NAME/multi-query",
        ),
    ] = False,
    pooling: Annotated[
        Pooling | None, typer.Option(help="how frames or boxes become one; default: by the protocol")
    ] = None,
    rerank: Annotated[bool, typer.Option("--rerank", help="re-rank by k-reciprocal neighbours")] = False,
    ap: Annotated[Shown, typer.Option(help="which average precision to print")] = "both",
    metric: Annotated[Metric | None, typer.Option(help="distance of features; default: cosine")] = None,
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
    seed: Annotated[int | None, typer.Option(help="of those draws; default: 0")] = None,
    split: Annotated[
        str | None, typer.Option(help="name of a lone split, 0, 1, ..., for the draws it has in a list")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="write all numbers here")] = None,
    per_query: Annotated[
        Path | None, typer.Option(help="write a row for each query here, .parquet or .csv")
    ] = None,
) -> int:
    """Judge features of your own by a protocol's rules: CMC, mAP (both definitions) and mINP, in percent."""
    from protocols.multi_query import find_protocol

    judge = find_protocol(protocol, multi_query=multi_query)  # refused before anything large is read
    _check_inputs(features, distances, split)
    _check_outputs(json_file, per_query)
    options = {
        "metric": metric,
        "pooling": pooling,
        "rerank": rerank,
        "deviations": deviation or (),
        "repeats": repeats,
        "seed": seed,
    }
    names = [split or ""] if len(features) == 1 else list(map(str, range(len(features))))
    results = [
        _evaluate(judge, path, distances, options | {"split": name}, multi_query, alone=len(features) == 1)
        for path, name in zip(features, names, strict=True)
    ]
    outcome = _outcome(features, results)
    typer.echo(outcome.table(ap))
    _write(outcome, results, json_file, per_query)
    return DONE


def _check_inputs(features: list[Path], distances: Path | None, split: str | None) -> None:
    from protocols.arrays import InputError

    if len(features) == 1:
        return
    if distances:
        raise InputError(f"--distances {distances}: one matrix, but {len(features)} splits; give one split")
    if split is not None:
        raise InputError(f"--split {split}: {len(features)} files are the splits 0, 1, ... by their order")
    seen: set[Path] = set()
    for path in features:
        if path.resolve() in seen:
            raise InputError(f"{path}: given twice, which would count as two splits; give each file once")
        seen.add(path.resolve())


def _check_outputs(json_file: Path | None, per_query: Path | None) -> None:
    """Refuse what would fail after a long evaluation."""
    from protocols.arrays import InputError
    from protocols.per_query import check_table_path

    for option, path in (("--json", json_file), ("--per-query", per_query)):
        if path and path.is_dir():
            raise InputError(f"{option} {path}: a folder, expected the name of a file to write")
        if path and not path.parent.is_dir():
            raise InputError(f"{option} {path}: no folder {path.parent}; make it, or give another path")
    if per_query:
        check_table_path(per_query)


def _evaluate(
    protocol: "Protocol",
    path: Path,
    distances: Path | None,
    options: dict[str, Any],
    multi_query: bool,
    *,
    alone: bool,
) -> "Result":
    """The result of one file, which errors name where it is not alone."""
    from protocols.arrays import InputError
    from protocols.evaluation import evaluate

    try:
        return evaluate(protocol, **_arrays(protocol, path, distances, multi_query), **options)
    except InputError as error:
        if alone or str(error).startswith(str(path)):
            raise
        raise InputError(f"{path}: {error}") from error


def _arrays(protocol: "Protocol", path: Path, distances: Path | None, multi_query: bool) -> dict[str, Any]:
    """What a file holds, without what the protocol or the option does not ask for."""
    from protocols.arrays import InputError
    from protocols.given_arrays import DISTANCES, FEATURES, read_array, read_arrays
    from protocols.multi_query import ARRAYS, asks_multiple

    arrays: dict[str, Any] = dict(read_arrays(path))
    if distances:
        others = {name: array for name, array in arrays.items() if name not in (*FEATURES, *ARRAYS)}
        return others | {DISTANCES: read_array(distances)}
    if multi_query and (missing := [name for name in ARRAYS if name not in arrays]):
        raise InputError(f"{path}: --multi-query needs the arrays {', '.join(ARRAYS)}; missing {missing[0]}")
    unused = () if asks_multiple(protocol) else ARRAYS
    return {name: array for name, array in arrays.items() if name not in unused}


def _outcome(features: list[Path], results: list["Result"]) -> "Result | Summary":
    from protocols import summarise
    from protocols.arrays import InputError

    if len(results) == 1:
        return results[0]
    try:
        return summarise(results)
    except InputError as error:
        files = ", ".join(f"{number} is {path}" for number, path in enumerate(features))
        raise InputError(f"{error} ({files})") from error


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


class _CallableModule(ModuleType):
    """Importing a module binds it to its name in the package, here the function's name.

    So after ``import protocols.evaluate`` the name ``evaluate`` of the package is this module, and
    calling that must evaluate all the same.
    """

    def __call__(self, *arguments: Any, **options: Any) -> "Result":
        from protocols.evaluation import evaluate

        return evaluate(*arguments, **options)


if __name__ == "__main__":
    execute(main)
else:
    sys.modules[__name__].__class__ = _CallableModule
