"""From records to answers: which records count, and what each kind of cell gets."""

from pathlib import Path

import pytest

from reproductions.jobs import Changes, make_job
from reproductions.judgement import Judgement
from reproductions.spec import load_paper
from tests.reproductions.test_records import record

MINI = load_paper("mini", Path(__file__).with_name("papers"))
SONA = load_paper("sona")


def recorded(row, dataset, scale, scores, **changes):
    """Records of a row of the mini paper, one per score; ``changes`` to the job's own fields."""
    job = make_job(MINI, row, dataset, scale)
    fields = {
        "row": row,
        "dataset": dataset,
        "scale": scale,
        "row_hash": job.row_hash,
        "identity": job.identity,
    }
    return [
        record(
            seed,
            **(fields | {"metrics": {"mAP": score, "mAP_trapezoid": score - 1, "rank1": score}} | changes),
        )
        for seed, score in enumerate(scores)
    ]


def word(judgement, cell_id):
    (answer,) = [answer for answer in judgement.cells if answer.cell.id == cell_id]
    return answer.verdict.word if answer.verdict else None


def test_real_runs_are_held_against_the_printed_value():
    judgement = Judgement(MINI, recorded("Net", "market1501", "paper", [74.9, 75.1, 75.0]))

    assert word(judgement, "mini-table1-Net-market1501-mAP") == "within"
    assert word(judgement, "mini-table1-Net-market1501-rank1") == "below"
    assert word(judgement, "mini-table1-Base-market1501-mAP") == "unrun"
    assert word(judgement, "mini-table1-Old-market1501-mAP") is None


def test_proxy_runs_judge_claims_and_never_cells():
    records = recorded("Net", "crosswalk", "proxy", [75.0, 75.1]) + recorded(
        "Base", "crosswalk", "proxy", [60.0, 60.2]
    )
    judgement = Judgement(MINI, records)

    assert word(judgement, "mini-table1-Net-market1501-mAP") == "unrun"
    assert [(a.scale, a.verdict.word) for a in judgement.claims] == [("paper", "unrun"), ("proxy", "holds")]


def test_records_of_an_older_definition_do_not_count():
    stale = recorded("Net", "market1501", "paper", [75.0, 75.1], row_hash="0" * 12)

    assert word(Judgement(MINI, stale), "mini-table1-Net-market1501-mAP") == "unrun"


def test_the_protocols_headline_decides_which_average_precision_is_compared():
    records = recorded("Net", "market1501", "paper", [75.9, 76.0, 76.1], headline="mAP_trapezoid")

    scores = Judgement(MINI, records).scores("Net", "market1501", "mAP", "paper")
    assert list(scores.values()) == pytest.approx([74.9, 75.0, 75.1])


def test_counts_of_market1501_in_table_1_are_exact():
    judgement = Judgement(SONA, [])

    exact = [a for a in judgement.cells if a.cell.scale == "exact" and a.cell.dataset == "market1501"]
    assert len(exact) == 8
    assert {answer.verdict.word for answer in exact} == {"within"}


def test_everything_that_changes_a_number_changes_the_hash():
    job = make_job(MINI, "Net", "crosswalk", "proxy")
    others = [
        make_job(MINI, "Base", "crosswalk", "proxy"),
        make_job(MINI, "Net", "market1501", "paper"),
        make_job(MINI, "Net", "crosswalk", "proxy", changes=Changes(precision="fp32")),
        make_job(MINI, "Net", "crosswalk", "proxy", changes=Changes(weights="imagenet")),
        make_job(MINI, "Net", "crosswalk", "proxy", changes=Changes(street="default")),
        make_job(MINI, "Net", "crosswalk", "proxy", changes=Changes(options={"slope": 0.2})),
    ]

    assert len({job.row_hash, *(other.row_hash for other in others)}) == 7
    assert make_job(MINI, "Net", "crosswalk", "proxy").row_hash == job.row_hash
