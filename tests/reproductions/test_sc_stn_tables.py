"""A second look at the transcription of SC-STN's tables, by what the numbers must be to each other."""

from collections import defaultdict
from decimal import Decimal

import pytest

from methods import METHODS
from protocols import PROTOCOLS
from reproductions.claims import blunt_cells
from reproductions.complexity import computed
from reproductions.errata import faults, recompute
from reproductions.jobs import STREET, make_job
from reproductions.paper import PERCENTAGES, Paper
from reproductions.spec import load_paper
from reproductions.verdicts import judge_exact
from tests.reproductions.printed import Jobs, agrees, column_sums, every_job, sizes, values

MARKET, DUKE, MSMT = "market1501", "dukemtmc", "msmt17"
BASELINE, FULL, NO_TRANSFORMER = "f^g w/o f^s (Baseline)", "Full Model", "Baseline+VCN"
FEATURES = ("Global feature f^g", "Spatial feature f^s", "Fusion")
ORIGINAL, MODIFIED = ([f"{feature} ({backbone})" for feature in FEATURES] for backbone in "OM")


@pytest.fixture(scope="module")
def sc_stn() -> Paper:
    return load_paper("sc_stn")


@pytest.fixture(scope="module")
def jobs(sc_stn) -> Jobs:
    return every_job(sc_stn)


@pytest.mark.parametrize(
    ("table", "rows", "cited", "proposed", "statistics"),
    [
        ("section4.1", 8, 0, 0, 22),
        ("table1", 40, 124, 24, 0),
        ("table2", 16, 20, 12, 0),
        ("table3", 14, 0, 28, 0),
        ("table4", 7, 0, 0, 24),
    ],
)
def test_nothing_was_left_out(sc_stn, table, rows, cited, proposed, statistics):
    assert sizes(sc_stn, table) == (rows, cited, proposed, statistics)


@pytest.mark.parametrize(
    ("table", "totals"),  # added up from the page, column by column, without the files
    [
        ("table1", ("3773.8", "3390.3", "2953.0", "2530.3")),
        ("table2", ("1264.1", "867.6")),
        ("table3", ("1314.0", "1178.2")),
    ],
)
def test_columns_add_up_to_what_the_page_adds_up_to(sc_stn, table, totals):
    assert column_sums(sc_stn, table) == [Decimal(total) for total in totals]


@pytest.mark.parametrize(
    ("row", "market", "duke"),  # top-1 and mAP as these papers publish them
    [
        ("AutoReID*", (94.5, 85.1), None),
        ("Pyramidal*", (95.7, 88.2), (89.0, 79.0)),
        ("AANet", (93.9, 82.5), (86.4, 72.6)),
        ("VCFL", (89.3, 74.5), None),  # not tested there
        ("DG-Net", (94.8, 86.0), (86.6, 74.8)),
        ("PCB+RPP", (93.8, 81.6), (83.3, 69.2)),
        ("MGN", (95.7, 86.9), (88.7, 78.4)),
        ("MGN+Circle", (96.1, 87.4), None),
        ("SONA", (95.6, 88.8), (89.4, 78.3)),
        ("RGA", (96.1, 88.4), None),
    ],
)
def test_broken_columns_were_put_together_again(sc_stn, row, market, duke):
    printed = {place: float(value) for place, value in values(sc_stn, row).items() if place[0] != MSMT}

    expected = {MARKET: market} | ({DUKE: duke} if duke else {})
    assert printed == {
        (name, metric): score
        for name, pair in expected.items()
        for metric, score in zip(("rank1", "mAP"), pair, strict=True)
    }


def test_blocks_are_by_backbone(sc_stn):
    blocks: dict[str, list[str]] = defaultdict(list)
    for cell in sc_stn.select(table="table1", dataset=MARKET, metric="mAP"):
        blocks[cell.group].append(cell.row)

    assert all(label.endswith("*") for label in blocks["other backbones"])
    assert {group: len(labels) for group, labels in blocks.items()} == {
        "other backbones": 5,
        "ResNet-50 (O)": 22,
        "ResNet-50 (M)": 13,
    }
    assert (blocks["ResNet-50 (O)"][-3:], blocks["ResNet-50 (M)"][-3:]) == (ORIGINAL, MODIFIED)


def test_every_score_has_one_decimal_and_top_1_is_above_map(sc_stn):
    scores = [cell for cell in sc_stn.cells if cell.metric in PERCENTAGES]

    assert len(scores) == 208
    assert {cell.half_step for cell in scores} == {Decimal("0.05")}
    for row in {cell.row for cell in scores}:
        found = values(sc_stn, row)
        assert all(found[name, "rank1"] > found[name, "mAP"] for name, _ in found)


