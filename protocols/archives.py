"""Unpacking archives that come from anywhere: nothing is written outside the folder, or without bound."""

import errno
import hashlib
import lzma
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from retable.errors import DataError

CHUNK = 1 << 22

DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError)
"""What the standard library raises for bytes that are no whole archive, beside some ``ValueError``."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an archive may unpack to. The largest release known here has 1.2 million files, 20 GB.

    Attributes:
        members: files and folders.
        total: bytes of all files.
        ratio: bytes of all files for each byte of the archive; images and .mat files stay below 10.
    """

    members: int = 3_000_000
    total: int = 200 * 2**30
    ratio: int = 100


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of an archive, before anything of it is written.

    Attributes:
        name: as stored.
        size: bytes, as declared.
        is_folder: whether it is a folder.
        plain: a file or a folder; no link, no device.
        encrypted: whether it needs a password.
        write: unpacks it below a folder, at its name.
    """

    name: str
    size: int
    is_folder: bool
    plain: bool
    encrypted: bool
    write: Callable[[Path], object]


def extract(
    archive: Path,
    folder: Path,
    limits: Limits = Limits(),
    progress: Callable[[int, int], object] | None = None,
) -> None:
    """Unpack a .zip, .tar or compressed .tar below ``folder``, which must be empty.

    Every entry is checked before the first is written. What macOS adds to archives is left out.

    Args:
        archive: its kind is told by its content, not by its name.
        folder: an existing folder.
        limits: against archives that unpack to more than a disk holds.
        progress: called with the numbers of entries unpacked and in all.

    Raises:
        DataError: it is no such archive, truncated, damaged or encrypted; an entry would leave the
            folder, is a link or a device, or is a file that is there twice; it is too large for the
            limits or the disk.
    """
    with _damage_named(archive), _members(archive) as found:
        members = _wanted(archive, found, limits)
        _check_space(archive, folder, sum(member.size for member in members))
        for done, member in enumerate(members, start=1):
            member.write(folder)
            if progress:
                progress(done, len(members))


def file_paths(archive: Path, limits: Limits = Limits()) -> list[str]:
    """Where the files that ``extract`` would write lie, parts joined by ``/``; raises what it raises."""
    with _damage_named(archive), _members(archive) as found:
        members = _wanted(archive, found, limits)
    return [PurePosixPath(member.name).as_posix() for member in members if not member.is_folder]


def checksums(path: Path) -> tuple[str, str]:
    """MD5 and SHA-256 of a file, in hexadecimal digits."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            md5.update(chunk)
            sha256.update(chunk)
    return md5.hexdigest(), sha256.hexdigest()


def _members(archive: Path) -> AbstractContextManager[Iterable[Member]]:
    with archive.open("rb") as file:
        is_zip = file.read(2) == b"PK"
    return _zip_members(archive) if is_zip else _tar_members(archive)


@contextmanager
def _zip_members(archive: Path) -> Iterator[Iterable[Member]]:
    with zipfile.ZipFile(archive) as package:

        def member(info: zipfile.ZipInfo) -> Member:
            kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the packer knows no kinds of files
            return Member(
                name=info.orig_filename,  # ``filename`` is cut at a NUL
                size=info.file_size,
                is_folder=info.is_dir(),
                plain=kind in (0, stat.S_IFREG, stat.S_IFDIR),
                encrypted=bool(info.flag_bits & 1),
                write=lambda folder: package.extract(info, folder),
            )

        yield map(member, package.infolist())


@contextmanager
def _tar_members(archive: Path) -> Iterator[Iterable[Member]]:
    with tarfile.open(archive, "r:*") as package:

        def member(info: tarfile.TarInfo) -> Member:
            return Member(
                name=info.name,
                size=info.size,
                is_folder=info.isdir(),
                plain=info.isreg() or info.isdir(),
                encrypted=False,
                write=lambda folder: package.extract(info, folder, filter="data"),
            )

        yield map(member, package)


@contextmanager
def _damage_named(archive: Path) -> Iterator[None]:
    """Turn the many errors of damaged archives into one; those of the disk pass."""
    try:
        yield
    except (*DAMAGE, ValueError) as error:
        raise _damaged(archive, error) from error
    except NotImplementedError as error:  # a compression that zipfile does not know
        raise DataError(f"{archive}: {error}; unpack it by hand") from error
    except OSError as error:
        if error.errno is None or error.errno == errno.EINVAL:  # gzip and bz2 raise it for damaged streams
            raise _damaged(archive, error) from error
        raise


def _damaged(archive: Path, error: Exception) -> DataError:
    said = str(error).partition("\n")[0].rstrip(":") or type(error).__name__  # tarfile lists all it tried
    return DataError(
        f"{archive}: no archive, or a truncated or damaged one ({said}); expected .zip, .tar or .tar.gz; "
        "download it again"
    )


def _wanted(archive: Path, found: Iterable[Member], limits: Limits) -> list[Member]:
    members = [member for member in _checked(archive, found, limits) if not _is_litter(member.name)]
    if not members:
        raise DataError(f"{archive}: holds no file; download it again")
    return members


def _checked(archive: Path, members: Iterable[Member], limits: Limits) -> Iterator[Member]:
    """The members, each after its checks; what came before it counts towards the limits.

    Folders that are there again are passed over, and so is the one that all others lie in (``./``).
    """
    most = min(limits.total, limits.ratio * archive.stat().st_size)
    seen: dict[PurePosixPath, bool] = {PurePosixPath(): True}  # whether it is a folder
    total = 0
    for member in members:
        path = PurePosixPath(member.name)
        twice = path in seen and not (member.is_folder and seen[path])
        fault = _fault(member) or ("is there twice" if twice else "")
        if fault:
            raise DataError(f"{archive}: entry {member.name!r} {fault}; nothing was unpacked")
        if path in seen:
            continue
        seen[path] = member.is_folder
        total += member.size
        if len(seen) - 1 > limits.members or total > most:
            raise DataError(
                f"{archive}: more than {limits.members:,} entries or {most:,} bytes, which no release "
                "holds; nothing was unpacked. If you trust it, unpack it by hand"
            )
        yield member


def _fault(member: Member) -> str:
    """What forbids to write an entry; empty if nothing does."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or not member.name:
        return "would be written outside of the folder"
    if any(character in member.name for character in "\\:\0"):
        return "has a backslash, colon or NUL, which names no file everywhere: unpack the archive by hand"
    if not member.plain:
        return "is a link or a device"
    return "is encrypted: unpack the archive by hand, with its password" if member.encrypted else ""


def _is_litter(name: str) -> bool:
    """Whether macOS added it: copies of attributes, and settings of windows."""
    path = PurePosixPath(name)
    return "__MACOSX" in path.parts or path.name.startswith("._") or path.name == ".DS_Store"


def _check_space(archive: Path, folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(f"{archive}: unpacks to {needed:,} bytes, but the disk has room for {free:,}")
