from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from reproductions.paper import Paper
from reproductions.recipe import Recipe
from reproductions.spec import load_paper, paper_keys
from reproductions.transcript import decimals, half_of_last_digit, number, read_table
from retable.errors import SpecError, UnknownName

TOML = """
key = "tiny"
title = "A tiny paper"
authors = "N. N."
venue = "Nowhere"
year = 2020
arxiv = ""
artefacts = "none"

[datasets]
street = { queries = 40 }
square = { beside = ["circle"], recipe = { paper = { flip = 0.25, epochs = 20 } } }

[recipe.paper]
backbone = "resnet50"
weights = "imagenet"
height = 64
width = 32
flip = 0.5
ids_per_batch = 4
images_per_id = 2
epochs = 10
optimizer = "adam"
weight_decay = 0.0
schedule = [[1, 1e-3], [6, 1e-4]]
precision = "fp32"

[recipe.proxy]
epochs = 6

[tables.table1]
source = "Table 1"
files = ["table1.csv"]
groups = { "Old" = "quoted", "New" = "ours" }
runs = 4
resolution = "0.1"
spread = "population"

[tables.table1.columns]
"mAP" = { dataset = "street", metric = "mAP" }
"R-1" = { dataset = "street", metric = "rank1" }
"R-5" = { dataset = "street", metric = "rank5" }

[tables.table2]
source = "Table 2"
files = ["table2.csv"]
header_lines = 2
setting = "re-ranking"

[tables.table2.columns]
"Square mAP" = { dataset = "square", metric = "mAP" }
"Square R-1" = { dataset = "square", metric = "rank1" }

[tables.table3]
source = "Table 3"
files = ["table3.csv"]
setting = "-"
scale = "exact"
columns = { "Street" = { dataset = "street" }, "Square" = { dataset = "square" } }
metrics = { "people" = "identities" }

[rows."New"]
method = "sona"
options = { drop = "none" }
headline = true

[rows."Newer"]
method = "sona"
datasets = ["square"]
recipe = { paper = { flip = 0.75 }, proxy = { height = 32 } }

[cited]
"Old" = { reference = "[7] Someone, 1999" }

[[claim]]
id = "new-is-better"
kind = "step"
rows = ["New", "Newer"]
datasets = ["street"]
source = "Table 1"
statement = "New beats Newer."

[[mechanism]]
id = "new-sees-through"
rows = ["New", "Newer"]
dial = "occlusion"
levels = [0.0, 0.5]
source = "section 1"
statement = "New sees through."

[[erratum]]
id = "E1"
mark = "wrong"
source = "section 1"
printed = "a gain"
follows = "another"
check = [{ formula = "{table1-New-street-mAP} - {table1-Old-street-mAP}", gives = "20.03", says = "21" }]
readings = { "tiny-table1-Old-street-mAP" = ["50.1"] }
"""

DEVIATION = "\N{GREEK SMALL LETTER SIGMA}"
TABLES = {
    "table1.csv": f"""Method,mAP,R-1,R-5
Old [7],50.0,72.5,-
New μ,70.03,**80.00**,90.0
New {DEVIATION},±0.04,±0.07,±0.1
Newer μ,69.98,80.05,90.0
Newer {DEVIATION},±0.04,±0.09,±0.1
""",
    "table2.csv": """Method,Square,
,mAP,R-1
New,60.1 ± 0.3,70.2
""",
    "table3.csv": """,Street,Square
people,"1,501",
""",
}