def test_full_model_is_fusion_of_table_1(sc_stn):
    fusion = values(sc_stn, "Fusion (O)")

    assert values(sc_stn, FULL) == {(MARKET, metric): fusion[MARKET, metric] for metric in ("rank1", "mAP")}


def test_sentences_of_numbers_come_out(sc_stn):
    assert len(sc_stn.statements) == 12
    for statement in sc_stn.statements:
        results = [recompute(sc_stn, check) for check in statement.check]
        assert results and not faults(statement, results), statement.id


def test_errata_are_numbered_without_gaps_and_recomputed(sc_stn):
    assert [erratum.id for erratum in sc_stn.errata] == [f"S{i + 1}" for i in range(len(sc_stn.errata))]
    for erratum in sc_stn.errata:
        results = [recompute(sc_stn, check) for check in erratum.check]
        assert not faults(erratum, results), erratum.id


def test_parameters_differ_for_the_two_rows_that_the_errata_name(sc_stn):
    cells = [c for c in sc_stn.select(table="table4") if c.metric.endswith("parameters")]
    found = {(c.row, c.metric): computed(sc_stn, c) for c in cells}

    differing = {
        cell.row
        for cell in cells
        if judge_exact(found[cell.row, cell.metric], cell.printed).word == "differs"
    }
    assert differing == {"SONA (ICCV 19)", "Ours (M)"}
    assert found["Ours (O)", "extra_parameters"] == Decimal("0.349199")
    assert found["Ours (M)", "extra_parameters"] == Decimal("0.717839")


def test_no_printed_number_is_read_as_another(sc_stn):
    assert not any(cell.readings for cell in sc_stn.cells)


def test_auxiliary_rows_are_those_the_text_says_it_of(sc_stn):
    auxiliary = {row.reference.split()[0] for row in sc_stn.cited.values() if row.auxiliary}

    assert auxiliary == {"[30]", "[46]", "[79]", "[72]", "[20]"}


def test_counts_agree_with_the_protocols(sc_stn):
    for name, dataset in sc_stn.datasets.items():
        counts = PROTOCOLS.get(name)().counts
        printed = {cell.metric: int(cell.value) for cell in sc_stn.select(table="section4.1", dataset=name)}
        assert dataset.queries == counts.query == printed.get("query_images", counts.query)
        assert (printed["train_images"], printed["train_pids"]) == (counts.train, counts.train_pids)
    assert PROTOCOLS.get(MSMT)().counts.train == 32_621  # both lists of the release, not list_train.txt alone


def test_paper_recipe_is_section_4_2(sc_stn):
    recipe = sc_stn.recipes["paper"]

    assert (recipe.height, recipe.width, recipe.epochs, recipe.optimizer) == (384, 128, 300, "adam")
    assert (recipe.ids_per_batch, recipe.images_per_id, recipe.batch_size) == (16, 6, 96)
    assert recipe.erasing_probability and recipe.flip and recipe.padding


