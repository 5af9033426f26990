"""A second look at the transcription of PABR's tables, by what the numbers must be to each other."""

from collections import defaultdict
from decimal import Decimal
from itertools import pairwise

import pytest

from methods import METHODS
from protocols import PROTOCOLS
from reproductions.claims import blunt_cells
from reproductions.errata import faults, recompute
from reproductions.jobs import STREET
from reproductions.paper import PERCENTAGES, Paper
from reproductions.spec import load_paper
from tests.reproductions.printed import Jobs, agrees, column_sums, every_job, sizes, values

MARKET, SEVERAL, DUKE, MARS = "market1501", "market1501/multi-query", "dukemtmc", "mars/mean"
LARGER = [f"market1501+{size}00k" for size in (1, 2, 5)]
RANKS = ("rank1", "rank5", "rank10", "rank20")
PROPOSED, DILATED, RERANKED, BASELINE = (
    *("Proposed (Inception V1, OpenPose)", "+ dilation", "+ re-ranking", "Baseline"),
)
R_CPM = "Proposed (Inception-V1, R-CPM)"
NAMES = [PROPOSED, "joint limb internal (proposed)", "Proposed", "Proposed (original)"]
FIGURE_6 = [
    *("Proposed, P_pose fixed", "concat + average pool + linear"),
    *("concat + average pool + linear, P_pose fixed", "Baseline, ResNet-50", "Proposed, ResNet-50"),
    "Proposed, ResNet-50, P_pose fixed",
]


@pytest.fixture(scope="module")
def pabr() -> Paper:
    return load_paper("pabr")


@pytest.fixture(scope="module")
def jobs(pabr) -> Jobs:
    return every_job(pabr)


@pytest.mark.parametrize(
    ("table", "rows", "cited", "proposed", "statistics"),
    [
        ("section6.1", 14, 0, 0, 26),
        ("table1", 4, 0, 20, 0),
        ("table2", 23, 72, 40, 0),
        ("table3", 4, 24, 8, 0),
        ("table4", 14, 100, 16, 0),
        ("table5", 12, 19, 15, 0),
        ("table6", 13, 39, 15, 0),
        ("table7", 3, 0, 45, 0),
    ],
)
def test_nothing_was_left_out(pabr, table, rows, cited, proposed, statistics):
    assert sizes(pabr, table) == (rows, cited, proposed, statistics)


@pytest.mark.parametrize(
    ("table", "totals"),  # added up from the text's lists of numbers, without the files
    [
        ("table1", "357.8 383.4 389.1 392.8 301.4"),
        ("table2", "1909.3 1298.0 1141.3 972.7 1423.4 827.3 582.4 393.8 396.4 733.4"),
        (
            "table4",
            "877.2 928.2 964.1 787.6 727.3 767.2 788.8 696.9 502.9 475.7 488.6 396.5 516.2 544.9 569.2 485.3",
        ),
        ("table5", "930.7 361.9 371.4 286.8 685.1"),
        ("table6", "938.5 1117.8 432.4 1010.6 732.1"),
    ],
)
def test_columns_add_up_to_what_the_text_adds_up_to(pabr, table, totals):
    assert column_sums(pabr, table) == [Decimal(total) for total in totals.split()]


@pytest.mark.parametrize(
    ("table", "metrics", "totals"),  # lists of these tables run through several of the files' columns
    [
        ("table3", ("rank1", "mAP"), "611.5 566.6 547.1 518.3"),  # by gallery
        ("table7", (), "739.6 825.2 846.8 863.4 605.0"),  # by metric
    ],
)
def test_restructured_tables_add_up_too(pabr, table, metrics, totals):
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for cell in pabr.select(table=table):
        sums[cell.dataset if metrics else cell.metric] += cell.value
    assert list(sums.values()) == [Decimal(total) for total in totals.split()]


