"""Matching figures: the drawing from made-up maps, then the command on a network trained for an epoch."""

import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from reproductions.figures import with_maps
from reproductions.jobs import Changes, make_job
from reproductions.matching_figure import cell_at, matching_figure, relative
from reproductions.spec import load_paper
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


ROW = """
[rows."Pairs"]
method = "kpm"
options = { matching = "warp", attention = true, scales = "hourglass" }
datasets = ["market1501"]

[rows."Pairs".recipe.proxy]
sampler = "pairs"
anchors_per_batch = 16
cutout_probability = 0.0
height = 64
width = 32
epochs = 1
method_options = { attention_channels = 4 }
"""


@pytest.fixture
def paper(shell):
    """The mini paper with a row of KPM, where the shell's commands look for papers."""
    folder = shell.folder / "papers" / "mini"
    shutil.copytree(MINI / "mini", folder)
    toml = (folder / "paper.toml").read_text()
    head, cited = toml.split("[cited]")
    (folder / "paper.toml").write_text(f"{head}{ROW}\n[cited]{cited}")
    shell.environment["RETABLE_PAPERS"] = str(folder.parent)
    return load_paper("mini", folder.parent)


def test_pictures_of_a_trained_seed(shell, paper, monkeypatch):
    absent = shell("figures", "mini", "--row", "Pairs")
    assert absent.returncode == 2
    assert 'run python -m reproductions.run mini --row "Pairs" --seed 0' in absent.stderr
    assert shell.run("--row", "Pairs", "--seed", 0).returncode == 0

    drawn = shell("figures", "mini", "--row", "Pairs", "--count", 2, "-o", shell.folder / "pictures")

    assert drawn.returncode == 0, drawn.stderr
    files = sorted((shell.folder / "pictures").glob("*.png"))
    assert sorted(drawn.stdout.split()) == [str(file) for file in files]
    assert [file.stem.rsplit("-", 1)[1] for file in files].count("match") == 2
    with Image.open(files[0]) as picture:
        assert picture.width > picture.height

    monkeypatch.setenv("RETABLE_CACHE", shell.environment["RETABLE_CACHE"])
    pairs_show_what_they_say(make_job(paper, "Pairs", "crosswalk", "proxy"))
    weights = next(shell.runs.glob("*/seed-0/weights.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    damaged = shell("figures", "mini", "--row", "Pairs")
    assert damaged.returncode == 2
    assert f"{weights}: cannot be loaded" in damaged.stderr


def pairs_show_what_they_say(job):
    from reproductions.trained import Trained

    trained = Trained(job, 0, "cpu", Console(quiet=True))
    for query, other, _ in trained.matches(5):
        asking, asked = trained.query(query), trained.other(other)
        assert asking.pid == asked.pid and asking.camid != asked.camid
    assert len({pair.query for pair in trained.matches(5)}) == 5

    mistake = trained.mistake()  # an epoch of training leaves some
    assert trained.query(mistake.query).pid != trained.other(mistake.other).pid >= 0
    with torch.inference_mode():
        places = range(len(trained.data.split.gallery))
        described = (
            trained.method.describe(trained.queries(mistake.query)),
            trained.method.describe(trained.gallery(*places)),
        )
        distances = trained.method.distance(*described)[0]
    others = [p for p in places if trained.other(p).pid not in (trained.query(mistake.query).pid, -1)]
    assert mistake.other == min(others, key=lambda place: float(distances[place]))


def test_the_last_row_with_maps_is_drawn_and_no_other(paper):
    pairs = make_job(paper, "Pairs", "crosswalk", "proxy")
    net = make_job(paper, "Net", "crosswalk", "proxy", changes=Changes(street="tiny"))

    assert with_maps([pairs, net]) is pairs
    with pytest.raises(RetableError, match=r"Net \(method sona\): .* has them: .*kpm"):
        with_maps([net])
