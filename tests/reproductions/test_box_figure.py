"""Boxes and transformed images, against points and pixels computed one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reproductions.box_figure import Boxed, box_figure, corners, displacement, transformed

HEIGHT, WIDTH = 24, 12
IDENTITY = np.eye(2, 3)
NUMBER = st.floats(-1.5, 1.5).map(lambda x: round(x, 3))
MATRICES = st.lists(NUMBER, min_size=6, max_size=6).map(lambda x: np.reshape(x, (2, 3)))


def photograph(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def literal_sample(image, a):
    """Eq. 1 and bilinear sampling, pixel by pixel; -1 and 1 are the image's outer edges."""
    out = np.zeros(image.shape)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            x, y = (2 * column + 1) / WIDTH - 1, (2 * row + 1) / HEIGHT - 1
            left, down = a @ (x, y, 1)
            at = ((down + 1) * HEIGHT - 1) / 2, ((left + 1) * WIDTH - 1) / 2
            for i in (np.floor(at[0]), np.floor(at[0]) + 1):
                for j in (np.floor(at[1]), np.floor(at[1]) + 1):
                    if 0 <= i < HEIGHT and 0 <= j < WIDTH:
                        share = (1 - abs(at[0] - i)) * (1 - abs(at[1] - j))
                        out[row, column] += share * image[int(i), int(j)]
    return out


@given(MATRICES)
def test_corners_are_the_matrix_times_the_corners(a):
    expected = [a @ (x, y, 1) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]

    np.testing.assert_allclose(corners(a), expected)


@pytest.mark.parametrize(
    "a",
    [
        IDENTITY,
        [[0.6, 0, 0.1], [0, 0.8, -0.2]],  # a part, cut out
        [[1.4, 0, -0.4], [0, 1.1, 0.3]],  # more than there is
        [[0.8, 0.3, 0.05], [-0.2, 1.2, 0.1]],  # turned
    ],
)
def test_images_are_sampled_by_equation_1(a):
    image = photograph()

    found = transformed(image, np.array(a))

    np.testing.assert_allclose(found, literal_sample(image, np.array(a)), atol=0.51)


def test_a_shift_by_whole_pixels_moves_them_and_leaves_black():
    image = photograph()

    found = transformed(image, np.array([[1, 0, 2 * 3 / WIDTH], [0, 1, -2 * 5 / HEIGHT]]))

    np.testing.assert_array_equal(found[5:, :-3], image[:-5, 3:])
    assert not found[:5].any() and not found[:, -3:].any()


@given(st.lists(MATRICES, min_size=1, max_size=4))
def test_displacement_is_how_far_corners_move(several):
    expected = [
        np.sqrt(np.mean([np.sum((a @ (x, y, 1) - (x, y)) ** 2) for x in (-1, 1) for y in (-1, 1)]))
        for a in several
    ]

    np.testing.assert_allclose(displacement(np.stack(several)), expected, atol=1e-12)
    assert displacement(IDENTITY[None]) == [0]


def test_each_row_has_its_box_in_the_original_and_its_image_beside_it():
    first, second = np.array([[0.5, 0, 0.1], [0, 0.5, 0]]), np.array([[1.2, 0.1, 0], [0, 1.1, 0.3]])
    images = [Boxed(photograph(i), f"image {i}", [first, second]) for i in range(3)]

    figure = box_figure(images, ["STN", "SC-STN"], "boxes", "a line\nand another")

    assert figure.get_suptitle() == "boxes"
    assert [part.get_suptitle() for part in figure.subfigs] == ["image 0", "image 1", "image 2"]
    for image, part in zip(images, figure.subfigs, strict=True):
        before, *after = part.axes
        assert [axes.get_title() for axes in part.axes] == ["original", "STN", "SC-STN"]
        np.testing.assert_array_equal(before.images[0].get_array(), image.image)
        for a, outline, axes in zip((first, second), before.patches, after, strict=True):
            drawn = outline.get_xy()[:4]
            x, y = (corners(a).T + 1) * [[WIDTH / 2], [HEIGHT / 2]] - 0.5
            np.testing.assert_allclose(drawn, np.stack([x, y], 1))
            assert outline.get_edgecolor() == axes.patches[0].get_edgecolor()
            np.testing.assert_array_equal(axes.images[0].get_array(), transformed(image.image, a))
            whole = [(-0.5, -0.5), (WIDTH - 0.5, -0.5), (WIDTH - 0.5, HEIGHT - 0.5), (-0.5, HEIGHT - 0.5)]
            np.testing.assert_allclose(axes.patches[0].get_xy()[:4], whole)
        upper = [line.get_xydata() for line in before.lines]
        np.testing.assert_allclose(upper, [outline.get_xy()[:2] for outline in before.patches])
        assert after[1].texts[0].get_text() == "+1.20 +0.10 +0.00\n+0.00 +1.10 +0.30"


@given(MATRICES)
@settings(max_examples=10, deadline=None)
def test_boxes_are_shown_whole_up_to_a_limit_and_all_tiles_on_one_scale(a):
    figure = box_figure([Boxed(photograph(), "", [IDENTITY, a])], ["one", "two"], "")

    (left, right), (bottom, top) = figure.subfigs[0].axes[0].get_xlim(), figure.subfigs[0].axes[0].get_ylim()
    assert {axes.get_xlim() for axes in figure.subfigs[0].axes} == {(left, right)}
    assert {axes.get_ylim() for axes in figure.subfigs[0].axes} == {(bottom, top)}
    for x, y in figure.subfigs[0].axes[0].patches[1].get_xy():
        assert left < x or left == pytest.approx(-0.4 * WIDTH - 0.5)
        assert x < right or right == pytest.approx(1.4 * WIDTH - 0.5)
        assert top < y or top == pytest.approx(-0.4 * HEIGHT - 0.5)
        assert y < bottom or bottom == pytest.approx(1.4 * HEIGHT - 0.5)
    assert left < -0.5 < WIDTH - 0.5 < right and top < -0.5 < HEIGHT - 0.5 < bottom


def test_small_print_is_folded_until_it_fits_the_page():
    words = "place and size of everybody in the detected boxes, before and after " * 4
    figure = box_figure([Boxed(photograph(), "", [IDENTITY])], ["one"], "title", words)

    figure.canvas.draw()
    box = figure._supxlabel.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1
    assert figure._supxlabel.get_text().split() == words.split()