@pytest.mark.parametrize(
    (
        "row",
        "dataset",
        "quoted",
    ),  # rank 1, 5, 10 and mAP as these papers' rows stand in KPM's and SONA's tables
    [
        ("Sun et al. 2017", MARKET, ("kpm", "SVDNet", "market1501/openreid")),
        ("Bai et al. 2017", MARKET, ("kpm", "SSM", "market1501/openreid")),
        ("Zhao et al. 2017 (Pose)", MARKET, ("kpm", "SpinNet", "market1501/openreid")),
        ("Hermans et al. 2017", MARKET, ("sona", "Triplet Loss", "market1501")),
        ("Zheng et al.", DUKE, ("kpm", "Basel+LSRO", "dukemtmc/openreid")),
        ("Sun et al.", DUKE, ("sona", "SVDNet", "dukemtmc")),
        ("Sun et al.", "cuhk03-detected", ("kpm", "SVDNet", "cuhk03-merged/openreid")),
        ("Bai et al.", "cuhk03-labeled", ("kpm", "SSM", "cuhk03-merged/openreid")),
        ("Zhao et al.", "cuhk03-labeled", ("kpm", "PA", "cuhk03-merged/openreid")),
        ("Zhao et al. (Pose)", "cuhk03-labeled", ("kpm", "SpinNet", "cuhk03-merged/openreid")),
    ],
)
def test_other_papers_quote_the_same(pabr, row, dataset, quoted):
    key, label, name = quoted
    elsewhere = {m: v for (d, m), v in values(load_paper(key), label).items() if d == name}
    here = {m: v for (d, m), v in values(pabr, row).items() if d == dataset and m != "rank20"}

    assert {m: v for m, v in elsewhere.items() if m in here} == here


def printed_ranks(paper: Paper, table: str) -> dict[tuple[str, str], str]:
    """Which of ranks 1, 5, 10, 20 and mAP each quoted row has on each data set, for example ``"1-5-m"``."""
    letters = dict(zip((*RANKS, "mAP"), ("1", "5", "10", "20", "m"), strict=True))
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for cell in paper.select(table=table, kind="cited"):
        found[cell.row, cell.dataset].append(letters[cell.metric])
    return {place: "-".join(names) for place, names in found.items()}


@pytest.mark.parametrize(
    ("table", "dataset", "more"),  # all other quoted rows have rank 1 and, but for Table 4, mAP only
    [
        (
            "table2",
            MARKET,
            {
                "Zhao et al. 2017": "1-5-10-20-m",
                "Sun et al. 2017": "1-5-10-m",
                "Lin et al. 2017": "1-5-10-20-m",
                "Chen et al. 2017": "1-5-10-20",
                "Hermans et al. 2017": "1-5-m",
                "Hermans et al. 2017 + re-ranking": "1-5-m",
                "Ustinova et al. 2017 (Bilinear)": "1-5-10-m",
                "Zheng et al. 2017 (Pose)": "1-5-10-20-m",
                "Zhao et al. 2017 (Pose)": "1-5-10-20",
                "Su et al. 2017 (Pose)": "1-5-10-20-m",
            },
        ),
        (
            "table2",
            SEVERAL,
            {"Hermans et al. 2017": "1-5-m", "Hermans et al. 2017 + re-ranking": "1-5-m"},
        ),
        (
            "table4",
            "cuhk03-detected",
            {"SIR-CIR": "1", "Varior et al.": "1-5-10", "Bai et al.": "1-5-10", "Geng et al.": "1"},
        ),
        ("table4", "cuhk03-labeled", {"Bai et al.": "1-5-10", "Geng et al.": "1"}),
        ("table4", "cuhk01-100", {"Shi et al.": "1-5-10", "Geng et al.": "1"}),
        ("table4", "cuhk01-486", {"Zhang et al.": "1-5-10", "Geng et al.": "1"}),
        ("table5", DUKE, {"Tong et al.": "1", "Sun et al.": "1-5-10-m"}),
        (
            "table6",
            MARS,
            {
                "Xu et al. (Video)": "1-5-10-20",
                "McLaughlin et al. (Video)": "1-5-10-20-m",
                "Zheng et al. (Video)": "1-5-20-m",
                "Liu et al. (Video)": "1-5-20-m",
                "Zhou et al.": "1-5-20-m",
                "Li et al.": "1-5-20-m",
                "Li et al. + re-ranking": "1-5-20-m",
                "Liu et al.": "1-5-20-m",
                "Hermans et al.": "1-5-m",
                "Hermans et al. + re-ranking": "1-5-m",
            },
        ),
    ],
)
def test_empty_cells_are_where_a_second_assignment_left_them(pabr, table, dataset, more):
    usual = "1-5-10-20" if table == "table4" else "1-m"

    found = {row: ranks for (row, name), ranks in printed_ranks(pabr, table).items() if name == dataset}
    assert {row: ranks for row, ranks in found.items() if ranks != usual} == more


