"""A second look at the transcription of KPM's tables, by what the numbers must be to each other."""

from collections import defaultdict
from decimal import Decimal
from math import ceil

import pytest

from methods import METHODS
from protocols import PROTOCOLS
from reproductions.checks import failures
from reproductions.claims import blunt_cells
from reproductions.errata import faults, recompute
from reproductions.jobs import STREET
from reproductions.paper import PERCENTAGES, Paper
from reproductions.spec import load_paper
from tests.reproductions.printed import Jobs, agrees, column_sums, every_job, sizes, values

MARKET, CUHK03, DUKE = "market1501/openreid", "cuhk03-merged/openreid", "dukemtmc/openreid"
FULL = "Baseline+KPM+RSA+HG"
STARRED = ("Difference verification loss*", "2:1 (ImageNet pretrained)*", "Square after pooling*")
TEMPERATURES = "tau_KPM 0.05, tau_RSA 1.0"
TWO_VALUES = {("Ours", "table3"), (FULL, "table5"), (TEMPERATURES, "table6")}  # erratum K1


@pytest.fixture(scope="module")
def kpm() -> Paper:
    return load_paper("kpm")


@pytest.fixture(scope="module")
def jobs(kpm) -> Jobs:
    return every_job(kpm)


@pytest.mark.parametrize(
    ("table", "rows", "cited", "proposed"),
    [
        ("table1", 11, 0, 66),
        ("table2", 13, 30, 4),
        ("table3", 13, 38, 4),
        ("table4", 6, 14, 4),
        ("table5", 7, 0, 38),
        ("table6", 5, 0, 10),
    ],
)
def test_nothing_was_left_out(kpm, table, rows, cited, proposed):
    assert sizes(kpm, table) == (rows, cited, proposed, 0)


@pytest.mark.parametrize(
    ("table", "totals"),  # added up from the page, column by column, without the files
    [
        ("table1", ("654.5", "885.8", "821.1", "869.8", "518.0", "728.1")),
        ("table2", ("641.0", "1006.7", "465.2", "477.3")),
        ("table3", ("261.4", "1040.2", "1243.2", "1275.7")),
        ("table4", ("248.3", "353.2", "260.7", "270.7")),
        ("table5", ("488.3", "613.4", "499.6", "524.0", "344.0", "463.0")),
        ("table6", ("439.2", "445.3")),
    ],
)
def test_columns_add_up_to_what_the_page_adds_up_to(kpm, table, totals):
    assert column_sums(kpm, table) == [Decimal(total) for total in totals]


def test_one_number_lost_a_digit_and_all_others_have_one_decimal(kpm):
    odd = {cell.id: cell.printed for cell in kpm.cells if cell.half_step != Decimal("0.05")}

    assert odd == {"kpm-table1-Absolute_value-market1501/openreid-mAP": "66."}


def test_starred_rows_are_the_baseline(kpm):
    baseline = values(kpm, "Baseline")

    assert len(baseline) == 6
    assert all(values(kpm, row) == baseline for row in STARRED)
    assert {row for row in kpm.rows if row.endswith("*")} == set(STARRED)


def test_ours_is_the_full_model_but_for_one_cell(kpm):
    ours, full, sixth = (values(kpm, row) for row in ("Ours", FULL, TEMPERATURES))

    assert {place for place in full if full[place] != ours[place]} == {(CUHK03, "rank1")}
    assert sixth == {place: ours[place] for place in ((CUHK03, "mAP"), (CUHK03, "rank1"))}


def test_top_1_is_above_map_except_for_two_single_shot_scores(kpm):
    below = {
        (cell.row, cell.dataset)
        for cell in kpm.select(metric="rank1")
        for other in kpm.select(table=cell.table, row=cell.row, dataset=cell.dataset, metric="mAP")
        if cell.value < other.value
    }

    assert below == {("SVDNet", CUHK03), ("VI+LSRO", CUHK03)}


def test_no_number_is_impossible(kpm):
    queries = {name: dataset.queries for name, dataset in kpm.datasets.items()}

    assert not list(failures(kpm.cells, queries))
    assert not kpm.anomalies


def test_sentences_of_numbers_come_out(kpm):
    assert len(kpm.statements) == 22
    for statement in (*kpm.statements, *kpm.errata):
        assert not faults(statement, [recompute(kpm, check) for check in statement.check]), statement.id


def test_all_27_errata_are_there(kpm):
    assert [erratum.id for erratum in kpm.errata] == [f"K{i}" for i in range(1, 28)]


