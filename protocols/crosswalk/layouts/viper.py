"""VIPeR (Gray et al., PETS 2007): two cameras, one image of everybody from each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from protocols.crosswalk.dials import Dials
from protocols.crosswalk.layouts.base import Layout
from protocols.crosswalk.planning import refuse_unless, scattered, subjects_of
from protocols.crosswalk.seeding import generator
from protocols.crosswalk.shots import Shot, Subject

FOLDERS = ("cam_a", "cam_b")
ANGLES = (0, 45, 90, 135, 180)  # degrees, in file names
WIDTH, HEIGHT = 48, 128  # pixels
LAST_LABEL, RELEASED_PIDS = 873, 632
README = """A rendered street in the layout of the VIPeR release. All people in it are synthetic.

cam_a, cam_b    IDENTITY_ANGLE.bmp; one image of each identity in each folder, angles differ
crosswalk.json  what was rendered: version, size, seed, dials and counts
names.txt       every file of the release
"""


@dataclass(frozen=True, slots=True)
class Size:
    """Number of identities, each with one image from either camera.

    Attributes:
        name: appears in paths and in ``crosswalk.json``.
        pids: identities, even, because protocols halve them; 4..632.

    Raises ``StreetError`` when these bounds do not hold.
    """

    name: str
    pids: int

    def __post_init__(self) -> None:
        refuse_unless(
            self.name,
            [
                (self.pids % 2 == 0, "an even number of identities, half to train and half to test on"),
                (4 <= self.pids <= RELEASED_PIDS, f"4..{RELEASED_PIDS} identities"),
            ],
        )


SIZES = {size.name: size for size in (Size("tiny", 24), Size("default", 300), Size("release", RELEASED_PIDS))}


def plan(size: Size, seed: int, dials: Dials) -> tuple[Shot, ...]:
    """Everybody once in ``cam_a`` and once in ``cam_b``, at two of the five angles.

    Labels have holes, as in the release, where 632 of 0..873 are used. The angle in a name is drawn,
    not measured from the rendered pose.
    """
    last = size.pids * (LAST_LABEL + 1) // RELEASED_PIDS - 1
    labels = scattered(generator(seed, "labels"), size.pids, 0, last)
    subjects = subjects_of(labels, seed, dials.confusers)
    shots = [shot for pid in labels for shot in _pair(pid, seed, subjects[pid])]
    return tuple(sorted(shots, key=lambda shot: (shot.folder, shot.name)))


def _pair(pid: int, seed: int, subject: Subject) -> Iterator[Shot]:
    angles = generator(seed, "angles", pid).permutation(ANGLES)
    for camid, (folder, angle) in enumerate(zip(FOLDERS, angles[:2], strict=True), start=1):
        name = f"{pid:03d}_{angle}.bmp"
        yield Shot(folder, name, pid, camid, sequence=1, frame=1, step=0, box=0, subject=subject)


def encode(image: np.ndarray, quality: int, shot: Shot) -> bytes:  # noqa: ARG001
    """A bitmap, 48 x 128."""
    from protocols.crosswalk.develop import bmp, resized

    return bmp(resized(image, WIDTH, HEIGHT))


def complete(root: Path, shots: Sequence[Shot]) -> None:  # noqa: ARG001
    """A readme."""
    (root / "readme.txt").write_text(README, encoding="utf-8")


def counts(size: Size, shots: Sequence[Shot]) -> dict[str, dict[str, int]]:  # noqa: ARG001
    """Half of the identities to train on, the other half from camera A against camera B."""
    half = size.pids // 2
    own = {"train": size.pids, "query": half, "gallery": half, "train_pids": half, "query_pids": half}
    return {"viper": own}


LAYOUT = Layout(
    name="viper", root="VIPeR", sizes=SIZES, plan=plan, encode=encode, complete=complete, counts=counts
)
