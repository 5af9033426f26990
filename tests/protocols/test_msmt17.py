"""MSMT17: lists, their lines, and the two versions."""

import re
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import PROTOCOLS
from protocols.files import count, read
from protocols.msmt17 import read_list
from retable.errors import DataError
from tests.protocols.empty_files import write_empty

FULL, TRAIN = PROTOCOLS.get("msmt17")(), PROTOCOLS.get("msmt17/train")()
FULL_V2, TRAIN_V2 = PROTOCOLS.get("msmt17-v2")(), PROTOCOLS.get("msmt17-v2/train")()
ALL = pytest.mark.parametrize(
    "protocol", [FULL, TRAIN, FULL_V2, TRAIN_V2], ids=lambda protocol: protocol.name
)

LISTS = {
    "list_train.txt": ["0000/0000_000_01_0303morning_0008_0.jpg", "0001/0001_000_02_0113noon_0017_2.jpg"],
    "list_val.txt": ["0000/0000_001_15_0303afternoon_0399_1_ex.jpg"],
    "list_query.txt": ["0000/0000_000_01_0303morning_0015_0.jpg", "0002/0002_000_04_0114noon_0001_0.jpg"],
    "list_gallery.txt": ["0002/0002_001_05_0302noon_0001_0.jpg", "0000/0000_001_09_0303morning_0029_0.jpg"],
}


def write_list(file, paths):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{path} {int(path[:4])}\n" for path in paths))


def write_release(root, train, test):
    for name, paths in LISTS.items():
        write_list(root / name, paths)
        write_empty(root / (train if name in ("list_train.txt", "list_val.txt") else test), paths)
    return root


@pytest.fixture
def v1(tmp_path):
    return write_release(tmp_path / "MSMT17_V1", "train", "test")


@pytest.fixture
def v2(tmp_path):
    return write_release(tmp_path / "MSMT17_V2", "mask_train_v2", "mask_test_v2")


def test_the_release_is_stated():
    assert FULL.counts.train == 30_248 + 2_373 == 32_621
    assert TRAIN.counts.train == 30_248
    assert FULL.counts.images == FULL.counts.train + FULL.counts.query + FULL.counts.gallery
    assert FULL.counts.train_pids + FULL.counts.test_pids == 4_101
    assert FULL_V2.counts == FULL.counts
    assert len({protocol.fingerprint() for protocol in (FULL, TRAIN, FULL_V2, TRAIN_V2)}) == 4


def names(records):
    return [f"{record.path.parent.name}/{record.path.name}" for record in records]


def test_lists_are_read_in_their_own_order(v1):
    (split,) = FULL.load(v1)

    assert names(split.train) == LISTS["list_train.txt"] + LISTS["list_val.txt"]
    assert names(split.query) == LISTS["list_query.txt"]
    assert names(split.gallery) == LISTS["list_gallery.txt"]
    assert [record.camid for record in split.train] == [1, 2, 15]
    assert all(record.path.is_file() for part in split.lists().values() for record in part)


def test_labels_of_both_spaces_start_at_0(v1):
    (split,) = FULL.load(v1)

    assert {record.pid for record in split.train} == {0, 1}
    assert {record.pid for record in split.query} == {0, 2}


def test_the_list_for_validation_is_left_out_of_the_smaller_training_set(v1):
    (split,) = TRAIN.load(v1)

    assert names(split.train) == LISTS["list_train.txt"]
    assert split.val == ()


def test_version_2_has_folders_of_its_own(v2):
    (split,) = FULL_V2.load(v2)

    assert {record.path.parent.parent.name for record in split.train} == {"mask_train_v2"}
    assert {record.path.parent.parent.name for record in split.gallery} == {"mask_test_v2"}


def test_a_version_under_the_name_of_the_other_is_recognised(v1, v2):
    with pytest.raises(DataError, match="found the folders mask_train_v2 and mask_test_v2 of MSMT17 V2"):
        FULL.load(v2)
    with pytest.raises(DataError, match="found the folders train and test of MSMT17 V1, expected mask_train"):
        FULL_V2.load(v1)


@ALL
def test_a_real_release_is_held_against_its_own_counts(v1, v2, protocol):
    expected = f"{protocol.counts.train:,}"
    with pytest.raises(
        DataError, match=rf"gallery: found 2, expected 82,161.*train: found \d, expected {expected}"
    ):
        read(protocol, {v1.name: v1, v2.name: v2}[protocol.folder])


@pytest.mark.parametrize("protocol", [FULL, TRAIN], ids=lambda protocol: protocol.name)
def test_a_rendered_street_reads_whole(layout_street, protocol):
    (split,) = read(protocol, layout_street("msmt17"))

    assert count(split, protocol)["distractors"] == 0
    assert {record.pid for record in split.query} & {record.pid for record in split.train}


