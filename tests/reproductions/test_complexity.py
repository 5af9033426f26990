"""Sizes of networks: what counts, how tables name networks, and what is said of printed sizes."""

import json
from decimal import Decimal
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reproductions import complexity as complexity_module
from reproductions import flops
from reproductions.compare import cell_row
from reproductions.complexity import KINDS, Complexity, complexity, computed
from reproductions.flops import count, shapes_only
from reproductions.judgement import Judgement
from reproductions.paper import Network
from reproductions.spec import load_paper
from reproductions.verdicts import judge_exact
from retable.errors import RetableError, SpecError

MINI = Path(__file__).with_name("papers") / "mini"
TABLE = """
[tables.table2]
source = "Table 2"
files = ["table2.csv"]
setting = "-"
scale = "exact"
over = { "Net [1]" = "Trunk" }

[tables.table2.columns]
"Param (M)" = { dataset = "-", metric = "parameters" }
"Param (M) extra" = { dataset = "-", metric = "extra_parameters" }
"FLOPs (B)" = { dataset = "-", metric = "flops" }
"FLOPs (B) extra" = { dataset = "-", metric = "extra_flops" }

[tables.table2.networks]
"Trunk" = { options = { output_stride = 16, dilated = false } }
"Net [1]" = { method = "pyramidal", options = { stripes = 3, dim = 16 } }
""".replace("Net [1]", "Pyramid")
LINES = """Method,Param (M),Param (M) extra,FLOPs (B),FLOPs (B) extra
Trunk,0.015,-,0.0016,-
Pyramid,0.017,+0.002,0.002,+≈10^-6
"""


@pytest.fixture
def sizes(tmp_path, monkeypatch):
    """Loads the mini paper with a table of sizes, edited."""

    def load(key="sizes", old="", new=""):
        folder = tmp_path / "papers" / key
        folder.mkdir(parents=True)
        text = (MINI / "paper.toml").read_text().replace('key = "mini"', f'key = "{key}"')
        (folder / "paper.toml").write_text((text + TABLE).replace(old, new) if old else text + TABLE)
        (folder / "table1.csv").write_text((MINI / "table1.csv").read_text())
        (folder / "table2.csv").write_text(LINES.replace(old, new) if old else LINES)
        monkeypatch.setenv("RETABLE_PAPERS", str(folder.parent))
        return load_paper(key)

    return load


# What counts


class Small(nn.Module):
    """Every kind of layer once, and a classifier that describes nothing."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, groups=1)
        self.norm = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 8, (3, 1), groups=4, bias=False)
        self.linear = nn.Linear(8, 5)
        self.scale = nn.Parameter(torch.ones(5))
        self.classifier = nn.Linear(5, 751)

    def describe(self, images):
        x = F.relu(self.norm(self.conv(images)))  # (1, 8, 6, 4)
        x = x + F.leaky_relu(x)
        x = self.grouped(F.max_pool2d(x, 2))  # (1, 8, 1, 2)
        return torch.tanh(self.linear(x.mean((2, 3)))) * self.scale


def test_every_kind_of_layer_by_hand():
    with shapes_only():
        model = Small()
        size = count(model, model.describe, 6, 4)

    assert size.parameters == (27 + 1) * 8 + 2 * 8 + 2 * 3 * 8 + (8 + 1) * 5 + 5
    assert size.multiply_adds == {
        "convolution": 27 * 8 * 6 * 4 + 2 * 3 * 8 * 2,
        "other_products": 8 * 5,
        "norm": 2 * 8 * 6 * 4,
        "activation": 2 * 8 * 6 * 4,
        "addition": 8 * 6 * 4,
    }
    assert size.flops == sum(size.multiply_adds.values())


def test_attention_is_two_products():
    class Attention(nn.Module):
        def describe(self, images):
            x = images.flatten(2).mT[:, None]  # (1, 1, 24, 3)
            return F.scaled_dot_product_attention(x, x, x)

    with shapes_only():
        size = count(Attention(), Attention().describe, 6, 4)

    assert size.multiply_adds["other_products"] == size.flops == 2 * 24 * 24 * 3


def test_a_network_of_numbers_counts_the_same_in_evaluation_mode():
    with shapes_only():
        model = Small()
        expected = count(model, model.describe, 6, 4)

    model = Small().train()
    assert count(model, model.describe, 6, 4) == expected
    assert not model.training


def test_convolutions_of_a_resnet_one_by_one():
    """Each convolution's weights, as often as it has positions."""
    recipe = load_paper("mini", MINI.parent).recipes["paper"].model_copy(update={"height": 96, "width": 32})
    network = Network(options={"output_stride": 16, "dilated": False})
    positions = []

    def note(module, _, out):
        if isinstance(module, nn.Conv2d):
            positions.append(module.weight.numel() * out.shape[2] * out.shape[3])

    model, describe = complexity_module.build(network, recipe)
    for module in model.modules():
        module.register_forward_hook(note)
    describe(torch.zeros(1, 3, 96, 32))

    size = complexity(network, recipe)
    assert size.multiply_adds["convolution"] == sum(positions)
    assert size.parameters == sum(p.numel() for p in model.parameters())


