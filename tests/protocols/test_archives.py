"""Archives from anywhere: what is written, and that nothing hostile is."""

import io
import os
import shutil
import stat
import tarfile
import zipfile
from contextlib import suppress
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.archives import Limits, checksums, extract, file_paths
from retable.errors import DataError

FILES = {"release/query/0001.jpg": b"one", "release/readme.txt": b"all " * 500}


def zipped(path, files=FILES):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in files.items():
            package.writestr(name, content)
    return path


def tarred(path, files=FILES):
    mode = "w:gz" if path.name.endswith("gz") else "w"
    with tarfile.open(path, mode) as package:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            package.addfile(entry, io.BytesIO(content))
    return path


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "data" / "here"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def refuse(tmp_path, folder):
    """Asserts that unpacking fails with the message, naming the archive, and writes nothing anywhere."""

    def check(archive, match, **options):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(DataError, match=match) as error:
            extract(archive, folder, **options)
        assert str(archive) in str(error.value)
        assert sorted(tmp_path.rglob("*")) == before

    return check


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize(
    ("pack", "name"), [(zipped, "a.zip"), (tarred, "a.tar"), (tarred, "a.tar.gz"), (zipped, "misnamed.tar")]
)
def test_an_archive_is_unpacked_whatever_its_name(tmp_path, folder, pack, name):
    done = []

    extract(pack(tmp_path / name), folder, progress=lambda *numbers: done.append(numbers))

    assert contents(folder) == FILES
    assert done == [(1, 2), (2, 2)]


def test_files_added_by_macos_are_left_out(tmp_path, folder):
    litter = {"__MACOSX/release/._0001.jpg": b"", "release/._0001.jpg": b"", "release/.DS_Store": b""}

    extract(zipped(tmp_path / "a.zip", litter | FILES), folder)

    assert contents(folder) == FILES


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize(
    "name",
    ["../out", "release/../../out", "/etc/out", "release/..", "release\\..\\out", "C:out", "//host/out"],
)
def test_an_entry_that_would_leave_the_folder_is_refused(tmp_path, refuse, pack, name):
    refuse(pack(tmp_path / "archive", FILES | {name: b"x"}), "outside of the folder|names no file everywhere")


def test_a_name_that_hides_its_end_is_refused(tmp_path, refuse):
    archive = zipped(tmp_path / "a.zip", {"release/query#/../../out": b"x"})
    archive.write_bytes(archive.read_bytes().replace(b"query#", b"query\0"))

    refuse(archive, "outside of the folder|damaged")


def folder_entry(name):
    entry = tarfile.TarInfo(name)
    entry.type = tarfile.DIRTYPE
    return entry


@pytest.mark.parametrize("top", [".", "./"])
def test_folders_may_be_there_twice_and_so_may_the_one_that_all_lie_in(tmp_path, folder, top):
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as package:
        for name in (top, "release", "./release/", top):
            package.addfile(folder_entry(name))
        entry = tarfile.TarInfo("./release/file")
        entry.size = 1
        package.addfile(entry, io.BytesIO(b"x"))

    extract(archive, folder)

    assert contents(folder) == {"release/file": b"x"}
    assert file_paths(archive) == ["release/file"]
    extract(zipped(tmp_path / "a.zip", {"./": b"", "a/": b""} | {"./a/b": b"x"}), folder / "release")
    assert contents(folder) == {"release/file": b"x", "release/a/b": b"x"}


@pytest.mark.parametrize(("first", "second"), [("release", "release/"), ("release/", "release")])
def test_a_file_with_the_name_of_a_folder_is_refused(tmp_path, refuse, first, second):
    refuse(zipped(tmp_path / "a.zip", {first: b"", second: b""}), "is there twice")


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_files_are_listed_as_they_would_be_written(tmp_path, pack):
    litter = {"__MACOSX/release/._0001.jpg": b"", "release/.DS_Store": b""}

    assert sorted(file_paths(pack(tmp_path / "a", litter | FILES))) == sorted(FILES)
    with pytest.raises(DataError, match="outside of the folder"):
        file_paths(pack(tmp_path / "b", FILES | {"../out": b""}))


@pytest.mark.parametrize("name", ["release\\0001.jpg", "release/a:b"])
def test_a_name_of_another_system_is_to_be_unpacked_by_hand(tmp_path, refuse, name):
    refuse(zipped(tmp_path / "a.zip", {name: b"x"}), "names no file everywhere: unpack the archive by hand")


def test_an_entry_that_is_there_twice_is_refused(tmp_path, refuse):
    archive = zipped(tmp_path / "a.zip")
    with zipfile.ZipFile(archive, "a") as package:
        package.writestr("release/./readme.txt", b"other")

    refuse(archive, "is there twice")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, refuse, kind):
    archive = tarred(tmp_path / "a.tar")
    with tarfile.open(archive, "a") as package:
        entry = tarfile.TarInfo("release/entry")
        entry.type, entry.linkname = kind, "release/readme.txt"
        package.addfile(entry)

    refuse(archive, "'release/entry' is a link or a device")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_in_a_zip_are_refused(tmp_path, refuse, kind):
    archive = zipped(tmp_path / "a.zip")
    with zipfile.ZipFile(archive, "a") as package:
        entry = zipfile.ZipInfo("release/entry")
        entry.external_attr = (kind | 0o777) << 16
        package.writestr(entry, "/etc/passwd")

    refuse(archive, "'release/entry' is a link or a device")