def test_five_doubtful_numbers_have_a_second_reading(kpm):
    doubtful = {(c.row, c.table): (c.printed, *c.readings) for c in kpm.cells if c.readings}

    assert {printed for place, printed in doubtful.items() if place in TWO_VALUES} == {
        ("91.1", "93.4"),
        ("93.4", "91.1"),
    }
    assert {place: printed for place, printed in doubtful.items() if place not in TWO_VALUES} == {
        ("1:1 (ImageNet pretrained)", "table1"): ("57.1", "75.1"),
        ("Absolute value", "table1"): ("66.", "66.9"),
        ("OIM loss", "table1"): ("47.7", "47.4"),
    }


def test_auxiliary_rows_are_those_the_text_says_it_of(kpm):
    auxiliary = {label for label, row in kpm.cited.items() if row.auxiliary}

    assert auxiliary == {"SpinNet", "PDC", "ACRN", "VI+LSRO", "Basel+LSRO"}


def test_counts_agree_with_the_protocols(kpm):
    for name, dataset in kpm.datasets.items():
        if dataset.queries:
            assert dataset.queries == PROTOCOLS.get(name)().counts.query
        assert all(PROTOCOLS.get(one)().folder == PROTOCOLS.get(name)().folder for one in dataset.beside)


def test_cmc_of_cuhk03_is_no_share_of_its_queries(kpm):
    single_shot = PROTOCOLS.get(CUHK03)().single_shot

    assert single_shot is not None
    assert single_shot.repeats > 1
    assert kpm.datasets[CUHK03].queries is None


@pytest.mark.parametrize(("dataset", "negatives"), [(MARKET, 3), (CUHK03, 4), (DUKE, 4)])
def test_pairs_have_the_ratio_of_section_4_2(kpm, dataset, negatives):
    assert kpm.recipe("paper", FULL, dataset).negatives == negatives


def test_paper_recipe_is_section_4_2(kpm):
    recipe = kpm.recipes["paper"]

    assert (recipe.height, recipe.width, recipe.epochs, recipe.optimizer) == (256, 128, 100, "sgd")
    assert [recipe.learning_rate(epoch) for epoch in (1, 50, 51, 100)] == [0.01, 0.01, 0.001, 0.001]
    assert recipe.anchors_per_batch * (1 + recipe.negatives) == 64


def test_proxy_changes_sizes_and_the_optimizer_only(kpm):
    paper, proxy = (kpm.recipes[scale].model_dump() for scale in ("paper", "proxy"))

    changed = {name for name in paper if paper[name] != proxy[name]}
    network = {"backbone", "backbone_options", "weights", "height", "width", "method_options"}
    training = {"anchors_per_batch", "epochs", "optimizer", "momentum", "schedule", "erasing_probability"}
    assert changed <= network | training | {"ranking", "street"}
    assert set(proxy["method_options"]) <= {"attention_channels", "hidden", "map_size"}


def test_maps_have_the_size_that_the_method_is_told(jobs):
    for (scale, label, _), job in jobs.items():
        if job.options.get("matching") == "confidence":
            size = [ceil(job.recipe.height / 32), ceil(job.recipe.width / 32)]
            options = METHODS.get(job.method).Options(**job.options)
            assert list(options.map_size) == size, (scale, label)


def test_triplet_schedule_is_the_librarys_formula(kpm):
    recipe = kpm.recipe("paper", "Triplet loss", MARKET)

    assert recipe.epochs == 150
    for epoch in range(1, 151):
        counted_from_0 = epoch - 1
        fall = max(counted_from_0 - 100, 0) / 50
        assert recipe.learning_rate(epoch) == pytest.approx(2e-4 * 0.001**fall, rel=5e-3)


