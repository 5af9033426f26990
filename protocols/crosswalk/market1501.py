"""A street on disk, in the layout of the Market-1501 release."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from protocols.crosswalk.dials import Dials
from protocols.crosswalk.errors import StreetError
from protocols.crosswalk.names import ANSWERS, BOXES, GALLERY, IMAGE_FOLDERS, QUERY, ROOT, TRAIN
from protocols.crosswalk.shots import Shot, plan
from protocols.crosswalk.sizes import Size, size_named
from protocols.crosswalk.truth import JOINTS, PARTS
from protocols.crosswalk.version import STREET_VERSION

if TYPE_CHECKING:  # importing it compiles
    from protocols.crosswalk.render import Truth

Progress = Callable[[int, int], None]
README = """A rendered street in the layout of the Market-1501 release. All people in it are synthetic.

bounding_box_train  training images, boxes of an erring detector
bounding_box_test   gallery images; label 0000: nobody who is asked for, -1: junk to be ignored
query               hand-drawn boxes, at most one for each identity and camera
gt_bbox             hand-drawn boxes of all identities, for multiple queries
gt_query            good and junk gallery images of each query, 1-based positions in name order
crosswalk.json      what was rendered: version, size, seed, dials and counts
names.txt           every file of the folders above
"""


def write_market1501(
    root: Path,
    size: Size | str = "default",
    seed: int = 0,
    dials: Dials = Dials(),  # noqa: B008 - frozen
    workers: int | None = None,
    progress: Progress | None = None,
    truth: bool = False,
) -> Path:
    """Render a street below the data root ``root``; returns the release's folder.

    All files appear at once, when the last is written: an interrupted run leaves only a temporary
    folder, which the next run removes. Equal arguments give equal bytes on any number of workers.

    Args:
        root: gets the folder ``Market-1501-v15.09.15``.
        size: a name in ``SIZES``, or your own.
        seed: of everything.
        dials: causes of difficulty.
        workers: processes; None for one per core.
        progress: called with the numbers of images done and in all.
        truth: also write ``truth/<folder>.npz`` with ``names``, ``joints`` (n, 18, 3) float32,
            ``parts`` (n, 128, 64) uint8, ``joint_names`` and ``part_names``.

    Raises:
        StreetError: the folder exists and is not empty, or workers is below 1.
        UnknownName: no size of that name.
    """
    size = size_named(size)
    target = root / ROOT
    _check(target, workers)
    root.mkdir(parents=True, exist_ok=True)
    temporary = _fresh_sibling(target)
    try:
        _fill(temporary, size, seed, dials, workers, progress, truth)
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return target


def _check(target: Path, workers: int | None) -> None:
    if workers is not None and workers < 1:
        raise StreetError(f"workers is {workers}; at least 1 is needed")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StreetError(f"{target} exists and is not empty; remove it or choose another folder")


def _fresh_sibling(target: Path) -> Path:
    """An empty folder beside ``target``; those left by processes that no longer run are removed."""
    for stale in target.parent.glob(f".{target.name}.*.partial"):
        owner = stale.name.split(".")[-2]
        if owner.isdigit() and not _runs(int(owner)):
            shutil.rmtree(stale, ignore_errors=True)
    fresh = target.with_name(f".{target.name}.{os.getpid()}.partial")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    return fresh


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _fill(
    root: Path,
    size: Size,
    seed: int,
    dials: Dials,
    workers: int | None,
    progress: Progress | None,
    truth: bool,
) -> None:
    from protocols.crosswalk.answers import write_answers
    from protocols.crosswalk.render import write_shots
    from protocols.crosswalk.walks import Street

    shots = plan(size, seed, dials)
    for folder in IMAGE_FOLDERS:
        (root / folder).mkdir()
    truths = write_shots(root, Street(seed, dials), shots, workers, truth, progress)
    if truth:
        _write_truths(root / "truth", shots, truths)
    write_answers(root / ANSWERS, shots)
    (root / "readme.txt").write_text(README, encoding="utf-8")
    names = _names(root)
    (root / "names.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    facts = _facts(size, seed, dials, shots, names)
    (root / "crosswalk.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _write_truths(folder: Path, shots: Sequence[Shot], truths: Sequence["Truth"]) -> None:
    folder.mkdir()
    for name in IMAGE_FOLDERS:
        rows = [row for row, shot in enumerate(shots) if shot.folder == name]
        np.savez_compressed(
            folder / f"{name}.npz",
            names=np.array([shots[row].name for row in rows]),
            joints=np.stack([truths[row].joints for row in rows]),
            parts=np.stack([truths[row].parts for row in rows]),
            joint_names=np.array(JOINTS),
            part_names=np.array(PARTS),
        )


def _names(root: Path) -> list[str]:
    """All files in the release's folders, ``folder/name``, sorted."""
    folders = (*IMAGE_FOLDERS, ANSWERS)
    return sorted(f"{folder}/{file.name}" for folder in folders for file in (root / folder).iterdir())


def _facts(
    size: Size, seed: int, dials: Dials, shots: Sequence[Shot], names: Sequence[str]
) -> dict[str, Any]:
    return {
        "street_version": STREET_VERSION,
        "layout": "market1501",
        "size": asdict(size),
        "seed": seed,
        "dials": asdict(dials),
        "counts": _counts(size, shots),
        "folders": {folder: _folder(names, shots, folder) for folder in (*IMAGE_FOLDERS, ANSWERS)},
        "files": {folder: _digest(names, folder) for folder in (*IMAGE_FOLDERS, ANSWERS)},
    }


def _counts(size: Size, shots: Sequence[Shot]) -> dict[str, int]:
    files = {folder: sum(shot.folder == folder for shot in shots) for folder in IMAGE_FOLDERS}
    return {
        "train": files[TRAIN],
        "query": files[QUERY],
        "gallery": files[GALLERY],
        "train_pids": size.train_pids,
        "query_pids": size.test_pids,
        "cameras": size.cameras,
        "gt_bbox": files[BOXES],
    }


def _folder(names: Sequence[str], shots: Sequence[Shot], folder: str) -> dict[str, int]:
    """Numbers of files and of identities, junk and distractors aside."""
    files = sum(name.startswith(f"{folder}/") for name in names)
    shown = QUERY if folder == ANSWERS else folder
    return {
        "files": files,
        "pids": len({shot.pid for shot in shots if shot.folder == shown and shot.pid > 0}),
    }


def _digest(names: Sequence[str], folder: str) -> str:
    """SHA-256 over the sorted names of one folder, a line each."""
    own = (name.partition("/")[2] for name in names if name.startswith(f"{folder}/"))
    return sha256("".join(f"{name}\n" for name in own).encode()).hexdigest()