def write(folder: Path, toml: str = TOML, **tables: str) -> Path:
    paper = folder / "tiny"
    paper.mkdir(parents=True)
    (paper / "paper.toml").write_text(toml, encoding="utf-8")
    for name, text in (TABLES | {f"{stem}.csv": text for stem, text in tables.items()}).items():
        (paper / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def tiny(tmp_path) -> Paper:
    return load_paper("tiny", write(tmp_path))


def test_cells_carry_everything_that_is_printed(tiny):
    cells = {cell.id: cell for cell in tiny.cells}
    cell = cells["tiny-table1-New-street-rank1"]

    assert (cell.printed, cell.value, cell.std) == ("80.00", Decimal("80.00"), "±0.07")
    assert (cell.table, cell.row, cell.group, cell.dataset, cell.metric) == (
        *("table1", "New", "ours", "street", "rank1"),
    )
    assert (cell.runs, cell.resolution, cell.kind, cell.method) == (4, Decimal("0.1"), "proposed", "sona")
    assert cell.bold and not cells["tiny-table1-New-street-mAP"].bold
    assert cell.is_primary and not cells["tiny-table1-New-street-rank5"].is_primary


def test_deviations_are_cells_of_their_own(tiny):
    (cell,) = (cell for cell in tiny.cells if cell.id == "tiny-table1-New-street-rank1-std")

    assert (cell.printed, cell.value, cell.kind, cell.std) == ("±0.07", Decimal("0.07"), "statistic", None)
    assert cell.is_deviation and cell.tolerance is None and not cell.is_primary


def test_quoted_rows_are_single_runs_known_to_their_last_digit(tiny):
    cell = tiny.select(row="Old", metric="mAP")[0]

    assert (cell.kind, cell.runs, cell.resolution, cell.method) == ("cited", 1, Decimal("0.1"), "")
    assert (cell.tolerance, cell.group, cell.readings) == (None, "quoted", ("50.1",))


def test_dashes_make_no_cell(tiny):
    assert not tiny.select(row="Old", metric="rank5")


def test_settings_are_part_of_the_id_and_deviations_may_share_a_field(tiny):
    cells = tiny.select(table="table2")

    assert [cell.id for cell in cells] == [
        "tiny-table2-New-square-re-ranking-mAP",
        "tiny-table2-New-square-re-ranking-mAP-std",
        "tiny-table2-New-square-re-ranking-rank1",
    ]
    assert cells[0].std == cells[1].printed == "±0.3"


def test_merged_cells_count_for_every_column_below_them(tiny):
    cells = tiny.select(table="table3")

    assert [(c.dataset, c.metric, c.printed, int(c.value)) for c in cells] == [
        ("street", "identities", "1,501", 1501),
        ("square", "identities", "1,501", 1501),
    ]
    assert {(c.kind, c.scale) for c in cells} == {("statistic", "exact")}


def test_rows_know_their_tables_and_data_sets(tiny):
    assert tiny.row("New").tables == ("table1", "table2")
    assert tiny.row("New").datasets == ("street", "square")
    assert tiny.row("Newer").datasets == ("street", "square")
    with pytest.raises(UnknownName, match="did you mean 'New'"):
        tiny.row("Neww")


def test_a_step_knows_what_is_printed(tiny):
    (target,) = tiny.claims[0].targets

    assert (target.size, target.runs, target.resolution) == (Decimal("0.05"), 4, Decimal("0.1"))


def test_proxy_recipe_inherits(tiny):
    assert tiny.recipes["proxy"].epochs == 6
    assert tiny.recipes["proxy"].height == tiny.recipes["paper"].height == 64


def test_data_sets_and_then_rows_change_the_recipe(tiny):
    def flip_epochs_height(scale, row, dataset):
        recipe = tiny.recipe(scale, row, dataset)
        return recipe.flip, recipe.epochs, recipe.height

    assert flip_epochs_height("paper", "New", "street") == (0.5, 10, 64)
    assert flip_epochs_height("paper", "New", "square") == (0.25, 20, 64)
    assert flip_epochs_height("paper", "Newer", "square") == (0.75, 20, 64)
    assert flip_epochs_height("paper", "Newer", "crosswalk") == (0.75, 10, 64)
    assert flip_epochs_height("proxy", "Newer", "square") == (0.5, 6, 32)
    assert tiny.recipe("proxy", "New", "square") is tiny.recipes["proxy"]


def test_the_street_is_judged_as_market1501_unless_said(tiny, tmp_path):
    told = load_paper("tiny", write(tmp_path / "b", TOML + '[street]\nprotocol = "x"\nbeside = ["y"]\n'))

    assert (tiny.street.protocol, tiny.street.beside) == ("market1501", ())
    assert (told.street.protocol, told.street.beside) == ("x", ("y",))
    assert tiny.datasets["square"].beside == ("circle",)
    assert [one.levels for one in tiny.mechanisms] == [(0.0, 0.5)]


def test_keys_are_folders_and_near_misses_are_named(tmp_path):
    write(tmp_path)
    (tmp_path / "empty").mkdir()

    assert paper_keys(tmp_path) == ["tiny"]
    with pytest.raises(UnknownName, match="did you mean 'tiny'"):
        load_paper("tinny", tmp_path)


def test_papers_are_frozen(tiny):
    with pytest.raises(ValidationError, match="frozen"):
        tiny.cells[0].printed = "99.9"


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("title =", "titles =", ("'titles'", "'title'")),
        ("weights =", "weight =", ("recipe.paper", "'weight'", "did you mean 'weights'")),
        ("flip = 0.5", "flip = 1.5", ("recipe.paper", "flip", "1.5")),
        ("[[1, 1e-3], [6, 1e-4]]", "[[1, 1e-3], [1, 1e-4]]", ("schedule", "rise strictly")),
        ("epochs = 6", "epochs = 5", ("recipe.proxy", "epoch 6 of 5")),
        ("[recipe.proxy]", "[recipe.poxy]", ("recipe", "recipe.paper and recipe.proxy")),
        ("headline = true", "headlines = true", ("rows 'New'", "did you mean 'headline'")),
        ('method = "sona"\ndatasets', "datasets", ("rows 'Newer'", "no key 'method'")),
        ('datasets = ["square"]', 'datasets = ["squares"]', ("'Newer'", "did you mean 'square'")),
        ('rows = ["New", "Newer"]', 'rows = ["New", "Never"]', ("new-is-better", "did you mean 'Newer'")),
        ('rows = ["New", "Newer"]', 'rows = ["New"]', ("new-is-better", "rows")),
        ('kind = "step"', 'kind = "monotone"', ("new-is-better", "three rows")),
        ('kind = "step"', 'kind = "bigger"', ("new-is-better", "kind", "'bigger'")),
        ('kind = "step"', 'kind = "step"\non_street = "why"', ("new-is-better", "on_street explains")),
        ('datasets = ["street"]\n', 'datasets = ["square"]\n', ("new-is-better", "square", "two printed")),
        ('gives = "20.03"', 'give = "20.03"', ("erratum 'E1'", "check", "did you mean 'gives'")),
        ('"R-5" = ', '"R-10" = ', ("table1.csv", "'R-5'")),
        ('[[claim]]\nid = "new', '[[claim]]\nid = "new-is-better"\n[[claim]]\nid = "new', ("twice",)),
        ("tiny-table1-Old-street-mAP", "tiny-table1-Old-street-mAp", ("did you mean", "-mAP'")),
        ('readings = {', 'explains = ["tiny-table1-New-street-mAp"]\nreadings = {',
         ("erratum 'E1', explains", "cell 'tiny-table1-New-street-mAp'", "did you mean", "-mAP'")),
        ('groups = { "Old"', 'groups = { "Odd"', ("table1", "did you mean 'Old'")),
        ('dataset = "street", metric = "mAP"', 'dataset = "stret", metric = "mAP"',
         ("did you mean 'street'",)),
        ("[7] Someone", "[8] Someone", ("table1.csv", "'Old'", "citation [7]", "[8] Someone")),
        ('"Old" = { reference', '"Od" = { reference', ("table1.csv", "'Old'", "did you mean 'Od'")),
        ('[cited]\n', '[cited]\n"Oldest" = { reference = "x" }\n', ("cited 'Oldest'", "did you mean 'Old'")),
        ('"people" = ', '"persons" = ', ("table3.csv", "people", "no metric")),
        ("flip = 0.25", "flop = 0.25", ("datasets 'square', recipe.paper", "'flop'", "did you mean 'flip'")),
        ("flip = 0.75", "flip = 7.5", ("rows 'Newer', recipe.paper", "flip", "7.5")),
        ("height = 32", "height = 0", ("rows 'Newer', recipe.proxy", "height")),
        ("{ flip = 0.75 }", "{ epochs = 5, schedule = [[1, 1], [19, 2]] }",
         ("rows 'Newer', recipe.paper", "epoch 19 of 5")),
        ("{ flip = 0.75 }", "{ schedule = [[1, 1e-3], [10, 1e-4]], cutout_size = 33 }",
         ("rows 'Newer', recipe.paper", "cutout of 33")),
        ("recipe = { paper = { flip = 0.75 }", "recipe = { pager = { flip = 0.75 }", ("'Newer'", "pager")),
        ('beside = ["circle"]', 'besides = ["circle"]', ("datasets 'square'", "did you mean 'beside'")),
        ("street = {", 'street = { trained_on = "squares",',
         ("'street', trained_on", "did you mean 'square'")),
        ("street = {", 'street = { starts_from = "street",', ("'street'", "starts_from", "another data")),
        ("street = {", 'street = { trained_on = "park" }\npark = { trained_on = "square" }\nyard = {',
         ("datasets 'street'", "trained_on", "'park'", "another data set")),
        ("square = {", 'square = { trained_on = "street",', ("recipe and trained_on", "it with 'street'")),
        ('[rows."New"]', '[datasets.park]\ntrained_on = "street"\n[rows."New"]\noptions_on = { park = {} }',
         ("row 'New'", "options_on", "'park'", "'street'")),
        ("headline = true", 'starts_from = ["Nw"]', ("rows 'New', starts_from", "did you mean 'New'")),
        ("headline = true", 'starts_from = ["New"]', ("rows 'New'", "starts_from", "do not start from it")),
        ('[rows."New"]', '[rows.One]\nmethod = "x"\nstarts_from = ["Two"]\n[rows.Two]\nmethod = "x"\n'
         'starts_from = ["Three"]\n[rows.Three]\nmethod = "x"\nstarts_from = ["One"]\n[rows."New"]',
         ("rows 'One'", "starts_from", "'One'", "do not start from it")),
        ("runs = 4", 'rows = { "Nw" = "New" }', ("table1', rows", "row 'Nw'", "did you mean 'New'")),
        ("runs = 4", 'rows = { "New" = "Nw" }', ("table1', rows", "row 'Nw'", "did you mean 'New'")),
        ("headline = true", 'incomparable = "why"', ("new-is-better", "row 'New'", "not compared")),
        ("levels = [0.0, 0.5]", "levels = [0.5, 0.5]", ("new-sees-through", "rise strictly")),
        ("levels = [0.0, 0.5]", "levels = [0.5]", ("new-sees-through", "levels")),
        ("levels = [0.0, 0.5]", "levels = [0.5, 1.5]", ("new-sees-through", "levels", "1.5")),
        ('rows = ["New", "Newer"]\ndial', 'rows = ["New", "Newest"]\ndial', ("did you mean 'Newer'",)),
        ('rows = ["New", "Newer"]\ndial', 'rows = ["New", "New"]\ndial', ("'New' twice",)),
        ('dial = ', 'metrics = ["map"]\ndial = ', ("new-sees-through", "metric 'map'", "mAP,")),
        ("year = 2020", "year = ", ("paper.toml", "no readable TOML")),
        ('key = "tiny"', 'key = "tyni"', ("key", "'tyni'", "'tiny'")),
        ('files = ["table2.csv"]', 'files = ["table9.csv"]', ("table9.csv", "no readable file")),
    ],
)  # fmt: skip
def test_errors_in_the_toml_say_where_and_what(tmp_path, old, new, parts):
    assert TOML.count(old) >= 1
    write(tmp_path, TOML.replace(old, new, 1))

    with pytest.raises(SpecError) as caught:
        load_paper("tiny", tmp_path)

    message = str(caught.value)
    assert message.startswith("papers/tiny/")
    assert all(part in message for part in parts), message