@pytest.mark.parametrize("row", ["Cross-entropy loss", "OIM loss"])
def test_softmax_and_oim_follow_the_librarys_scripts(kpm, row):
    recipe = kpm.recipe("paper", row, MARKET)

    for epoch in range(1, recipe.epochs + 1):
        assert recipe.learning_rate(epoch) == pytest.approx(0.1 * 0.1 ** ((epoch - 1) // 40))
    assert (recipe.epochs, recipe.batch_size, recipe.backbone_rate) == (50, 256, 0.1)


def test_aspect_ratios_have_areas_alike(kpm):
    for scale, dataset in (("paper", MARKET), ("proxy", STREET)):
        square, tall = (kpm.recipe(scale, f"{r}:1 (random initialization)", dataset) for r in (1, 2))
        assert square.height == square.width
        assert tall.height == 2 * tall.width
        assert 0.7 <= square.height * square.width / (tall.height * tall.width) < 1.6


def test_random_initialization_differs_at_scale_paper_alone(jobs):
    for ratio in ("1:1", "2:1"):
        star = "*" if ratio == "2:1" else ""
        random, pretrained = f"{ratio} (random initialization)", f"{ratio} (ImageNet pretrained){star}"
        assert jobs["proxy", random, STREET].row_hash == jobs["proxy", pretrained, STREET].row_hash
        ours, theirs = (jobs["paper", row, MARKET] for row in (random, pretrained))
        assert (ours.weights, theirs.weights) == ("none", "imagenet")
        assert ours.recipe.height == theirs.recipe.height


def test_rows_of_one_network_share_their_hash_and_no_others_do(jobs):
    networks: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for (scale, label, dataset), job in jobs.items():
        networks[scale, dataset, job.row_hash].add(label)
    shared = [labels for labels in networks.values() if len(labels) > 1]
    baseline, full = {"Baseline", *STARRED}, {"Ours", FULL}

    assert {frozenset(labels) for labels in shared} == {
        frozenset(baseline),
        frozenset(baseline | {"2:1 (random initialization)"}),  # on the street nothing is pretrained
        frozenset({"1:1 (ImageNet pretrained)", "1:1 (random initialization)"}),
        frozenset(full),
        frozenset(full | {TEMPERATURES}),
    }


def test_every_job_has_options_that_its_method_knows(jobs):
    assert len({row for _, row, _ in jobs}) == 26  # two of them in words only
    for job in jobs.values():
        METHODS.get(job.method).Options(**job.options)


def test_labels_of_table_6_say_the_temperatures_that_are_run(kpm, jobs):
    for cell in kpm.select(table="table6", metric="mAP"):
        for scale, dataset in (("paper", CUHK03), ("proxy", STREET)):
            job = jobs[scale, cell.row, dataset]
            options = METHODS.get(job.method).Options(**job.options)
            assert cell.row == f"tau_KPM {options.tau_kpm}, tau_RSA {options.tau_rsa}"


def test_rows_are_judged_by_open_reids_lists_and_the_usual_ones_stand_beside(jobs):
    for job in jobs.values():
        assert job.data.protocol.name.endswith("/openreid")
        assert job.beside
        assert not any(one.name.endswith("/openreid") for one in job.beside)


def test_full_model_is_the_headline(kpm):
    assert [label for label, row in kpm.rows.items() if row.headline] == [FULL]


def test_every_own_row_is_in_a_claim_under_its_own_or_a_shared_name(kpm):
    claimed = {row for claim in kpm.claims for row in claim.rows}

    assert set(kpm.rows) - claimed == {"Ours"}  # the full model, under its name of Table 5


def test_claims_compare_different_networks_at_each_of_their_scales(kpm, jobs):
    for claim in kpm.claims:
        for scale in claim.scales:
            for dataset in [STREET] if scale == "proxy" else claim.datasets:
                hashes = [jobs[scale, row, dataset].row_hash for row in claim.rows]
                assert len(set(hashes)) == len(hashes), (claim.id, scale)


def test_printed_cells_say_what_the_claims_say(kpm):
    printed = [claim for claim in kpm.claims if not set(claim.rows) & {"Without square", "Concatenation"}]
    assert len(printed) == len(kpm.claims) - 2
    for claim in printed:
        for dataset in claim.datasets:
            for metric in claim.metrics:
                scores = [values(kpm, row)[dataset, metric] for row in claim.rows]
                assert agrees(claim, scores), (claim.id, dataset, metric)


def test_steps_are_there_for_every_ablation_too_small_for_its_cell(kpm):
    blunt = set(blunt_cells(kpm).values())

    assert {"kpm-helps-as-printed", "attention-helps-as-printed", "hourglass-helps-as-printed"} <= blunt


def test_mechanisms_turn_misalignment_between_networks_that_differ(kpm, jobs):
    assert len(kpm.mechanisms) == 2
    for mechanism in kpm.mechanisms:
        assert mechanism.dial == "misalignment"
        first, second = (jobs["proxy", row, STREET] for row in mechanism.rows)
        assert first.row_hash != second.row_hash
        assert first.options["matching"] == "warp"
        assert "matching" not in second.options


def test_every_metric_is_one_that_is_judged(kpm):
    assert {cell.metric for cell in kpm.cells} <= PERCENTAGES
    assert all(cell.tolerance is not None for cell in kpm.select(kind="proposed"))