def test_scores_rise_with_the_rank_and_are_above_map(pabr):
    for row in {cell.row for cell in pabr.cells}:
        for table in pabr.tables:
            found = values(pabr, row, table)
            for name in {dataset for dataset, _ in found}:
                ranks = [found[name, metric] for metric in RANKS if (name, metric) in found]
                assert all(a <= b for a, b in pairwise(ranks)), (row, table, name)
                if (name, "mAP") in found:
                    assert found[name, "mAP"] < found[name, "rank1"], (row, table, name)


def test_every_score_has_one_decimal_but_for_rows_of_mars(pabr):
    whole = {(cell.row, cell.metric) for cell in pabr.cells if cell.half_step == Decimal("0.5")}
    whole = {(row, metric) for row, metric in whole if metric in PERCENTAGES}

    videos = {(f"{name} et al. (Video)", metric) for name in ("Xu", "McLaughlin") for metric in RANKS}
    assert whole == videos | {(PROPOSED, "rank10")}  # "95" in Table 6


def test_proposed_network_has_one_set_of_scores(pabr):
    scores = values(pabr, PROPOSED)

    for name in ("joint limb internal (proposed)", "Proposed (original)"):
        assert values(pabr, name).items() <= scores.items()
    assert len(values(pabr, "Proposed (original)")) == 15


def test_large_galleries_are_of_the_dilated_network(pabr):
    cells = pabr.select(table="table3", kind="proposed")

    assert {cell.row for cell in cells} == {DILATED}
    assert all("Proposed_(Inception_V1,_OpenPose)" in cell.id for cell in cells)
    own = values(pabr, DILATED)
    for metric in ("rank1", "mAP"):
        assert [own[name, metric] for name in (MARKET, *LARGER)] == sorted(
            (cell.value for cell in cells if cell.metric == metric), reverse=True
        )


def test_settings_differ_by_column(pabr):
    settings = {cell.dataset: cell.setting for cell in pabr.cells if cell.metric in PERCENTAGES}

    assert settings[SEVERAL] == "multi-query"
    assert [settings[name] for name in LARGER] == [f"gallery={size}19732" for size in (1, 2, 5)]
    assert settings[MARKET] == settings[MARS] == settings["cuhk03-detected"] == "single-query"


def test_sentences_of_numbers_come_out(pabr):
    assert len(pabr.statements) == 13
    for statement in pabr.statements:
        results = [recompute(pabr, check) for check in statement.check]
        assert results and not faults(statement, results), statement.id


def test_errata_are_numbered_without_gaps_and_recomputed(pabr):
    assert [erratum.id for erratum in pabr.errata] == [f"P{i + 1}" for i in range(len(pabr.errata))]
    for erratum in pabr.errata:
        results = [recompute(pabr, check) for check in erratum.check]
        assert not faults(erratum, results), erratum.id


def test_one_quoted_row_may_be_read_as_another_table_has_it(pabr):
    read = {(cell.table, cell.row, cell.metric): cell.readings for cell in pabr.cells if cell.readings}

    assert read == {
        ("table3", "Lin et al. 2017", "rank1"): ("84.3",),
        ("table3", "Lin et al. 2017", "mAP"): ("64.7",),
    }


