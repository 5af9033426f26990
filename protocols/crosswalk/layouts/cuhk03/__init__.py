"""CUHK03 (Li et al., CVPR 2014): five pairs of cameras, boxes drawn by hand and detected."""

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from protocols.crosswalk.layouts.base import Layout
from protocols.crosswalk.layouts.cuhk03.plan import BOXES, GALLERY, QUERY, TRAIN, plan
from protocols.crosswalk.layouts.cuhk03.sizes import SIZES, Size
from protocols.crosswalk.planning import crop_size
from protocols.crosswalk.shots import Shot

IMAGES = "cuhk-03.mat"
NEW_PROTOCOL = "cuhk03_new_protocol_config_{boxes}.mat"  # not in the release; users put it beside it
READERS = ("", "/openreid", "/torchreid")  # of the old protocol's test sets
README = """A rendered street in the layout of the CUHK03 release. All people in it are synthetic.

cuhk-03.mat     MATLAB 7.3. detected and labeled: a cell array for each pair of cameras, in it a row for
                each identity, columns 1-5 of view 1 and 6-10 of view 2; some cells are empty.
                testsets: 20 lists of test identities, (pair of cameras, row), counted from 1.
cuhk03_new_protocol_config_{detected,labeled}.mat
                Lists of the protocol of Zhong et al. (CVPR 2017); indices are counted from 1. The two
                share all test identities but one.
crosswalk.json  what was rendered: version, size, seed, dials and counts
names.txt       every file of the release
"""


def encode(image: np.ndarray, quality: int, shot: Shot) -> bytes:  # noqa: ARG001
    """A PNG of the crop's own size, kept until it is packed."""
    from protocols.crosswalk.develop import png, resized

    return png(resized(image, *crop_size(shot)))


def complete(root: Path, shots: Sequence[Shot]) -> None:
    """Pack all images into ``cuhk-03.mat`` and remove them; write lists and a readme."""
    from protocols.crosswalk.layouts.cuhk03.release import of_boxes, write_images, write_new_protocol

    write_images(root / IMAGES, root, shots)
    for boxes in BOXES:
        write_new_protocol(root / NEW_PROTOCOL.format(boxes=boxes), of_boxes(shots, boxes))
        shutil.rmtree(root / boxes)
    (root / "README.md").write_text(README, encoding="utf-8")


def counts(size: Size, shots: Sequence[Shot]) -> dict[str, dict[str, int]]:
    """Of the old protocols only who is asked for: other numbers depend on the test set and the reader."""
    old = (f"cuhk03-{boxes}{reader}" for boxes in (*BOXES, "merged") for reader in READERS)
    new = {f"cuhk03-np-{boxes}/mat": _new_counts(size, shots, boxes) for boxes in BOXES}
    return {name: {"query_pids": size.testset_pids} for name in old} | new


def _new_counts(size: Size, shots: Sequence[Shot], boxes: str) -> dict[str, int]:
    files = Counter(shot.folder for shot in shots)
    tested = sum(size.test_pids)
    return {
        "train": files[f"{boxes}/{TRAIN}"],
        "query": files[f"{boxes}/{QUERY}"],
        "gallery": files[f"{boxes}/{GALLERY}"],
        "train_pids": sum(size.pids) - tested,
        "query_pids": tested,
    }


LAYOUT = Layout(
    name="cuhk03",
    root="cuhk03_release",
    sizes=SIZES,
    plan=plan,
    encode=encode,
    complete=complete,
    counts=counts,
)
