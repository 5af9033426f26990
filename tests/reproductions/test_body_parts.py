"""Parts of the body in cells: on rendered people, and from joint maps."""

from pathlib import Path

import numpy as np
import torch

from protocols.crosswalk import layout_named
from protocols.crosswalk.render import render_shot
from protocols.crosswalk.truth import JOINTS, PARTS
from protocols.crosswalk.walks import Street as Scenery
from reproductions.body_parts import JOINT_PARTS, OTHER, TRUE_PARTS, cells_by_joints, cells_by_truth
from reproductions.jobs import Street

ROOT = Path("release")


def files(street, step):
    """Some images of people of a tiny street, which need not be rendered, and what they show."""
    layout = layout_named(street.layout)
    shots = layout.plan(layout.size_named("tiny"), street.seed, street.dials)
    shots = [shot for shot in shots if shot.scene == "person"][::step]
    return [ROOT / shot.folder / shot.name for shot in shots], shots


def test_truth_of_a_cell_is_the_part_with_most_pixels_where_a_quarter_is_body():
    street = Street("tiny")
    images, shots = files(street, 60)

    found = cells_by_truth(street, images, (8, 4))

    part_of = {name: part for part, names in enumerate(TRUE_PARTS.values(), start=1) for name in names}
    for shot, cells in zip(shots, found, strict=True):
        truth = render_shot(Scenery(0, street.dials), shot).parts
        for row, column in np.ndindex(8, 4):
            pixels = truth[16 * row : 16 * row + 16, 16 * column : 16 * column + 16].ravel().tolist()
            counts = np.bincount([part_of.get(PARTS[pixel], 0) for pixel in pixels], minlength=8)
            assert (cells[row, column] > 0) == (counts[1:].sum() >= 64)
            assert cells[row, column] == 0 or counts[cells[row, column]] == counts[1:].max()
    assert {"head", "torso", "shins"} <= {[OTHER, *TRUE_PARTS][part] for part in found.ravel().tolist()}
    assert cells_by_truth(street, images[:2], (10, 5)).shape == (2, 10, 5)  # no divisors of the image's size


def test_truth_in_folders_of_folders_and_of_unknown_files():
    mars = Street("tiny", seed=5, layout="mars")
    images, _ = files(mars, 400)
    assert len(images[0].relative_to(ROOT).parts) == 3

    assert cells_by_truth(mars, images, (8, 4)).any()
    assert cells_by_truth(mars, [*images, ROOT / "bbox_test" / "0001" / "no.jpg"], (8, 4)) is None


def test_the_strongest_joint_of_a_cell_is_its_part():
    joints = torch.zeros(1, 19, 4, 4)
    joints[0, 18] = 1.0  # the background has no say
    joints[0, JOINTS.index("left_ear"), 0, 1] = 0.4
    joints[0, JOINTS.index("neck"), 1, 1] = 0.6  # in the same cell of the 2x2 map, and stronger
    joints[0, JOINTS.index("right_ankle"), 3, 3] = 0.3
    joints[0, JOINTS.index("left_hip"), 3, 0] = 0.05  # no peak

    found = cells_by_joints(joints, (2, 2))

    names = [OTHER, *JOINT_PARTS]
    assert [[names[part] for part in row] for row in found[0].tolist()] == [
        ["shoulders", "background"],
        ["background", "ankles"],
    ]


def test_every_joint_and_part_of_the_body_has_its_place():
    assert sorted(name for names in JOINT_PARTS.values() for name in names) == sorted(JOINTS)
    named = {name for names in TRUE_PARTS.values() for name in names}
    assert set(PARTS) - named == {"background", "bag", "occluder", "bystander"}