def test_auxiliary_rows_use_poses_attributes_generated_images_or_more_data(pabr):
    auxiliary = {label for label, row in pabr.cited.items() if row.auxiliary}

    assert {label for label in pabr.cited if "(Pose)" in label} < auxiliary
    references = {pabr.cited[label].reference.split()[0] for label in auxiliary}
    assert references == {"[14]", "[15]", "[16]", "[70]", "[74]", "[81]", "[83]"}


def test_counts_agree_with_the_protocols_but_for_the_errata(pabr):
    fields = {
        "images": "images",
        "train_images": "train",
        "train_tracklets": "train",
        "query_images": "query",
        "gallery_images": "gallery",
        "test_tracklets": "gallery",
        "train_pids": "train_pids",
        "test_pids": "test_pids",
        "query_pids": "query_pids",
        "cameras": "cameras",
        "distractors": "distractors",
    }
    differing = set()
    for cell in pabr.select(table="section6.1"):
        counts = PROTOCOLS.get(cell.dataset)().counts
        known = getattr(counts, fields[cell.metric]) if cell.metric in fields else None
        if known is not None and known != int(cell.value):
            differing.add((cell.dataset, cell.metric))

    assert differing == {
        (MARKET, "train_pids"),  # P1
        (MARKET, "test_pids"),
        (MARKET, "distractors"),  # P2
        ("cuhk03-detected", "images"),  # P16
        ("cuhk03-detected", "cameras"),
        (MARS, "test_pids"),  # P17
    }
    for name, dataset in pabr.datasets.items():
        assert dataset.queries in (None, PROTOCOLS.get(name)().counts.query)


