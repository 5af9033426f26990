"""Reading a release from disk and checking it against what a correct copy holds."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from protocols.base import Part, Protocol, Split
from protocols.folders import read_lines, why_no_folder
from retable.errors import Absent, DataError, some

STREET_MANIFEST = "crosswalk.json"
"""In the folder of a rendered street; its counts stand in for the release's."""

NAME_LIST = "names.txt"
"""One relative path a line; every street has it, and a user may put one beside a release."""

IMAGES = (".bmp", ".jpg", ".png")


def locate(protocol: Protocol, data_root: Path) -> Path:
    """The release's folder below ``data_root``. Raises ``Absent`` saying what to do."""
    root = data_root / protocol.folder
    if not data_root.is_dir():
        why = why_no_folder(data_root)
        raise Absent(f"{data_root}: {why}; give --data-root or REID_DATA a folder of data sets")
    if root.exists() and not root.is_dir():
        raise Absent(f"{root}: a file, expected the folder of {protocol.title}; remove or rename it")
    if not root.is_dir():
        there = some(sorted(path.name for path in data_root.iterdir())) or "nothing"
        raise Absent(
            f"{data_root}: {protocol.title} is not here: expected the folder {protocol.folder}, found "
            f"{there}; {_where_it_seems_to_be(protocol.folder, data_root)}"
        )
    return root


def _where_it_seems_to_be(folder: str, data_root: Path) -> str:
    """Whether a parent or a child of the given folder is the data root that was meant."""
    inside = [parent for parent in data_root.resolve().parents if (parent / folder).is_dir()]
    below = sorted(path.parent for path in data_root.glob(f"*/{folder}") if path.is_dir())
    for right in (*below, *inside):
        return f"but {right} holds it: give that as the data root"
    for other in sorted(path.name for path in data_root.iterdir()):
        if other.lower() == folder.lower():
            return f"rename {other} to {folder}"
    return "unpack the release there"


def locate_release(protocol: Protocol, data_root: Path) -> Path:
    """As ``locate``, but a rendered street in the release's place is a ``DataError`` too."""
    root = locate(protocol, data_root)
    if (root / STREET_MANIFEST).exists():
        raise DataError(
            f"{root}: a rendered street, not {protocol.title}; its scores compare with no published "
            "value. Use --scale proxy, or give --data-root the folder of the real data sets"
        )
    return root


def lacking(protocol: Protocol, root: Path) -> list[Part]:
    """What the protocol needs and the release at ``root`` does not have."""
    return [part for part in protocol.needs if not any((root / name).exists() for name in part.names)]


def read(protocol: Protocol, root: Path) -> tuple[Split, ...]:
    """Load and verify the release (or rendered street) at ``root``.

    Raises ``DataError`` for a missing folder, an unparsable name, or counts that differ.
    """
    splits = protocol.load(root)
    wrong = differences(protocol, root, splits)
    if wrong:
        raise DataError(f"{root}: not a whole {protocol.title}: {'; '.join(wrong)}. Unpack the release again")
    return splits


def differences(protocol: Protocol, root: Path, splits: tuple[Split, ...]) -> list[str]:
    """In what the copy at ``root`` differs from a whole one, a line each; none for a whole one.

    Counts of every split, and the names of what is missing or extra as far as they can be known.
    """
    expected = expected_counts(protocol, root)
    lines = [line for split in splits for line in _count_differences(protocol, split, expected)]
    if not (root / STREET_MANIFEST).is_file():
        lines += [line for split in splits for line in _camera_differences(protocol, split)]
        lines += [line for split in splits for line in protocol.explain(root, split)]
    if (root / NAME_LIST).is_file():
        lines += _name_differences(root)
    return list(dict.fromkeys(lines))


def expected_counts(protocol: Protocol, root: Path) -> dict[str, int]:
    """What each split at ``root`` must hold: the street's own counts, else the release's.

    A street states those of a variant only where they differ from the data set's: ``viper`` speaks for
    ``viper/scsp``. Raises ``DataError`` for a street that states neither.
    """
    manifest = root / STREET_MANIFEST
    if not manifest.is_file():
        return {name: count for name, count in asdict(protocol.counts).items() if count is not None}
    try:
        stated = json.loads(manifest.read_text(encoding="utf-8"))["counts"]
        own = stated.get(protocol.name) or stated.get(protocol.name.partition("/")[0])
        counts = {name: int(count) for name, count in (own or {}).items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{manifest}: damaged ({error!r}); render the street again") from error
    if not counts:
        raise DataError(
            f"{manifest}: has no counts of {protocol.name}, but of {some(sorted(stated)) or 'nothing'}; "
            "render a street for it"
        )
    return counts


def count(split: Split, protocol: Protocol) -> dict[str, int]:
    """The figures of ``Counts`` for one split, ``images`` excepted."""
    rules = protocol.rules
    gallery = Counter(record.pid for record in split.gallery)
    asked = {record.pid for record in split.query}
    labels = {*rules.junk_pids, *rules.distractor_pids}
    return {
        "train": len(split.train),
        "query": len(split.query),
        "gallery": len(split.gallery),
        "junk": sum(gallery[pid] for pid in rules.junk_pids),
        "distractors": sum(n for pid, n in gallery.items() if pid not in {*asked, *rules.junk_pids}),
        "train_pids": len({record.pid for record in split.train}),
        "query_pids": len(asked),
        "test_pids": len((asked | gallery.keys()) - labels),
        "cameras": len({r.camid for part in (split.train, split.query, split.gallery) for r in part}),
    }


def _count_differences(protocol: Protocol, split: Split, expected: dict[str, int]) -> Iterator[str]:
    found = count(split, protocol)
    where = f"split {split.name}, " if split.name else ""
    for name in sorted(expected.keys() & found.keys()):
        if found[name] != expected[name]:
            yield f"{where}{name.replace('_', ' ')}: found {found[name]:,}, expected {expected[name]:,}"


def _camera_differences(protocol: Protocol, split: Split) -> Iterator[str]:
    for name, expected in protocol.per_camera.items():
        found = Counter(record.camid for record in split.lists()[name])
        for camid, images in enumerate(expected, start=1):
            if found[camid] != images:
                yield f"{name} images of camera {camid}: found {found[camid]:,}, expected {images:,}"


def _name_differences(root: Path) -> list[str]:
    """Which files are missing or extra, by the list of names; beside the folders only images count."""
    listed = set(read_lines(root / NAME_LIST))
    if not listed:
        raise DataError(f"{root / NAME_LIST}: empty, expected a path a line; restore or remove it")
    expected = {name for name in listed if "/" in name or name.endswith(IMAGES)}
    there = {
        path.relative_to(root).as_posix()
        for folder, suffix in {(Path(name).parent, Path(name).suffix) for name in expected}
        for path in (root / folder).glob(f"*{suffix}")
        if not path.name.startswith("._")  # macOS
    }
    return [
        f"{what} ({len(names):,}): {some(sorted(names))}"
        for what, names in (("missing", expected - there), ("extra", there - expected))
        if names
    ]
