"""Matching figures from made-up maps; then the command, on networks trained for an epoch."""

import shutil
from copy import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from reproductions.box_figure import displacement
from reproductions.descriptions import describe_all
from reproductions.jobs import Changes, make_job
from reproductions.matching_figure import cell_at, matching_figure
from reproductions.pictures import KINDS, chosen, draw_boxes, file_name, heading, most_different
from reproductions.records import load_records
from reproductions.spec import load_paper
from reproductions.tiles import folded, relative
from reproductions.trained import load
from retable.errors import RetableError
from tests.reproductions.conftest import MINI

SCALES = {"scale1": (4, 2), "scale2": (8, 4)}
TEMPERATURES = (0.05, 1.0)
MARKS = [(0.1, 0.5), (0.9, 0.1)]
SHARE = st.floats(0, 1)


@pytest.fixture
def maps():
    """Attention and confidence at two scales and two temperatures."""
    random = np.random.default_rng(3)

    def softmax(*shape, over):
        values = random.dirichlet(np.ones(over), shape[: len(shape) - 2])
        return values.reshape(shape)

    attention = {scale: softmax(h, w, over=h * w) for scale, (h, w) in SCALES.items()}
    confidence = {
        scale: {tau: softmax(h, w, h, w, over=h * w) for tau in TEMPERATURES}
        for scale, (h, w) in SCALES.items()
    }
    return attention, confidence


def image(shade):
    return np.full((64, 32, 3), shade, np.uint8)


def panels(figure):
    """Title -> axes, one list a title."""
    found = {}
    for part in figure.subfigs:
        for axes in part.axes:
            found.setdefault(axes.get_title(), []).append(axes)
    return found


