"""Principal components against a singular value decomposition of all descriptors; then the figure."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reproductions.component_figure import Coloured, component_figure
from reproductions.principal import principals


def maps(seed, images=7, channels=5, size=(4, 2)):
    """Correlated descriptors of a mean that is large beside their deviation."""
    random = torch.Generator().manual_seed(seed)
    mixed = torch.randn(channels, channels, generator=random, dtype=torch.float64)
    values = torch.randn(images, *size, channels, generator=random, dtype=torch.float64) @ mixed
    return (values + 100).movedim(-1, 1)


@given(st.integers(0, 99), st.lists(st.integers(1, 6), max_size=3))
@settings(deadline=None, max_examples=25)
def test_components_are_those_of_all_descriptors_at_once(seed, cuts):
    given_maps = maps(seed)

    found = principals({"a": batch} for batch in given_maps.tensor_split(sorted(set(cuts))))["a"]

    descriptors = given_maps.movedim(1, -1).flatten(0, 2).numpy()
    centred = descriptors - descriptors.mean(0)
    _, lengths, directions = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(found.mean, descriptors.mean(0))
    np.testing.assert_allclose(found.deviations, lengths[:3] / np.sqrt(len(descriptors)), rtol=1e-6)
    np.testing.assert_allclose(found.share, (lengths[:3] ** 2).sum() / (lengths**2).sum())
    np.testing.assert_allclose(np.abs((found.directions * directions[:3]).sum(1)), 1, rtol=1e-6)
    assert (found.directions.max(1) == np.abs(found.directions).max(1)).all()


def test_each_kind_has_its_own_components():
    first, second = maps(1), maps(2, channels=3)

    both = principals([{"a": first, "b": second}])

    np.testing.assert_array_equal(both["a"].mean, principals([{"a": first}])["a"].mean)
    assert both["b"].directions.shape == (3, 3) and both["b"].share == pytest.approx(1)


def test_colours_are_light_red_green_and_yellow_blue_by_deviations():
    """Descriptors one deviation along each direction, worked out by hand."""
    found = principals([{"a": maps(3)}])["a"]
    steps = found.mean + np.stack([np.zeros(5), *(found.directions * found.deviations[:, None])])

    colours = found.colours(torch.tensor(steps).T[None, :, None])[0, 0]

    grey, light, red, yellow = (colours.astype(float) - 127.5) / (255 / 4)
    expected = [(0, 0, 0), (3**-0.5,) * 3, (2**-0.5, -(2**-0.5), 0), (6**-0.5, 6**-0.5, -2 * 6**-0.5)]
    np.testing.assert_allclose([grey, light, red, yellow], expected, atol=0.01)


def test_far_descriptors_are_cut_and_equal_ones_are_grey():
    constant = principals([{"a": torch.full((2, 3, 2, 2), 7.0)}])["a"]
    assert set(constant.colours(torch.full((1, 3, 2, 2), 9.0)).ravel().tolist()) <= {127, 128}

    found = principals([{"a": maps(4)}])["a"]
    far = torch.tensor(found.mean + 50 * found.deviations[0] * found.directions[0])
    assert found.colours(far[None, :, None, None]).tolist() == [[[[255, 255, 255]]]]


def person(seed, images, rows=1):
    random = np.random.default_rng(seed)

    def pixels(height, width):
        return random.integers(0, 256, (height, width, 3), np.uint8)

    return [
        Coloured(pixels(64, 32), f"camera {i}", [{"appearance": pixels(4, 2), "joints": pixels(8, 4)}] * rows)
        for i in range(images)
    ]


def test_each_image_has_its_maps_beside_it_as_large_as_itself():
    people = {"person 3": person(0, 3), "person 7": person(1, 2)}

    figure = component_figure(people, ["Net"], "colours", "small print")

    assert figure.get_suptitle() == "colours" and figure.get_supxlabel() == "small print"
    assert [part.get_suptitle() for part in figure.subfigs] == ["person 3", "person 7"]
    for one, part in zip(people.values(), figure.subfigs, strict=True):
        lines = np.reshape(part.axes, (3, 3))
        for image, (original, *others) in zip(one, lines, strict=False):
            assert original.get_title() == image.caption
            np.testing.assert_array_equal(original.images[0].get_array(), image.image)
            for axes, values in zip(others, image.maps[0].values(), strict=True):
                np.testing.assert_array_equal(axes.images[0].get_array(), values)
                assert axes.images[0].get_extent() == original.images[0].get_extent()
                assert axes.images[0].get_interpolation() == "nearest"
        assert [axes.get_title() for axes in lines[0, 1:]] == ["appearance", "joints"]
        assert not any(axes.get_title() for axes in lines[1:, 1:].flat)
    assert not any(axes.images for axes in lines[2])  # the second person has two images


def test_several_rows_are_named_above_their_maps():
    label = "Proposed (Inception V1, OpenPose)"
    figure = component_figure({"person 3": person(0, 2, rows=2)}, [label, "Net"], "title", "footer")

    titles = [axes.get_title() for axes in figure.subfigs[0].axes[:5]]
    assert titles[1:] == [
        "Proposed\n(Inception V1,\nOpenPose)\nappearance",
        "Proposed\n(Inception V1,\nOpenPose)\njoints",
        "Net\nappearance",
        "Net\njoints",
    ]
    figure.draw_without_rendering()
    boxes = [axes.title.get_window_extent() for axes in figure.subfigs[0].axes[:5]]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    assert max(box.y1 for box in boxes) < figure.subfigs[0]._suptitle.get_window_extent().y0