SECOND = """
[[erratum]]
id = "E2"
mark = "unclear"
source = "section 2"
printed = "a number"
follows = "another"
"""


@pytest.mark.parametrize("key", ["readings", "explains"])
def test_two_errata_on_one_cell_are_refused(tmp_path, key):
    line = {
        "readings": 'readings = { "tiny-table1-Old-street-mAP" = ["50.2"] }',
        "explains": 'explains = ["tiny-table1-New-street-mAP"]',
    }[key]
    first = TOML if key in TOML else TOML.replace("readings =", f"{line}\nreadings =")
    write(tmp_path, first + SECOND + line)

    with pytest.raises(
        SpecError, match=rf"erratum 'E2', {key}: found cell .*, which erratum 'E1' has as well"
    ):
        load_paper("tiny", tmp_path)


def test_one_erratum_reads_a_cell_that_another_explains(tmp_path):
    paper = load_paper("tiny", write(tmp_path, TOML + SECOND + 'explains = ["tiny-table1-Old-street-mAP"]'))

    (cell,) = paper.select(row="Old", metric="mAP")
    assert (cell.readings, cell.erratum) == (("50.1",), "E2")


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("70.03", "7O.03", ("table1.csv", "'New'", "'mAP'", "'7O.03'", "a number")),
        ("±0.07", "±", ("table1.csv", "'New'", "'R-1'", "a deviation")),
        ("±0.07", "0.07", ("'New'", "'R-1'", "a deviation")),
        ("Newer μ", "Newest μ", (f"'Newer {DEVIATION}'", "no line of its means")),
        ("Newer μ", "New μ", ("'New μ'", "twice")),
        ("Old [7]", "Odl [7]", ("'Odl'", "did you mean 'Old'")),
        ("50.0,72.5", "50.0,72.4", ("'Old'", "rank1", "'72.4'", "40 queries", "grim")),
        ("50.0,", "150.0,", ("'Old'", "mAP", "0 to 100", "percentage")),
        ("**80.00**", "90.50", ("rank1 90.50 above rank5 90.0", "order")),
        ("70.03", "70.04", ("'New'", "mAP", "'70.04'", "steps of 0.1", "mean")),
        ("±0.04,±0.07", "±0.03,±0.07", ("70.03 ±0.03", "spread")),
        ("72.5,-", "72.5", ("'Old [7]'", "3 fields", "4")),
        ("Method,mAP,R-1,R-5", "Method,mAP,R-1,R-6", ("'R-6'", "did you mean 'R-5'")),
        ("Method,mAP,R-1,R-5", "Method,mAP,R-1,R-1", ("header", "'R-1'")),
        ("Old [7],50.0", "Old [7],", ("'Old'", "'mAP'", "''")),
    ],
)  # fmt: skip
def test_errors_in_a_table_say_where_and_what(tmp_path, old, new, parts):
    assert TABLES["table1.csv"].count(old) == 1
    write(tmp_path, table1=TABLES["table1.csv"].replace(old, new))

    with pytest.raises(SpecError) as caught:
        load_paper("tiny", tmp_path)

    message = str(caught.value)
    assert message.startswith("papers/tiny/")
    assert all(part in message for part in parts), message


