"""CUHK03, its new protocol (Zhong et al., CVPR 2017): 767 identities trained on, 700 tested, all shots.

It is published twice: as folders of images, and as lists that choose from the original release
(``/mat``). Both label identities 1..1467 across all camera pairs. Hand-drawn and detected boxes are
split apart differently: one identity trained on with the former is tested with the latter, and the
other way round (see ``protocols.leaks``).
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protocols.base import PROTOCOLS, Counts, Part, Protocol, Record, Rules, Split
from protocols.cuhk03_images import ARCHIVES, DETECTED, FOLDER, LABELED, NEEDS, folder_of, read_release
from protocols.cuhk03_release import prepare
from protocols.folders import file_names
from protocols.matlab import as_integers, read_variables
from retable.errors import DataError, some

if TYPE_CHECKING:
    from numpy.typing import NDArray

NP_FOLDER = "cuhk03-np"

NAME = re.compile(r"(?P<pid>\d{4})_c(?P<view>[12])_(?P<number>\d+)\.png")
"""Identity, view, and a number that goes on over all images of a kind of boxes."""

HIGHEST_PID = 1467

SIZES = {LABELED: (7_368, 1_400, 5_328), DETECTED: (7_365, 1_400, 5_332)}
"""Images for training, queries and gallery."""

LISTS = "evaluation/data/CUHK03 of the GitHub repository zhunzhong07/person-re-ranking"

FILES = "filelist"
NUMBERS = ("labels", "camId", "train_idx", "query_idx", "gallery_idx")


@PROTOCOLS.register("cuhk03-np-labeled")
def labeled() -> Protocol:
    """Hand-drawn boxes, from folders of images."""
    return _from_folders("cuhk03-np-labeled", LABELED)


@PROTOCOLS.register("cuhk03-np-detected")
def detected() -> Protocol:
    """Detected boxes, from folders of images."""
    return _from_folders("cuhk03-np-detected", DETECTED)


@PROTOCOLS.register("cuhk03-np-labeled/mat")
def labeled_mat() -> Protocol:
    """Hand-drawn boxes, from the original release and the authors' list."""
    return _from_release("cuhk03-np-labeled/mat", LABELED)


@PROTOCOLS.register("cuhk03-np-detected/mat")
def detected_mat() -> Protocol:
    """Detected boxes, from the original release and the authors' list."""
    return _from_release("cuhk03-np-detected/mat", DETECTED)


def _from_folders(name: str, kind: str) -> Protocol:
    return Protocol(
        name=name,
        title="CUHK03-NP",
        source="Zhong et al., CVPR 2017, and zhunzhong07/person-re-ranking, CUHK03-NP",
        folder=NP_FOLDER,
        rules=Rules(headline_ap="step"),
        counts=_counts(kind),
        load=partial(load_folders, kind=kind),
        explain=partial(_explain_folders, kind=kind),
        needs=(Part((kind,), f"{NP_FOLDER}.zip"),),
    )


def _from_release(name: str, kind: str) -> Protocol:
    return Protocol(
        name=name,
        title="CUHK03-NP",
        source="Zhong et al., CVPR 2017, and zhunzhong07/person-re-ranking, evaluation/data/CUHK03",
        folder=FOLDER,
        rules=Rules(headline_ap="step"),
        counts=_counts(kind),
        load=partial(load_lists, kind=kind),
        explain=lambda _, split: _both_trained_and_tested(split),
        archives=ARCHIVES,
        prepare=prepare,
        needs=(*NEEDS, Part((config_of(Path(), kind).name,), LISTS)),
    )


def _counts(kind: str) -> Counts:
    train, query, gallery = SIZES[kind]
    return Counts(
        train=train,
        query=query,
        gallery=gallery,
        junk=0,
        distractors=0,
        train_pids=767,
        query_pids=700,
        test_pids=700,
        cameras=2,
        images=train + query + gallery,
    )


def load_folders(root: Path, kind: str) -> tuple[Split, ...]:
    """The one split of ``root/labeled`` or ``root/detected``; raises ``DataError`` naming what is wrong."""
    train, query, gallery = (
        tuple(parse(folder / name) for name in file_names(folder, ".png"))
        for folder in (root / kind / part for part in ("bounding_box_train", "query", "bounding_box_test"))
    )
    return (Split(train, query, gallery),)


