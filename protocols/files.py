"""Reading a release from disk and checking it against what a correct copy holds."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from protocols.base import Protocol, Split
from retable.errors import DataError

STREET_MANIFEST = "crosswalk.json"
"""In the folder of a rendered street; its counts stand in for the release's."""

NAME_LIST = "names.txt"
"""One relative path a line; every street has it, and a user may put one beside a release."""


def locate(protocol: Protocol, data_root: Path) -> Path:
    """The release's folder below ``data_root``. Raises ``DataError`` saying what to do."""
    root = data_root / protocol.folder
    if not data_root.is_dir():
        raise DataError(f"{data_root}: no such folder; give --data-root or REID_DATA a folder of data sets")
    if not root.is_dir():
        there = ", ".join(sorted(path.name for path in data_root.iterdir())) or "nothing"
        raise DataError(
            f"{data_root}: {protocol.title} is not here: expected the folder {protocol.folder}, "
            f"found {there}; unpack the release there"
        )
    return root


def locate_release(protocol: Protocol, data_root: Path) -> Path:
    """As ``locate``, but a rendered street in the release's place is a ``DataError`` too."""
    root = locate(protocol, data_root)
    if (root / STREET_MANIFEST).exists():
        raise DataError(
            f"{root}: a rendered street, not {protocol.title}; its scores compare with no published "
            "value. Use --scale proxy, or give --data-root the folder of the real data sets"
        )
    return root


def read(protocol: Protocol, root: Path) -> tuple[Split, ...]:
    """Load and verify the release (or rendered street) at ``root``.

    Raises ``DataError`` for a missing folder, an unparsable name, or counts that differ.
    """
    splits = protocol.load(root)
    expected = expected_counts(protocol, root)
    wrong = sorted(
        f"{name.replace('_', ' ')}: found {found[name]:,}, expected {expected[name]:,}"
        for found in (count(split, protocol) for split in splits)
        for name in expected.keys() & found.keys()
        if found[name] != expected[name]
    )
    if (root / NAME_LIST).is_file():
        wrong += _name_differences(root)
    else:
        wrong += [line for split in splits for line in protocol.explain(root, split)]
    if wrong:
        raise DataError(f"{root}: not a whole {protocol.title}: {'; '.join(wrong)}. Unpack the release again")
    return splits


def expected_counts(protocol: Protocol, root: Path) -> dict[str, int]:
    """What the copy at ``root`` must hold: the street's own counts, else the release's."""
    manifest = root / STREET_MANIFEST
    if not manifest.is_file():
        return asdict(protocol.counts)
    try:
        counts = json.loads(manifest.read_text(encoding="utf-8"))["counts"]
        return {name: int(counts[name]) for name in ("train", "query", "gallery", "train_pids", "query_pids")}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{manifest}: damaged ({error!r}); render the street again") from error


def count(split: Split, protocol: Protocol) -> dict[str, int]:
    """The figures of ``Counts`` for one split."""
    gallery = Counter(record.pid for record in split.gallery)
    return {
        "train": len(split.train),
        "query": len(split.query),
        "gallery": len(split.gallery),
        "junk": sum(gallery[pid] for pid in protocol.rules.junk_pids),
        "distractors": sum(gallery[pid] for pid in protocol.rules.distractor_pids),
        "train_pids": len({record.pid for record in split.train}),
        "query_pids": len({record.pid for record in split.query}),
        "cameras": len({r.camid for part in (split.train, split.query, split.gallery) for r in part}),
    }


def list_images(folder: Path, suffix: str) -> list[Path]:
    """Files of ``folder`` that end in ``suffix``, by name. Raises ``DataError`` if there are none."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder, but the release has it; unpack the release again")
    images = sorted(path for path in folder.iterdir() if path.name.lower().endswith(suffix))
    if not images:
        raise DataError(f"{folder}: holds no {suffix} file; unpack the release again")
    return images


def _name_differences(root: Path, shown: int = 5) -> list[str]:
    """Which images are missing or extra, by the list of names."""
    listed = set((root / NAME_LIST).read_text(encoding="utf-8").splitlines())
    expected = {name for name in listed if "/" in name}
    there = {
        path.relative_to(root).as_posix()
        for folder, suffix in {(Path(name).parent, Path(name).suffix) for name in expected}
        for path in (root / folder).glob(f"*{suffix}")
    }
    return [
        f"{what} ({len(names):,}): {', '.join(sorted(names)[:shown])}{', ...' if len(names) > shown else ''}"
        for what, names in (("missing", expected - there), ("extra", there - expected))
        if names
    ]
