"""Patches, their neighbours and t-SNE, from made-up images and descriptors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from reproductions.embedding_figure import (
    NEIGHBOURS,
    Patches,
    embedded,
    embedding_figure,
    middle_ones,
    neighbours,
    patches_of,
)

NAMES = ["background", "head", "feet"]


def test_patches_are_around_their_cells_and_colours_of_the_cells_alone():
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 8, 3), np.uint8)
    parts = np.arange(2 * 4 * 2).reshape(2, 4, 2) % 3

    found = patches_of(images, parts, NAMES, [7, 9])

    assert found.pixels.shape == (16, 6, 6, 3)  # 1.5 times the cells of 4x4
    for point, (n, row, column) in enumerate(np.ndindex(2, 4, 2)):
        cell = images[n, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        top, left = np.clip([4 * row - 1, 4 * column - 1], 0, [10, 2])
        np.testing.assert_array_equal(found.pixels[point], images[n, top : top + 6, left : left + 6])
        np.testing.assert_allclose(found.colours[point], cell.mean((0, 1)))
        assert found.parts[point] == parts[n, row, column]
        assert found.people[point] == (7, 9)[n]
        assert found.cells[point] == 2 * row + column


def scattered(seed=0, n=120):
    """Descriptors that are the part of the body, and others that are the colour; four people."""
    random = np.random.default_rng(seed)
    parts, colours = random.integers(0, 3, n), random.integers(0, 2, n)
    patches = Patches(
        random.integers(0, 256, (n, 3, 3, 3), np.uint8),
        np.stack([255.0 * colours] * 3, 1),
        parts,
        NAMES,
        np.arange(n) % 4,
        np.arange(n) // 4 % 10,
    )
    noise = random.normal(0, 0.01, (2, n, 3))
    return {"colour": np.eye(3)[colours] + noise[0], "part": np.eye(3)[parts] + noise[1]}, patches


def test_neighbours_of_part_descriptors_share_the_part_and_of_others_the_colour():
    descriptors, patches = scattered()

    by_part, by_colour = (neighbours(descriptors[kind], patches) for kind in ("part", "colour"))

    assert by_part.part == 1 and by_colour.part < 0.7
    assert by_colour.colour == 0 and by_part.colour > 0.7
    assert by_part.part_by_chance == by_colour.part_by_chance == pytest.approx(0.5, abs=0.1)


def test_neighbours_are_the_nearest_of_other_people_on_the_body():
    _, patches = scattered(3)
    descriptors = np.random.default_rng(4).normal(size=(120, 6))

    shares, apart = [], []
    chance, place, far = [], [], []
    body = [i for i in range(120) if patches.parts[i]]
    for i in body:
        others = [j for j in body if patches.people[j] != patches.people[i]]
        chance += [patches.parts[i] == patches.parts[j] for j in others]
        place += [
            patches.parts[i] == patches.parts[j] for j in others if patches.cells[i] == patches.cells[j]
        ]
        far += [np.linalg.norm(patches.colours[i] - patches.colours[j]) for j in others]
        near = sorted(others, key=lambda j: np.linalg.norm(descriptors[i] - descriptors[j]))[:NEIGHBOURS]
        shares += [patches.parts[i] == patches.parts[j] for j in near]
        apart += [np.linalg.norm(patches.colours[i] - patches.colours[j]) for j in near]

    expected = np.mean(shares), np.mean(chance), np.mean(place), np.mean(apart) / np.mean(far)
    np.testing.assert_allclose(neighbours(descriptors, patches), expected)


@pytest.mark.parametrize("lacking", [{"parts": 0}, {"people": 1}])
def test_without_enough_of_the_body_nothing_is_measured(lacking):
    descriptors, patches = scattered(n=30)
    for field, value in lacking.items():
        patches = patches._replace(**{field: np.full(30, value)})

    assert neighbours(descriptors["part"], patches) is None
    figure = embedding_figure({"part": descriptors["part"]}, patches, "", "")
    assert figure.subfigs[0].get_suptitle() == "part descriptors"


@given(arrays(float, st.tuples(st.integers(1, 30), st.just(2)), elements=st.floats(0, 1)), st.integers(1, 9))
def test_every_square_that_is_hit_has_its_middle_point(places, across):
    found = middle_ones(places, across)

    def square(place):
        return tuple(min(int(x * across), across - 1) for x in place)

    assert set(found) == set(map(square, places.tolist()))
    for (column, row), point in found.items():
        assert square(places[point].tolist()) == (column, row)
        middle = np.array([column, row]) + 0.5
        away = [
            np.abs(place * across - middle).max()
            for place in places
            if square(place.tolist()) == (column, row)
        ]
        assert np.abs(places[point] * across - middle).max() == pytest.approx(min(away))


def test_an_embedding_is_the_same_every_time_and_keeps_clusters_apart():
    descriptors, patches = scattered(n=90)

    first, again = (embedded(descriptors["part"]) for _ in range(2))

    np.testing.assert_array_equal(first, again)
    assert first.min(0).tolist() == [0, 0] and first.max(0).tolist() == [1, 1]
    nearest = np.linalg.norm(first[:, None] - first[None], axis=2) + np.eye(90) * 9
    assert (patches.parts[nearest.argmin(1)] == patches.parts).mean() > 0.9
    assert embedded(descriptors["part"][:2]).shape == (2, 2)


def test_each_kind_has_its_patches_and_every_point_by_part():
    descriptors, patches = scattered(n=60)

    figure = embedding_figure(descriptors, patches, "points", "small print")

    assert figure.get_suptitle() == "points" and figure.get_supxlabel() == "small print"
    for kind, line in zip(descriptors, figure.subfigs, strict=True):
        measured = neighbours(descriptors[kind], patches)
        assert line.get_suptitle().startswith(f"{kind} descriptors: {100 * measured.part:.0f} % of near ones")
        left, right = line.axes
        places = embedded(descriptors[kind])
        assert len(left.images) == len(middle_ones(places, 40))
        for part, dots in enumerate(right.collections):
            np.testing.assert_allclose(dots.get_offsets(), places[patches.parts == part])
        legend = right.get_legend()
        assert [text.get_text() for text in legend.get_texts()] == NAMES
        shown = [handle.get_color() for handle in legend.legend_handles]
        assert len(set(shown)) == len(NAMES)
    figure.draw_without_rendering()
    assert legend.get_window_extent().x1 < figure.bbox.x1
