"""MARS: tracklets from lists that must agree with each other."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from scipy.io import savemat

from protocols import PROTOCOLS
from protocols.files import read
from protocols.mars import load
from retable.errors import DataError
from tests.protocols.empty_files import write_empty

MARS = PROTOCOLS.get("mars")()
TORCHREID = PROTOCOLS.get("mars/torchreid")()

TRAIN = [(1, 1, 2), (1, 2, 3), (3, 1, 1)]
"""Identity, camera, number of frames."""

TEST = [(-1, 1, 2), (0, 2, 3), (2, 1, 1), (2, 1, 2), (2, 6, 1), (4, 3, 2), (4, 4, 1)]
QUERY = [3, 5, 6]


def names_of(tracklets):
    return [
        f"{'00-1' if pid < 0 else f'{pid:04d}'}C{camid}T{number:04d}F{frame:03d}.jpg"
        for number, (pid, camid, frames) in enumerate(tracklets, 1)
        for frame in range(1, frames + 1)
    ]


def rows_of(tracklets, dtype=np.int32):
    ends = np.cumsum([frames for *_, frames in tracklets])
    rows = [(end - n + 1, end, pid, camid) for end, (pid, camid, n) in zip(ends, tracklets, strict=True)]
    return np.array(rows, dtype)


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "MARS"
    (root / "info").mkdir(parents=True)
    for part, tracklets in (("train", TRAIN), ("test", TEST)):
        write_names(root, part, names_of(tracklets))
        write_rows(root, part, rows_of(tracklets))
        for name in names_of(tracklets):
            folder = root / f"bbox_{part}" / name[:4]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
    write_query(root, QUERY)
    return root


def write_names(root, part, names, end="\n"):
    (root / "info" / f"{part}_name.txt").write_bytes("".join(name + end for name in names).encode())


def write_rows(root, part, rows):
    savemat(root / "info" / f"tracks_{part}_info.mat", {f"track_{part}_info": rows})


def write_query(root, rows, dtype=np.uint16):
    savemat(root / "info" / "query_IDX.mat", {"query_IDX": np.array([rows], dtype)})


def labels(tracklets):
    return [(record.pid, record.camid, len(record.frames)) for record in tracklets]


def test_a_tracklet_is_a_record_of_consecutive_names(root):
    (split,) = load(root)

    assert labels(split.train) == TRAIN
    assert labels(split.gallery) == TEST
    assert labels(split.query) == [TEST[row - 1] for row in QUERY]
    assert split.gallery[0].images() == (
        root / "bbox_test/00-1/00-1C1T0001F001.jpg",
        root / "bbox_test/00-1/00-1C1T0001F002.jpg",
    )
    assert all(image.is_file() for record in (*split.train, *split.gallery) for image in record.images())


def test_official_gallery_holds_queries_distractors_and_junk():
    counts = MARS.counts
    assert (counts.train, counts.query, counts.gallery, counts.junk) == (8298, 1980, 12_180, 870)
    assert MARS.rules.junk_pids == (-1,) and MARS.rules.distractor_pids == (0,)
    assert MARS.pooling == "max"


def test_frames_may_be_averaged_under_the_same_rules():
    mean = PROTOCOLS.get("mars/mean")()
    assert mean.pooling == "mean" and mean.fingerprint() != MARS.fingerprint()
    assert replace(mean, name="mars", pooling="max") == MARS


def test_torchreid_removes_queries_and_junk_but_not_distractors(root):
    (split,) = TORCHREID.load(root)

    assert labels(split.gallery) == [TEST[1], TEST[3], TEST[6]]
    assert labels(split.query) == [TEST[row - 1] for row in QUERY]
    assert TORCHREID.counts.gallery == 12_180 - 1_980 - 870 == 9_330
    assert TORCHREID.pooling == "mean"
    assert TORCHREID.rules.matchless == "drop"


@pytest.mark.parametrize("dtype", [np.int16, np.int64, np.float64])
def test_numbers_may_be_stored_in_any_type(root, dtype):
    expected = load(root)
    for part, tracklets in (("train", TRAIN), ("test", TEST)):
        write_rows(root, part, rows_of(tracklets, dtype))
    write_query(root, QUERY, np.uint8)

    assert load(root) == expected


def test_the_first_row_is_1_in_unsigned_numbers_too(root):
    write_rows(root, "test", rows_of(TEST[2:]))
    write_names(root, "test", names_of(TEST[2:]))
    write_query(root, [1], np.uint8)

    assert labels(load(root)[0].query) == [TEST[2]]


def test_line_ends_of_windows_are_no_part_of_names(root):
    expected = load(root)
    write_names(root, "test", names_of(TEST), end="\r\n")

    assert load(root) == expected


@pytest.mark.parametrize(
    ("row", "change", "match"),
    [
        (0, (0, 1, 0, 0), r"tracklet 1 has names 1\.\.3, expected 1\.\.|tracklet 2 has names 3"),
        (0, (-1, 0, 0, 0), r"tracklet 1 has names 0\.\.2, expected 1\.\."),
        (2, (1, 1, 0, 0), r"tracklet 3 has names 7\.\.7, expected 6\.\."),
        (6, (0, -1, 0, 0), r"tracklet 7 has names 12\.\.11, expected 12"),
        (6, (0, 1, 0, 0), r"tracklets end at name 13, but there are 12 names"),
        (2, (0, 0, 1, 0), r"names 6\.\.6 is of identity 3 and camera 1, but name 6 is '0002C1T0003F001.jpg'"),
        (4, (0, 0, 0, -1), r"is of identity 2 and camera 5, but name 9 is '0002C6T0005F001.jpg'"),
        (0, (0, 0, 1, 0), r"is of identity 0 and camera 1, but name 1 is '00-1C1T0001F001.jpg'"),
    ],
)
def test_tracklets_that_contradict_the_names_are_named(root, row, change, match):
    rows = rows_of(TEST)
    rows[row] += change
    write_rows(root, "test", rows)

    with pytest.raises(DataError, match=match) as error:
        load(root)
    assert "tracks_test_info.mat" in str(error.value)


@pytest.mark.parametrize(
    "name", ["../0002C1T0003F001.jpg", "0002C1T0003F001.png", "0002C1T0003", "0002C1T0003F1/..jpg"]
)
def test_a_name_of_another_form_is_named(root, name):
    names = names_of(TEST)
    names[5] = name
    write_names(root, "test", names)

    with pytest.raises(DataError, match="but name 6 is"):
        load(root)


@pytest.mark.parametrize(
    ("query", "match"),
    [
        ([0, 1], r"query_IDX.mat: names tracklet 0, expected different ones of 1\.\.7"),
        ([8], "names tracklet 8"),
        ([3, 3], "names none, or one twice"),
        ([], "names none, or one twice"),
        ([2], "names tracklet 2, which shows nobody to ask for; rows count from 1"),
        ([1], "names tracklet 1, which shows nobody to ask for"),
    ],
)
def test_queries_outside_of_the_gallery_are_named(root, query, match):
    write_query(root, query)

    with pytest.raises(DataError, match=match):
        load(root)


def test_missing_damaged_and_foreign_lists_are_named(root):
    path = root / "info" / "query_IDX.mat"
    savemat(path, {"query": np.ones(3)})
    with pytest.raises(DataError, match=r"query_IDX.mat: holds query, expected query_IDX"):
        load(root)
    savemat(path, {"query_IDX": np.array([1.5])})
    with pytest.raises(DataError, match="query_IDX is float64, expected whole numbers"):
        load(root)
    path.write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"query_IDX.mat: no MATLAB 5 file, or a damaged one"):
        load(root)
    write_rows(root, "train", np.ones((3, 3)))
    with pytest.raises(DataError, match=r"tracks_train_info.mat: shape \(3, 3\), expected \(n, 4\)"):
        load(root)
    shutil.rmtree(root / "info")
    with pytest.raises(DataError, match="no such file; put it there, from the folder info of"):
        load(root)


def test_missing_frames_are_named_folder_by_folder(root):
    (root / "bbox_test/0002/0002C1T0004F002.jpg").unlink()
    shutil.rmtree(root / "bbox_train/0003")
    (split,) = load(root)

    found = MARS.explain(root, split)

    assert found[-2:] == ["bbox_train: 1 frames missing: 0003 1", "bbox_test: 1 frames missing: 0002 1"]
    assert "boxes to train: found 6, expected 509,914" in found
    assert "boxes to test: found 12, expected 681,089" in found
    assert "distractor tracklets: found 1, expected 3,248" in found
    assert "last row of query_IDX: found 6, expected 12,180" in found


@pytest.mark.parametrize("protocol", [MARS, TORCHREID], ids=lambda protocol: protocol.name)
def test_extra_frames_are_named_folder_by_folder(root, protocol):
    write_empty(
        root / "bbox_test", ["0002/0002C1T0009F001.jpg", "0002/._x.jpg", "0002/Thumbs.db", "0009/a.jpg"]
    )
    (split,) = protocol.load(root)

    assert protocol.explain(root, split)[-1] == "bbox_test: 2 frames extra: 0002 1, 0009 1"


def test_many_missing_frames_are_told_in_few_words(root):
    tracklets = [(pid, 1, 9) for pid in range(1, 1500)]
    write_names(root, "train", names_of(tracklets))
    write_rows(root, "train", rows_of(tracklets))
    shutil.rmtree(root / "bbox_train")
    (root / "bbox_train").mkdir()
    (split,) = load(root)

    (line,) = (line for line in MARS.explain(root, split) if line.startswith("bbox_train: "))

    assert line.startswith("bbox_train: 13,491 frames missing: 0001 9, 0002 9, ") and len(line) < 100
    (root / "bbox_train").rmdir()
    (root / "bbox_train").touch()
    assert "bbox_train: a file, expected a folder" in MARS.explain(root, split)


@pytest.mark.parametrize("name", ["mars", "mars/torchreid"])
def test_a_rendered_street_reads_whole(layout_street, name):
    root = layout_street("mars")

    (split,) = read(PROTOCOLS.get(name)(), root)

    assert not {record.pid for record in split.train} & {record.pid for record in split.gallery}
    queries = set(split.query)
    assert (queries <= set(split.gallery)) == (name == "mars")


def test_a_list_as_long_as_the_release_is_read(root):
    """681,089 names in 12,180 tracklets: rows and ends pass the bounds of 16 bits."""
    lengths = [56] * 11_189 + [55] * 991
    tracklets = [(1 + pid % 1500, 1 + pid % 6, frames) for pid, frames in enumerate(lengths, 1)]
    names = [
        f"{pid:04d}C{camid}T{number % 10_000:04d}F{frame:03d}.jpg"
        for number, (pid, camid, frames) in enumerate(tracklets, 1)
        for frame in range(1, frames + 1)
    ]
    write_names(root, "test", names)
    write_rows(root, "test", rows_of(tracklets))
    write_query(root, range(4_130, 6_110))

    (split,) = load(root)

    assert sum(len(record.frames) for record in split.gallery) == 681_089
    assert len(split.query) == 1_980


def test_the_query_rows_of_the_release_do_not_overflow(root):
    tracklets = [(2, 1 + i % 6, 1) for i in range(12_180)]
    names = [f"0002C{camid}T{i % 10_000:04d}F001.jpg" for i, (_, camid, _) in enumerate(tracklets)]
    write_names(root, "test", names)
    write_rows(root, "test", rows_of(tracklets))
    write_query(root, [4_130, 12_180])

    (split,) = load(root)

    assert split.query == (split.gallery[4_129], split.gallery[12_179])
