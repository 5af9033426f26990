"""Files and folders that are either whole or not there."""

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, flush it to disk and rename it into place.

    Whatever interrupts this (a full disk, kill -9), ``path`` holds its previous content or the
    whole new one. Raises what ``write`` raises, after removing the temporary file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """A new folder beside ``target`` that becomes ``target`` when the block ends without an error.

    However else the block is left, Ctrl-C included, nothing of the folder stays; what killed
    processes of this machine left behind is removed first.

    Raises ``FileExistsError`` if ``target`` exists and is not an empty folder.
    """
    _refuse_existing(target)
    with _beside(target) as folder:
        yield folder
        _refuse_existing(target)
        folder.rename(target)


@contextmanager
def extending(target: Path) -> Iterator[Path]:
    """A new folder beside ``target`` that shows what it holds, as links; what is added moves there.

    It moves when the block ends without an error. However else the block is left, ``target`` holds
    what it held before; no entry of it is ever replaced.

    Raises ``FileExistsError`` if meanwhile somebody else made an entry that was added.
    """
    with _beside(target) as folder:
        for entry in target.iterdir():
            (folder / entry.name).symlink_to(entry.absolute())
        yield folder
        _move_additions(folder, target)


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(target)
    folder = target.with_name(_partial(target, os.getpid()))
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _move_additions(folder: Path, target: Path) -> None:
    moved: list[str] = []
    try:
        for entry in sorted(entry for entry in folder.iterdir() if not entry.is_symlink()):
            _refuse_existing(target / entry.name)
            entry.rename(target / entry.name)
            moved.append(entry.name)
    except BaseException:
        for name in moved:
            (target / name).rename(folder / name)
        raise


def _refuse_existing(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(17, "exists and is not an empty folder; remove it first", str(target))


def _partial(target: Path, process: int | str) -> str:
    """The machine is named too: another one that shares the disk cannot see whether a process runs."""
    machine = platform.node().replace(".", "-")
    return f".{target.name}.{machine}.{process}.partial"


def _remove_abandoned(target: Path) -> None:
    for folder in target.parent.glob(_partial(target, "*")):
        process = folder.name.split(".")[-2]
        if process.isdigit() and not _runs_elsewhere(int(process)):
            shutil.rmtree(folder, ignore_errors=True)


def _runs_elsewhere(process: int) -> bool:
    """Whether another process of this machine has that id; taken for granted where it cannot be asked."""
    if os.name != "posix":  # Windows would end the process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()
