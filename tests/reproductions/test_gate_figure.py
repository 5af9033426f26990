"""Maps of pairs: figures from made-up maps, then by the command, of small networks that are not trained."""

import numpy as np
import pytest
import torch
from rich.console import Console

from reproductions import pictures
from reproductions.gate_figure import Partner, Query, gate_figure, together
from reproductions.jobs import make_job
from reproductions.pictures import chosen, draw_gate
from reproductions.tiles import relative
from reproductions.trained import load
from tests.reproductions.untrained import keep_untrained, mini_with

SHADES = 40, 90
"""Grey of each partner's image; a query's is 200."""


def image(shade):
    return np.full((64, 32, 3), shade, np.uint8)


def query(seed, names=("gate", "recurrent"), scale=1.0):
    """A query with two partners, whose maps are between ``scale`` and twice that."""
    random = np.random.default_rng(seed)
    partners = [
        Partner(
            image(shade), f"partner {shade}", {name: scale * (1 + random.random((4, 2))) for name in names}
        )
        for shade in SHADES
    ]
    return Query(image(200), f"query {seed}", partners)


def lines(block, columns):
    """The axes of each partner of a block."""
    return [block.axes[start : start + columns] for start in range(0, len(block.axes), columns)]


def test_a_pair_has_one_map_over_both_images():
    queries = [query(seed) for seed in range(2)]

    figure = gate_figure(queries, "pairs")

    body, *_ = figure.subfigs
    for one, block in zip(queries, body.subfigs, strict=False):
        assert block.get_suptitle() == one.caption
        for shade, partner, line in zip(SHADES, one.partners, lines(block, 6), strict=True):
            assert [axes.get_title() for axes in line[:2]] == ["query", f"partner {shade}"]
            below = [axes.images[0].get_array().max() for axes in line]
            assert below == [200, shade, 200, shade, 200, shade]
            for name, (over_query, over_partner) in (("gate", line[2:4]), ("recurrent", line[4:])):
                expected = partner.maps[name] / np.mean([other.maps[name] for other in one.partners])
                for axes in (over_query, over_partner):
                    np.testing.assert_allclose(axes.images[1].get_array(), expected)
                    assert axes.images[1].get_extent() == axes.images[0].get_extent()


def test_maps_of_one_kind_share_a_colour_scale_that_is_shown():
    figure = gate_figure([query(1), query(2, scale=1e4)], "pairs")

    body, *bars = figure.subfigs
    for start, part, symbol in ((2, bars[0], "$F$"), (4, bars[1], r"$\tilde{F}$")):
        drawn = [
            axes.images[1]
            for block in body.subfigs
            for line in lines(block, 6)
            for axes in line[start : start + 2]
        ]
        ((lowest, highest),) = {(one.norm.vmin, one.norm.vmax) for one in drawn}
        assert lowest == pytest.approx(min(float(one.get_array().min()) for one in drawn))
        assert highest == pytest.approx(max(float(one.get_array().max()) for one in drawn))
        assert part.axes[-1].get_ylim() == pytest.approx((lowest, highest))
        assert part.axes[-1].get_ylabel().startswith(f"strength of {symbol},")


def test_a_partner_that_activates_more_is_shown_to_do_so():
    weak, strong = np.full((4, 2), 1.0), np.full((4, 2), 3.0)

    scaled = together([Partner(image(0), "", {"gate": maps}) for maps in (weak, strong)])

    np.testing.assert_allclose(relative(scaled[0]["gate"]), 0.5)
    np.testing.assert_allclose(relative(scaled[1]["gate"]), 1.5)


def test_without_recurrent_layers_the_gate_is_drawn_alone():
    figure = gate_figure([query(1, names=("gate",))], "pairs")

    body, *bars = figure.subfigs
    assert [len(line) for line in lines(body.subfigs[0], 4)] == [4, 4]
    assert len(bars) == 1


def test_maps_that_are_the_same_everywhere_are_drawn():
    still = Partner(image(0), "", {"gate": np.ones((4, 2))})

    gate_figure([Query(image(200), "", [still, still])], "dead").draw_without_rendering()


ROW = """
[rows."Gated"]
method = "mi-irnn"

[rows."Gated".recipe.proxy]
backbone = "vgg11"
backbone_options = { width = 0.05, batch_norm = true }
sampler = "pairs"
anchors_per_batch = 16
cutout_probability = 0.0
height = 64
width = 32
precision = "fp32"
ranking = [10]
method_options = { joint = 8, hidden = 8, output = 8, map_size = [4, 2] }
"""


@pytest.fixture
def gated(shell, monkeypatch):
    """A network of MI-IRNN as it is drawn, on the tiny street."""
    paper = mini_with(shell, monkeypatch, [ROW])
    job = make_job(paper, "Gated", "crosswalk", "proxy")
    keep_untrained(job)
    (trained,) = load([job], 0, "cpu", Console(quiet=True))
    return trained


def test_pictures_of_pairs(shell, gated, monkeypatch):
    out = shell.folder / "pictures"

    drawn = shell("figures", "mini", "--row", "Gated", "--kind", "gate", "--count", 1, "-o", out)

    assert drawn.returncode == 0, drawn.stderr
    name = "mini-Gated-crosswalk-street-tiny-seed0-gate.png"
    assert drawn.stdout.split() == [str(out / name)]
    without = shell("figures", "mini", "--row", "Net", "--kind", "gate")
    assert "found Net (method sona), which has no joint maps of pairs" in without.stderr
    assert without.stderr.endswith("methods that have: mi-irnn\n")

    assert chosen([gated.job], [], named=True)[1] == ["gate", "heat", "lists"]
    queries_are_first_beside_a_true_match_and_somebody_else(gated, monkeypatch)


@torch.no_grad()
def queries_are_first_beside_a_true_match_and_somebody_else(trained, monkeypatch):
    shown = []
    monkeypatch.setattr(pictures, "gate_figure", lambda queries, _: shown.extend(queries))

    list(draw_gate([trained], 3))

    assert len(shown) == 3
    for (query, match, _), one in zip(trained.matches(3), shown, strict=True):
        pid, ranked = trained.query(query).pid, trained.nearest(query).tolist()
        wrong = next(place for place in ranked if trained.other(place).pid != pid)
        for place, relation, partner in zip(
            (match, wrong), ("true match", "other person"), one.partners, strict=True
        ):
            assert (trained.other(place).pid == pid) == (relation == "true match")
            assert partner.caption == f"{relation}\nrank {ranked.index(place) + 1}"
            expected = trained.method.gate_maps(trained.queries(query), trained.gallery(place))
            assert partner.maps.keys() == expected.keys() == {"gate", "recurrent"}
            for name, values in expected.items():
                np.testing.assert_allclose(partner.maps[name], values[0], rtol=1e-5)