def test_a_file_written_through_a_link_of_the_same_archive_is_refused(tmp_path, refuse):
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as package:
        entry = tarfile.TarInfo("release")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/tmp"
        package.addfile(entry)
        package.addfile(tarfile.TarInfo("release/file"))

    refuse(archive, "'release' is a link")


def test_a_program_of_an_archive_gets_no_rights_over_others(tmp_path, folder):
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as package:
        entry = tarfile.TarInfo("tool")
        entry.mode = 0o6777
        package.addfile(entry)

    extract(archive, folder)

    assert not stat.S_IMODE((folder / "tool").stat().st_mode) & (stat.S_ISUID | stat.S_ISGID | stat.S_IWOTH)


@pytest.mark.parametrize(("pack", "name"), [(zipped, "a.zip"), (tarred, "a.tar.gz")])
def test_an_archive_that_swells_is_refused(tmp_path, refuse, pack, name):
    refuse(pack(tmp_path / name, {"zeros": bytes(5_000_000)}), r"or [\d,]+ bytes, which no release holds")


@pytest.mark.parametrize(("pack", "name"), [(zipped, "a.zip"), (tarred, "a.tar.gz")])
def test_limits_hold_for_sizes_and_numbers_of_entries(tmp_path, refuse, pack, name):
    archive = pack(tmp_path / name, {f"{i}": os.urandom(100) for i in range(20)})

    refuse(archive, "more than 19 entries", limits=Limits(members=19))
    refuse(archive, "or 1,999 bytes", limits=Limits(total=1_999))
    extract(archive, tmp_path / "data" / "here", limits=Limits(members=20, total=2_000))


def test_entries_that_share_their_bytes_count_each(tmp_path, refuse):
    """Overlapping entries get past limits that compare each entry with its own compressed size."""
    archive = zipped(tmp_path / "a.zip", {f"{i:03d}": b"" for i in range(200)} | {"data": os.urandom(10_000)})
    data = bytearray(archive.read_bytes())
    directory = [at for at in range(len(data)) if data[at : at + 4] == b"PK\x01\x02"]
    for at in directory[:-1]:  # sizes, checksum and place of the last entry
        data[at + 16 : at + 28] = data[directory[-1] + 16 : directory[-1] + 28]
        data[at + 42 : at + 46] = data[directory[-1] + 42 : directory[-1] + 46]
    archive.write_bytes(data)

    refuse(archive, "which no release holds", limits=Limits(ratio=10))


def test_an_encrypted_archive_is_named(tmp_path, refuse):
    archive = zipped(tmp_path / "a.zip")
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)

    refuse(archive, "is encrypted: unpack the archive by hand, with its password")


@pytest.mark.parametrize(("pack", "name"), [(zipped, "a.zip"), (tarred, "a.tar.gz")])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_truncated_archive_is_named(tmp_path, refuse, pack, name, share):
    archive = pack(tmp_path / name, {"image": os.urandom(20_000)})
    archive.write_bytes(archive.read_bytes()[: int(share * archive.stat().st_size)])

    refuse(archive, "truncated or damaged one .*; download it again")


@pytest.mark.parametrize("content", [b"", b"PK", b"<html>Quota exceeded</html>"])
def test_what_is_no_archive_is_named(tmp_path, refuse, content):
    archive = tmp_path / "a.zip"
    archive.write_bytes(content)

    refuse(archive, r"^[^\n]*no archive, or a truncated or damaged one \([^\n]+\); expected[^\n]*$")


def test_an_archive_of_nothing_is_named(tmp_path, refuse):
    refuse(tarred(tmp_path / "a.tar", {}), "holds no file")


def test_too_little_room_is_told_before_anything_is_written(tmp_path, refuse, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))

    refuse(zipped(tmp_path / "a.zip"), "unpacks to 2,003 bytes, but .* has room for 100")


@settings(max_examples=100, deadline=None)
@given(
    pack=st.sampled_from([zipped, tarred]),
    damage=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4
    ),
)
def test_damaged_bytes_are_either_found_out_or_harmless(tmp_path_factory, pack, damage):
    place = tmp_path_factory.mktemp("fuzz")
    archive = pack(place / "a.tar.gz", {"release/a": b"a" * 40, "release/b": bytes(range(40))})
    content = bytearray(archive.read_bytes())
    for where, byte in damage:
        content[int(where * len(content))] = byte
    archive.write_bytes(content)
    (place / "here").mkdir()

    with suppress(DataError):
        extract(archive, place / "here")

    assert sorted(path.name for path in place.iterdir()) == ["a.tar.gz", "here"]


def test_checksums_are_those_of_the_whole_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc")

    assert checksums(path) == (
        "900150983cd24fb0d6963f7d28e17f72",
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    )
