"""A downloaded data set made ready to use: ``python -m protocols.prepare NAME ARCHIVE... --data-root D``."""

import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from posixpath import commonpath
from typing import Annotated

import typer
from rich.console import Console

from protocols.archives import checksums, extract, file_paths
from protocols.base import PROTOCOLS, Part, Protocol
from protocols.files import locate, read
from protocols.splits import DrawnSplits, recorded_at, write_drawing
from retable.cli import DONE, execute
from retable.errors import DataError, some
from retable.files import appearing, extending
from retable.progress import progress_bar

say = Console(stderr=True, highlight=False)

UNPACKED = ".unpacked"
"""In the folder that becomes the release: what the archives hold, one folder each."""


@dataclass(frozen=True, slots=True)
class Content:
    """What an archive adds to a release, as its list of files tells.

    Attributes:
        archive: the archive.
        parts: those that the protocol needs, and the name of each.
        homes: its folders whose entries belong into the release's own, the deepest first.
    """

    archive: Path
    parts: dict[Part, str]
    homes: tuple[str, ...]


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

    What archives hold appears below the data root when all is done, or not at all. A data set that is
    there already is added to, for example the distractors to Market-1501.
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
    """Put what ``archives`` hold of the data set below the data root; returns the data set's folder.

    A folder that is there already is added to; nothing in it is changed.

    Raises:
        DataError: an archive is missing, not the published one, unsafe or damaged; together with what
            is there they are no whole release, or hold some of it again. The data root is then as it was.
    """
    target = data_root / protocol.folder
    if not data_root.is_dir():
        raise DataError(f"{data_root}: no such folder; --data-root (REID_DATA) is to hold the data sets")
    if target.is_dir() and not protocol.needs:
        raise DataError(
            f"{target} exists; give no ARCHIVE to prepare what is there, or remove it to unpack it anew"
        )
    contents = [_content(protocol, archive) for archive in archives]
    with (extending if target.is_dir() else appearing)(target) as folder, _named(folder, target):
        _check_parts(protocol, contents, folder)
        for content in contents:
            _check_sum(protocol, content)
        for content in contents:
            _add(content, folder)
        try:
            finish(protocol, folder)
        except DataError as error:
            raise DataError(f"what the archives hold is no whole {protocol.title}: {error}") from error
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


@contextmanager
def _named(folder: Path, target: Path) -> Iterator[None]:
    """Errors speak of ``target``, not of the folder in which it is put together."""
    try:
        yield
    except DataError as error:
        raise type(error)(str(error).replace(folder.name, target.name)) from error
    except OSError as error:
        error.filename = str(error.filename or folder).replace(folder.name, target.name)
        raise


def _content(protocol: Protocol, archive: Path) -> Content:
    if not archive.is_file():
        raise DataError(f"{archive}: no such file; give the archives of {protocol.title} as downloaded")
    files = file_paths(archive)
    if not protocol.needs:
        return Content(archive, {}, (_home(files, protocol.folder),))
    places = {part: place for part in protocol.needs if (place := _place(files, part))}
    if not places:
        wanted = some([part.names[0] for part in protocol.needs])
        raise DataError(f"{archive}: holds nothing that {protocol.name} needs, expected {wanted}")
    homes = sorted({home for home, _ in places.values()}, key=_depth, reverse=True)
    return Content(archive, {part: name for part, (_, name) in places.items()}, tuple(homes))


def _place(files: Collection[str], part: Part) -> tuple[str, str] | None:
    """The folder that holds ``part``, nearest to the top, and under which name; None if there is none."""
    places = set()
    for name in part.names:
        for file in files:
            home, found, _ = f"/{file}/".partition(f"/{name}/")
            if found:
                places.add((home.lstrip("/"), name))
    return min(places, key=lambda place: (_depth(place[0]), place), default=None)


def _depth(folder: str) -> int:
    return len(Path(folder).parts)


def _home(files: Collection[str], folder: str) -> str:
    """The release's folder by its name, else the one that all files lie in."""
    named = _place(files, Part((folder,), ""))
    if named:
        return f"{named[0]}/{folder}".lstrip("/")
    return commonpath([file.rpartition("/")[0] for file in files])


def _check_parts(protocol: Protocol, contents: Sequence[Content], folder: Path) -> None:
    """Each part must be in one archive, or in ``folder`` already, before any archive is unpacked."""
    missing = []
    for part in protocol.needs:
        there = [name for name in part.names if (folder / name).exists()]
        holders = [content for content in contents if part in content.parts]
        if there and holders:
            raise DataError(
                f"{folder} exists and has {there[0]}, and so has {holders[0].archive}; give no ARCHIVE to "
                f"prepare what is there, or remove {there[0]} to unpack it anew"
            )
        if len(holders) > 1:
            held = some([str(content.archive) for content in holders])
            raise DataError(f"two archives hold {holders[0].parts[part]}: {held}; give each part once")
        if not there and not holders:
            missing.append(f"{' or '.join(part.names)} (of {part.source})")
    if missing:
        raise DataError(
            f"{protocol.name} also needs {', '.join(missing)}; give that as an archive too, or put it into "
            f"{folder} first. Nothing was unpacked"
        )


def _check_sum(protocol: Protocol, content: Content) -> None:
    """Hold the archive against the published MD5, as far as one is known.

    An unknown MD5 is no error by itself: labs pack releases anew, and what is in them is verified.
    """
    archive = content.archive
    md5, sha256 = checksums(archive)
    expected = protocol.archives.get(archive.name)
    sources = {part.source for part in content.parts} or set(protocol.archives)
    published = sorted(sources & protocol.archives.keys())
    if md5 in protocol.archives.values():
        told = "MD5 as published"
    elif expected is not None:
        raise DataError(f"{archive}: found MD5 {md5}, expected {expected}; download it again")
    elif published:
        told = (
            f"not the published {some(published)} of {protocol.title} (MD5 {md5}): packed anew, or damaged? "
            "Its files will be counted"
        )
    else:
        told = f"no MD5 is known for it; SHA-256 {sha256}"
    say.print(f"{archive}: {told}", markup=False, soft_wrap=True)


def _add(content: Content, folder: Path) -> None:
    """Unpack an archive and move what belongs to the release into ``folder``."""
    unpacked = folder / UNPACKED
    unpacked.mkdir()
    with progress_bar(say, f"unpacking {content.archive.name}") as bar:
        extract(content.archive, unpacked, progress=bar.update)
    for home in content.homes:
        _move_entries(unpacked / home, folder)
    shutil.rmtree(unpacked)


def _move_entries(source: Path, folder: Path) -> None:
    """Files that are there already, such as a second ``readme.txt``, stay as they are."""
    for entry in sorted(source.iterdir()):
        place = folder / entry.name
        if not place.exists():
            entry.rename(place)
        elif entry.is_dir():
            raise DataError(f"{place} is there already; remove it, or give each archive of the release once")


if __name__ == "__main__":
    execute(main)