def test_each_mark_has_its_cell_framed_and_its_map_drawn_at_every_temperature(maps):
    attention, confidence = maps

    found = panels(matching_figure(image(200), image(90), attention, confidence, MARKS, "two"))

    for scale, (h, w) in SCALES.items():
        framed = found[f"{scale}\n{h} x {w}"]
        corners = [axes.patches[0].get_xy() for axes in framed]
        assert corners == [((w // 2) * 32 / w - 0.5, -0.5), (-0.5, 64 - 64 / h - 0.5)]
        assert [(p.get_width(), p.get_height()) for p in framed[0].patches] == [(32 / w, 64 / h)]
        for tau in TEMPERATURES:
            drawn = [axes.images[1].get_array() for axes in found[f"{scale}\nτ = {tau:g}"]]
            for values, cell in zip(drawn, [(0, w // 2), (h - 1, 0)], strict=True):
                np.testing.assert_allclose(values, confidence[scale][tau][cell] * h * w)


def test_maps_lie_over_the_right_image_on_one_colour_scale(maps):
    attention, confidence = maps

    found = panels(matching_figure(image(200), image(90), attention, confidence, MARKS, "two"))

    over_query, over_other = found["attention\nscale1"][0].images, found["scale1\nτ = 1"][0].images
    assert over_query[0].get_array().max() == 200
    assert over_other[0].get_array().max() == 90
    assert over_query[0].get_extent() == over_query[1].get_extent()  # the map covers the image
    drawn = [ax.images[1] for title, several in found.items() if "τ" in title for ax in several]
    assert len({(one.norm.vmin, one.norm.vmax) for one in drawn}) == 1
    assert drawn[0].norm.vmax == pytest.approx(max(float(one.get_array().max()) for one in drawn))
    assert {one.get_interpolation() for one in drawn} == {"bilinear"}


def test_without_attention_the_matching_is_drawn_all_the_same(maps):
    found = panels(matching_figure(image(200), image(90), {}, maps[1], MARKS[:1], "none"))

    assert not any(title.startswith("attention") for title in found)
    assert len(found["scale2\nτ = 0.05"]) == 1


@given(st.integers(1, 40), st.integers(1, 40), SHARE, SHARE)
def test_every_place_lies_in_its_cell(height, width, down, right):
    row, column = cell_at((down, right), (height, width))

    assert 0 <= row < height and 0 <= column < width
    assert row / height <= down + 1e-9 and down <= (row + 1) / height + 1e-9
    assert column / width <= right + 1e-9 and right <= (column + 1) / width + 1e-9


def test_a_uniform_map_is_1_everywhere():
    np.testing.assert_allclose(relative(np.full((4, 2), 1 / 8)), 1)


ROWS = """
[rows."Pairs"]
method = "kpm"
options = { matching = "warp", attention = true }
datasets = ["market1501"]

[rows."Pairs".recipe.proxy]
sampler = "pairs"
anchors_per_batch = 16
cutout_probability = 0.0
height = 64
width = 32
epochs = 1
precision = "fp32"
ranking = [10, "all"]
method_options = { attention_channels = 4 }

[rows."Warped"]
method = "sc_stn"
options = { transformer = "stn", start = "random" }
datasets = ["market1501", "dukemtmc"]

[rows."Warped".recipe.proxy]
cutout_probability = 0.0
height = 64
width = 32
epochs = 1
precision = "fp32"
method_options = { image_size = [64, 32], hidden = 8 }

[rows."Warped, global"]
method = "sc_stn"
options = { transformer = "stn", start = "random" }
part = "global"
datasets = ["dukemtmc"]

[rows."Warped, global".recipe.proxy]
cutout_probability = 0.0
height = 64
width = 32
epochs = 1
precision = "fp32"
method_options = { image_size = [64, 32], hidden = 8 }
"""


@pytest.fixture
def paper(shell, monkeypatch):
    """The mini paper with rows of KPM and SC-STN, where the shell's commands look for papers."""
    folder = shell.folder / "papers" / "mini"
    shutil.copytree(MINI / "mini", folder)
    toml = (folder / "paper.toml").read_text()
    toml = toml.replace("[datasets]", "[datasets]\ndukemtmc = { queries = 2228 }")
    head, cited = toml.split("[cited]")
    (folder / "paper.toml").write_text(f"{head}{ROWS}\n[cited]{cited}")
    shell.environment["RETABLE_PAPERS"] = str(folder.parent)
    monkeypatch.setenv("RETABLE_CACHE", shell.environment["RETABLE_CACHE"])
    return load_paper("mini", folder.parent)


def test_pictures_of_trained_seeds(shell, paper, monkeypatch):
    absent = shell("figures", "mini", "--row", "Pairs")
    assert absent.returncode == 2
    assert 'run python -m reproductions.run mini --row "Pairs" --seed 0' in absent.stderr
    assert shell.run("--row", "Pairs", "--row", "Warped", "--seed", 0).returncode == 0

    out = shell.folder / "pictures"
    drawn = shell("figures", "mini", "--row", "Warped", "--row", "Pairs", "--count", 1, "-o", out)

    assert drawn.returncode == 0, drawn.stderr
    files = sorted(out.glob("*.png"))
    assert sorted(drawn.stdout.split()) == [str(file) for file in files]
    endings = [file.stem.rsplit("-", 1)[1] for file in files]
    assert endings.count("match") == 1 and endings.count("mistake") <= 1
    both = "mini-Warped-and-Pairs-crosswalk-street-tiny-seed0"
    assert {f"{both}-heat.png", f"{both}-lists.png"} < {file.name for file in files}
    assert (out / "mini-Warped-crosswalk-street-tiny-seed0-boxes.png").is_file()
    for file in files:
        with Image.open(file) as picture:
            assert picture.width > 500

    described = []

    def counted(method, *given, **options):
        described.append(method)
        return describe_all(method, *given, **options)

    monkeypatch.setattr("reproductions.trained.describe_all", counted)
    jobs = [make_job(paper, row, "crosswalk", "proxy") for row in ("Pairs", "Warped", "Warped, global")]
    pairs, warped, part = load(jobs, 0, "cpu", Console(quiet=True))
    pairs_show_what_they_say(pairs)
    scores_are_the_recorded_ones(shell, pairs, warped, part)
    for one in (pairs, warped, part):
        lists_are_the_protocols(one)
    assert described == [pairs.method, warped.method]  # once a network
    boxes_are_of_the_people_who_are_moved_most(warped)
    rows_without_a_transformer_are_left_out(warped)

    without = replace(KINDS["boxes"], draw=lambda *_: iter(()))
    monkeypatch.setitem(KINDS, "boxes", without)
    assert shell("figures", "mini", "--row", "Warped", "--kind", "boxes").stderr == (
        "error: --kind boxes: found no learned transform in Warped; name other rows\n"
    )

    weights = next(shell.runs.glob(f"{pairs.job.row_hash}/seed-0/weights.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    damaged = shell("figures", "mini", "--row", "Pairs")
    assert damaged.returncode == 2
    assert f"{weights}: cannot be loaded" in damaged.stderr


def pairs_show_what_they_say(trained):
    for query, other, _ in trained.matches(5):
        asking, asked = trained.query(query), trained.other(other)
        assert asking.pid == asked.pid and asking.camid != asked.camid
    assert len({pair.query for pair in trained.matches(5)}) == 5

    mistake = trained.mistake()  # an epoch of training leaves some
    asking, nearest = trained.query(mistake.query), trained.nearest(mistake.query)
    assert trained.other(mistake.other).pid not in (asking.pid, -1)
    for before in nearest[: nearest.tolist().index(mistake.other)]:
        assert trained.other(before).pid == asking.pid


def scores_are_the_recorded_ones(shell, *seeds):
    by_hash = {record.row_hash: record for record in load_records(shell.results, "mini")}
    for one in seeds:
        record = by_hash[one.job.row_hash]
        scores = record.scores(one.job.key)
        precisions, ranks = one.average_precisions(), one.first_ranks()
        assert np.nanmean(precisions) == pytest.approx(scores[record.headline])
        assert 100 * np.mean(ranks[~np.isnan(ranks)] == 1) == pytest.approx(scores["rank1"])
        assert precisions.shape == ranks.shape == (len(one.data.split.query),)


@torch.inference_mode()
def lists_are_the_protocols(trained):
    """A literal sort of one query's distances, Market-1501's junk left out."""
    gallery = trained.data.split.gallery
    images = trained.gallery(*range(len(gallery)))
    columns = trained.method.parts[trained.job.part] if trained.job.part else slice(None)
    for query in (0, 7):
        asking = trained.query(query)
        described = (trained.method.describe(shown) for shown in (trained.queries(query), images))
        if trained.job.method == "kpm":
            asked, all_images = described
            coarse = torch.cdist(asked["pooled"].double(), all_images["pooled"].double())[0]
            exact = trained.method.distance(asked, all_images)[0]
            scored = set(coarse.argsort()[:10].tolist())  # top-10, as the recipe ranks
            order = sorted(
                range(len(gallery)), key=lambda j: (j not in scored, (exact if j in scored else coarse)[j])
            )
        else:
            asked, all_images = (one[:, columns] for one in described)
            distances = trained.method.distance(asked, all_images)[0]
            order = sorted(range(len(gallery)), key=lambda j: float(distances[j]))
        expected = [
            place
            for place in order
            if gallery[place].pid != -1
            and (gallery[place].pid, gallery[place].camid) != (asking.pid, asking.camid)
        ]
        assert trained.nearest(query).tolist() == expected


def boxes_are_of_the_people_who_are_moved_most(trained):
    ((name, figure),) = draw_boxes([trained], 3)

    people = [place for place in range(len(trained.data.split.gallery)) if trained.other(place).pid > 0]
    assert trained.people().tolist() == people
    moved = displacement(trained.method.transforms(trained.gallery(*people)).double().numpy())
    strongest = {}
    for amount, place in sorted(zip(moved.tolist(), people, strict=True)):
        strongest[trained.other(place).pid] = amount, place  # the last is the strongest
    expected = [place for _, place in sorted(strongest.values(), reverse=True)[:3]]
    names = [part.get_suptitle().split()[0] for part in figure.subfigs]
    assert names == [trained.other(place).path.name for place in expected]
    assert f"in the {len(people)} detected boxes" in figure.get_supxlabel()
    assert name == "mini-Warped-crosswalk-street-tiny-seed0-boxes.png"


def rows_without_a_transformer_are_left_out(trained):
    still = copy(trained)
    still.job = replace(trained.job, row="Still")
    still.transforms = lambda places: np.tile(np.eye(2, 3), (len(places), 1, 1))

    ((name, figure),) = draw_boxes([trained, still], 2)

    assert "Still" not in name + figure.get_suptitle() + figure.get_supxlabel()
    assert [axes.get_title() for axes in figure.subfigs[0].axes] == ["original", "Warped"]
    assert not list(draw_boxes([still], 2))


def test_rows_and_kinds_that_are_drawn(paper):
    def job(row, dataset="crosswalk"):
        scale = "proxy" if dataset == "crosswalk" else "paper"
        return make_job(
            paper, row, dataset, scale, changes=Changes(street="tiny" if scale == "proxy" else None)
        )

    pairs, warped, net = map(job, ("Pairs", "Warped", "Net"))
    assert chosen([warped, pairs, net], ["matching"], named=False) == ([pairs], ["matching"])
    assert chosen([pairs, warped, net], [], named=False)[0] == [warped]  # as many kinds as Pairs, and later
    assert chosen([pairs, net], [], named=True) == ([pairs, net], ["matching", "heat", "lists"])
    assert chosen([net, warped], ["lists", "heat"], named=True) == ([net, warped], ["heat", "lists"])
    with pytest.raises(RetableError, match=r"--kind matching: found Net \(method sona\).* that have: kpm$"):
        chosen([pairs, net], ["matching"], named=True)
    with pytest.raises(RetableError, match=r"found Net \(method sona\), .* transform; .* that have: sc_stn$"):
        chosen([net], ["boxes"], named=False)

    market, duke = (job("Warped", name) for name in ("market1501", "dukemtmc"))
    other = job("Warped, global", "dukemtmc")
    assert chosen([market, duke, other], [], named=True)[0] == [duke, other]
    with pytest.raises(
        RetableError, match=r"found Warped on market1501, Warped, global on dukemtmc; .* share"
    ):
        chosen([market, other], [], named=True)


def test_queries_that_differ_most_come_first_and_none_without_a_match():
    precisions = np.array([[10.0, 90.0, np.nan, 50.0, 0.0], [20.0, 10.0, np.nan, 50.0, 100.0]])

    assert most_different(precisions, 3) == [4, 1, 0]
    assert most_different(precisions, 10) == [4, 1, 0, 3]


def labelled(paper, labels, dataset="crosswalk", **changes):
    scale = "proxy" if dataset == "crosswalk" else "paper"
    job = make_job(paper, "Warped", dataset, scale, changes=Changes(**changes))
    return [SimpleNamespace(job=replace(job, row=label), seed=2) for label in labels]


@pytest.mark.parametrize(
    ("labels", "changes", "title", "name"),
    [
        ("A", {"street": "default"}, "A on crosswalk (scale proxy), seed 2", "A-crosswalk-seed2-x.png"),
        (
            "AB",
            {"dials": {"misalignment": 0.8, "occlusion": 0.0}},
            "A and B on crosswalk (scale proxy, street tiny, misalignment 0.8, occlusion 0), seed 2",
            "A-and-B-crosswalk-street-tiny-misalignment-0.8-occlusion-0-seed2-x.png",
        ),
        (
            ["A w/o b", "B", "C"],
            {"dataset": "market1501"},
            "A w/o b, B and C on market1501 (scale paper), seed 2",
            "A-w-o-b-and-B-and-C-market1501-seed2-x.png",
        ),
    ],
)
def test_headings_and_names_say_all_that_pictures_differ_by(paper, labels, changes, title, name):
    rows = labelled(paper, labels, **changes)

    assert heading(rows) == f"MINI, {title}"
    assert file_name(rows, "x") == f"mini-{name}"


@given(st.lists(st.text("Aé+ /\N{SNOWMAN}", min_size=30, max_size=60), min_size=1, max_size=9, unique=True))
def test_long_names_are_cut_and_stay_different(labels):
    job = make_job(load_paper("mini", MINI), "Net", "crosswalk", "proxy")
    rows = [SimpleNamespace(job=replace(job, row=label), seed=0) for label in labels]

    names = [file_name(rows[:some], "heat") for some in range(1, len(rows) + 1)]

    assert all(len(name.encode()) <= 255 for name in names)
    assert all(name.startswith("mini-") and name.endswith("-seed0-heat.png") for name in names)
    assert len(set(names)) == len(names)


@given(st.lists(st.sampled_from(["Baseline", "SC-STN", "+", " ", "(eps in (0,1))"]), min_size=1).map("".join))
def test_labels_are_folded_without_loss(label):
    lines = folded(label).split("\n")

    assert "".join("".join(lines).split()) == "".join(label.split())
    assert all(len(line) <= 17 or not set("+ ") & set(line.rstrip("+ ")) for line in lines)


def test_labels_are_broken_after_a_plus_or_at_a_space():
    assert folded("Baseline+STN(w/o rotate)+VCN") == "Baseline+STN(w/o\nrotate)+VCN"
    assert folded("Baseline+SC-STN+VCN") == "Baseline+SC-STN+\nVCN"
    assert folded("Net") == "Net"
