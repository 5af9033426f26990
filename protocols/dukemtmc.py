"""DukeMTMC-reID (Ristani et al., ECCVW 2016; Zheng et al., ICCV 2017).

Duke University withdrew the data in 2019, because the people in it had not agreed to it. This suite
neither fetches it nor asks for it; the rules stay for those who hold a copy and for numbers in print.
"""

import re
from dataclasses import replace
from pathlib import Path

from protocols.base import PROTOCOLS, Counts, Protocol, Record, Rules, Split
from protocols.folders import file_names
from protocols.openreid import pooled
from retable.errors import DataError

NAME = re.compile(r"(?P<pid>\d{4})_c(?P<camid>[1-8])_f(?P<frame>\d{7})\.jpg")
"""identity, camera, frame."""

PER_CAMERA = {
    "train": (2809, 3009, 1088, 1395, 1685, 3700, 1330, 1506),
    "query": (413, 383, 190, 155, 216, 369, 239, 263),
    "gallery": (2704, 2798, 828, 1139, 1209, 3308, 1255, 4420),
}


@PROTOCOLS.register("dukemtmc")
def dukemtmc() -> Protocol:
    """Single query. The gallery's 408 identities that nobody asks for carry ordinary labels.

    The authors' script cuts ranked lists at 4,000 images and sums trapezoids for AP. The evaluation
    offers the cut as an option and always reports both kinds of AP.
    """
    return Protocol(
        name="dukemtmc",
        title="DukeMTMC-reID",
        source="Zheng et al., ICCV 2017, and the authors' evaluation code",
        folder="DukeMTMC-reID",
        rules=Rules(headline_ap="step"),
        counts=Counts(
            train=16_522,
            query=2_228,
            gallery=17_661,
            junk=0,
            distractors=3_463,
            train_pids=702,
            query_pids=702,
            test_pids=1_110,
            cameras=8,
            images=36_411,
        ),
        load=load,
        per_camera=PER_CAMERA,
        authors_ap="trapezoid",
        archives={"DukeMTMC-reID.zip": "2f93496f9b516d1ee5ef51c1d5e7d601"},
    )


@PROTOCOLS.register("dukemtmc/openreid")
def dukemtmc_openreid() -> Protocol:
    """Open-reid's lists (see ``protocols.openreid``)."""
    official = dukemtmc()
    return replace(
        official,
        name="dukemtmc/openreid",
        source="Cysu/open-reid",
        counts=replace(official.counts, query=16_426, gallery=19_889),
        load=load_openreid,
        per_camera={"train": PER_CAMERA["train"]},
    )


def load(root: Path) -> tuple[Split, ...]:
    """The one split of the release at ``root``; raises ``DataError`` naming the offending file."""
    return (
        Split(
            train=read_folder(root / "bounding_box_train"),
            query=read_folder(root / "query"),
            gallery=read_folder(root / "bounding_box_test"),
        ),
    )


def load_openreid(root: Path) -> tuple[Split, ...]:
    """As ``load``, queries and gallery pooled."""
    return tuple(pooled(split) for split in load(root))


def read_folder(folder: Path) -> tuple[Record, ...]:
    """Records of all JPEG files of a folder by name."""
    return tuple(parse(folder / name) for name in file_names(folder, ".jpg"))


def parse(path: Path) -> Record:
    """Identity and camera from a file name. Raises ``DataError`` when it is not a DukeMTMC-reID name."""
    match = NAME.fullmatch(path.name)
    if match is None:
        raise DataError(
            f"{path}: not a DukeMTMC-reID file name; expected IDENTITY_cCAMERA_fFRAME.jpg such as "
            "0001_c2_f0046182.jpg, camera 1..8; remove or rename it"
        )
    return Record(path, pid=int(match["pid"]), camid=int(match["camid"]))