def test_rate_rises_to_epoch_30_and_falls_every_80(sc_stn):
    recipe = sc_stn.recipes["paper"]

    for epoch in range(1, 301):
        expected = 5e-4 * epoch / 30 if epoch <= 30 else 5e-4 * 0.1 ** ((epoch - 1) // 80)
        assert recipe.learning_rate(epoch) == pytest.approx(expected, rel=1e-3)
    rates = [recipe.learning_rate(epoch) for epoch in (15, 30, 31, 80, 81, 161, 300)]
    assert rates == [2.5e-4, 5e-4, 5e-4, 5e-4, 5e-5, 5e-6, 5e-7]


def test_proxy_changes_sizes_and_the_schedule_only(sc_stn):
    paper, proxy = (sc_stn.recipes[scale].model_dump() for scale in ("paper", "proxy"))

    changed = {name for name in paper if paper[name] != proxy[name]}
    network = {"backbone", "backbone_options", "weights", "height", "width", "method_options"}
    training = {"padding", "ids_per_batch", "images_per_id", "epochs", "schedule", "erasing_probability"}
    assert changed <= network | training | {"epoch", "street"}


def test_methods_are_told_the_size_of_the_images(jobs):
    for job in jobs.values():
        options = METHODS.get(job.method).Options(**job.options)
        assert list(options.image_size) == [job.recipe.height, job.recipe.width]


def test_three_features_are_parts_of_one_network(sc_stn, jobs):
    for rows in (ORIGINAL, MODIFIED):
        assert [sc_stn.row(row).part for row in rows] == ["global", "spatial", ""]
        for scale, dataset in (("paper", MARKET), ("paper", DUKE), ("paper", MSMT), ("proxy", STREET)):
            assert len({jobs[scale, row, dataset].row_hash for row in rows}) == 1


def test_rows_of_one_network_share_their_hash_and_no_others_do(jobs):
    networks: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for (scale, label, dataset), job in jobs.items():
        networks[scale, dataset, job.row_hash].add(label)

    assert {frozenset(labels) for labels in networks.values() if len(labels) > 1} == {
        frozenset([*ORIGINAL, FULL]),
        frozenset(ORIGINAL),  # Table 3 is on Market-1501 alone
        frozenset(MODIFIED),
    }
    on_street = [labels for (scale, *_), labels in networks.items() if scale == "proxy"]
    assert len(on_street) == 15  # (O), (M) and 13 ablations


def test_labels_of_the_ablation_say_what_is_run(jobs):
    """What a label names is what its options change; everything else is the full model."""
    spatial = {"VCN (w/o HP)": "vcn without horizontal pooling", "VCN (shared)": "shared vcn"}
    spatial |= {"VCN": "vcn", "GP": "gp", "FC": "fc", "MGN": "stripes"}
    transformer = {"STN": "stn", "STN(w/o rotate)": "stn without rotation"}
    assumed = {"SC-STN(eps in (0,1))": ("learned", 1.0), "SC-STN(eps=0.4)": ("fixed", 0.4)}
    seen = 0
    for (_, label, _), job in jobs.items():
        if not label.startswith("Baseline+"):
            continue
        seen += 1
        *between, last = label.split("+")[1:]
        options = METHODS.get(job.method).Options(**job.options)
        assert (options.branches, options.ranked, options.dilated) == ("both", True, False)
        assert options.spatial == spatial[last]
        name = between[0] if between else "none"
        assert options.transformer == transformer.get(name, "self-constrained" if between else "none")
        assert (options.epsilon, options.epsilon_max) == assumed.get(name, ("learned", 0.4))
    assert seen == 2 * 10


def test_the_headline_is_one_network_with_its_three_features(sc_stn):
    headline = [row for row in sc_stn.rows.values() if row.headline]

    assert [row.part for row in headline] == ["global", "spatial", ""]
    assert len({make_job(sc_stn, row.label, STREET, "proxy").row_hash for row in headline}) == 1


def test_every_own_row_is_in_a_claim(sc_stn):
    claimed = {row for claim in sc_stn.claims for row in claim.rows}

    assert {label for label, row in sc_stn.rows.items() if row.datasets} == claimed


def test_claims_compare_different_features_at_each_of_their_scales(sc_stn, jobs):
    for claim in sc_stn.claims:
        for scale in claim.scales:
            for dataset in [STREET] if scale == "proxy" else claim.datasets:
                compared = [(jobs[scale, row, dataset].row_hash, sc_stn.row(row).part) for row in claim.rows]
                assert len(set(compared)) == len(compared), (claim.id, scale)


def test_printed_cells_say_what_the_claims_say(sc_stn):
    assert len(sc_stn.claims) == 64
    for claim in sc_stn.claims:
        for dataset in claim.datasets:
            for metric in claim.metrics:
                scores = [values(sc_stn, row)[dataset, metric] for row in claim.rows]
                assert agrees(claim, scores), (claim.id, dataset, metric)


@pytest.mark.parametrize(("id_", "size"), [("sc-stn-helps", "1.6"), ("constraint-beats-stn", "17.0")])
def test_printed_size_of_a_claim_is_its_step(sc_stn, id_, size):
    (claim,) = (claim for claim in sc_stn.claims if claim.id == f"{id_}-as-printed")

    assert [target.size for target in claim.targets if target.metric == "mAP"] == [Decimal(size)]


def test_steps_are_there_for_every_ablation_too_small_for_its_cell(sc_stn):
    blunt = blunt_cells(sc_stn)

    for row in (FULL, NO_TRANSFORMER, "f^s w/o f^g", "Baseline+SC-STN(eps=0.4)+VCN", *ORIGINAL[1:]):
        for cell in sc_stn.select(row=row, dataset=MARKET, metric="mAP"):
            assert cell.id in blunt


@pytest.mark.parametrize(
    ("dial", "without"), [("misalignment", NO_TRANSFORMER), ("confusers", "Baseline+SC-STN+GP")]
)
def test_mechanisms_turn_what_either_part_is_said_to_answer(sc_stn, jobs, dial, without):
    mechanism = next(one for one in sc_stn.mechanisms if one.dial == dial)

    assert mechanism.rows == (FULL, without)
    assert len({jobs["proxy", row, STREET].row_hash for row in mechanism.rows}) == 2


def test_every_own_score_is_judged(sc_stn):
    scores = [cell for cell in sc_stn.select(kind="proposed") if cell.metric in PERCENTAGES]

    assert len(scores) == 64
    assert all(cell.tolerance is not None for cell in scores)
