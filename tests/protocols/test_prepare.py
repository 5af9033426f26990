"""From downloaded archives to a data set that can be read; whole, or nothing at all."""

import hashlib
import json
import os
import shutil
import zipfile
from dataclasses import replace
from functools import partial

import pytest
from typer.testing import CliRunner

from protocols import PROTOCOLS, prepare
from protocols.files import read
from protocols.market1501_500k import load_all
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
    md5 = hashlib.md5(market.read_bytes()).hexdigest()
    assert f"a.zip: not the published Market-1501-v15.09.15.zip of Market-1501 (MD5 {md5})" in result.stderr
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


BOXES = ("bbox_train", "bbox_test")


@pytest.fixture
def mars(layout_street, tmp_path):
    """Archives by what they hold: images as published, the lists (and the rest) as GitHub packs them."""
    street = layout_street("mars")

    def archives(repository="MARS-evaluation-0a1b2c3"):
        rest = tmp_path / repository
        shutil.copytree(street, rest, ignore=lambda *_: BOXES)
        images = {part: packed(tmp_path / f"{part} (1).zip", street / part, part) for part in BOXES}
        return images | {"info": packed(tmp_path / "lists.zip", rest, repository)}

    return archives


@pytest.mark.parametrize("name", ["MARS-evaluation-master", "MARS-evaluation-1.0", "MARS-evaluation"])
def test_a_release_in_several_archives_is_put_together(mars, layout_street, data, name):
    archives = mars(name)
    result = run("mars", *archives.values(), "--data-root", data)

    assert result.exit_code == 0, result.output
    assert "bbox_train (1).zip: not the published bbox_train.zip of MARS" in result.stderr
    assert "lists.zip: no MD5 is known for it; SHA-256 " in result.stderr
    entries = {path.name for path in (data / "MARS").iterdir()}
    assert entries == {path.name for path in layout_street("mars").iterdir()}


def test_a_part_that_two_archives_hold_is_named(mars, data):
    archives = mars()

    with pytest.raises(DataError, match="two archives hold bbox_train: "):
        prepare.unpack(PROTOCOLS.get("mars")(), [*archives.values(), archives["bbox_train"]], data)
    assert not list(data.iterdir())


@pytest.mark.parametrize("part", [*BOXES, "info"])
def test_a_part_that_no_archive_holds_is_told_before_anything_is_unpacked(mars, data, monkeypatch, part):
    monkeypatch.delattr(prepare, "extract")

    result = run("mars", *(file for held, file in mars().items() if held != part), "--data-root", data)

    assert result.exit_code == 2
    assert f"mars also needs {part} (of " in result.stderr
    assert f"or put it into {data / 'MARS'} first. Nothing was unpacked" in result.stderr
    assert not list(data.iterdir())


def test_archives_are_added_to_what_a_user_put_there_first(mars, layout_street, data):
    shutil.copytree(layout_street("mars"), data / "MARS", ignore=lambda *_: BOXES)
    mine = tree(data)
    archives = mars()

    for incomplete in ([archives["bbox_test"]], [archives["info"], archives["bbox_test"]]):
        assert run("mars", *incomplete, "--data-root", data).exit_code == 2
        assert tree(data) == mine
    result = run("mars", archives["bbox_train"], archives["bbox_test"], "--data-root", data)

    assert result.exit_code == 0, result.output
    assert tree(data / "MARS") == tree(layout_street("mars"))
    assert not any(path.is_symlink() for path in data.rglob("*"))