PARTS = {
    "pid": st.integers(0, 9999),
    "nth": st.integers(0, 12_000),
    "camid": st.integers(1, 15),
    "day": st.sampled_from(["0113", "0114", "0302", "0303"]),
    "time": st.sampled_from(["morning", "noon", "afternoon"]),
    "frame": st.integers(0, 99_999),
    "box": st.integers(0, 40),
    "ending": st.sampled_from([".jpg", "_ex.jpg"]),
}


@given(st.fixed_dictionaries(PARTS))
def test_every_released_kind_of_line_is_read(tmp_path_factory, parts):
    pid = f"{parts['pid']:04d}"
    name = (
        f"{pid}_{parts['nth']:03d}_{parts['camid']:02d}_{parts['day']}{parts['time']}"
        f"_{parts['frame']:04d}_{parts['box']}{parts['ending']}"
    )
    root = tmp_path_factory.mktemp("lines")
    write_empty(root, [f"{pid}/{name}"])
    write_list(root / "list.txt", [f"{pid}/{name}"])

    (record,) = read_list(root / "list.txt", root)

    assert (record.pid, record.camid) == (parts["pid"], parts["camid"])
    assert record.path.is_file()


GOOD = "0007/0007_003_05_0303morning_0040_0.jpg"


@pytest.mark.parametrize(
    "line",
    [
        f"{GOOD}",
        f"{GOOD} 8",
        f"{GOOD} -7",
        f"{GOOD} 7 7",
        f"{GOOD}  7",
        f"test/{GOOD} 7",
        "0008/0007_003_05_0303morning_0040_0.jpg 7",
        "0007/0007_003_16_0303morning_0040_0.jpg 7",
        "0007/0007_003_00_0303morning_0040_0.jpg 7",
        "0007/0007_003_05_0303evening_0040_0.jpg 7",
        "../0007/0007_003_05_0303morning_0040_0.jpg 7",
        "0002_c1s1_000451_03.jpg 2",
        "",
    ],
)
def test_any_other_line_is_an_error_that_shows_it(tmp_path, line):
    (tmp_path / "list_query.txt").write_text(f"{GOOD} 7\n{line}\n{GOOD} 7\n")
    write_empty(tmp_path, [GOOD])

    with pytest.raises(
        DataError, match=rf"list_query\.txt, line 2: {re.escape(repr(line))} is not of MSMT17"
    ):
        read_list(tmp_path / "list_query.txt", tmp_path)


def test_bytes_that_are_no_text_are_an_error_that_shows_the_line(tmp_path):
    (tmp_path / "list_query.txt").write_bytes(f"{GOOD} 7\n".encode() + b"stra\xe9.jpg 7\n")

    with pytest.raises(DataError, match=r"list_query\.txt, line 2: 'stra\ufffd\.jpg 7' is not of MSMT17"):
        read_list(tmp_path / "list_query.txt", tmp_path)


def test_a_mark_of_unicode_and_blank_last_lines_are_read(tmp_path):
    (tmp_path / "list_query.txt").write_bytes(f"\ufeff{GOOD} 7\r\n\r\n \n".encode())
    write_empty(tmp_path, [GOOD])

    assert [record.pid for record in read_list(tmp_path / "list_query.txt", tmp_path)] == [7]


def test_line_ends_of_other_systems_are_read(tmp_path):
    (tmp_path / "list_query.txt").write_bytes(f"{GOOD} 7\r\n{GOOD} 7 \r\n".encode())
    write_empty(tmp_path, [GOOD])

    assert [record.pid for record in read_list(tmp_path / "list_query.txt", tmp_path)] == [7, 7]


@pytest.mark.parametrize("name", LISTS)
def test_a_missing_list_is_named(v1, name):
    (v1 / name).unlink()

    with pytest.raises(DataError, match=rf"{name}: no such file"):
        FULL.load(v1)


def test_a_missing_image_is_named(v1):
    (v1 / "test" / LISTS["list_gallery.txt"][0]).unlink()

    with pytest.raises(
        DataError, match=rf"test: 1 images of list_gallery\.txt are missing: {LISTS['list_gallery.txt'][0]};"
    ):
        FULL.load(v1)


@ALL
def test_images_that_no_list_names_are_extra(v1, v2, protocol):
    root = {v1.name: v1, v2.name: v2}[protocol.folder]
    (split,) = protocol.load(root)
    assert protocol.explain(root, split) == []

    train, test = ("train", "test") if root == v1 else ("mask_train_v2", "mask_test_v2")
    write_empty(root / train, ["0000/copy.jpg", "0000/Thumbs.db", "0000/._copy.jpg"])
    write_empty(root / test, ["0009/a.jpg"])

    assert protocol.explain(root, split) == [f"extra (2): {train}/0000/copy.jpg, {test}/0009/a.jpg"]


def test_a_missing_identity_is_named(v1):
    shutil.rmtree(v1 / "train" / "0000")

    with pytest.raises(DataError, match=r"train: 1 images of list_train\.txt are missing: 0000/"):
        FULL.load(v1)