def test_an_acknowledged_anomaly_is_accepted_and_a_stale_one_is_not(tmp_path):
    odd = TABLES["table1.csv"].replace("72.5", "72.4")
    note = '[[anomaly]]\ncell = "tiny-table1-Old-street-rank1"\ncheck = "grim"\nreason = "so printed"\n'

    assert load_paper("tiny", write(tmp_path / "a", TOML + note, table1=odd)).anomalies
    with pytest.raises(SpecError, match=r"anomaly 'tiny-table1-Old-street-rank1'.*fails 'grim'"):
        load_paper("tiny", write(tmp_path / "b", TOML + note))


AGAIN = """
[tables.table4]
source = "Table 4"
files = ["table4.csv"]
columns = { "mAP" = { dataset = "street", metric = "mAP" } }
"""


def test_one_score_in_two_tables_is_one_number(tmp_path):
    def load(folder: str, toml: str, score: str) -> Paper:
        return load_paper("tiny", write(tmp_path / folder, toml, table4=f"Method,mAP\nOld [7],{score}\n"))

    toml = TOML.replace("[rows", AGAIN + "[rows", 1)
    assert len(load("same", toml, "50.0").select(row="Old", metric="mAP")) == 2
    with pytest.raises(
        SpecError, match=r"'table4', row 'Old', street mAP: found '50\.1'.*'50\.0' as in table1"
    ):
        load("other", toml, "50.1")
    excused = toml.replace("tiny-table1-Old-street-mAP", "tiny-table4-Old-street-mAP").replace(
        '["50.1"]', '["50.0"]'
    )
    assert len(load("excused", excused, "50.1").select(row="Old", metric="mAP")) == 2


