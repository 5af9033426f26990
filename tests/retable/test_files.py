"""Files and folders are whole or not there, whatever interrupts their writing."""

import os
import platform

import pytest

from retable.files import appearing, extending, write_atomically


def test_a_file_is_replaced(tmp_path):
    path = tmp_path / "new" / "file"
    for content in (b"first", b"second"):
        write_atomically(path, lambda file, content=content: file.write(content))

    assert path.read_bytes() == b"second"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_a_failure_keeps_the_old_content_and_no_remains(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write(file):
        file.write(b"half of the n")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, write)

    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_folder_appears_with_all_it_holds(tmp_path):
    target = tmp_path / "new" / "release"

    with appearing(target) as folder:
        (folder / "image").write_bytes(b"1")
        assert not target.exists()

    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == [
        "new",
        "new/release",
        "new/release/image",
    ]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, GeneratorExit])
def test_an_interrupted_folder_does_not_appear_and_leaves_nothing(tmp_path, error):
    def fill():
        with appearing(tmp_path / "release") as folder:
            (folder / "image").write_bytes(b"1")
            raise error

    with pytest.raises(error):
        fill()

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_an_existing_folder_is_never_replaced(tmp_path, when):
    target = tmp_path / "release"

    def occupy():
        target.mkdir()
        (target / "mine").touch()

    def fill():
        if when == "before":
            occupy()
        with appearing(target):
            occupy()

    with pytest.raises(FileExistsError, match="is not an empty folder"):
        fill()

    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == [
        "release",
        "release/mine",
    ]


def test_an_empty_folder_gives_way(tmp_path):
    (tmp_path / "release").mkdir()

    with appearing(tmp_path / "release") as folder:
        (folder / "image").touch()

    assert [path.name for path in (tmp_path / "release").iterdir()] == ["image"]


def tree(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.fixture
def release(tmp_path):
    """A folder with something in it."""
    (tmp_path / "release" / "mine").mkdir(parents=True)
    (tmp_path / "release" / "mine" / "image").write_bytes(b"1")
    return tmp_path / "release"


def test_a_folder_is_extended_by_what_is_added(tmp_path, release):
    with extending(release) as folder:
        assert (folder / "mine" / "image").read_bytes() == b"1"
        (folder / "query").mkdir()
        (folder / "query" / "image").write_bytes(b"2")
        (folder / "readme").touch()
        assert tree(release) == ["mine", "mine/image"]

    assert tree(tmp_path / "release") == ["mine", "mine/image", "query", "query/image", "readme"]
    assert [path.name for path in tmp_path.iterdir()] == ["release"]
    assert not (release / "mine").is_symlink()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_extension_changes_nothing(tmp_path, release, error):
    def extend():
        with extending(release) as folder:
            (folder / "query").mkdir()
            raise error

    with pytest.raises(error):
        extend()

    assert tree(tmp_path) == ["release", "release/mine", "release/mine/image"]


def test_an_extension_replaces_nothing_and_then_adds_nothing(tmp_path, release):
    def extend():
        with extending(release) as folder:
            for name in ("a", "b", "c"):
                (folder / name).mkdir()
            (release / "b").write_bytes(b"somebody else's")

    with pytest.raises(FileExistsError, match="is not an empty folder"):
        extend()

    assert tree(tmp_path) == ["release", "release/b", "release/mine", "release/mine/image"]


def test_only_remains_of_dead_processes_of_this_machine_are_removed(tmp_path):
    def remains(machine, process):
        folder = tmp_path / f".release.{machine}.{process}.partial"
        folder.mkdir()
        (folder / "image").touch()
        return folder

    here = platform.node().replace(".", "-")
    above_the_largest_process_id = 2**22 + 7
    dead = remains(here, above_the_largest_process_id)
    dead_with_our_id = remains(here, os.getpid())
    living = remains(here, os.getppid())
    elsewhere = remains("another-machine", above_the_largest_process_id)

    with appearing(tmp_path / "release"):
        pass

    assert not dead.exists()
    assert not dead_with_our_id.exists()
    assert living.exists()
    assert elsewhere.exists()
