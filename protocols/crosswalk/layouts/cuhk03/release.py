"""The files of the CUHK03 release: one MATLAB file with all images, and the new protocol's lists."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image

from protocols.crosswalk.layouts.cuhk03.plan import BOXES, GALLERY, QUERY, TRAIN, VIEWS, Boxes, Place
from protocols.crosswalk.layouts.cuhk03.sizes import OLD_PAIRS, PER_VIEW, testset_pids
from protocols.crosswalk.matlab5 import write_matlab5
from protocols.crosswalk.matlab73 import Matlab73, Reference, matlab73
from protocols.crosswalk.seeding import generator
from protocols.crosswalk.shots import Shot

TESTSETS = 20


def place_of(shot: Shot) -> Place:
    """Camera pair and row, from a name as ``1_001_2_06.png``."""
    pair, row = shot.name.split("_")[:2]
    return int(pair), int(row)


def of_boxes(shots: Sequence[Shot], boxes: Boxes) -> list[Shot]:
    """Those of one kind of boxes, by name."""
    own = (shot for shot in shots if shot.folder.startswith(f"{boxes}/"))
    return sorted(own, key=lambda shot: shot.name)


def write_images(path: Path, root: Path, shots: Sequence[Shot]) -> None:
    """``cuhk-03.mat`` from the images below ``root``.

    ``detected`` and ``labeled`` are 5 x 1 cell arrays of M x 10 cell arrays of H x W x 3 uint8 images,
    columns 1-5 of view 1 and 6-10 of view 2, and ``testsets`` is a 20 x 1 cell array of n x 2 doubles,
    camera pair and row.
    """
    with matlab73(path) as file:
        for boxes in BOXES:
            file.variable(boxes, _pairs(file, root, of_boxes(shots, boxes)))
        members = [file.array(testset) for testset in testsets(shots)]
        file.variable("testsets", _column(members))


def _column(members: Sequence[Reference]) -> np.ndarray:
    column = np.empty((len(members), 1), dtype=object)
    column[:, 0] = members
    return column


def _pairs(file: Matlab73, root: Path, shots: Sequence[Shot]) -> np.ndarray:
    """A cell array for each camera pair, (pairs, 1) references."""
    images: dict[int, list[Shot]] = {}
    for shot in shots:
        images.setdefault(place_of(shot)[0], []).append(shot)
    return _column([file.cell(_rows(file, root, images[pair])) for pair in sorted(images)])


def _rows(file: Matlab73, root: Path, shots: Sequence[Shot]) -> np.ndarray:
    """Images of one camera pair, (M, 10) references."""
    rows = np.full((place_of(shots[-1])[1], len(VIEWS) * PER_VIEW), file.empty, dtype=object)
    for shot in shots:
        column = int(Path(shot.name).stem.split("_")[3]) - 1
        with Image.open(root / shot.folder / shot.name) as image:
            rows[place_of(shot)[1] - 1, column] = file.array(np.asarray(image))
    return rows


def testsets(shots: Sequence[Shot]) -> list[np.ndarray]:
    """The old protocol's 20 draws of test identities, each (n, 2) float64.

    All are of the first three camera pairs and have images in both views, detected and labeled.
    """
    seen: dict[Place, set[tuple[str, int]]] = {}
    for shot in shots:
        if place_of(shot)[0] <= OLD_PAIRS:
            seen.setdefault(place_of(shot), set()).add((shot.folder.partition("/")[0], shot.camid))
    whole = sorted(place for place, kinds in seen.items() if len(kinds) == len(BOXES) * len(VIEWS))
    names = sha256("".join(f"{shot.folder}/{shot.name}\n" for shot in shots).encode()).hexdigest()
    pids = testset_pids(len(whole))
    draws = (generator("testset", names, n).choice(len(whole), pids, replace=False) for n in range(TESTSETS))
    return [np.array(whole, dtype=np.float64)[np.sort(draw)] for draw in draws]


def write_new_protocol(path: Path, shots: Sequence[Shot]) -> None:
    """The new protocol's lists for images of one kind of boxes, sorted by name; indices are 1-based."""
    folders = np.array([Path(shot.folder).name for shot in shots])
    names = np.array([shot.name for shot in shots], dtype=object)
    views = np.array([shot.name.split("_")[2] for shot in shots])
    indices = {
        f"{role}_idx": (np.flatnonzero(folders == role) + 1).astype(np.uint16)[:, None]
        for role in (TRAIN, QUERY, GALLERY)
    }
    labels = np.array([shot.pid for shot in shots], dtype=np.uint16)[:, None]
    camids = views.astype(np.uint8)[:, None]
    write_matlab5(path, {"labels": labels, "camId": camids, "filelist": names[:, None], **indices})