@given(st.decimals(min_value=0, max_value=10_000, places=2), st.integers(0, 2))
def test_printed_numbers_come_back(value, places):
    printed = f"{value:.{places}f}"

    assert number(printed) == number(f"±{printed}") == number(f"{Decimal(printed):,}") == Decimal(printed)
    assert decimals(printed) == places
    assert abs(number(printed) - value) <= half_of_last_digit(printed)


@pytest.mark.parametrize(
    ("printed", "value", "places"),
    [("+≈10^-4", Decimal("0.0001"), 4), ("≈10^3", 1000, 0), ("-≈10^-1", Decimal("-0.1"), 1)],
)
def test_an_order_of_magnitude_is_a_power_of_ten(printed, value, places):
    assert (number(printed), decimals(printed)) == (value, places)


def test_an_order_of_magnitude_can_stand_in_a_table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("Method,extra\nOurs,+≈10^-4\n", encoding="utf-8")

    assert [entry.printed for entry in read_table(path)[1]] == ["+≈10^-4"]

    path.write_text("Method,extra\nOurs,+≈10^\n", encoding="utf-8")
    with pytest.raises(SpecError, match=r"row 'Ours', column 'extra': found '\+≈10\^', expected a number"):
        read_table(path)


def test_a_lost_digit_is_read_as_printed():
    assert (number("66."), decimals("66."), half_of_last_digit("34")) == (66, 0, Decimal("0.5"))


