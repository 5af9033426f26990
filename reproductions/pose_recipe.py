"""How a pose network is trained on the street, as data; importing it imports no torch."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, Literal, TypeAlias

from protocols.crosswalk import SIZES, STREET_VERSION, Dials

PoseNetwork: TypeAlias = Literal["openpose", "r-cpm"]

POSE_VERSION = 1
"""Raised with every change of targets, training or choice of images that may give other weights."""


@dataclass(frozen=True, slots=True)
class PoseRecipe:
    """One training of a pose network.

    Attributes:
        street_seed: of the street whose people it learns from. It is above the seeds of all rows' streets
            (``jobs.street_seed``), so nobody of these is ever re-identified.
        street_size: of that street, in Market-1501's layout; only some of its images are rendered.
        train_images: detected boxes of training identities, spread evenly over them.
        test_images: detected boxes of test identities, likewise.
        sigma: width of a peak of a joint map, in cells of the map (``pose_targets.joint_maps``). OpenPose's
            code has a deviation of 7 pixels, 7/8 of a cell; sigma, rounded, is the root of 2 times that.
        limb_width: greatest distance from a limb of what belongs to it, in cells; one in OpenPose's code.
        epochs: passes over the training images.
        batch: images of a step.
        rate: greatest learning rate of Adam; it rises over the first tenth of the steps, then falls to 0
            as a half cosine.
        flip: chance that an image is mirrored.
        seed: of the first weights, the order of images and the flips.
    """

    street_seed: int = 65_536
    street_size: str = "default"
    train_images: int = 1200
    test_images: int = 300
    sigma: float = 1.25
    limb_width: float = 1.0
    epochs: int = 5
    batch: int = 8
    rate: float = 4e-3
    flip: float = 0.5
    seed: int = 0

    def people(self) -> dict[str, Any]:
        """Everything that decides the images and their joints."""
        return {
            "street": STREET_VERSION,
            "size": asdict(SIZES[self.street_size]),
            "seed": self.street_seed,
            "dials": asdict(Dials()),
            "images": [self.train_images, self.test_images],
        }


POSE_RECIPE = PoseRecipe()


def digest(identity: Mapping[str, Any]) -> str:
    """12 hexadecimal digits."""
    return sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
