"""``python -m reproductions.compare [PAPER]``: verdicts from recorded runs, for cells and claims."""

import json
from collections.abc import Collection, Mapping, Sequence
from statistics import fmean, stdev
from typing import Annotated

import typer

from reproductions.arguments import Results
from reproductions.claims import blunt_cells
from reproductions.effects import MechanismVerdict
from reproductions.judgement import CellAnswer, ClaimAnswer, Judgement
from reproductions.places import RESULTS
from reproductions.records import ScoreKey, SeedRecord, existing, judged_by, load_records
from reproductions.spec import load_paper, paper_keys
from reproductions.transcript import number
from reproductions.verdicts import confirmed, summary, surprise, usual_noise
from retable.cli import DONE, FAILED, Format, Rows, execute, show

CELL_COLUMNS = (
    *("table", "row", "dataset", "metric", "published", "std", "measured", "deviation", "seeds"),
    *("gap", "low", "high", "tolerance", "z", "verdict", "note"),
)
RUN_COLUMNS = (
    *("row", "dataset", "scale", "judged_by", "seeds", "mAP", "mAP_trapezoid", "rank1", "rank5", "rank10"),
    *("untrained_rank1", "train_seconds", "device", "commit", "row_hash", "note"),
)
BESIDE_COLUMNS = ("row", "dataset", "scale", "judged_by", "seeds", "mAP", "rank1", "rank5", "rank10")
CLAIM_COLUMNS = ("claim", "scale", "verdict", "statement", "details")
MECHANISM_COLUMNS = ("mechanism", "verdict", "statement", "details")

SECTIONS = {
    "runs": RUN_COLUMNS,
    "beside": BESIDE_COLUMNS,
    "cells": CELL_COLUMNS,
    "claims": CLAIM_COLUMNS,
    "mechanisms": MECHANISM_COLUMNS,
}
BESIDE_NOTE = "the same networks under other protocols and rankings: not compared with printed values"


def main(
    paper: Annotated[str | None, typer.Argument(help="key of one paper; default: all")] = None,
    results: Results = RESULTS,
    form: Annotated[Format, typer.Option("--format", help="how to print")] = "table",
    everything: Annotated[
        bool, typer.Option("--all", help="also cells without seeds, and claims that were not run")
    ] = False,
) -> int:
    """Show what was measured; judge cells, claims and mechanisms by it. Exits with 1 if a cell is below."""
    records = load_records(existing(results))
    papers = [load_paper(key) for key in ([paper] if paper else paper_keys())]
    judgements = [Judgement(one, [r for r in records if r.paper == one.key]) for one in papers]
    shown = {judgement.paper.key: _rows(judgement, everything) for judgement in judgements}
    if form == "json":
        print(json.dumps(shown, indent=1))
    else:
        for judgement in judgements:
            _print(judgement, shown[judgement.paper.key], form)
    return FAILED if any(answer.fails for judgement in judgements for answer in judgement.cells) else DONE


def _rows(judgement: Judgement, everything: bool) -> dict[str, list[dict[str, object]]]:
    cells = [a for a in judgement.cells if a.verdict and (everything or a.verdict.word != "unrun")]
    claims = [a for a in judgement.claims if everything or a.verdict.word != "unrun"]
    return {
        "runs": [row for records in judgement.measured() for row in run_rows(judgement, records)],
        "beside": [row for records in judgement.measured() for row in beside_rows(judgement, records)],
        "cells": [cell_row(judgement, answer) for answer in cells],
        "claims": [claim_row(answer) for answer in claims],
        "mechanisms": [
            mechanism_row(one) for one in judgement.mechanisms if everything or one.word != "unrun"
        ],
    }


def _print(judgement: Judgement, rows: Mapping[str, Rows], form: Format) -> None:
    mark = "## " if form == "markdown" else ""
    typer.echo(f"{mark}{judgement.paper.key}: {judgement.paper.title}\n\n{summary_line(judgement)}\n")
    for kind, columns in SECTIONS.items():
        if rows[kind]:
            note = f": {BESIDE_NOTE}" if kind == "beside" else ""
            typer.echo(f"{mark and '###'} {kind}{note}\n".lstrip())
            show(rows[kind], columns, form)
            typer.echo("")


def summary_line(judgement: Judgement) -> str:
    """For example ``8 within, 178 unrun; claims at proxy: 3 of 8 hold, 1 undecided``."""
    judged = [(answer.verdict.word, answer.explained) for answer in judgement.cells if answer.verdict]
    parts = [summary((word for word, _ in judged), (word for word, explained in judged if explained))]
    for scale in ("paper", "proxy"):
        words = [answer.verdict.word for answer in judgement.claims if answer.scale == scale]
        counts = [f"{words.count('holds')} of {len(words)} hold"]
        counts += [
            f"{words.count(word)} {word}" for word in ("reversed", "undecided", "unrun") if word in words
        ]
        parts.append(f"claims at {scale}: {', '.join(counts)}")
    primary = {a.cell.id: a.verdict for a in judgement.cells if a.verdict and a.cell.is_primary}
    if findings := confirmed(primary):
        parts.append(f"findings at 5 % false discoveries: {', '.join(sorted(findings))}")
    return "; ".join(parts)


def run_rows(judgement: Judgement, records: Sequence[SeedRecord]) -> list[dict[str, object]]:
    """One network's seeds by ``RUN_COLUMNS``, a line for each way in which rows of it are judged."""
    return [_run_row(judgement, label, key, one) for key, (label, one) in _shown(judgement, records).items()]


