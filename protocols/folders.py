"""What is in a folder of a release. Names come before paths: a hundred thousand paths are slow to sort."""

import os
from pathlib import Path

from retable.errors import DataError


def file_names(folder: Path, suffix: str) -> list[str]:
    """Names of the files in ``folder`` that end in ``suffix``, sorted; other files are passed over.

    Args:
        folder: a folder that the release has.
        suffix: in lower case; names in capitals count too.

    Raises:
        DataError: there is no such folder, or no such file in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder, but the release has it; unpack the release again")
    names = sorted(name for name in os.listdir(folder) if name.lower().endswith(suffix))
    if not names:
        raise DataError(f"{folder}: holds no {suffix} file; unpack the release again")
    return names
