"""VIPeR: names, pairs, halves, and SCSP's published halves."""

import re
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat

from protocols import PROTOCOLS
from protocols.files import count, read
from protocols.viper import parse, read_images
from retable.errors import Absent, DataError
from tests.protocols.empty_files import write_empty

VIPER, SCSP = PROTOCOLS.get("viper")(), PROTOCOLS.get("viper/scsp")()

PIDS = (0, 1, 7, 12, 100, 873)


@given(pid=st.integers(0, 999), angle=st.sampled_from([0, 45, 90, 135, 180]), camid=st.sampled_from([1, 2]))
def test_every_released_kind_of_name_is_read(tmp_path_factory, pid, angle, camid):
    record = parse(tmp_path_factory.getbasetemp() / f"{pid:03d}_{angle}.bmp", camid)

    assert (record.pid, record.camid) == (pid, camid)


@given(st.text(st.sampled_from("0123456789_.bmpjg"), max_size=12))
def test_any_other_name_is_an_error_that_shows_it(tmp_path_factory, name):
    path = tmp_path_factory.getbasetemp() / f"x{name}"

    with pytest.raises(
        DataError, match=rf"{re.escape(path.name)}: not a VIPeR file name; expected IDENTITY_ANGLE"
    ):
        parse(path, 1)


@pytest.fixture
def release(tmp_path):
    root = tmp_path / VIPER.folder
    write_empty(
        root / "cam_a", [f"{pid:03d}_{angle}.bmp" for pid, angle in zip(PIDS, [0, 45, 90] * 2, strict=True)]
    )
    write_empty(root / "cam_b", [f"{pid:03d}_180.bmp" for pid in PIDS])
    return root


def test_the_release_is_stated():
    counts = VIPER.counts

    assert (counts.query, counts.gallery, counts.train_pids, counts.test_pids) == (316, 316, 316, 316)
    assert counts.train == 2 * counts.train_pids
    assert counts.images == 2 * (counts.train_pids + counts.test_pids)
    assert VIPER.reverse
    assert SCSP.counts == VIPER.counts


def test_everybody_is_asked_for_in_a_and_sought_in_b(release):
    splits = VIPER.load(release)

    assert [split.name for split in splits] == list("0123456789")
    for split in splits:
        asked = [record.pid for record in split.query]
        assert asked == [record.pid for record in split.gallery] == sorted(asked)
        assert {record.path.parent.name for record in split.query} == {"cam_a"}
        assert {record.path.parent.name for record in split.gallery} == {"cam_b"}
        assert {record.camid for record in split.query} == {1}
        assert {record.camid for record in split.gallery} == {2}
        trained = {record.pid for record in split.train}
        assert trained | set(asked) == set(PIDS)
        assert not trained & set(asked)
        assert len(split.train) == 2 * len(trained)
    assert len({split.query for split in splits}) > 1


def test_a_rendered_street_reads_whole(layout_street):
    splits = read(VIPER, layout_street("viper"))

    assert len(splits) == 10
    assert all(count(split, VIPER)["distractors"] == 0 for split in splits)


def test_a_real_release_is_held_against_its_own_counts(release):
    with pytest.raises(DataError, match=r"split 9, query: found 3, expected 316"):
        read(VIPER, release)


def test_other_files_are_passed_over(release):
    write_empty(release / "cam_a", ["Thumbs.db", "README.txt"])

    assert len(read_images(release)) == 12


def test_a_file_of_another_data_set_is_named(release):
    write_empty(release / "cam_b", ["0001001.bmp"])

    with pytest.raises(DataError, match=r"cam_b/0001001\.bmp: not a VIPeR file name"):
        VIPER.load(release)


def test_an_identity_without_its_pair_is_named(release):
    (release / "cam_b" / "012_180.bmp").unlink()
    (release / "cam_a" / "000_0.bmp").unlink()

    with pytest.raises(DataError, match=r"image in only one of cam_a and cam_b \(2\): 000, 012;"):
        VIPER.load(release)


def test_a_second_image_of_an_identity_is_named(release):
    write_empty(release / "cam_a", ["007_135.bmp"])

    with pytest.raises(DataError, match=r"007_90\.bmp: a second image of identity 007 beside 007_135\.bmp"):
        VIPER.load(release)


@pytest.mark.parametrize("folder", ["cam_a", "cam_b"])
def test_a_missing_camera_is_named(release, folder):
    shutil.rmtree(release / folder)

    with pytest.raises(DataError, match=f"{folder}: no such folder"):
        VIPER.load(release)


def write_partition(root, halves, name="parti", fields=("trnSet", "tstSet")):
    """As the published file: a 1 x n struct of 1 x m uint16 arrays, positions from 1."""
    struct = np.empty((1, len(halves)), dtype=[(field, object) for field in fields])
    for index, (train, test) in enumerate(halves):
        struct[0, index] = (np.uint16([train]), np.uint16([test]))
    savemat(root / "partition_viper.mat", {name: struct})


HALVES = [((6, 1, 3), (2, 5, 4))] + [((1, 2, 3), (6, 5, 4))] * 11


def test_published_positions_count_identities_from_one(release):
    write_partition(release, HALVES)

    splits = SCSP.load(release)

    assert [split.name for split in splits] == list("0123456789")
    assert {record.pid for record in splits[0].train} == {0, 7, 873}
    assert [record.pid for record in splits[0].query] == [1, 12, 100]
    assert [record.pid for record in splits[0].gallery] == [1, 12, 100]


def test_without_the_published_file_it_is_asked_for(release):
    with pytest.raises(Absent, match=r"partition_viper\.mat: no such file; viper/scsp needs .* Put it there"):
        SCSP.load(release)


@pytest.mark.parametrize(
    "halves",
    [
        [((1, 2, 3), (4, 5, 7))] * 10,
        [((1, 2, 3), (3, 4, 5))] * 10,
        [((1, 2), (3, 4))] * 10,
        [((0, 1, 2), (3, 4, 5))] * 10,
    ],
)
def test_a_partition_of_other_identities_is_refused(release, halves):
    write_partition(release, halves)

    with pytest.raises(DataError, match=r"split 1 does not divide the identities 1\.\.6"):
        SCSP.load(release)


def test_another_matlab_file_is_refused(release):
    write_partition(release, HALVES, name="partition")
    with pytest.raises(DataError, match=r"cannot be read as SCSP's file \(KeyError: 'parti'\)"):
        SCSP.load(release)

    write_partition(release, HALVES, fields=("train", "test"))
    with pytest.raises(DataError, match="expected a struct parti with the fields trnSet and tstSet"):
        SCSP.load(release)

    write_partition(release, HALVES[:9])
    with pytest.raises(DataError, match="found 9 splits, expected at least 10"):
        SCSP.load(release)


@pytest.mark.parametrize("kept", [0, 1, 100, 150, 300, 600])
def test_a_truncated_file_is_refused(release, kept):
    write_partition(release, HALVES)
    file = release / "partition_viper.mat"
    file.write_bytes(file.read_bytes()[:kept])

    with pytest.raises(DataError, match=r"partition_viper\.mat: "):
        SCSP.load(release)
