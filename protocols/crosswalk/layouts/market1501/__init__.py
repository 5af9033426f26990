"""Market-1501 (Zheng et al., ICCV 2015): six cameras, detected boxes, queries drawn by hand."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from protocols.crosswalk.layouts.base import Layout
from protocols.crosswalk.layouts.market1501.names import ANSWERS, GALLERY, JUNK, QUERY, ROOT, TRAIN
from protocols.crosswalk.layouts.market1501.plan import plan
from protocols.crosswalk.layouts.market1501.sizes import SIZES, Size
from protocols.crosswalk.shots import Shot

README = """A rendered street in the layout of the Market-1501 release. All people in it are synthetic.

bounding_box_train  training images, boxes of an erring detector
bounding_box_test   gallery images; label 0000: nobody who is asked for, -1: junk to be ignored
query               hand-drawn boxes, at most one for each identity and camera
gt_bbox             hand-drawn boxes of all identities, for multiple queries
gt_query            good and junk gallery images of each query, 1-based positions in name order
crosswalk.json      what was rendered: version, size, seed, dials and counts
names.txt           every file of the release
"""


def encode(image: np.ndarray, quality: int, shot: Shot) -> bytes:  # noqa: ARG001
    """A JPEG as large as rendered."""
    from protocols.crosswalk.develop import jpeg

    return jpeg(image, quality)


def complete(root: Path, shots: Sequence[Shot]) -> None:
    """The good and the junk images of each query, and a readme."""
    from protocols.crosswalk.layouts.market1501.answers import write_answers

    write_answers(root / ANSWERS, shots)
    (root / "readme.txt").write_text(README, encoding="utf-8")


def counts(size: Size, shots: Sequence[Shot]) -> dict[str, dict[str, int]]:
    """Of the authors' lists, and of Open-ReID's: all images of who is asked for are queries there."""
    files = Counter(shot.folder for shot in shots)
    junk = sum(shot.folder == GALLERY and shot.pid == JUNK for shot in shots)
    own = {
        "train": files[TRAIN],
        "query": files[QUERY],
        "gallery": files[GALLERY],
        "train_pids": size.train_pids,
        "query_pids": size.test_pids,
    }
    pooled = {"query": size.good + files[QUERY], "gallery": files[GALLERY] - junk + files[QUERY]}
    return {"market1501": own, "market1501/multi-query": own, "market1501/openreid": own | pooled}


LAYOUT = Layout(
    name="market1501",
    root=ROOT,
    sizes=SIZES,
    plan=plan,
    encode=encode,
    complete=complete,
    counts=counts,
    aliases={"release": "market"},
)
