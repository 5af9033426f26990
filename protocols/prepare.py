"""A downloaded data set made ready to use: ``python -m protocols.prepare NAME ARCHIVE... --data-root D``."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from protocols.archives import checksums, extract
from protocols.base import PROTOCOLS, Protocol
from protocols.files import locate, read
from protocols.splits import DrawnSplits, recorded_at, write_drawing
from retable.cli import DONE, execute
from retable.errors import DataError
from retable.files import appearing
from retable.progress import progress_bar

say = Console(stderr=True, highlight=False)

UNPACKED = ".unpacked"
"""In the folder that becomes the release: what the archives hold, one folder each."""

BRANCHES = ("-master", "-main")
"""GitHub packs a branch into a folder REPOSITORY-BRANCH."""


def main(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Any protocol of the data set.")],
    data_root: Annotated[
        Path, typer.Option(envvar="REID_DATA", help="Folder of data sets, each named as it unpacks.")
    ],
    archives: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="ARCHIVE...", help="As downloaded, .zip or .tar(.gz); none if unpacked already."
        ),
    ] = None,
) -> int:
    """Check and unpack archives of a data set, turn them into what the protocols read, and verify that.

    The data set's folder appears below the data root when all is done, or not at all.
    """
    protocol = PROTOCOLS.get(name)()
    if archives:
        root = unpack(protocol, archives, data_root)
    else:
        root = locate(protocol, data_root)
        finish(protocol, root)
    say.print(f"{protocol.title} is whole, as {name} needs it", markup=False)
    typer.echo(root)
    return DONE


def unpack(protocol: Protocol, archives: Sequence[Path], data_root: Path) -> Path:
    """Put the data set that ``archives`` hold below the data root; returns its folder.

    Raises:
        DataError: the folder is there already; an archive is missing, not the published one, unsafe
            or damaged; together they are no whole release. The data root is then as it was.
    """
    target = data_root / protocol.folder
    if target.exists():
        raise DataError(
            f"{target} exists; give no ARCHIVE to prepare what is there, or remove it to unpack it anew"
        )
    if not data_root.is_dir():
        raise DataError(f"{data_root}: no such folder; --data-root (REID_DATA) is to hold the data sets")
    for archive in archives:
        _check_sum(protocol, archive)
    with appearing(target) as folder:
        parts = [_unpack(archive, folder / UNPACKED / str(i), protocol) for i, archive in enumerate(archives)]
        _assemble(protocol, folder, parts)
    return target


def finish(protocol: Protocol, root: Path) -> None:
    """Turn the unpacked release at ``root`` into what its protocol reads, verify it, record what was drawn.

    Raises ``DataError`` for a release that is not whole. Splits that are recorded already stay.
    """
    if protocol.prepare:
        with progress_bar(say, "preparing") as bar:
            protocol.prepare(root, bar.update)
    read(protocol, root)
    if isinstance(protocol.load, DrawnSplits) and not (record := recorded_at(root, protocol.name)).exists():
        write_drawing(record, protocol.load.drawing(root))


def _check_sum(protocol: Protocol, archive: Path) -> None:
    """Hold the archive against the published MD5, as far as one is known."""
    if not archive.is_file():
        raise DataError(f"{archive}: no such file; give the archives of {protocol.title} as downloaded")
    md5, sha256 = checksums(archive)
    expected = protocol.archives.get(archive.name)
    if md5 in protocol.archives.values():
        say.print(f"{archive}: MD5 as published", markup=False, soft_wrap=True)
    elif expected is not None:
        raise DataError(f"{archive}: found MD5 {md5}, expected {expected}; download it again")
    else:
        say.print(f"{archive}: no MD5 is known for it; SHA-256 {sha256}", markup=False, soft_wrap=True)


def _unpack(archive: Path, folder: Path, protocol: Protocol) -> Path:
    """The folder with what an archive adds to the release, inside of the one it is unpacked to."""
    folder.mkdir(parents=True)
    with progress_bar(say, f"unpacking {archive.name}") as bar:
        extract(archive, folder, progress=bar.update)
    for named in (*folder.glob(protocol.folder), *folder.glob(f"*/{protocol.folder}")):
        return named
    only = _only_folder(folder)
    return only if only and only.name.endswith(BRANCHES) else folder


def _assemble(protocol: Protocol, folder: Path, parts: Sequence[Path]) -> None:
    """Move the release up into ``folder``, from wherever the archives hold it, and verify it there."""
    for part in parts:
        _move_entries(part, folder)
    shutil.rmtree(folder / UNPACKED)
    while True:
        try:
            finish(protocol, folder)
            return
        except DataError as error:
            only = _only_folder(folder)
            if only is None:
                told = str(error).replace(str(folder), protocol.folder)
                raise DataError(f"what the archives hold is no whole {protocol.title}: {told}") from error
            _move_entries(only.rename(folder / UNPACKED), folder)
            (folder / UNPACKED).rmdir()


def _only_folder(folder: Path) -> Path | None:
    """The one entry, if that is a folder: many archives wrap the release in a folder of another name."""
    entries = list(folder.iterdir())
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else None


def _move_entries(source: Path, folder: Path) -> None:
    for entry in sorted(source.iterdir()):
        if (folder / entry.name).exists():
            raise DataError(f"two archives hold {entry.name}; give each archive of the release once")
        entry.rename(folder / entry.name)


if __name__ == "__main__":
    execute(main)
