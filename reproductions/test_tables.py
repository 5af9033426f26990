"""Every printed cell, claim and erratum of every paper; see ``conftest.py`` for what the outcomes mean."""

import warnings
from collections.abc import Callable

import pytest

from reproductions.conftest import Verdicts
from reproductions.effects import Trial
from reproductions.errata import faults, recompute
from reproductions.judgement import Judgement
from reproductions.paper import Cell, Claim, Erratum, Mechanism, Paper, RunScale
from reproductions.records import SeedRecord


def test_cell(
    cell: Cell,
    judgements: dict[str, Judgement],
    verdicts: Verdicts,
    record_property: Callable[[str, object], None],
) -> None:
    """The printed number against the recorded seeds, by the cell rule."""
    answer = judgements[cell.paper].answer(cell)
    if answer.verdict is None:
        pytest.skip(answer.reason)
    verdict = answer.verdict
    record_property("verdict", verdict.word)
    record_property("seeds", verdict.n)
    record_property("gap", verdict.gap)
    record_property("interval", f"{verdict.low} {verdict.high}")
    interval = f"{cell.printed} printed, gap {verdict.gap:+.2f} [{verdict.low:+.2f}, {verdict.high:+.2f}]"
    reason = answer.reason or f"{interval}, edge {verdict.edge:.2f}"
    if cell.scale == "exact":
        reason = f"{cell.printed} printed, {answer.computed:g} computed"
    verdicts.settle(verdict.word, reason, f"erratum {cell.erratum}" if cell.erratum else "")
    if verdict.word == "above":
        warnings.warn(f"{cell.id} is above: {interval}; look for a leak before cheering", stacklevel=1)


def test_claim(
    paper: Paper, claim: Claim, scale: RunScale, judgements: dict[str, Judgement], verdicts: Verdicts
) -> None:
    """What the paper says of its rows against our own runs of them."""
    verdict = judgements[paper.key].answer_claim(claim, scale).verdict
    explained = claim.on_street if scale == "proxy" else ""
    verdicts.settle(verdict.word, f"{claim.statement} {verdict.details}", explained)


def test_mechanism(
    paper: Paper, mechanism: Mechanism, records: dict[str, list[SeedRecord]], verdicts: Verdicts
) -> None:
    """Whether a gain grows on the street with what the paper explains it by; it fails if it shrinks."""
    verdict = Trial(paper, mechanism, records[paper.key]).verdict
    verdicts.settle(verdict.word, f"{mechanism.statement} {verdict.details}")


def test_erratum(paper: Paper, erratum: Erratum) -> None:
    """A contradiction inside the paper, or a sentence that checks out, recomputed from the cells."""
    wrong = faults(erratum, [recompute(paper, check) for check in erratum.check])
    assert not wrong, "; ".join(wrong)
