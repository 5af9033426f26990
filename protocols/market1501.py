"""Market-1501 (Zheng et al., Scalable Person Re-identification, ICCV 2015), single query."""

import re
from collections import Counter
from pathlib import Path

from protocols.base import PROTOCOLS, Counts, Protocol, Record, Rules, Split
from protocols.files import list_images
from retable.errors import DataError

JUNK = -1
DISTRACTOR = 0

NAME = re.compile(
    r"(?P<pid>-1|\d{4})_c(?P<camid>[1-6])s(?P<sequence>[1-6])"
    r"_(?P<frame>\d{6})_(?P<box>\d{2})\.jpg(?:\.jpg)?"
)
"""identity, camera, sequence, frame, box (00 drawn by hand, 01.. detected); 38 released files end
in ``.jpg.jpg``."""

HIGHEST_PID = 1501

TRAIN_PER_CAMERA = {1: 2017, 2: 1709, 3: 2707, 4: 920, 5: 2338, 6: 3245}


@PROTOCOLS.register("market1501")
def market1501() -> Protocol:
    """Single query: each query image against the whole test gallery."""
    return Protocol(
        name="market1501",
        title="Market-1501",
        source="Zheng et al., ICCV 2015, and the authors' evaluation code",
        folder="Market-1501-v15.09.15",
        rules=Rules(headline_ap="step", junk_pids=(JUNK,), distractor_pids=(DISTRACTOR,)),
        counts=Counts(
            train=12_936,
            query=3_368,
            gallery=19_732,
            junk=3_819,
            distractors=2_798,
            train_pids=751,
            query_pids=750,
            test_pids=750,
            cameras=6,
            images=32_668,
        ),
        load=load,
        explain=explain,
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


def read_folder(folder: Path) -> tuple[Record, ...]:
    """Records of all JPEG files of a folder by name; other files (``Thumbs.db``) are passed over."""
    return tuple(parse(path) for path in list_images(folder, ".jpg"))


def parse(path: Path) -> Record:
    """Identity and camera from a file name. Raises ``DataError`` when it is not a Market name."""
    match = NAME.fullmatch(path.name)
    if match is None or int(match["pid"]) > HIGHEST_PID:
        raise DataError(
            f"{path}: not a Market-1501 file name; expected IDENTITY_cCAMERAsSEQUENCE_FRAME_BOX.jpg "
            f"such as 0002_c1s1_000451_03.jpg, identity -1 or 0000..{HIGHEST_PID}; remove or rename it"
        )
    return Record(path, pid=int(match["pid"]), camid=int(match["camid"]))


def explain(root: Path, split: Split) -> list[str]:
    """Where a copy differs from the release, from the ground truth that lies beside the images.

    ``gt_query`` names every query, and lists the gallery positions of its identity in order of name.
    """
    cameras = Counter(record.camid for record in split.train)
    found = [
        f"training images of camera {camid}: found {cameras[camid]:,}, expected {expected:,}"
        for camid, expected in TRAIN_PER_CAMERA.items()
        if cameras[camid] != expected
    ]
    truth = sorted((root / "gt_query").glob("*_good.mat"))
    stems = {path.name.removesuffix("_good.mat") for path in truth}
    queries = {record.path.name.split(".jpg")[0] for record in split.query}
    for what, names in (("missing", stems - queries), ("extra", queries - stems)):
        if truth and names:
            found.append(f"{what} queries ({len(names):,}): {', '.join(sorted(names)[:5])}")
    return found + _shifted_gallery(split.gallery, truth)


def _shifted_gallery(gallery: tuple[Record, ...], truth: list[Path]) -> list[str]:
    """The first identity whose gallery images are not where the ground truth says they are."""
    from scipy.io import loadmat

    for path in truth:
        pid = int(path.name[:4])
        for position in loadmat(path)["good_index"].ravel().tolist():
            if position > len(gallery) or gallery[position - 1].pid != pid:
                return [f"gallery images of identity {pid:04d} or of one before it are missing or extra"]
    return []
