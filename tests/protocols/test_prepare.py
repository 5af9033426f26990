"""From downloaded archives to a data set that can be read; whole, or nothing at all."""

import hashlib
import json
import os
import shutil
import zipfile
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from protocols import PROTOCOLS, prepare
from protocols.files import read
from retable.cli import application
from retable.errors import DataError

MARKET = PROTOCOLS.get("market1501")()
CUHK03 = PROTOCOLS.get("cuhk03-labeled")()


def run(*arguments):
    return CliRunner().invoke(application(prepare.main), [str(argument) for argument in arguments])


def packed(path, folder, below=""):
    """A zip of what ``folder`` holds, as ``below/...``."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(file for file in folder.rglob("*") if file.is_file()):
            archive.write(file, f"{below}/{file.relative_to(folder).as_posix()}".lstrip("/"))
    return path


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def market(tiny_street, tmp_path):
    """An archive of a rendered street, as the release is packed."""
    return packed(tmp_path / "a.zip", tiny_street, MARKET.folder)


def test_the_command_prints_where_the_data_set_is(market, data, tiny_street):
    result = run("market1501", market, "--data-root", data)

    assert result.exit_code == 0, result.output
    assert result.stdout == f"{data / MARKET.folder}\n"
    sha256 = hashlib.sha256(market.read_bytes()).hexdigest()
    assert f"no MD5 is known for it; SHA-256 {sha256}" in result.stderr
    (split,) = read(MARKET, data / MARKET.folder)
    assert split.digests() == read(MARKET, tiny_street)[0].digests()
    assert [path.name for path in data.iterdir()] == [MARKET.folder]


@pytest.mark.parametrize(
    "below", ["", "Market-1501", "download/Market", f"download/{MARKET.folder}", "Market-1501-main"]
)
def test_the_release_is_found_wherever_an_archive_has_it(tiny_street, tmp_path, data, below):
    archive = packed(tmp_path / "a.zip", tiny_street, below)
    with zipfile.ZipFile(archive, "a") as package:
        package.writestr("__MACOSX/._query", b"")

    root = prepare.unpack(MARKET, [archive], data)

    assert root == data / MARKET.folder
    read(MARKET, root)
    assert sorted(path.name for path in root.iterdir()) == sorted(path.name for path in tiny_street.iterdir())


def test_a_release_in_several_archives_is_put_together(layout_street, tmp_path, data):
    """MARS: two archives of images, and the lists as GitHub packs them."""
    street = layout_street("mars")
    archives = [packed(tmp_path / f"{part}.zip", street / part, part) for part in ("bbox_train", "bbox_test")]
    rest = tmp_path / "rest"
    shutil.copytree(street, rest, ignore=lambda *_: ("bbox_train", "bbox_test"))
    archives.append(packed(tmp_path / "MARS-evaluation-master.zip", rest, "MARS-evaluation-master"))
    mars = replace(PROTOCOLS.get("mars")(), archives={})

    root = prepare.unpack(mars, archives, data)

    read(mars, root)
    assert sorted(path.name for path in root.iterdir()) == sorted(path.name for path in street.iterdir())
    with pytest.raises(DataError, match="two archives hold bbox_train"):
        prepare.unpack(mars, [*archives, archives[0]], data.parent)


def test_cuhk03_is_unpacked_from_its_mat_file(layout_street, tmp_path, data):
    archive = packed(tmp_path / "a.zip", layout_street("cuhk03"), "cuhk03_release")

    result = run("cuhk03-labeled", archive, "--data-root", data)

    assert result.exit_code == 0, result.output
    assert "CUHK03 is whole, as cuhk03-labeled needs it" in result.stderr
    for name in ("cuhk03-detected", "cuhk03-merged/openreid", "cuhk03-np-labeled/mat"):
        read(PROTOCOLS.get(name)(), data / "cuhk03_release")


def test_what_is_unpacked_already_is_prepared_where_it_lies(layout_street, data):
    shutil.copytree(layout_street("cuhk03"), data / "cuhk03_release")

    for _ in range(2):
        result = run("cuhk03-detected", "--data-root", data)
        assert result.exit_code == 0, result.output

    assert read(PROTOCOLS.get("cuhk03-detected")(), data / "cuhk03_release")


def test_drawn_identities_are_recorded_and_a_record_stays(layout_street, data):
    shutil.copytree(layout_street("cuhk03"), data / "cuhk03_release")
    record = data / "cuhk03_release" / "splits" / "cuhk03-labeled" / "original.json"

    assert run("cuhk03-labeled/original", "--data-root", data).exit_code == 0
    assert json.loads(record.read_text())["protocol"] == "cuhk03-labeled/original"

    record.write_text(record.read_text() + "\n")
    before = record.read_bytes()
    assert run("cuhk03-labeled/original", "--data-root", data).exit_code == 0
    assert record.read_bytes() == before


def test_a_wrong_md5_is_an_error_with_both_sums(market, data):
    expected = "0" * 32
    protocol = replace(MARKET, archives={market.name: expected})
    found = hashlib.md5(market.read_bytes()).hexdigest()

    with pytest.raises(DataError, match=f"a.zip: found MD5 {found}, expected {expected}; download it again"):
        prepare.unpack(protocol, [market], data)
    assert not list(data.iterdir())


@pytest.mark.parametrize("name", ["a.zip", "Market (1).zip"])
def test_the_published_md5_is_recognised_whatever_the_name(market, data, name):
    archive = market.rename(market.with_name(name))
    protocol = replace(MARKET, archives={"a.zip": hashlib.md5(archive.read_bytes()).hexdigest()})

    prepare.unpack(protocol, [archive], data)

    assert (data / MARKET.folder / "query").is_dir()


def test_an_existing_data_set_is_never_touched(market, data):
    mine = data / MARKET.folder / "mine"
    mine.parent.mkdir()
    mine.touch()

    result = run("market1501", market, "--data-root", data)

    assert result.exit_code == 2
    assert f"{data / MARKET.folder} exists; give no ARCHIVE to prepare what is there" in result.stderr
    assert [path.name for path in data.rglob("*")] == [MARKET.folder, "mine"]


def test_a_release_that_is_not_whole_does_not_appear(tiny_street, tmp_path, data):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_street, copy)
    gone = sorted((copy / "query").iterdir())[3]
    gone.unlink()

    result = run("market1501", packed(tmp_path / "a.zip", copy, "Market"), "--data-root", data)

    assert result.exit_code == 2
    assert (
        "what the archives hold is no whole Market-1501: Market-1501-v15.09.15: not a whole" in result.stderr
    )
    assert gone.name in result.stderr
    assert not list(data.iterdir())


def test_an_archive_of_something_else_is_named_by_what_it_lacks(tmp_path, data):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()

    with pytest.raises(DataError, match=r"no whole Market-1501: Market-1501-v15.09.15.* no such folder"):
        prepare.unpack(MARKET, [packed(tmp_path / "a.zip", tmp_path / "other")], data)
    assert not list(data.iterdir())


def test_a_hostile_archive_leaves_nothing(tmp_path, data):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as package:
        package.writestr("../../out", b"x")

    result = run("market1501", tmp_path / "a.zip", "--data-root", data)

    assert result.exit_code == 2
    assert "entry '../../out' would be written outside of the folder" in result.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.zip", "data"]


@pytest.mark.parametrize("where", ["prepare", "load"])
def test_an_interrupted_preparation_leaves_nothing(market, data, where):
    def interrupted(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare.unpack(replace(MARKET, **{where: interrupted}), [market], data)
    assert not list(data.iterdir())


def test_remains_of_a_killed_preparation_are_removed_by_the_next(market, data):
    process = os.fork() if hasattr(os, "fork") else pytest.skip("needs a process to kill")
    if process == 0:
        prepare.unpack(replace(MARKET, load=lambda _: os._exit(9)), [market], data)
    os.waitpid(process, 0)
    (remains,) = data.iterdir()
    assert remains.name.startswith(f".{MARKET.folder}.")

    prepare.unpack(MARKET, [market], data)

    assert [path.name for path in data.iterdir()] == [MARKET.folder]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("market1502", "a.zip"), "unknown protocol 'market1502': did you mean 'market1501'"),
        (("market1501", "nowhere.zip"), "nowhere.zip: no such file; give the archives of Market-1501"),
        (("market1501",), "Market-1501 is not here: expected the folder"),
    ],
)
def test_a_request_that_cannot_be_met_is_told(data, arguments, message):
    result = run(*arguments, "--data-root", data)

    assert result.exit_code == 2
    assert message in result.stderr


def test_a_missing_data_root_is_named(market, data):
    result = run("market1501", market, "--data-root", data / "nowhere")

    assert result.exit_code == 2
    assert "nowhere: no such folder" in result.stderr
