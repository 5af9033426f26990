"""A second look at the transcription of SONA's tables, by what the numbers must be to each other."""

from collections import defaultdict
from decimal import Decimal
from math import sqrt

import pytest

from protocols import PROTOCOLS
from reproductions.checks import RANKS, failures, is_mean, is_share, is_spread
from reproductions.errata import faults, recompute
from reproductions.noise import noise_table
from reproductions.paper import Cell, Paper
from reproductions.places import papers
from reproductions.spec import load_paper
from tests.reproductions.printed import sizes


@pytest.fixture(scope="module")
def sona() -> Paper:
    return load_paper("sona")


def means(paper: Paper, table: str) -> list[Cell]:
    return [cell for cell in paper.select(table=table) if not cell.is_deviation]


@pytest.mark.parametrize(
    ("table", "rows", "cited", "proposed", "statistics"),
    [
        ("table1", 8, 0, 0, 32),
        ("table2", 26, 65, 12, 12),
        ("table3", 15, 35, 12, 12),
        ("table4", 12, 38, 16, 16),
        ("table5", 13, 40, 144, 144),
        ("section3.4", 4, 0, 5, 0),
        ("section3.5", 2, 0, 2, 2),
    ],
)
def test_nothing_was_left_out(sona, table, rows, cited, proposed, statistics):
    assert sizes(sona, table) == (rows, cited, proposed, statistics)


def test_every_own_score_of_a_table_has_a_deviation_and_no_other_has(sona):
    for table in ("table2", "table3", "table4", "table5"):
        for cell in means(sona, table):
            assert (cell.std is not None) == (cell.kind == "proposed"), cell.id


def test_means_are_means_of_four_scores_of_one_decimal(sona):
    own = sona.select(table="table5", kind="proposed")
    tenth = Decimal("0.1")

    assert len(own) == 144
    assert all(is_mean(cell.value, cell.half_step, 4, tenth) for cell in own)
    assert all(is_spread(cell, str(cell.std), "population") for cell in own)
    two_decimals = [cell for cell in own if cell.half_step == Decimal("0.005")]
    assert sum(is_mean(cell.value + Decimal("0.01"), cell.half_step, 4, tenth) for cell in two_decimals) < 100


def test_scores_of_one_run_are_whole_numbers_of_queries_except_local_cnn(sona):
    queries = {name: dataset.queries for name, dataset in sona.datasets.items()}
    quoted = [
        cell
        for cell in sona.select(kind="cited")
        if cell.metric in RANKS and cell.half_step == Decimal("0.005")
    ]
    impossible = {
        cell.id for cell in quoted if not is_share(cell.value, cell.half_step, queries[cell.dataset] or 0)
    }

    assert {cell.row for cell in quoted} == {"DuATM", "Local-CNN*"}
    assert len(quoted) == 9
    assert impossible == {anomaly.cell for anomaly in sona.anomalies}
    assert {failure.cell.id for failure in failures(sona.cells, queries)} == impossible


def test_tables_2_to_4_repeat_table_5(sona):
    table5 = {(c.row, c.dataset, c.metric, c.is_deviation): c.printed for c in sona.select(table="table5")}
    shared = [
        (cell.printed, table5[place])
        for table in ("table2", "table3", "table4")
        for cell in sona.select(table=table)
        if (place := (cell.row, cell.dataset, cell.metric, cell.is_deviation)) in table5
    ]

    assert len(shared) == 120
    assert all(one == other for one, other in shared)


def test_bold_marks_the_best_of_each_column_except_for_one_tie(sona):
    columns = defaultdict(list)
    for table in ("table2", "table3", "table4", "table5"):
        for cell in means(sona, table):
            columns[table, cell.dataset, cell.metric].append(cell)
    odd = {
        cell.id
        for column in columns.values()
        for cell in column
        if cell.bold != (cell.value == max(other.value for other in column))
    }

    assert odd == {"sona-table5-BL+SONA2-dukemtmc-rank1"}  # erratum N17


def test_sentences_of_numbers_come_out(sona):
    assert len(sona.statements) == 7
    for statement in (*sona.statements, *sona.errata):
        assert not faults(statement, [recompute(sona, check) for check in statement.check]), statement.id