def tree(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_what_is_added_must_make_the_data_set_whole(mars, layout_street, tmp_path, data):
    shutil.copytree(layout_street("mars"), data / "MARS", ignore=lambda *_: BOXES)
    mine = tree(data)
    shutil.copytree(layout_street("mars"), tmp_path / "copy")
    gone = next((tmp_path / "copy" / "bbox_test" / "0000").iterdir())
    gone.unlink()
    damaged = packed(tmp_path / "b.zip", tmp_path / "copy" / "bbox_test", "bbox_test")

    result = run("mars", mars()["bbox_train"], damaged, "--data-root", data)

    assert result.exit_code == 2
    assert f"missing (1): bbox_test/0000/{gone.name}" in result.stderr
    assert f"{data / 'MARS'}: not a whole MARS" in result.stderr and "partial" not in result.stderr
    assert tree(data) == mine


def test_lists_of_the_new_protocol_are_found_deep_in_a_repository(layout_street, tmp_path, data):
    street, lists = layout_street("cuhk03"), tmp_path / "evaluation" / "data" / "CUHK03"
    shutil.copytree(street, data / "cuhk03_release")
    lists.mkdir(parents=True)
    for file in (data / "cuhk03_release").glob("*config*"):
        file.rename(lists / file.name)
    repository = packed(tmp_path / "r.zip", tmp_path / "evaluation", "person-re-ranking-master/evaluation")
    assert run("cuhk03-labeled", "--data-root", data).exit_code == 0

    result = run("cuhk03-np-labeled/mat", repository, "--data-root", data)

    assert result.exit_code == 0, result.output
    assert read(PROTOCOLS.get("cuhk03-np-detected/mat")(), data / "cuhk03_release")


PER_CAMERA = (2, 3, 1)


@pytest.fixture
def few(tiny_street, tmp_path):
    """Market-1501 with six distractors: the protocol, its two archives, and the Market copy itself."""
    market = tmp_path / "market"
    shutil.copytree(tiny_street, market)
    manifest = market / "crosswalk.json"
    facts = json.loads(manifest.read_text())
    facts["counts"]["market1501+500k"] = {"gallery": facts["counts"]["market1501"]["gallery"] + 6}
    manifest.write_text(json.dumps(facts))
    distractors = tmp_path / "distractors_500k.zip"
    with zipfile.ZipFile(distractors, "w") as archive:
        for camid, images in enumerate(PER_CAMERA, 1):
            for frame in range(images):
                archive.writestr(f"images/0000_c{camid}s1_{frame:06d}_01.jpg", b"")
        archive.writestr("readme.txt", "of the distractors")
    protocol = replace(PROTOCOLS.get("market1501+500k")(), load=partial(load_all, per_camera=PER_CAMERA))
    return protocol, packed(tmp_path / "market.zip", market, MARKET.folder), distractors, market


def test_distractors_are_unpacked_with_market1501(few, data):
    protocol, market, distractors, _ = few

    root = prepare.unpack(protocol, [market, distractors], data)

    assert len(list((root / "images").iterdir())) == 6
    (split,) = read(protocol, root)
    assert {record.path.parent.name for record in split.gallery} == {"bounding_box_test", "images"}


def test_distractors_are_added_to_market1501(few, data):
    protocol, _, distractors, market = few
    shutil.copytree(market, data / MARKET.folder)
    mine = tree(data)
    readme = (data / MARKET.folder / "readme.txt").read_text()

    root = prepare.unpack(protocol, [distractors], data)

    images = [f"{MARKET.folder}/{name}" for name in tree(root) if name.startswith("images")]
    assert tree(data) == sorted([*mine, *images]) and len(images) == 7
    assert (root / "readme.txt").read_text() == readme
    read(protocol, root)
    with pytest.raises(DataError, match=f"{MARKET.folder} exists and has images, and so has"):
        prepare.unpack(protocol, [distractors], data)


def test_distractors_beside_market1501_are_enough(few, data):
    protocol, market, distractors, _ = few
    with zipfile.ZipFile(distractors) as package:
        package.extractall(data / "distractors_500k")

    read(protocol, prepare.unpack(protocol, [market], data))


def test_without_distractors_it_is_said_which_archive_has_them(few, data):
    protocol, market, *_ = few

    with pytest.raises(DataError, match=r"\(of distractors_500k\.zip\); give that as an archive too"):
        prepare.unpack(protocol, [market], data)
    assert not list(data.iterdir())


def test_a_full_disk_is_told_without_the_name_of_the_temporary_folder(market, data, monkeypatch):
    def full(_, folder, **__):
        raise OSError(28, "No space left on device", str(folder / "query"))

    monkeypatch.setattr(prepare, "extract", full)

    result = run("market1501", market, "--data-root", data)

    assert result.exit_code == 2
    assert "No space left on device" in result.stderr and "partial" not in result.stderr
    assert not list(data.iterdir())


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


@pytest.mark.parametrize("part", ["query", "bounding_box_test", "gt_bbox"])
def test_what_is_there_is_never_replaced(market, data, part):
    mine = data / MARKET.folder / part / "mine"
    mine.parent.mkdir(parents=True)
    mine.touch()
    before = tree(data)

    result = run("market1501", market, "--data-root", data)

    assert result.exit_code == 2
    there = {"gt_bbox": f"{part} is there already"}.get(part, f"exists and has {part}, and so has {market}")
    assert there in result.stderr and "partial" not in result.stderr
    assert tree(data) == before


def test_a_data_set_without_named_parts_is_never_added_to(layout_street, tmp_path, data):
    archive = packed(tmp_path / "a.zip", layout_street("cuhk01"), "campus")
    (data / "campus").mkdir()

    result = run("cuhk01-100", archive, "--data-root", data)
    assert result.exit_code == 2
    assert f"{data / 'campus'} exists; give no ARCHIVE to prepare what is there" in result.stderr

    (data / "campus").rmdir()
    assert run("cuhk01-100", archive, "--data-root", data).exit_code == 0


@pytest.mark.parametrize("layout", ["cuhk01", "viper", "dukemtmc", "msmt17", "cuhk03-np"])
@pytest.mark.parametrize("below", ["", "download/copy"])
def test_every_release_is_found_wherever_an_archive_has_it(layout_street, tmp_path, data, layout, below):
    name = {"cuhk01": "cuhk01-100", "cuhk03-np": "cuhk03-np-labeled"}.get(layout, layout)

    result = run(name, packed(tmp_path / "a.zip", layout_street(layout), below), "--data-root", data)

    assert result.exit_code == 0, result.output
    read(PROTOCOLS.get(name)(), data / PROTOCOLS.get(name)().folder)


def test_a_release_that_is_not_whole_does_not_appear(tiny_street, tmp_path, data):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_street, copy)
    gone = sorted((copy / "query").iterdir())[3]
    gone.unlink()

    result = run("market1501", packed(tmp_path / "a.zip", copy, "Market"), "--data-root", data)

    assert result.exit_code == 2
    told = f"what the archives hold is no whole Market-1501: {data / MARKET.folder}: not a whole"
    assert told in result.stderr and "partial" not in result.stderr
    assert gone.name in result.stderr
    assert not list(data.iterdir())


def test_an_archive_of_something_else_is_named_by_what_it_lacks(tmp_path, data):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()

    with pytest.raises(DataError, match=r"a\.zip: holds nothing that market1501 needs, expected bounding_"):
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