def test_what_a_network_has_beyond_another():
    def one(n):
        return Complexity(n, {kind: n * i for i, kind in enumerate(KINDS)})

    assert one(5) - one(3) == one(2)


# Tables


def test_printed_sizes_become_cells_that_no_data_set_judges(sizes):
    paper = sizes()
    cells = paper.select(table="table2")

    assert [cell.id for cell in cells if cell.row == "Trunk"] == [
        "sizes-table2-Trunk-parameters",
        "sizes-table2-Trunk-flops",
    ]
    assert {(cell.kind, cell.scale, cell.method, cell.tolerance) for cell in cells} == {
        ("statistic", "exact", "", None)
    }
    assert "Trunk" not in paper.rows


def test_sizes_are_in_millions_and_billions_and_extra_ones_are_differences(sizes):
    paper = sizes()
    trunk, parameters = (
        complexity(paper.table("table2").networks[row], paper.recipes["paper"])
        for row in ("Trunk", "Pyramid")
    )
    found = {(cell.row, cell.metric): computed(paper, cell) for cell in paper.select(table="table2")}

    assert found["Trunk", "parameters"] == Decimal(trunk.parameters) / 10**6
    assert found["Trunk", "flops"] == Decimal(trunk.flops) / 10**9
    assert found["Pyramid", "extra_parameters"] * 10**6 == parameters.parameters - trunk.parameters
    assert found["Pyramid", "extra_parameters"] * 10**6 == 6 * (16 + 1 + 2) * 16
    assert found["Pyramid", "extra_flops"] == found["Pyramid", "flops"] - found["Trunk", "flops"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"Trunk" = {', '"Trank" = {', r"over: found row 'Trunk', did you mean 'Trank'"),
        ("Trunk,", "Trink,", r"table2.csv, row 'Trink', column 'Param \(M\)': found no network .*'Trunk'"),
        ('"parameters" }', '"params" }', r"'Param \(M\)': found metric 'params', did you mean"),
        ('over = { "Pyramid" = "Trunk" }', "", r"row 'Pyramid', .* nothing in over that 'extra_parameters'"),
        ('dataset = "-"', 'dataset = "market1501"', r"table 'table2': found data set 'market1501'"),
        (
            '"Pyramid" = {',
            '"Pyramids" = { method = "bdb" }\n"Pyramid" = {',
            r"networks: found row 'Pyramids'",
        ),
        ('method = "pyr', 'metod = "pyr', r"networks, Pyramid: found key 'metod', did you mean 'method'"),
        ('scale = "exact"', 'scale = "paper"', "so the scale is exact"),
        (
            "dim = 16 } }",
            'dim = 16 }, counts = ["norm"] }',
            r"row 'Pyramid', .* found counts of \('norm',\) over",
        ),
        ('metric = "rank1"', 'metric = "flops"', r"table1.csv, row 'Old', .*: found no network"),
    ],
)
def test_tables_that_cannot_be(sizes, old, new, message):
    with pytest.raises(SpecError, match=message):
        sizes("broken", old, new)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"pyramidal"', '"pyramid"', r"unknown method 'pyramid': did you mean .*'pyramidal'"),
        ("stripes =", "stripe =", r"unknown option 'stripe'"),
        ("stripes = 3", "stripes = 2", r"no 2 equal stripes"),
    ],
)
def test_a_network_that_cannot_be_built_names_paper_table_and_row(sizes, old, new, message):
    paper = sizes("unbuilt", old, new)
    (cell,) = paper.select(row="Pyramid", metric="flops")

    with pytest.raises(
        SpecError, match=r"papers/unbuilt/paper.toml, table 'table2', networks 'Pyramid': .*" + message
    ):
        computed(paper, cell)


