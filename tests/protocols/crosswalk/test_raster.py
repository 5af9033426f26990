"""The rasteriser against geometry worked out another way."""

from math import cos, pi, sin

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from protocols.crosswalk.raster import FAR, FRONT, cast, extent, place
from protocols.crosswalk.shapes import Shape, as_array, ellipsoid

UP, AHEAD = (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
angles = st.floats(-3, 3)


def drawn(shapes, yaw=0.0, tilt=0.0, window=(-2.0, -2.0, 4.0, 4.0), pixels=80):
    placed = place(as_array(shapes), yaw, tilt)
    depth = np.full((pixels, pixels), FAR, dtype=np.float32)
    seen = np.full((pixels, pixels), -1, dtype=np.int16)
    cast(placed, window, depth, seen)
    return placed, depth, seen


def pixel_grid(pixels=80, window=(-2.0, -2.0, 4.0, 4.0)):
    left, top, width, height = window
    x = left + (np.arange(pixels) + 0.5) * width / pixels
    y = top + (np.arange(pixels) + 0.5) * height / pixels
    return np.meshgrid(x, y)


def test_a_sphere_is_a_sphere():
    _, depth, seen = drawn([ellipsoid((0.3, 0.5, 0.0), UP, AHEAD, 0.8, 0, 1)])
    x, y = pixel_grid()
    inside = 0.8**2 - (x - 0.3) ** 2 - (y + 0.5) ** 2  # y points down in the image
    np.testing.assert_array_equal(seen[abs(inside) > 4e-3] == 0, inside[abs(inside) > 4e-3] > 0)
    np.testing.assert_allclose(depth[inside > 0.05], -np.sqrt(inside[inside > 0.05]), atol=5e-3)


def test_facing_the_camera_left_is_on_the_right_and_up_is_up():
    placed = place(as_array([Shape((0.4, 1.5, 0.0), (0.4, 1.6, 0.0), AHEAD, 0.1, 0.1, 0, 1)]), 0.0, 0.0)
    np.testing.assert_allclose(placed[0, :3], (0.4, -1.5, 0.0))
    np.testing.assert_allclose(placed[0, FRONT : FRONT + 3], (0, 0, -1), atol=1e-12)


def test_turned_by_a_quarter_people_walk_to_the_right():
    placed = place(as_array([Shape(AHEAD, (0.0, 0.1, 1.0), AHEAD, 0.1, 0.1, 0, 1)]), pi / 2, 0.0)
    np.testing.assert_allclose(placed[0, :3], (1, 0, 0), atol=1e-12)


def test_from_above_what_lies_behind_is_higher_in_the_image():
    behind = Shape((0.0, 0.0, -1.0), (0.0, 0.1, -1.0), AHEAD, 0.1, 0.1, 0, 1)
    placed = place(as_array([behind]), 0.0, 0.3)
    np.testing.assert_allclose(placed[0, :3], (0, -sin(0.3), cos(0.3)), atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)),
    st.floats(0.1, 0.5),
    st.floats(0.1, 0.5),
    st.floats(0.4, 1.5),
    st.floats(0.2, 1.2),
    angles,
    st.floats(0, 0.6),
)
def test_every_hit_lies_on_the_surface_of_its_capsule(end, radius, end_radius, depth_ratio, cap, yaw, tilt):
    assume(np.linalg.norm(end) > 0.2)
    shape = Shape((0.0, 0.0, 0.0), end, (0.31, 0.2, 0.93), radius, end_radius, 0, 1, depth_ratio, cap, cap)
    (row,), depth, seen = drawn([shape], yaw, tilt)
    x, y = pixel_grid()
    hit = seen == 0
    assert hit.any()
    points = np.stack([x[hit], y[hit], depth[hit]], axis=1) - row[:3]
    across, front, axial = points @ row[3:6], points @ row[6:9] / depth_ratio, points @ row[9:12]
    length = row[12]
    share = np.clip(axial / length, 0, 1)
    expected = radius + share * (end_radius - radius)
    beyond = np.where(axial < 0, axial, np.maximum(axial - length, 0)) / cap
    np.testing.assert_allclose(np.sqrt(across**2 + front**2 + beyond**2), expected, atol=5e-3)


@settings(max_examples=40, deadline=None)
@given(
    angles,
    st.floats(0, 0.6),
    st.floats(0.1, 0.5),
    st.floats(0.1, 0.5),
    st.floats(0.4, 1.5),
    st.floats(0.3, 1.3),
)
def test_the_extent_holds_all_hits_and_is_tight_without_taper(
    yaw, tilt, radius, end_radius, depth_ratio, cap
):
    for last, slack in ((end_radius, 4.0), (radius, 0.06)):
        shape = Shape((-0.3, 0.1, 0.2), (0.4, -0.2, 0.1), AHEAD, radius, last, 0, 1, depth_ratio, cap, cap)
        placed, _, seen = drawn([shape], yaw, tilt, pixels=200)
        x, y = (axis[seen == 0] for axis in pixel_grid(200))
        left, top, right, bottom = extent(placed)
        for low, high, along in ((left, right, x), (top, bottom, y)):
            assert low < along.min() < low + slack
            assert high - slack < along.max() < high


def test_the_nearer_shape_is_seen():
    near = ellipsoid((0.0, 0.0, 1.0), UP, AHEAD, 0.3, 0, 1)
    far = ellipsoid((0.0, 0.0, 0.0), UP, AHEAD, 0.9, 0, 1)
    for order in ([near, far], [far, near]):
        _, _, seen = drawn(order)
        assert seen[40, 40] == order.index(near)
        assert seen[40, 25] == order.index(far)


@pytest.mark.parametrize("cap", [0.0, 1.0])
def test_an_open_end_stops_at_its_rim(cap):
    _, _, seen = drawn([Shape((0.0, 0.0, 0.0), UP, AHEAD, 0.5, 0.5, 0, 1, 1.0, cap, 1.0)])
    below = pixel_grid()[1] > 0.06
    assert (seen[below] == 0).any() == (cap > 0)
