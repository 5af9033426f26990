"""Ranked lists from made-up images."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from reproductions.list_figure import RIGHT, WRONG, Found, Listed, list_figure


def image(shade):
    return np.full((16, 8, 3), shade, np.uint8)


def found(shades, matches):
    return [Found(image(s), f"camera {s}", s in matches) for s in shades]


@pytest.mark.parametrize("queries", [1, 2, 3])
def test_rows_stand_below_each_other_nearest_first_and_matches_are_green(queries):
    lists = [("Base: AP 3.0", found((5, 9, 7), {7})), ("Net: AP 60.0", found((7, 5), {7}))]
    asked = [Listed(image(100 + q), f"query {q}", lists) for q in range(queries)]

    figure = list_figure(asked, 3, "lists")

    assert figure.get_suptitle() == "lists"
    for q, part in enumerate(figure.subfigs[:queries]):
        left, right = part.subfigs
        assert left.axes[0].get_title() == f"query {q}"
        assert left.axes[0].images[0].get_array().max() == 100 + q
        assert [strip.get_suptitle() for strip in right.subfigs] == [heading for heading, _ in lists]
        for strip, (_, expected) in zip(right.subfigs, lists, strict=True):
            assert len(strip.axes) == 3
            drawn = [axes for axes in strip.axes if axes.images]
            assert [axes.images[0].get_array().max() for axes in drawn] == [o.image.max() for o in expected]
            assert [axes.get_title() for axes in drawn] == [one.caption for one in expected]
            frames = [to_hex(axes.patches[0].get_edgecolor()) for axes in drawn]
            assert frames == [RIGHT if one.match else WRONG for one in expected]
            assert not any(axes.patches for axes in strip.axes[len(drawn) :])
