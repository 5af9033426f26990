"""What a transform does to the detector's errors, by transforms whose effect is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import gmean as geometric_mean

from protocols import PROTOCOLS
from protocols.files import read
from reproductions.alignment import align, sentence, true_transforms
from reproductions.jobs import Street, turned

IDENTITY = np.eye(2, 3)


def diagonal(rng, images=50, error=0.1):
    """Matrices of images whose people are off by so much."""
    a = np.tile(IDENTITY, (images, 1, 1))
    a[:, :, 2] = rng.normal(0, error, (images, 2))
    a[:, [0, 1], [0, 1]] = np.exp(rng.normal(0, error, (images, 2)))
    return a


@pytest.fixture
def truth():
    return diagonal(np.random.default_rng(0))


def test_deviations_before_are_of_the_person_in_its_image(truth):
    before = align(truth, truth).before

    expected = [
        100 * np.std(truth[:, 0, 2]) / (2 * geometric_mean(truth[:, 0, 0])),
        100 * np.std(truth[:, 1, 2]) / (2 * geometric_mean(truth[:, 1, 1])),
        100 * np.std(np.log(truth[:, 0, 0])),
        100 * np.std(np.log(truth[:, 1, 1])),
    ]
    np.testing.assert_allclose(before, expected)


def test_the_exact_transform_leaves_nothing_and_the_identity_everything(truth):
    exact = align(truth, truth)
    nothing = align(np.tile(IDENTITY, (len(truth), 1, 1)), truth)

    np.testing.assert_allclose(exact.after, 0, atol=1e-9)
    np.testing.assert_allclose(exact.correlation, 1)
    np.testing.assert_allclose(nothing.after, nothing.before)
    assert np.isnan(nothing.correlation).all()
    assert sentence(nothing).startswith(
        f"across {nothing.before[0]:.1f} → {nothing.after[0]:.1f} (r -), down"
    )


def test_going_the_wrong_way_adds_to_the_error(truth):
    wrong = align(2 * IDENTITY - truth, truth)

    assert (wrong.after > 1.5 * wrong.before).all()
    np.testing.assert_allclose(wrong.correlation, -1)


@given(st.floats(0.3, 3), st.floats(0.3, 3), st.floats(-1, 1), st.floats(-1, 1))
def test_a_transform_that_treats_all_images_alike_is_no_merit(wide, high, right, down):
    rng = np.random.default_rng(1)
    truth, transforms = diagonal(rng), diagonal(rng)
    common = np.array([[wide, 0, right], [0, high, down], [0, 0, 1]])

    after = transforms @ common  # a place of the new target, to one of the old, to the source's

    np.testing.assert_allclose(align(after, truth).after, align(transforms, truth).after)


def test_the_street_knows_its_detectors_errors(tiny_street):
    (split,) = read(PROTOCOLS.get("market1501")(), tiny_street)
    records = [record for record in split.gallery if record.pid > 0]

    exact, usual, worse = (
        true_transforms(Street("tiny", dials=turned({"misalignment": dial})), records)
        for dial in (0.0, 0.2, 0.6)
    )

    np.testing.assert_allclose(exact, np.tile(IDENTITY, (len(records), 1, 1)), atol=1e-9)
    assert not usual[:, [0, 1], [1, 0]].any()
    assert (align(usual, usual).before < align(worse, worse).before).all()
