"""People of a street of their own, with their joints, whom pose networks learn from and are tested on."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from filelock import FileLock
from rich.console import Console
from torch import Tensor

from protocols.crosswalk import Dials, Shot, plan, size_named
from protocols.crosswalk.layouts.market1501 import encode
from protocols.crosswalk.layouts.market1501.names import DISTRACTOR, GALLERY, TRAIN
from protocols.crosswalk.scene import HEIGHT, WIDTH
from reproductions.images import ImageFiles
from reproductions.places import cache
from reproductions.pose_recipe import PoseRecipe, digest
from retable.files import appearing
from retable.progress import progress_bar

JOINTS_FILE = "joints.npz"


class People(NamedTuple):
    """Images and where the joints of the person in each are.

    Attributes:
        images: (N, 3, H, W) uint8.
        joints: (N, 18, 3) x, y in pixels of these images from their left and upper edge, so that the
            middle of the first pixel is at 1/2; and visibility, see ``protocols.crosswalk.truth``.
    """

    images: Tensor
    joints: Tensor


def people(recipe: PoseRecipe, height: int, width: int, console: Console) -> tuple[People, People]:
    """Whom to learn from, and others to be tested on; rendered first if they are not in the cache."""
    folder = cache() / "pose" / f"people-{digest(recipe.people())}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            _render(folder, recipe, console)
    return _load(folder, TRAIN, height, width), _load(folder, GALLERY, height, width)


def chosen(recipe: PoseRecipe) -> list[Shot]:
    """The images of the street that are rendered: of training, then of test identities, all people.

    Spread evenly over the street's, which are in order of identity and camera.
    """
    shots = plan(size_named(recipe.street_size), recipe.street_seed, Dials())
    learnt = [shot for shot in shots if shot.folder == TRAIN]
    tested = [shot for shot in shots if shot.folder == GALLERY and shot.pid > DISTRACTOR]
    return [*_spread(learnt, recipe.train_images), *_spread(tested, recipe.test_images)]


def _spread(shots: Sequence[Shot], count: int) -> list[Shot]:
    return [shots[place] for place in np.linspace(0, len(shots) - 1, count).round().astype(int)]


def _render(target: Path, recipe: PoseRecipe, console: Console) -> None:
    """Images as the street's own files, and ``joints.npz``: for each folder, names and joints."""
    from protocols.crosswalk.render import write_shots  # compiles
    from protocols.crosswalk.walks import Street

    shots = chosen(recipe)
    street = Street(recipe.street_seed, Dials())
    with appearing(target) as folder, progress_bar(console, "rendering people to learn poses from") as bar:
        for name in (TRAIN, GALLERY):
            (folder / name).mkdir()
        truths = write_shots(folder, street, shots, encode, None, truth=True, progress=bar.update)
        joints = np.stack([truth.joints for truth in truths])
        np.savez(folder / JOINTS_FILE, files=[f"{s.folder}/{s.name}" for s in shots], joints=joints)


def _load(folder: Path, name: str, height: int, width: int) -> People:
    with np.load(folder / JOINTS_FILE) as truth:
        files, joints = truth["files"].tolist(), torch.from_numpy(truth["joints"])
    places = [place for place, file in enumerate(files) if file.startswith(f"{name}/")]
    images = ImageFiles([folder / files[place] for place in places], height, width)
    return People(images[:], resized(joints[places], height, width))


def resized(joints: Tensor, height: int, width: int) -> Tensor:
    """Joints of rendered images in images of another size, (N, 18, 3)."""
    factors = torch.tensor([width / WIDTH, height / HEIGHT, 1.0])
    return joints * factors