FIELD = st.decimals(min_value=0, max_value=100, places=1).map(str) | st.just("-")


@settings(deadline=None)
@given(st.lists(st.lists(FIELD, min_size=3, max_size=3), min_size=1, max_size=5))
def test_every_field_that_is_no_dash_is_read_once(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "table.csv"
    lines = ["Method,a,b,c", *(f"row {i},{','.join(fields)}" for i, fields in enumerate(rows))]
    path.write_text("\n".join(lines), encoding="utf-8")

    columns, entries = read_table(path)

    assert columns == ["a", "b", "c"]
    assert [(e.row, e.column, e.printed) for e in entries] == [
        (f"row {i}", column, field)
        for i, fields in enumerate(rows)
        for column, field in zip("abc", fields, strict=True)
        if field != "-"
    ]


def test_a_learning_rate_outside_the_training_is_refused(tiny):
    recipe = tiny.recipes["paper"]

    assert [recipe.learning_rate(epoch) for epoch in (1, 5, 6, 10)] == [1e-3, 1e-3, 1e-4, 1e-4]
    for epoch in (0, 11):
        with pytest.raises(ValueError, match=f"epoch {epoch} is outside 1..10"):
            recipe.learning_rate(epoch)


@given(st.sets(st.integers(2, 40), max_size=6), st.integers(1, 40))
def test_a_rate_holds_until_the_next_one(starts, epoch):
    schedule = tuple((first, float(first)) for first in (1, *sorted(starts)))
    recipe = Recipe(
        backbone="x", weights="none", height=8, width=8, flip=0, ids_per_batch=2,
        images_per_id=2, epochs=40, optimizer="adam", weight_decay=0, precision="fp32",
        schedule=schedule,
    )  # fmt: skip

    assert recipe.learning_rate(epoch) == max(first for first, _ in schedule if first <= epoch)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ids_per_batch": 0}, "sampler pk needs ids_per_batch of 1 or more .* found 0 and 2"),
        ({"images_per_id": 1}, "images_per_id of 2 or more, found 4 and 1"),
        ({"sampler": "all"}, "sampler"),
        ({"momentum": 0.9}, "adam has its usual moments and takes no momentum, found 0.9"),
        ({"optimizer": "sgd", "momentum": 1.0}, "momentum"),
        ({"backbone_rate": 0.0}, "backbone_rate"),
        ({"erasing_area": (0.4, 0.02)}, r"erasing_area must be \(least, greatest\)"),
        ({"erasing_area": (0.1, 1.1)}, "erasing_area"),
        ({"erasing_aspect": 0.0}, "erasing_aspect"),
        ({"sampler": "all pairs"}, "all pairs needs images_per_batch of 2 or more, found 1"),
        ({"shift": (-1, 0)}, "shift"),
        ({"ranking": ()}, "ranking"),
        ({"ranking": ("all", "all")}, "ranking names a way twice"),
        ({"ranking": ("some",)}, "ranking"),
        ({"ranking": (0,)}, "ranking"),
    ],
)
def test_recipes_that_cannot_be(tiny, fields, message):
    with pytest.raises(ValidationError, match=message):
        Recipe.model_validate(tiny.recipes["paper"].model_dump() | fields)


