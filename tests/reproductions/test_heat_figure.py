"""Heat maps from made-up activations."""

import numpy as np
import pytest

from reproductions.heat_figure import Heated, heat_figure, shares
from reproductions.tiles import relative


def activations(seed, scale=1.0):
    return scale * np.random.default_rng(seed).random((4, 2))


def test_each_row_has_its_map_over_the_grey_image_on_one_colour_scale():
    image = np.full((64, 32, 3), 90, np.uint8)
    images = [Heated(image, f"image {i}", [activations(i), activations(9 + i, 1e4)]) for i in range(5)]

    figure = heat_figure(images, ["Base", "Net"], "heat")

    body, side = figure.subfigs
    assert [part.get_suptitle() for part in body.subfigs[:5]] == [one.caption for one in images]
    drawn = []
    for one, part in zip(images, body.subfigs, strict=False):
        original, *others = part.axes
        assert len(original.images) == 1
        assert [axes.get_title() for axes in others] == ["Base", "Net"]
        for values, axes in zip(one.activations, others, strict=True):
            below, above = axes.images
            assert below.get_extent() == above.get_extent()
            np.testing.assert_allclose(above.get_array(), values / values.mean())
            drawn.append(above)
    assert {one.norm.vmin for one in drawn} == {0}
    (highest,) = {one.norm.vmax for one in drawn}
    assert highest == pytest.approx(max(float(one.get_array().max()) for one in drawn))
    assert side.axes[-1].get_ylabel() == "mean activation, times the map's mean"


def test_no_words_are_cut_or_lie_on_others():
    values = np.ones((4, 2))
    values[0, 0] = 2.2  # so that ticks have two decimals, the widest
    label = "Baseline+SC-STN(eps in (0,1))+VCN"
    images = [Heated(np.zeros((96, 32, 3), np.uint8), f"0001_c1s6_475601_0{i}.jpg", [values]) for i in (1, 2)]

    figure = heat_figure(images, [label], "heat")
    figure.draw_without_rendering()

    body, side = figure.subfigs
    assert "0.25" in {tick.get_text() for tick in side.axes[-1].get_yticklabels()}
    assert side.axes[-1].get_tightbbox().x1 <= figure.bbox.x1
    for part in body.subfigs:
        labels = max(axes.title.get_window_extent().y1 for axes in part.axes)
        caption = part._suptitle.get_window_extent()
        assert caption.y0 - labels > 0.05 * figure.dpi  # a third of a line


def test_a_map_without_activations_is_uniform():
    np.testing.assert_allclose(relative(shares(np.zeros((4, 2)))), 1)
    heat_figure([Heated(np.zeros((8, 4, 3), np.uint8), "", [np.zeros((4, 2))])], ["dead"], "")