def test_paper_recipe_is_section_5(pabr):
    recipe = pabr.recipes["paper"]

    assert (recipe.height, recipe.width, recipe.optimizer, recipe.momentum) == (160, 80, "sgd", 0.9)
    assert (recipe.sampler, recipe.batch_size, recipe.images_per_id) == ("capped", 180, 10)
    assert recipe.epochs * recipe.batches_per_epoch == 75_000
    assert recipe.weight_decay == 2e-4  # P3
    for iteration in (0, 19_999, 20_000, 39_999, 40_000, 59_999, 60_000, 74_999):
        rate = recipe.learning_rate(iteration // recipe.batches_per_epoch + 1)
        assert rate == pytest.approx(0.01 * 0.2 ** (iteration // 20_000))


def test_proxy_changes_sizes_the_schedule_and_what_weights_start_from(pabr):
    paper, proxy = (pabr.recipes[scale].model_dump() for scale in ("paper", "proxy"))

    changed = {name for name in paper if paper[name] != proxy[name]}
    network = {"backbone", "backbone_options", "weights", "pose", "height", "width", "method_options"}
    training = {"images_per_id", "images_per_batch", "batches_per_epoch", "epochs", "schedule"}
    assert changed <= network | training | {
        "street",
        "optimizer",
        "momentum",
        "weight_decay",
        "backbone_rate",
    }


def test_options_of_every_job_are_the_methods(jobs):
    for job in jobs.values():
        options = METHODS.get(job.method).Options(**job.options)
        assert (options.aggregation == "none") == (job.recipe.pose == "none")


def test_rows_of_one_network_share_their_hash_and_no_others_do(jobs):
    networks: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for (scale, label, dataset), job in jobs.items():
        networks[scale, dataset, job.row_hash].add(label)

    shared = {(place[:2], frozenset(labels)) for place, labels in networks.items() if len(labels) > 1}
    dilated = frozenset([DILATED, RERANKED])
    assert shared == {
        (("proxy", STREET), frozenset(NAMES)),
        (("paper", MARKET), frozenset([PROPOSED, "joint limb internal (proposed)", "Proposed (original)"])),
        (("paper", DUKE), frozenset([PROPOSED, "Proposed (original)"])),
        (("paper", MARS), frozenset([PROPOSED, "Proposed (original)"])),
        *((("paper", name), dilated) for name in (MARKET, SEVERAL, DUKE, MARS)),
        (("proxy", STREET), dilated),
    }
    assert len([place for place in networks if place[0] == "proxy"]) == 14


def test_one_network_is_asked_about_market_1501_in_every_way(pabr, jobs):
    asked = {jobs["paper", DILATED, name].row_hash for name in (MARKET, SEVERAL, *LARGER)}

    assert len(asked) == 1
    assert pabr.datasets["cuhk01-486"].starts_from == "cuhk03-labeled"


def test_rows_of_the_figure_are_run_without_printed_values(pabr):
    assert [label for label, row in pabr.rows.items() if not row.tables] == FIGURE_6
    assert all(pabr.rows[label].datasets for label in FIGURE_6)


def test_every_own_row_is_in_a_claim_but_those_that_the_paper_compares_with_no_own_one(pabr):
    claimed = {row for claim in pabr.claims for row in claim.rows}

    assert pabr.rows.keys() - claimed == {"Proposed", "Proposed (Inception-V1, R-CPM)"}


def test_claims_compare_different_scores_at_each_of_their_scales(pabr, jobs):
    for claim in pabr.claims:
        for scale in claim.scales:
            for dataset in [STREET] if scale == "proxy" else claim.datasets:
                rows = [pabr.row(label) for label in claim.rows]
                compared = [(jobs[scale, row.label, dataset].row_hash, row.rerank) for row in rows]
                assert len(set(compared)) == len(compared), (claim.id, scale)


def test_printed_cells_say_what_the_claims_say(pabr):
    compared = 0
    for claim in pabr.claims:
        for dataset in claim.datasets:
            for metric in claim.metrics:
                scores = [values(pabr, row).get((dataset, metric)) for row in claim.rows]
                if None not in scores:  # else a row of Figure 6
                    compared += 1
                    assert agrees(claim, scores), (claim.id, dataset, metric)
    assert compared == 59


@pytest.mark.parametrize(
    ("id_", "sizes_"),  # mAP, by data set
    [
        ("part-maps-help", {MARKET: "12.4", MARS: "9.1", DUKE: "13.6"}),
        ("all-maps-beat-internal-ones", {MARKET: "1.7"}),
        ("dilation-helps", {MARKET: "3.6", SEVERAL: "2.5", DUKE: "5.1", MARS: "3.7"}),
        ("re-ranking-helps", {MARKET: "10.3", SEVERAL: "7.9", DUKE: "14.6", MARS: "8.0"}),
        ("non-negative-is-better-in-map", {MARS: "1.9", DUKE: "0.9"}),
    ],
)
def test_printed_size_of_a_claim_is_its_step(pabr, id_, sizes_):
    (claim,) = (claim for claim in pabr.claims if claim.id == f"{id_}-as-printed")

    found = {target.dataset: target.size for target in claim.targets if target.metric == "mAP"}
    assert found == {name: Decimal(size) for name, size in sizes_.items()}


def test_steps_are_there_for_differences_too_small_for_their_cells(pabr):
    blunt = blunt_cells(pabr)

    for row, dataset in (("joint limb internal (proposed)", MARKET), ("Proposed (non-negative)", MARS)):
        (cell,) = pabr.select(row=row, dataset=dataset, metric="mAP")
        assert cell.id in blunt


@pytest.mark.parametrize("dial", ["viewpoint", "misalignment"])
def test_mechanisms_turn_what_the_part_maps_are_said_to_answer(pabr, jobs, dial):
    (mechanism,) = (one for one in pabr.mechanisms if one.dial == dial)

    assert mechanism.rows == (PROPOSED, BASELINE)
    assert len({jobs["proxy", row, STREET].row_hash for row in mechanism.rows}) == 2


def test_every_own_score_is_judged_but_those_of_the_unpublished_pose_network(pabr):
    scores = [cell for cell in pabr.select(kind="proposed") if cell.metric in PERCENTAGES]

    assert len(scores) == 159
    assert {cell.row for cell in scores if cell.tolerance is None} == {R_CPM}
    assert [label for label, row in pabr.rows.items() if row.incomparable] == [R_CPM]
