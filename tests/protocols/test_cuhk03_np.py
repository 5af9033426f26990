"""CUHK03's new protocol: both forms in which it is published, and their counts."""

import shutil
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import loadmat, savemat

from protocols import PROTOCOLS
from protocols.cuhk03_np import config_of, parse
from protocols.cuhk03_release import prepare
from protocols.files import read
from retable.errors import DataError

KINDS = ("labeled", "detected")


def test_counts_are_those_of_the_publication():
    for name in PROTOCOLS.names():
        if name.startswith("cuhk03-np"):
            counts = PROTOCOLS.get(name)().counts
            labeled = "labeled" in name
            assert (counts.train, counts.query, counts.gallery) == (
                (7368, 1400, 5328) if labeled else (7365, 1400, 5332)
            )
            assert counts.images == (14_096 if labeled else 14_097)
            assert (counts.train_pids, counts.query_pids, counts.test_pids) == (767, 700, 700)


@given(pid=st.integers(1, 1467), view=st.integers(1, 2), number=st.integers(1, 14_097))
def test_every_released_kind_of_name_is_read(tmp_path_factory, pid, view, number):
    record = parse(tmp_path_factory.getbasetemp() / f"{pid:04d}_c{view}_{number}.png")

    assert (record.pid, record.camid) == (pid, view)


@pytest.mark.parametrize(
    "name",
    ["0000_c1_1.png", "1468_c1_1.png", "0001_c3_1.png", "1_001_1_01.png", "0001_c1_.png", "0001_c1_1.jpg"],
)
def test_any_other_name_is_an_error_that_shows_it(tmp_path, name):
    with pytest.raises(DataError, match="not a CUHK03-NP file name; expected IDENTITY_cVIEW_NUMBER") as error:
        parse(tmp_path / name)
    assert name in str(error.value)


@pytest.fixture(scope="module")
def folders(layout_street):
    return layout_street("cuhk03-np")


@pytest.fixture(scope="module")
def unpacked(layout_street, tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "cuhk03_release"
    shutil.copytree(layout_street("cuhk03"), root)
    prepare(root)
    return root


@pytest.mark.parametrize("kind", KINDS)
def test_a_rendered_street_reads_whole_from_folders(folders, kind):
    (split,) = read(PROTOCOLS.get(f"cuhk03-np-{kind}")(), folders)

    assert_is_market_style(split)
    assert {record.path.parent.parent.name for record in split.train} == {kind}


@pytest.mark.parametrize("kind", KINDS)
def test_a_rendered_street_reads_whole_from_lists(unpacked, kind):
    (split,) = read(PROTOCOLS.get(f"cuhk03-np-{kind}/mat")(), unpacked)

    assert_is_market_style(split)
    assert {record.path.parent.name for record in split.train} == {f"images_{kind}"}


def assert_is_market_style(split):
    asked = [(record.pid, record.camid) for record in split.query]
    assert len(set(asked)) == len(asked) == 2 * len({pid for pid, _ in asked})
    assert set(asked) <= {(record.pid, record.camid) for record in split.gallery}
    assert not {record.pid for record in split.train} & {pid for pid, _ in asked}
    assert not set(split.query) & set(split.gallery)


def rewrite(root, kind, **changes):
    """The list of a kind with other variables; None removes one."""
    path = config_of(root, kind)
    config = {key: value for key, value in loadmat(path).items() if not key.startswith("__")} | changes
    path.unlink()
    savemat(path, {key: value for key, value in config.items() if value is not None})


@pytest.fixture
def damaged(unpacked, tmp_path):
    root = tmp_path / "cuhk03_release"
    shutil.copytree(unpacked, root)
    return root


def variable(root, name):
    return loadmat(config_of(root, "labeled"))[name]


def test_rows_count_from_1_and_are_not_mistaken_for_bytes(damaged):
    (split,) = PROTOCOLS.get("cuhk03-np-labeled/mat")().load(damaged)
    filelist = [str(cell.item()) for cell in variable(damaged, "filelist").ravel()]
    rows = variable(damaged, "train_idx").ravel().astype(int)

    assert [record.path.name for record in split.train] == [filelist[row - 1] for row in rows]

    rewrite(damaged, "labeled", labels=variable(damaged, "labels").astype(np.uint8))
    assert PROTOCOLS.get("cuhk03-np-labeled/mat")().load(damaged) == (split,)


def test_a_list_that_contradicts_itself_or_the_images_is_named(damaged):
    labels, cameras = variable(damaged, "labels"), variable(damaged, "camId")
    query, filelist = variable(damaged, "query_idx"), variable(damaged, "filelist")
    strange = filelist.copy()
    strange.ravel()[0] = np.array(["5_049_1_01.png"])
    wrongs = {
        "has label": {"labels": labels + 1},
        "camera": {"camId": 3 - cameras},
        "query_idx names row 0, expected 1..": {"query_idx": query * 0},
        "gallery_idx names row": {"gallery_idx": query.astype(np.uint16) + len(filelist)},
        "an image stands in two of": {"gallery_idx": query},
        "lists 1 images that": {"filelist": strange},
        "names, but": {"labels": labels.ravel()[:-1]},
        "holds .*, expected .*train_idx": {"train_idx": None},
    }
    whole = {name: variable(damaged, name) for name in ("labels", "camId", "filelist", "train_idx")}
    whole |= {name: variable(damaged, name) for name in ("query_idx", "gallery_idx")}
    for match, changes in wrongs.items():
        rewrite(damaged, "labeled", **(whole | changes))
        with pytest.raises(DataError, match=match) as error:
            PROTOCOLS.get("cuhk03-np-labeled/mat")().load(damaged)
        assert "cuhk03_new_protocol_config_labeled.mat" in str(error.value)


def test_numbers_may_be_stored_in_any_type(damaged):
    protocol = PROTOCOLS.get("cuhk03-np-labeled/mat")()
    expected = protocol.load(damaged)
    numbers = ("labels", "camId", "train_idx", "query_idx", "gallery_idx")

    rewrite(damaged, "labeled", **{name: variable(damaged, name).astype(float) for name in numbers})

    assert protocol.load(damaged) == expected


@pytest.mark.parametrize(
    ("name", "values", "match"),
    [
        ("query_idx", np.array([[np.nan]]), "query_idx is float64, expected whole numbers"),
        ("query_idx", {"a": 1}, "query_idx is .*, expected whole numbers"),
        ("camId", np.array([["a"]], object), "camId is .*, expected whole numbers"),
        ("filelist", np.array([[1.0]]), "filelist, row 1: .*, expected a file name"),
        ("filelist", {"a": 1}, "filelist, row 1: .*, expected a file name"),
        ("filelist", np.array([np.zeros((0, 0)), "a"], object), "filelist, row 1: .*, expected a file name"),
        ("filelist", np.array(["a", np.array(["a", "b"])], object), "filelist, row 2: .*, expected a file"),
    ],
)
def test_a_variable_of_another_kind_is_named(damaged, name, values, match):
    rewrite(damaged, "labeled", **{name: values})

    with pytest.raises(DataError, match=rf"config_labeled\.mat: {match}"):
        PROTOCOLS.get("cuhk03-np-labeled/mat")().load(damaged)


def test_a_missing_or_foreign_list_is_named(damaged):
    path = config_of(damaged, "detected")
    path.write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"config_detected.mat: no MATLAB 5 file, or a damaged one"):
        PROTOCOLS.get("cuhk03-np-detected/mat")().load(damaged)

    path.unlink()
    with pytest.raises(DataError, match="no such file; put it there, from evaluation/data/CUHK03"):
        PROTOCOLS.get("cuhk03-np-detected/mat")().load(damaged)


