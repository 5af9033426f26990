"""What is in a folder of a release. Names come before paths: a hundred thousand paths are slow to sort."""

import os
from pathlib import Path

from retable.errors import DataError


def names_in(folder: Path, suffix: str) -> list[str]:
    """Names of the files in ``folder`` that end in ``suffix``, sorted; none if there is no such folder.

    Args:
        folder: any path.
        suffix: in lower case; names in capitals count too. What macOS puts beside files (``._*``) does not.
    """
    if not folder.is_dir():
        return []
    return sorted(
        name for name in os.listdir(folder) if name.lower().endswith(suffix) and not name.startswith("._")
    )


def file_names(folder: Path, suffix: str) -> list[str]:
    """As ``names_in``, of a folder that the release has.

    Raises:
        DataError: there is no such folder, or no such file in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: {why_no_folder(folder)}; unpack the release again")
    names = names_in(folder, suffix)
    if not names:
        raise DataError(f"{folder}: holds no {suffix} file; unpack the release again")
    return names


def why_no_folder(folder: Path) -> str:
    """What is at ``folder`` in its place: a file, or one whose name differs in capitals, or nothing."""
    if folder.exists():
        return "a file, expected a folder"
    parent = folder.parent
    others = sorted(os.listdir(parent)) if parent.is_dir() else []
    for other in others:
        if other.lower() == folder.name.lower():
            return f"no such folder, but {other}: rename it to {folder.name}"
    return "no such folder"


def read_lines(file: Path) -> list[str]:
    """The lines of a list, without what editors add: a mark before the first, blanks behind the last.

    Bytes that are no UTF-8 become U+FFFD, for whoever knows what the lines must be to refuse.
    """
    text = file.read_text(encoding="utf-8-sig", errors="replace")
    return [line.rstrip() for line in text.rstrip().splitlines()]