def test_networks_are_built_once_and_only_for_their_cells(sizes, monkeypatch):
    built = []

    def counted(*arguments):
        built.append(arguments)
        return count(*arguments)

    monkeypatch.setattr(flops, "count", counted)
    monkeypatch.setattr(complexity_module, "_counted", {})
    paper = sizes()
    judgement = Judgement(paper, [])

    assert [judgement.answer(cell).verdict for cell in paper.select(table="table1", kind="proposed")]
    assert not built

    assert len(judgement.cells) == len(Judgement(paper, []).cells)
    assert len(built) == 2


def test_compare_and_the_command_show_computed_printed_and_word(sizes, capsys):
    paper = sizes()
    judgement = Judgement(paper, [])
    assert complexity_module.main(paper.key, "json") == 0
    shown = {(row["row"], row["metric"]): row for row in json.loads(capsys.readouterr().out)}

    cells = paper.select(table="table2")
    assert len(shown) == len(cells) == 6
    for cell in cells:
        value, answer = computed(paper, cell), judgement.answer(cell)
        compared, row = cell_row(judgement, answer), shown[cell.row, cell.metric]
        assert answer.computed == pytest.approx(float(value))
        assert compared["published"] == row["printed"] == cell.printed
        assert float(compared["measured"]) == pytest.approx(float(value), rel=1e-5)
        assert row["computed"] == f"{value:.6f}"
        assert compared["verdict"] == row["verdict"] == judge_exact(value, cell.printed).word
    kinds = [float(shown["Trunk", "flops"][kind]) for kind in KINDS]
    assert sum(kinds) == pytest.approx(float(shown["Trunk", "flops"]["computed"]), abs=3e-6)


def test_a_paper_without_such_tables_says_so():
    with pytest.raises(RetableError, match="sona prints no sizes of networks"):
        complexity_module.main("sona")


# Table 4 of sc_stn


def test_an_erratum_explains_each_size_of_sc_stn_that_differs_and_no_other():
    paper = load_paper("sc_stn")
    answers = [Judgement(paper, []).answer(cell) for cell in paper.select(table="table4")]

    for answer in answers:
        assert (answer.verdict.word == "differs") == bool(answer.cell.erratum), answer.cell.id
        assert not answer.fails
    explained = next(answer for answer in answers if answer.cell.erratum == "S1")
    assert "explained by erratum S1" in explained.note


def test_most_flops_of_sc_stn_come_out_and_these_do_not():
    paper = load_paper("sc_stn")
    judgement = Judgement(paper, [])

    words = {
        (cell.row, cell.metric): judgement.answer(cell).verdict.word
        for cell in paper.select(table="table4")
        if cell.metric.endswith("flops")
    }

    assert {place for place, word in words.items() if word == "differs"} == {
        ("BDB (ICCV 19)", "flops"),
        ("BDB (ICCV 19)", "extra_flops"),
        ("SONA (ICCV 19)", "flops"),
        ("SONA (ICCV 19)", "extra_flops"),
    }
    assert len(words) == 12


def test_the_backbones_of_sc_stn_by_kind_of_layer():
    paper = load_paper("sc_stn")
    networks, recipe = paper.table("table4").networks, paper.recipes["paper"]
    small, large = (complexity(networks[f"ResNet-50 ({letter})"], recipe) for letter in "OM")

    assert small.parameters == large.parameters == 23_508_032
    assert list(small.multiply_adds.values()) == [6_079_905_792, 0, 2 * 12_435_456, 10_665_984, 6_291_456]
    assert list(large.multiply_adds.values()) == [18_687_983_616, 0, 2 * 24_674_304, 0, 0]
    everything = networks["ResNet-50 (M)"].model_copy(update={"counts": Network().counts})
    counted = complexity(everything, recipe).multiply_adds
    assert list(counted.values()) == [18_687_983_616, 0, 2 * 24_674_304, 21_135_360, 13_369_344]