def test_a_release_that_is_not_unpacked_says_which_command_does_it(layout_street):
    with pytest.raises(DataError, match=r"images are not unpacked; run python -m protocols.prepare"):
        PROTOCOLS.get("cuhk03-np-labeled/mat")().load(layout_street("cuhk03"))


@pytest.fixture(scope="module")
def real_folders(tmp_path_factory):
    """Empty files in the numbers of the release, numbered through; tests restore what they damage."""
    root = tmp_path_factory.mktemp("data") / "cuhk03-np"
    places = (
        [(pid, "query") for pid in range(1, 701) for _ in (1, 2)]
        + [(1 + i % 700, "bounding_box_test") for i in range(5332)]
        + [(701 + i % 767, "bounding_box_train") for i in range(7365)]
    )
    for part in ("query", "bounding_box_test", "bounding_box_train"):
        (root / "detected" / part).mkdir(parents=True)
    for number, (pid, part) in enumerate(places, 1):
        (root / "detected" / part / f"{pid:04d}_c{1 + number % 2}_{number}.png").touch()
    return root


@contextmanager
def renamed(path, name):
    other = path.rename(path.with_name(name))
    try:
        yield
    finally:
        other.rename(path)


def test_a_copy_with_the_numbers_of_the_release_is_whole(real_folders):
    (split,) = read(PROTOCOLS.get("cuhk03-np-detected")(), real_folders)

    assert [len(part) for part in split.lists().values()] == [7365, 1400, 5332]


def test_a_missing_image_is_known_by_its_number(real_folders):
    image = next((real_folders / "detected" / "query").glob("*_77.png"))

    match = r"query: found 1,399, expected 1,400; no image has the number 77 \(1 missing\)"
    with renamed(image, "Thumbs.db"), pytest.raises(DataError, match=match):
        read(PROTOCOLS.get("cuhk03-np-detected")(), real_folders)


def test_an_identity_on_both_sides_is_named(real_folders):
    image = next((real_folders / "detected" / "bounding_box_train").glob("0701_*"))

    match = "identities both trained on and tested: 23"
    with renamed(image, image.name.replace("0701", "0023")), pytest.raises(DataError, match=match):
        read(PROTOCOLS.get("cuhk03-np-detected")(), real_folders)