def parse(path: Path) -> Record:
    """Identity and view from a file name. Raises ``DataError`` when it is not a CUHK03-NP name."""
    match = NAME.fullmatch(path.name)
    if match is None or not 1 <= int(match["pid"]) <= HIGHEST_PID:
        raise DataError(
            f"{path}: not a CUHK03-NP file name; expected IDENTITY_cVIEW_NUMBER.png such as 0003_c1_21.png, "
            f"identity 0001..{HIGHEST_PID}, view 1 or 2; remove it"
        )
    return Record(path, pid=int(match["pid"]), camid=int(match["view"]))


def config_of(root: Path, kind: str) -> Path:
    """The authors' list for the original release, under their name."""
    return root / f"cuhk03_new_protocol_config_{kind}.mat"


def load_lists(root: Path, kind: str) -> tuple[Split, ...]:
    """The one split of the original release at ``root`` and the authors' list beside ``cuhk-03.mat``.

    Raises ``DataError`` when either is missing, or the list contradicts itself or the images.
    """
    path = config_of(root, kind)
    known = {record.path.name: record for record in read_release(root).records(kind)}
    variables = read_variables(path, (FILES, *NUMBERS), LISTS)
    config = {name: as_integers(path, name, variables[name]).ravel().tolist() for name in NUMBERS}
    names = _names(path, variables[FILES])
    absent = sorted(set(names) - known.keys())
    if absent:
        raise DataError(
            f"{path}: lists {len(absent):,} images that {folder_of(root, kind)} lacks, {absent[0]} first; "
            "is it the list of this release?"
        )
    records = [known[name] for name in names]
    _check_labels(path, records, config)
    train, query, gallery = _chosen(path, records, config)
    return (Split(train, query, gallery),)


def _names(path: Path, cells: "NDArray[Any]") -> list[str]:
    """The strings of a cell array."""
    for row, cell in enumerate(cells.ravel(), 1):
        if getattr(cell, "size", 0) != 1 or cell.dtype.kind != "U":
            raise DataError(f"{path}: {FILES}, row {row}: {cell!r}, expected a file name; get it again")
    return [str(cell.item()) for cell in cells.ravel()]


def _check_labels(path: Path, records: Sequence[Record], config: Mapping[str, list[int]]) -> None:
    """Identities and views of the list must be those that its file names say."""
    listed = list(zip(config["labels"], config["camId"], strict=False))
    if len(listed) != len(records):
        raise DataError(
            f"{path}: {len(records):,} names, but {len(listed):,} labels and cameras; get it again"
        )
    for record, found in zip(records, listed, strict=True):
        if found != (record.pid, record.camid):
            raise DataError(
                f"{path}: {record.path.name} has label {found[0]} and camera {found[1]}, expected "
                f"{record.pid} and {record.camid}; is it the list of this release?"
            )


def _chosen(
    path: Path, records: Sequence[Record], config: Mapping[str, list[int]]
) -> list[tuple[Record, ...]]:
    """Training images, queries and gallery, in the order of the list; its rows count from 1."""
    lists = {name: config[name] for name in ("train_idx", "query_idx", "gallery_idx")}
    rows = [row for part in lists.values() for row in part]
    for name, part in lists.items():
        outside = [row for row in part if not 1 <= row <= len(records)]
        if outside:
            raise DataError(
                f"{path}: {name} names row {outside[0]}, expected 1..{len(records)}; get it again"
            )
    if len(set(rows)) != len(rows):
        raise DataError(
            f"{path}: an image stands in two of {', '.join(lists)}, or twice in one; get it again"
        )
    return [tuple(records[row - 1] for row in part) for part in lists.values()]


def _explain_folders(root: Path, split: Split, kind: str) -> list[str]:  # noqa: ARG001
    return _missing_numbers(split, sum(SIZES[kind])) + _both_trained_and_tested(split)


def _missing_numbers(split: Split, images: int) -> list[str]:
    """Numbers of the images that are not there, where the numbers of those that are go from 1."""
    numbers = {int(record.path.stem.rpartition("_")[2]) for record in split.records()}
    missing = sorted(set(range(1, images + 1)) - numbers)
    if not missing or len(numbers) + len(missing) != images:
        return []
    return [f"no image has the number {some(missing)} ({len(missing):,} missing)"]


def _both_trained_and_tested(split: Split) -> list[str]:
    tested = {record.pid for record in (*split.query, *split.gallery)}
    shared = sorted({record.pid for record in split.train} & tested)
    return [f"identities both trained on and tested: {some(shared)}"] if shared else []