def _run_row(
    judgement: Judgement, label: str, key: ScoreKey, records: Sequence[SeedRecord]
) -> dict[str, object]:
    """Mean and sample deviation of some of the scores, cost and provenance."""
    one = records[0]
    row: dict[str, object] = one.model_dump(include={"dataset", "scale", "row_hash"})
    row |= {"row": label, "judged_by": judged_by(one.identity, key)}
    row["note"] = "" if judgement.is_present(one) else "changed: not judged"
    row["seeds"] = len(records)
    for name in ("mAP", "mAP_trapezoid", "rank1", "rank5", "rank10"):
        row[name] = mean_and_deviation([record.scores(key)[name] for record in records])
    untrained = filter(None, (record.untrained_scores(key) for record in records))
    row["untrained_rank1"] = mean_and_deviation([metrics["rank1"] for metrics in untrained])
    seconds = [sum(entry["seconds"] for entry in record.history) for record in records]
    row["train_seconds"] = f"{fmean(seconds):.0f}"
    row["device"] = " / ".join(dict.fromkeys(record.provenance.device for record in records))
    commits = dict.fromkeys((record.provenance.commit or "none")[:7] for record in records)
    return row | {"commit": " ".join(commits)}


def beside_rows(
    judgement: Judgement, records: Sequence[SeedRecord], parts: Collection[str] | None = None
) -> list[dict[str, object]]:
    """The same seeds under each other protocol and ranking that no row is judged by, by ``BESIDE_COLUMNS``.

    Of some parts of the description if given.
    """
    shown = _shown(judgement, records)
    rows_have = {key.beside for key in shown}
    return [
        _beside_row(label, name, having)
        for key, (label, having) in shown.items()
        if not key.beside and (parts is None or key.part in parts)
        for name in dict.fromkeys(name for record in having for name in record.scores_beside(key.part))
        if name not in rows_have
    ]


def _beside_row(label: str, name: str, records: Sequence[SeedRecord]) -> dict[str, object]:
    scores = [record.beside[name] for record in records if name in record.beside]
    row: dict[str, object] = records[0].model_dump(include={"dataset", "scale"})
    row |= {"row": label, "judged_by": name, "seeds": len(scores)}
    return row | {
        metric: mean_and_deviation([one[metric] for one in scores])
        for metric in ("mAP", "rank1", "rank5", "rank10")
    }


def _shown(
    judgement: Judgement, records: Sequence[SeedRecord]
) -> dict[ScoreKey, tuple[str, list[SeedRecord]]]:
    """One network's seeds by which scores rows have: label of those rows, and the records that have them."""
    labels = {key: label for one in reversed(records) for key, label in judgement.shown(one).items()}
    return {key: (label, [one for one in records if one.has(key)]) for key, label in labels.items()}


def mean_and_deviation(scores: Sequence[float]) -> str:
    """For example ``88.47 ± 0.15``; the sample deviation, with divisor n - 1."""
    if len(scores) < 2:
        return f"{scores[0]:.2f}" if scores else ""
    return f"{fmean(scores):.2f} ± {stdev(scores):.2f}"


def cell_row(judgement: Judgement, answer: CellAnswer) -> dict[str, object]:
    """One judged cell by ``CELL_COLUMNS``; measured values are rounded here and nowhere before.

    ``z`` is how surprising the printed value would be as a draw from our own distribution. Where the
    errata allow other readings of it, gap and z are against the one that the verdict is by.
    """
    cell, verdict = answer.cell, answer.verdict
    assert verdict is not None
    row: dict[str, object] = cell.model_dump(include={"table", "row", "dataset", "metric", "std"})
    row |= {"published": cell.printed, "verdict": verdict.word, "note": answer.note}
    compared = float(number(verdict.reading or cell.printed))
    if cell.scale == "exact":
        return row | {"measured": f"{answer.computed:g}"}
    scores = list(judgement.scores(cell.row, cell.dataset, cell.metric, "paper").values())
    row |= {"seeds": len(scores), "tolerance": cell.tolerance}
    if scores:
        row |= {"measured": f"{fmean(scores):.2f}", "gap": f"{verdict.gap:+.2f}"}
        row |= {"low": f"{verdict.low:+.2f}", "high": f"{verdict.high:+.2f}"}
    if len(scores) > 1:
        row["deviation"] = f"{stdev(scores):.2f}"
        z = surprise(scores, compared, usual_noise(cell.dataset, cell.metric), cell.runs)
        row["z"] = f"{z:+.1f}"
    if claim := blunt_cells(judgement.paper).get(cell.id):
        row["note"] = f"{answer.note}; blunt: the claim {claim} decides".removeprefix("; ")
    return row


def claim_row(answer: ClaimAnswer) -> dict[str, object]:
    """One claim by ``CLAIM_COLUMNS``."""
    return {
        "claim": answer.claim.id,
        "scale": answer.scale,
        "verdict": answer.verdict.word,
        "statement": answer.claim.statement,
        "details": answer.verdict.details,
    }


def mechanism_row(found: MechanismVerdict) -> dict[str, object]:
    """One mechanism by ``MECHANISM_COLUMNS``."""
    return {
        "mechanism": found.mechanism.id,
        "verdict": found.word,
        "statement": found.mechanism.statement,
        "details": found.details,
    }


if __name__ == "__main__":
    execute(main)
