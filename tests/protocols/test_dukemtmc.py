"""DukeMTMC-reID: names, counts, and the identities that nobody asks for."""

import re
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import PROTOCOLS
from protocols.dukemtmc import parse
from protocols.files import count, read
from retable.errors import DataError
from tests.protocols.empty_files import write_empty

DUKE, OPENREID = PROTOCOLS.get("dukemtmc")(), PROTOCOLS.get("dukemtmc/openreid")()


@given(pid=st.integers(0, 9999), camid=st.integers(1, 8), frame=st.integers(0, 9_999_999))
def test_every_released_kind_of_name_is_read(tmp_path_factory, pid, camid, frame):
    record = parse(tmp_path_factory.getbasetemp() / f"{pid:04d}_c{camid}_f{frame:07d}.jpg")

    assert (record.pid, record.camid) == (pid, camid)


@given(
    st.one_of(
        st.from_regex(r"[0-9]{4}_c[09]_f[0-9]{7}\.jpg", fullmatch=True),
        st.from_regex(r"[0-9]{4}_c[1-8]_f([0-9]{1,6}|[0-9]{8})\.jpg", fullmatch=True),
        st.from_regex(r"([0-9]{3}|[0-9]{5}|-1)_c[1-8]_f[0-9]{7}\.jpg", fullmatch=True),
        st.from_regex(r"[0-9]{4}_c[1-8]_f[0-9]{7}(\.jpg\.jpg| \(1\)\.jpg|\.png)", fullmatch=True),
        st.just("0002_c1s1_000451_03.jpg"),
    )
)
def test_any_other_name_is_an_error_that_shows_it(tmp_path_factory, name):
    with pytest.raises(DataError, match=rf"{re.escape(name)}: not a DukeMTMC-reID file name; expected IDENT"):
        parse(tmp_path_factory.getbasetemp() / name)


def test_the_release_is_stated():
    counts, cameras = DUKE.counts, DUKE.per_camera

    assert {name: sum(images) for name, images in cameras.items()} == {
        "train": counts.train,
        "query": counts.query,
        "gallery": counts.gallery,
    }
    assert counts.images == counts.train + counts.query + counts.gallery
    assert counts.test_pids - counts.query_pids == 408
    assert all(len(images) == counts.cameras for images in cameras.values())


def test_openreid_asks_for_every_image_of_who_is_asked_for():
    official, counts = DUKE.counts, OPENREID.counts

    assert counts.query == official.query + (official.gallery - official.distractors) == 16_426
    assert counts.gallery == official.gallery + official.query == 19_889


@pytest.fixture
def release(tmp_path):
    """Two identities to train on, two to ask for, one stranger (0009)."""
    write_empty(tmp_path / "bounding_box_train", ["0001_c1_f0000001.jpg", "0002_c8_f0000001.jpg"])
    write_empty(tmp_path / "query", ["0005_c1_f0000007.jpg", "0005_c2_f0000009.jpg", "0006_c3_f0000005.jpg"])
    write_empty(
        tmp_path / "bounding_box_test",
        ["0005_c1_f0000001.jpg", "0005_c2_f0000002.jpg", "0006_c4_f0000003.jpg", "0009_c4_f0000003.jpg"],
    )
    return tmp_path


def test_who_is_not_asked_for_is_a_distractor_with_an_ordinary_label(release):
    (split,) = DUKE.load(release)

    found = count(split, DUKE)

    assert (found["distractors"], found["query_pids"], found["test_pids"]) == (1, 2, 3)
    assert 9 in {record.pid for record in split.gallery}


def test_openreid_pools_queries_and_gallery(release):
    (split,) = OPENREID.load(release)

    assert [record.path.name for record in split.query] == [
        "0005_c1_f0000001.jpg",
        "0005_c1_f0000007.jpg",
        "0005_c2_f0000002.jpg",
        "0005_c2_f0000009.jpg",
        "0006_c3_f0000005.jpg",
        "0006_c4_f0000003.jpg",
    ]
    assert [record.path.name for record in split.gallery] == [
        *(record.path.name for record in split.query),
        "0009_c4_f0000003.jpg",
    ]
    assert split.train == DUKE.load(release)[0].train


@pytest.mark.parametrize("protocol", [DUKE, OPENREID], ids=lambda protocol: protocol.name)
def test_a_rendered_street_reads_whole(layout_street, protocol):
    (split,) = read(protocol, layout_street("dukemtmc"))

    assert {record.pid for record in split.query} < {record.pid for record in split.gallery}
    assert count(split, protocol)["distractors"] > 0


def test_a_damaged_real_release_is_described(release):
    with pytest.raises(DataError) as error:
        read(DUKE, release)

    assert "distractors: found 1, expected 3,463" in str(error.value)
    assert "query images of camera 8: found 0, expected 263" in str(error.value)


def test_a_file_of_another_data_set_is_named(release):
    write_empty(release / "query", ["Thumbs.db", "0002_c1s1_000451_03.jpg"])

    with pytest.raises(DataError, match=r"query/0002_c1s1_000451_03\.jpg: not a DukeMTMC-reID file name"):
        DUKE.load(release)


@pytest.mark.parametrize("folder", ["bounding_box_train", "query", "bounding_box_test"])
def test_a_missing_folder_is_named(release, folder):
    shutil.rmtree(release / folder)

    with pytest.raises(DataError, match=f"{folder}: no such folder"):
        DUKE.load(release)
