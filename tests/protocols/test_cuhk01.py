"""CUHK01: names, views, and how many identities are tested on."""

import re
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import PROTOCOLS, SingleShot
from protocols.cuhk01 import parse
from protocols.files import count, read
from retable.errors import DataError
from tests.protocols.empty_files import write_empty

HUNDRED, HALF = PROTOCOLS.get("cuhk01-100")(), PROTOCOLS.get("cuhk01-486")()
BOTH = pytest.mark.parametrize("protocol", [HUNDRED, HALF], ids=lambda protocol: protocol.name)


@given(pid=st.integers(1, 971), image=st.integers(1, 4))
def test_every_released_kind_of_name_is_read(tmp_path_factory, pid, image):
    record = parse(tmp_path_factory.getbasetemp() / f"{pid:04d}{image:03d}.png")

    assert (record.pid, record.camid) == (pid, {1: 1, 2: 1, 3: 2, 4: 2}[image])


@given(
    st.from_regex(r"[0-9]{1,6}\.png|[0-9]{8}\.png|[0-9]{7}(\.PNG|\.jpg|_1\.png|\.png\.png)", fullmatch=True)
)
def test_any_other_name_is_an_error_that_shows_it(tmp_path_factory, name):
    with pytest.raises(
        DataError, match=rf"{re.escape(name)}: not a CUHK01 file name; expected IDENTITYIMAGE"
    ):
        parse(tmp_path_factory.getbasetemp() / name)


@pytest.mark.parametrize("name", ["0000001.png", "0972001.png", "0001000.png", "0001005.png"])
def test_numbers_out_of_range_are_errors(tmp_path, name):
    with pytest.raises(DataError, match=r"identity 0001\.\.0971, image 001\.\.004"):
        parse(tmp_path / name)


def write_release(root, pids):
    write_empty(root, [f"{pid:04d}{image:03d}.png" for pid in pids for image in range(1, 5)])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """As many files as the release has."""
    root = tmp_path_factory.mktemp("whole") / "campus"
    write_release(root, range(1, 972))
    return root


@pytest.mark.parametrize(("protocol", "train", "test"), [(HUNDRED, 871, 100), (HALF, 485, 486)])
def test_a_whole_release_is_whole(whole, protocol, train, test):
    splits = read(protocol, whole)

    assert [split.name for split in splits] == list("0123456789")
    for split in splits:
        found = count(split, protocol)
        assert (found["train_pids"], found["query_pids"], found["test_pids"]) == (train, test, test)
        assert (found["train"], found["query"], found["gallery"]) == (4 * train, 2 * test, 2 * test)
        assert {record.path.name[4:] for record in split.query} == {"001.png", "002.png"}
        assert {record.path.name[4:] for record in split.gallery} == {"003.png", "004.png"}
        assert {record.pid for record in split.query} == {record.pid for record in split.gallery}
        assert not {record.pid for record in split.query} & {record.pid for record in split.train}


def test_the_two_protocols_draw_apart(whole):
    few, many = ({r.pid for r in protocol.load(whole)[0].query} for protocol in (HUNDRED, HALF))

    assert not few <= many


@BOTH
def test_queries_and_gallery_images_are_drawn(protocol):
    assert protocol.single_shot == SingleShot(probe="drawn", repeats=10)


@BOTH
def test_missing_images_are_named(whole, tmp_path, protocol):
    root = tmp_path / "campus"
    shutil.copytree(whole, root)
    (root / "0100002.png").unlink()
    (root / "0971004.png").unlink()

    with pytest.raises(DataError, match=r"missing \(2\): 0100002\.png, 0971004\.png"):
        read(protocol, root)


@pytest.mark.parametrize(
    ("pids", "hundred", "half"), [(4, 2, 2), (5, 3, 3), (199, 100, 100), (200, 100, 100), (201, 100, 101)]
)
def test_small_data_sets_are_halved(tmp_path, pids, hundred, half):
    write_release(tmp_path / "campus", range(1, pids + 1))

    found = [
        count(protocol.load(tmp_path / "campus")[0], protocol)["query_pids"] for protocol in (HUNDRED, HALF)
    ]

    assert found == [hundred, half]


@BOTH
def test_a_rendered_street_reads_whole(layout_street, protocol):
    for split in read(protocol, layout_street("cuhk01")):
        found = count(split, protocol)
        assert found["cameras"] == 2
        assert found["query_pids"] + found["train_pids"] == 24


@BOTH
def test_a_file_of_another_data_set_is_named(tmp_path, protocol):
    write_release(tmp_path, range(1, 5))
    write_empty(tmp_path, ["readme.txt", "1_001_1_01.png"])

    with pytest.raises(DataError, match=r"1_001_1_01\.png: not a CUHK01 file name"):
        protocol.load(tmp_path)


@BOTH
def test_an_empty_folder_is_named(tmp_path, protocol):
    with pytest.raises(DataError, match=r"holds no \.png file"):
        protocol.load(tmp_path)