def test_all_twenty_errata_are_there(sona):
    assert [erratum.id for erratum in sona.errata] == [f"N{i}" for i in range(1, 21)]


def test_query_counts_are_those_of_table_1(sona):
    printed = {c.dataset: int(c.value) for c in sona.select(table="table1", metric="query_images")}

    assert printed == {name: d.queries for name, d in sona.datasets.items() if d.queries}


def test_counts_agree_with_the_protocols_that_exist(sona):
    for name in set(sona.datasets) & set(PROTOCOLS.names()):
        counts = PROTOCOLS.get(name)().counts
        printed = {c.metric: int(c.value) for c in sona.select(table="table1", dataset=name)}
        assert printed["train_images"] == counts.train
        assert printed["query_images"] == counts.query
        assert printed["train_pids"] == counts.train_pids


def test_usual_noise_is_pooled_from_table_5(sona):
    squares = defaultdict(list)
    for cell in sona.select(table="table5", kind="statistic"):
        squares[cell.dataset, cell.metric].append(float(cell.value) ** 2)

    for dataset, metrics in noise_table().deviation.items():
        for metric, deviation in metrics.items() if dataset != "elsewhere" else ():
            own = squares[dataset.removesuffix("/openreid"), metric]  # its rules ask about the same images
            sample = sqrt(sum(own) / len(own) * 4 / 3)  # population form, four runs, to sample form
            assert round(sample, 2) == deviation, (dataset, metric)


def test_stars_and_auxiliary_information_agree(sona):
    assert {label for label, row in sona.cited.items() if row.auxiliary} == {
        label for label in sona.cited if label.endswith("*")
    }


def test_paper_recipe_is_section_3_2_with_the_base_codes_schedule(sona):
    recipe = sona.recipes["paper"]

    def literal(epoch: int) -> float:
        if epoch < 50:
            return 1e-4 * (epoch // 5 + 1)
        return 1e-3 if epoch < 200 else 1e-4 if epoch < 300 else 1e-5

    assert recipe.epochs == 400
    assert recipe.batch_size == 128
    for epoch in range(1, 401):
        assert recipe.learning_rate(epoch) == pytest.approx(literal(epoch), rel=1e-12)


def test_the_words_on_warming_up_differ_from_the_schedule_in_nine_epochs(sona):
    recipe = sona.recipes["paper"]
    words = [1e-4 * ((epoch - 1) // 5 + 1) for epoch in range(1, 51)]  # five whole epochs a step

    different = [e for e in range(1, 51) if recipe.learning_rate(e) != pytest.approx(words[e - 1])]

    assert different == list(range(5, 50, 5))


def test_proxy_changes_sizes_only(sona):
    paper, proxy = (sona.recipes[scale].model_dump() for scale in ("paper", "proxy"))

    changed = {name for name in paper if paper[name] != proxy[name]}
    network = {"backbone", "backbone_options", "weights"}  # no ImageNet weights fit a slim network
    assert changed <= network | {"height", "width", "cutout_size", "ids_per_batch", "epochs", "schedule"} | {
        "method_options"
    }
    sizes = {"block_height", "block_width", "dropblock_size", "global_dim", "local_dim"}
    assert set(proxy["method_options"]) <= sizes


def test_proxy_schedule_is_the_papers_in_fewer_epochs(sona):
    paper, proxy = sona.recipes["paper"], sona.recipes["proxy"]
    share = paper.epochs // proxy.epochs

    for epoch in range(1, proxy.epochs + 1):
        span = range(share * (epoch - 1) + 1, share * epoch + 1)
        assert proxy.learning_rate(epoch) in {paper.learning_rate(e) for e in span}


def test_every_own_row_has_options_that_its_method_knows(sona):
    methods = pytest.importorskip("methods").METHODS
    for row in sona.rows.values():
        options = methods.get(row.method).Options
        for recipe in sona.recipes.values():
            options(**(recipe.method_options | row.options))


def test_every_folder_of_papers_loads():
    folders = [path.name for path in papers().iterdir() if path.is_dir()]

    assert [load_paper(key).key for key in sorted(folders)] == sorted(folders)
