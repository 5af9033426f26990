"""A street on disk, in the layout of any data set; complete or not there at all."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from protocols.crosswalk.dials import Dials
from protocols.crosswalk.errors import StreetError
from protocols.crosswalk.layouts import layout_named
from protocols.crosswalk.layouts.base import Layout
from protocols.crosswalk.shots import Shot
from protocols.crosswalk.truth import JOINTS, PARTS
from protocols.crosswalk.version import STREET_VERSION
from retable.files import appearing

if TYPE_CHECKING:  # importing it compiles
    from protocols.crosswalk.render import Truth

Progress = Callable[[int, int], None]
MANIFEST = "crosswalk.json"
NAMES = "names.txt"
TRUTH = "truth"


def write_street(
    root: Path,
    layout: str,
    size: Any = "default",
    seed: int = 0,
    dials: Dials = Dials(),  # noqa: B008 - frozen
    workers: int | None = None,
    progress: Progress | None = None,
    truth: bool = False,
) -> Path:
    """Render a street below the data root ``root``; returns the release's folder.

    All files appear at once, when the last is written: an interrupted run leaves nothing, a killed
    one a temporary folder, which the next run removes. Equal arguments give equal bytes on any
    number of workers.

    Beside the data set's own files lie ``names.txt``, all of them in order of name, and
    ``crosswalk.json``, which says what was rendered.

    Args:
        root: gets the release's folder, for example ``Market-1501-v15.09.15``.
        layout: data set whose files are imitated, one of ``LAYOUTS``.
        size: name of one of the layout's sizes, or a size of your own.
        seed: of everything.
        dials: causes of difficulty.
        workers: processes; None for one per core.
        progress: called with the numbers of images done and in all.
        truth: also write ``truth/<folder>.npz`` for each folder of the release: ``names`` below that
            folder, ``joints`` (n, 18, 3) float32 and ``parts`` (n, 128, 64) uint8 as rendered,
            before the image gets the data set's own size; ``joint_names`` and ``part_names``.

    Raises:
        StreetError: the folder exists and is not empty, or workers is below 1.
        UnknownName: no layout, or no size of the layout, of that name.
    """
    form = layout_named(layout)
    size = form.size_named(size)
    target = root / form.root
    _check(target, workers)
    with appearing(target) as folder:
        _fill(folder, form, size, seed, dials, workers, progress, truth)
    return target


def _check(target: Path, workers: int | None) -> None:
    if workers is not None and workers < 1:
        raise StreetError(f"workers is {workers}; at least 1 is needed")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StreetError(f"{target} exists and is not empty; remove it or choose another folder")


def _fill(
    root: Path,
    layout: Layout[Any],
    size: Any,
    seed: int,
    dials: Dials,
    workers: int | None,
    progress: Progress | None,
    truth: bool,
) -> None:
    from protocols.crosswalk.render import write_shots
    from protocols.crosswalk.walks import Street

    shots = layout.plan(size, seed, dials)
    for folder in {shot.folder for shot in shots}:
        (root / folder).mkdir(parents=True, exist_ok=True)
    truths = write_shots(root, Street(seed, dials), shots, layout.encode, workers, truth, progress)
    layout.complete(root, shots)
    names = sorted(file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file())
    if truth:
        _write_truths(root / TRUTH, shots, truths)
    (root / NAMES).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    facts = _facts(layout, size, seed, dials, shots, names)
    (root / MANIFEST).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _write_truths(folder: Path, shots: Sequence[Shot], truths: Sequence["Truth"]) -> None:
    folder.mkdir()
    paths = [f"{shot.folder}/{shot.name}".lstrip("/") for shot in shots]
    for top, names in _by_folder(paths).items():
        rows = [row for row, path in enumerate(paths) if _top(path) == top]
        np.savez_compressed(
            folder / f"{top or 'images'}.npz",
            names=np.array(names),
            joints=np.stack([truths[row].joints for row in rows]),
            parts=np.stack([truths[row].parts for row in rows]),
            joint_names=np.array(JOINTS),
            part_names=np.array(PARTS),
        )


def _top(path: str) -> str:
    """The first folder of a path below the release's; empty for a file that lies in none."""
    return path.partition("/")[0] if "/" in path else ""


def _by_folder(paths: Sequence[str]) -> dict[str, list[str]]:
    """Paths of each of the release's folders, relative to it, in the order given."""
    found: dict[str, list[str]] = {}
    for path in paths:
        top = _top(path)
        found.setdefault(top, []).append(path.removeprefix(f"{top}/"))
    return found


def _facts(
    layout: Layout[Any], size: Any, seed: int, dials: Dials, shots: Sequence[Shot], names: Sequence[str]
) -> dict[str, Any]:
    """What ``crosswalk.json`` says; ``folders`` and ``files`` have "" for files outside any folder."""
    folders = _by_folder(names)
    return {
        "street_version": STREET_VERSION,
        "layout": layout.name,
        "size": asdict(size),
        "seed": seed,
        "dials": asdict(dials),
        "counts": layout.counts(size, shots),
        "folders": {folder: len(own) for folder, own in folders.items()},
        "files": _digests(folders),
    }


def _digests(folders: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """SHA-256 over the sorted names of each folder, a line each."""
    return {
        folder: sha256("".join(f"{name}\n" for name in own).encode()).hexdigest()
        for folder, own in folders.items()
    }
