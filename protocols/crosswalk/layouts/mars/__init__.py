"""MARS (Zheng et al., ECCV 2016): tracklets, people who walk through the views of six cameras."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from protocols.crosswalk.layouts.base import Layout
from protocols.crosswalk.layouts.mars.plan import plan
from protocols.crosswalk.layouts.mars.sizes import SIZES, Size
from protocols.crosswalk.shots import Shot

WIDTH, HEIGHT = 128, 256  # pixels
README = """A rendered street in the layout of the MARS release. All people in it are synthetic.

bbox_train      a folder for each training identity, IIIICcTttttFfff.jpg: identity, camera, tracklet, frame
bbox_test       a folder for each test identity; 0000: nobody who is asked for, 00-1: junk to be ignored
info            image names, tracklets (first and last name, identity, camera) and the rows of tracklets
                that are queries, counted from 1
crosswalk.json  what was rendered: version, size, seed, dials and counts
names.txt       every file of the release
"""


def encode(image: np.ndarray, quality: int, shot: Shot) -> bytes:  # noqa: ARG001
    """A JPEG, 128 x 256."""
    from protocols.crosswalk.develop import jpeg, resized

    return jpeg(resized(image, WIDTH, HEIGHT), quality)


def complete(root: Path, shots: Sequence[Shot]) -> None:
    """The lists of names, tracklets and queries, and a readme."""
    from protocols.crosswalk.layouts.mars.info import write_info

    write_info(root / "info", shots)
    (root / "readme.txt").write_text(README, encoding="utf-8")


def counts(size: Size, shots: Sequence[Shot]) -> dict[str, dict[str, int]]:  # noqa: ARG001
    """In tracklets: the authors' gallery, and torchreid's without queries and junk."""
    own = {
        "train": size.train.tracklets,
        "query": size.query,
        "gallery": size.test.tracklets,
        "train_pids": size.train.pids,
        "query_pids": size.query_pids,
    }
    others = {"gallery": size.test.tracklets - size.query - size.junk}
    return {"mars": own, "mars/torchreid": own | others}


LAYOUT = Layout(
    name="mars", root="MARS", sizes=SIZES, plan=plan, encode=encode, complete=complete, counts=counts
)
