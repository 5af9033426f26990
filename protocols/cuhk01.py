"""CUHK01 (Li et al., ACCV 2012): 971 people, two images of each from either of two views."""

import re
from functools import partial
from pathlib import Path

from protocols.base import PROTOCOLS, Counts, Protocol, Record, Rules, SingleShot, Split
from protocols.folders import file_names
from protocols.splits import Drawing, DrawnSplits, draw_pids
from protocols.two_views import VIEW_A, VIEW_B, arranged
from retable.errors import DataError, some

NAME = re.compile(r"(?P<pid>\d{4})00(?P<image>[1-4])\.png")
"""identity, image; images 1 and 2 are from view A, 3 and 4 from view B."""

PIDS = 971
IMAGES = 4  # of an identity
SPLITS = 10


@PROTOCOLS.register("cuhk01-100")
def cuhk01_100() -> Protocol:
    """100 identities to test on, all others to train on."""
    return _protocol("cuhk01-100", test_pids=100)


@PROTOCOLS.register("cuhk01-486")
def cuhk01_486() -> Protocol:
    """486 identities to test on, the larger half."""
    return _protocol("cuhk01-486", test_pids=486)


def _protocol(name: str, test_pids: int) -> Protocol:
    """Ten random splits; the release states none.

    Queries and gallery images are drawn, too: one of view A and one of view B for each identity, as
    zlmzju/part_reid (``train/cuhk01/test_cuhk01.ipynb``) does.
    """
    return Protocol(
        name=name,
        title="CUHK01",
        source="Li et al., ACCV 2012; rule of zlmzju/part_reid; splits are drawn here (protocols.splits)",
        folder="campus",
        rules=Rules(headline_ap="step"),
        counts=Counts(
            train=IMAGES * (PIDS - test_pids),
            query=2 * test_pids,
            gallery=2 * test_pids,
            junk=0,
            distractors=0,
            train_pids=PIDS - test_pids,
            query_pids=test_pids,
            test_pids=test_pids,
            cameras=2,
            images=IMAGES * PIDS,
        ),
        load=DrawnSplits(partial(_draw, name, test_pids), _arrange),
        explain=explain,
        single_shot=SingleShot(probe="drawn", repeats=10),
        archives={"CUHK01.zip": "e6d55c0da26d80cda210a2edeb448e98"},
    )


def read_images(root: Path) -> tuple[Record, ...]:
    """All images by name; raises ``DataError`` for a file of another data set."""
    return tuple(parse(root / name) for name in file_names(root, ".png"))


def parse(path: Path) -> Record:
    """Identity and view from a file name. Raises ``DataError`` when it is not a CUHK01 name."""
    match = NAME.fullmatch(path.name)
    if match is None or not 1 <= int(match["pid"]) <= PIDS:
        raise DataError(
            f"{path}: not a CUHK01 file name; expected IDENTITYIMAGE.png such as 0001001.png, "
            f"identity 0001..{PIDS:04d}, image 001..{IMAGES:03d}; remove or rename it"
        )
    return Record(path, pid=int(match["pid"]), camid=VIEW_A if int(match["image"]) <= 2 else VIEW_B)


def _draw(protocol: str, test_pids: int, root: Path) -> Drawing:
    """``test_pids`` identities are tested on, in smaller data sets at most the larger half."""
    pids = {record.pid for record in read_images(root)}
    return draw_pids(protocol, pids, min(test_pids, len(pids) - len(pids) // 2), SPLITS)


def _arrange(root: Path, drawing: Drawing) -> tuple[Split, ...]:
    return arranged(read_images(root), drawing)


def explain(root: Path, split: Split) -> list[str]:  # noqa: ARG001
    """Which images are missing; every one of the release has a known name."""
    there = {record.path.name for record in split.records()}
    names = (f"{pid:04d}{image:03d}.png" for pid in range(1, PIDS + 1) for image in range(1, IMAGES + 1))
    lacking = [name for name in names if name not in there]
    return [f"missing ({len(lacking):,}): {some(lacking)}"] if lacking else []