def test_a_sampler_needs_only_what_is_its_own(tiny):
    without = tiny.recipes["paper"].model_dump(exclude={"ids_per_batch", "images_per_id"})

    pairs = Recipe(**without | {"sampler": "pairs", "anchors_per_batch": 3, "negatives": 4})
    assert pairs.batch_size == 3 * (1 + 1 + 4)
    assert Recipe(**without | {"sampler": "shuffled", "images_per_batch": 7}).batch_size == 7
    assert Recipe(**without | {"sampler": "all pairs", "images_per_batch": 7}).batch_size == 7


def test_nothing_of_training_decides_what_a_fitted_method_is(tiny):
    fields = tiny.recipes["paper"].model_dump() | {"sampler": "fitted"}
    steps = {
        "flip": 0.1,
        "crop_area": (0.5, 1.0),
        "crop_aspect": (1.0, 2.0),
        "padding": 3,
        "shift": (1, 2),
        "cutout_probability": 0.5,
        "cutout_size": 2,
        "erasing_probability": 0.5,
        "erasing_area": (0.1, 0.2),
        "erasing_aspect": 0.5,
        "ids_per_batch": 9,
        "images_per_id": 9,
        "epoch": "images",
        "anchors_per_batch": 9,
        "negatives": 9,
        "images_per_batch": 9,
        "batches_per_epoch": 9,
        "epochs": 9,
        "optimizer": "sgd",
        "momentum": 0.5,
        "nesterov": True,
        "weight_decay": 0.5,
        "backbone_rate": 0.5,
        "schedule": ((1, 0.5),),
    }

    plain, changed = Recipe(**fields), Recipe(**fields | steps)

    assert plain.stated() == changed.stated()
    assert plain.stated().keys() == {"backbone", "height", "width", "sampler", "precision"} | (
        {"backbone_options"} if plain.backbone_options else set()
    )
    others = Recipe.model_fields.keys() - steps.keys()
    assert others == {  # which of these decide what is fitted, or how it is ranked
        *("backbone", "backbone_options", "weights", "height", "width", "sampler", "method_options"),
        *("pose", "precision", "street", "ranking"),
    }


def test_a_cutout_must_fit_the_image(tmp_path):
    write(tmp_path, TOML.replace("flip = 0.5", "flip = 0.5\ncutout_size = 33"))

    with pytest.raises(SpecError, match="cutout of 33 exceeds images of 64 x 32"):
        load_paper("tiny", tmp_path)
