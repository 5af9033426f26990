"""From records to answers: which records count, and what each kind of cell gets."""

from dataclasses import replace
from pathlib import Path

import pytest

from reproductions.effects import mechanism_jobs
from reproductions.jobs import Changes, make_job
from reproductions.judgement import Judgement
from reproductions.spec import load_paper
from retable.errors import RetableError, SpecError, UnknownName
from tests.reproductions.test_records import record

MINI = load_paper("mini", Path(__file__).with_name("papers"))
PAIRS = load_paper("pairs", Path(__file__).with_name("papers"))
SONA = load_paper("sona")
TURNED = Changes(dials={"misalignment": 0.9})


def recorded(row, dataset, scale, scores, paper=MINI, **changes):
    """Records of a row of a paper, one per score; ``changes`` to the job's own fields."""
    job = make_job(paper, row, dataset, scale)
    fields = {
        "paper": paper.key,
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
        make_job(MINI, "Net", "crosswalk", "proxy", changes=TURNED),
        make_job(MINI.model_copy(update={"street": PAIRS.street}), "Net", "crosswalk", "proxy"),
    ]

    assert len({job.row_hash, *(other.row_hash for other in others)}) == 9
    assert make_job(MINI, "Net", "crosswalk", "proxy").row_hash == job.row_hash


def test_what_is_off_changes_no_hash():
    """A field of the recipe at its default is not in the identity, whether it is stated or not."""
    job = make_job(MINI, "Net", "crosswalk", "proxy")
    stated = replace(job, recipe=job.recipe.model_copy(update={"sampler": "pk", "backbone_rate": 1.0}))

    assert stated.row_hash == job.row_hash
    assert not {"sampler", "negatives", "momentum", "ranking"} & job.identity["recipe"].keys()
    assert "beside" not in job.identity


def test_rows_of_one_network_share_their_records():
    dataset = "market1501/openreid"
    job, other = (make_job(PAIRS, row, dataset, "paper") for row in ("Warp", "Full w/ all"))
    assert job.row_hash == other.row_hash
    assert not {"Warp", "Full w/ all", "table1", "prose"} & set(strings(job.identity))

    judgement = Judgement(PAIRS, recorded("Full w/ all", "crosswalk", "proxy", [40.0], paper=PAIRS))

    (record,) = judgement.records("Warp", "crosswalk", "proxy").values()
    assert judgement.labels(record) == ["Warp", "Full w/ all"]
    assert judgement.is_present(record)


def strings(tree):
    if isinstance(tree, dict):
        return [text for pair in tree.items() for one in pair for text in strings(one)]
    if isinstance(tree, list):
        return [text for one in tree for text in strings(one)]
    return [tree] if isinstance(tree, str) else []


@pytest.mark.parametrize(
    ("scores", "word_then", "note"),
    [
        ([40.0, 40.1, 39.9, 40.0], "within", "as printed 40.0: within; read as 50.0, see errata: below"),
        ([50.0, 50.1, 49.9, 50.0], "within", "as printed 40.0: above; read as 50.0, see errata: within"),
        ([20.0, 20.1, 19.9, 20.0], "below", "as printed 40.0: below; read as 50.0, see errata: below"),
    ],
)
def test_a_cell_with_two_readings_is_held_against_each(scores, word_then, note):
    records = recorded("Warp", "market1501/openreid", "paper", scores, paper=PAIRS)

    (answer,) = (a for a in Judgement(PAIRS, records).cells if a.cell.row == "Warp" and a.cell.readings)

    assert (answer.verdict.word, answer.note) == (word_then, note)


def test_protocols_beside_must_read_the_same_release():
    dataset = "market1501/openreid"

    def beside(name):
        changed = PAIRS.datasets[dataset].model_copy(update={"beside": (name,)})
        return PAIRS.model_copy(update={"datasets": {dataset: changed}})

    with pytest.raises(SpecError, match=r"datasets 'market1501/openreid': found protocol 'dukemtmc', .*Duke"):
        make_job(beside("dukemtmc"), "Warp", dataset, "paper")
    with pytest.raises(UnknownName, match="did you mean 'market1501'"):
        make_job(beside("market1502"), "Warp", dataset, "paper")
    street = PAIRS.model_copy(update={"street": PAIRS.street.model_copy(update={"protocol": "viper"})})
    with pytest.raises(SpecError, match=r"street: found protocol 'market1501', .* expected .* reads VIPeR"):
        make_job(street, "Warp", "crosswalk", "proxy")


def test_dials_are_the_streets_alone():
    with pytest.raises(RetableError, match="only the street has dials"):
        make_job(MINI, "Net", "market1501", "paper", changes=TURNED)
    assert make_job(MINI, "Net", "crosswalk", "proxy", changes=TURNED).data.dials.misalignment == 0.9


def test_runs_on_a_turned_dial_belong_to_their_mechanism_and_to_no_row():
    (mechanism,) = PAIRS.mechanisms
    records = [
        record
        for (row, level), job in mechanism_jobs(PAIRS, mechanism).items()
        for record in recorded(row, "crosswalk", "proxy", [40.0, 41.0], paper=PAIRS, row_hash=job.row_hash)
    ]
    judgement = Judgement(PAIRS, records)

    assert all(judgement.is_present(record) and not judgement.labels(record) for record in records)
    assert set(judgement.trials.values()) == {"misalignment 0", "misalignment 0.4"}
    assert [answer.word for answer in judgement.mechanisms] == ["undecided"]
    assert [answer.word for answer in Judgement(PAIRS, []).mechanisms] == ["unrun"]
    assert not judgement.records("Warp", "crosswalk", "proxy")
