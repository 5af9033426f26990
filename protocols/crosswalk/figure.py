"""A dressed person in a stance, as shapes and materials."""

from functools import lru_cache

import numpy as np

from protocols.crosswalk import materials
from protocols.crosswalk.bags import bag_shapes
from protocols.crosswalk.body import Skeleton, Stance, pose
from protocols.crosswalk.heads import head_shapes
from protocols.crosswalk.limbs import limb_shapes
from protocols.crosswalk.looks import Look
from protocols.crosswalk.shapes import as_array
from protocols.crosswalk.trunk import trunk_shapes


def figure(look: Look, stance: Stance) -> tuple[np.ndarray, Skeleton]:
    """Shapes in the person's own axes, (n, 17), and the skeleton inside them."""
    bones = pose(look.build, stance)
    shapes = [
        *trunk_shapes(look, bones),
        *limb_shapes(look, bones),
        *head_shapes(look, bones),
        *bag_shapes(look, bones),
    ]
    return as_array(shapes), bones


@lru_cache(maxsize=4096)
def materials_of(look: Look) -> np.ndarray:
    """Material table of a person, (9, 17); shared, not to be written to."""
    return materials.as_array(materials.wardrobe(look))
