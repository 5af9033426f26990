"""CUHK03's .mat file: what is read out of it, and what becomes of damaged ones."""

import json
import shutil

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from protocols.cuhk03_images import read_release
from protocols.cuhk03_release import prepare
from retable.errors import DataError

PAIRS = (3, 2, 1, 1, 1)
EMPTY = None


def picture(*key):
    """An image, (height, width, 3), of a size and content that belong to the key alone."""
    rng = np.random.default_rng([*map(ord, "".join(map(str, key)))])
    return rng.integers(0, 256, (5 + key[-1], 4, 3), np.uint8)


class Mat:
    """Writes a file as MATLAB does: transposed, cells by reference, empty ones as their shape."""

    def __init__(self, path):
        self.file = h5py.File(path, "w", userblock_size=512)

    def array(self, values):
        if values is EMPTY:
            values = np.zeros(2, np.uint64)
        refs = self.file.require_group("#refs#")
        return refs.create_dataset(str(len(refs)), data=np.asarray(values).T).ref

    def cell(self, references):
        return self.array(np.asarray(references, dtype=h5py.ref_dtype))

    def variable(self, name, references):
        self.file[name] = np.asarray(references, dtype=h5py.ref_dtype).T


def write_mat(path, cells, testsets=(((1, 1), (2, 2)),), pairs=PAIRS):
    """``cells``: (kind, pair, row, slot) -> image, of those that are no ``picture`` of their own."""
    mat = Mat(path)
    with mat.file:
        for kind in ("detected", "labeled"):
            columns = [
                [
                    [
                        mat.array(cells.get((kind, pair, row, slot), picture(kind, pair, row, slot)))
                        for slot in range(1, 11)
                    ]
                    for row in range(1, rows + 1)
                ]
                for pair, rows in enumerate(pairs, 1)
            ]
            mat.variable(kind, [[mat.cell(column)] for column in columns])
        mat.variable("testsets", [[mat.array(np.array(rows, float).reshape(-1, 2))] for rows in testsets])


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "cuhk03_release"
    root.mkdir()
    return root


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_images_are_the_cells_pixel_by_pixel_upright(root):
    write_mat(root / "cuhk-03.mat", {})

    prepare(root)

    assert names(root) == ["cuhk-03.mat", "images_detected", "images_labeled", "testsets.json"]
    for kind in ("detected", "labeled"):
        assert len(names(root / f"images_{kind}")) == 10 * sum(PAIRS)
        for pair, row, view, slot in ((1, 3, 1, 5), (1, 3, 2, 6), (5, 1, 2, 10)):
            with Image.open(root / f"images_{kind}" / f"{pair}_{row:03d}_{view}_{slot:02d}.png") as image:
                np.testing.assert_array_equal(np.asarray(image), picture(kind, pair, row, slot))


def test_empty_cells_are_passed_over_wherever_they_are(root):
    empty = {("labeled", 1, 2, slot): EMPTY for slot in (1, 3, 5, 6, 7, 8, 9)}
    write_mat(root / "cuhk-03.mat", empty)

    prepare(root)

    of_row = [name for name in names(root / "images_labeled") if name.startswith("1_002")]
    assert of_row == ["1_002_1_02.png", "1_002_1_04.png", "1_002_2_10.png"]
    assert len(names(root / "images_detected")) == 10 * sum(PAIRS)


def test_test_sets_name_identities_of_any_pair_counted_through_all_pairs(root):
    write_mat(root / "cuhk-03.mat", {}, testsets=(((1, 1), (1, 3)), ((2, 1), (5, 1))))

    prepare(root)

    release = read_release(root)
    assert release.pairs == PAIRS
    assert release.testsets == ({1, 3}, {4, 8})
    assert [release.pair(pid) for pid in range(1, 9)] == [1, 1, 1, 2, 2, 3, 4, 5]
    assert {record.pid for record in release.records("labeled")} == set(range(1, 9))


def test_progress_counts_cells(root):
    write_mat(root / "cuhk-03.mat", {("labeled", 1, 1, 1): EMPTY})
    seen = []

    prepare(root, lambda done, total: seen.append((done, total)))

    cells = 2 * 10 * sum(PAIRS)
    assert seen == [(done, cells) for done in range(1, cells + 1)]


def test_a_whole_copy_stays_as_it_is_without_the_mat_file(root):
    write_mat(root / "cuhk-03.mat", {})
    prepare(root)
    (root / "cuhk-03.mat").unlink()

    prepare(root)

    assert len(read_release(root).records("labeled")) == 10 * sum(PAIRS)


@pytest.mark.parametrize("at", [1, 85, 160])
def test_an_interrupted_run_leaves_nothing_and_is_simply_run_again(root, at):
    write_mat(root / "cuhk-03.mat", {})

    def interrupt(done, _total):
        if done == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(root, interrupt)
    assert names(root) == ["cuhk-03.mat"]

    prepare(root)
    assert len(read_release(root).records("detected")) == 10 * sum(PAIRS)


@pytest.mark.parametrize("damage", ["an image is gone", "a folder is gone", "edited"])
def test_what_is_no_longer_whole_is_unpacked_again(root, damage):
    write_mat(root / "cuhk-03.mat", {})
    prepare(root)
    match damage:
        case "an image is gone":
            (root / "images_labeled" / "1_001_1_01.png").unlink()
        case "a folder is gone":
            shutil.rmtree(root / "images_detected")
        case "edited":
            (root / "testsets.json").write_text("{")

    prepare(root)

    release = read_release(root)
    assert [len(release.records(kind)) for kind in ("labeled", "detected")] == [80, 80]


def test_images_of_unknown_origin_are_never_removed(root):
    write_mat(root / "cuhk-03.mat", {})
    mine = root / "images_labeled" / "mine.png"
    mine.parent.mkdir()
    mine.touch()

    with pytest.raises(
        DataError, match=r"testsets.json is not there, so that images_labeled may be somebody"
    ):
        prepare(root)
    assert names(root) == ["cuhk-03.mat", "images_labeled"] and mine.exists()


def test_a_run_killed_before_all_folders_appeared_is_simply_run_again(root):
    write_mat(root / "cuhk-03.mat", {})
    prepare(root)
    (root / "images_labeled").rename(root / ".images_labeled.machine.1.partial")
    with pytest.raises(DataError, match="images_labeled: holds 0 images, expected 80; run python -m"):
        read_release(root).records("labeled")

    prepare(root)

    assert len(read_release(root).records("labeled")) == 80


def test_a_rendered_street_unpacks_into_the_images_it_was_packed_from(layout_street, tmp_path):
    root = tmp_path / "cuhk03_release"
    shutil.copytree(layout_street("cuhk03"), root)

    prepare(root)

    release = read_release(root)
    assert len(release.testsets) == 20
    labeled, detected = (release.records(kind) for kind in ("labeled", "detected"))
    assert len(detected) == len(labeled) + 1
    with Image.open(detected[0].path) as image:
        assert image.mode == "RGB" and image.height > image.width


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_file_is_named(root, share):
    path = root / "cuhk-03.mat"
    write_mat(path, {})
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    with pytest.raises(
        DataError, match=r"cuhk-03.mat: truncated or damaged .*unpack cuhk03_release.zip again"
    ):
        prepare(root)
    assert names(root) == ["cuhk-03.mat"]


def test_a_missing_file_is_named(root):
    with pytest.raises(DataError, match=r"cuhk-03.mat: no such file; unpack cuhk03_release.zip here"):
        prepare(root)


def test_a_file_of_another_version_is_told_apart_from_a_damaged_one(root):
    path = root / "cuhk-03.mat"
    savemat(path, {"labeled": np.zeros(3)})
    with pytest.raises(DataError, match=r"cuhk-03.mat: a MATLAB 5 file; the release's is MATLAB 7.3"):
        prepare(root)

    path.write_bytes(b"<html>")
    with pytest.raises(DataError, match="no HDF5 file, or a damaged one; the release's is MATLAB 7"):
        prepare(root)


def test_a_file_of_another_data_set_is_named_with_what_it_holds(root):
    with h5py.File(root / "cuhk-03.mat", "w") as mat:
        mat["gallery"] = np.zeros(3)

    with pytest.raises(DataError, match="found gallery, expected detected, labeled and testsets"):
        prepare(root)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"pairs": (3, 2)}, "labeled: found 2 cells, expected 5, one for each camera pair"),
        ({"testsets": (((1, 4),),)}, r"testsets\{1\}: found identity 4 of camera pair 1, expected"),
        ({"testsets": (((1, 1),), ((6, 1),))}, r"testsets\{2\}: found identity 1 of camera pair 6"),
        ({"testsets": (((0, 1),),)}, "identity 1 of camera pair 0"),
        ({"testsets": (((1, 1), (1, 1)),)}, "an identity twice"),
        (
            {"cells": {("labeled", 2, 1, 7): np.zeros((5, 4, 4), np.uint8)}},
            r"labeled\{2\}\{1,7\}: found uint8",
        ),
        ({"cells": {("detected", 1, 1, 1): np.zeros((5, 4, 3))}}, r"detected\{1\}\{1,1\}: found float64"),
        ({"cells": {("labeled", 1, 1, 1): np.zeros((5, 4), np.uint8)}}, r"found uint8 of shape \(4, 5\)"),
        ({"cells": {("labeled", 1, 1, 1): np.float64(1)}}, r"\{1,1\}: found float64 of shape \(\)"),
        ({"testsets": (((1, 2.5),),)}, r"cuhk-03.mat: testsets\{1\} is float64, expected whole numbers"),
        ({"testsets": (((1, np.nan),),)}, r"testsets\{1\} is float64, expected whole numbers"),
    ],
)
def test_a_file_of_another_shape_is_named_with_what_was_expected(root, wrong, match):
    write_mat(root / "cuhk-03.mat", **({"cells": {}} | wrong))

    with pytest.raises(DataError, match=match):
        prepare(root)
    assert names(root) == ["cuhk-03.mat"]


@pytest.mark.parametrize("thing", ["group", "type", "nothing"])
@pytest.mark.parametrize("variable", ["labeled", "testsets", "cell of labeled"])
def test_what_is_no_array_is_named(root, thing, variable):
    write_mat(root / "cuhk-03.mat", {})
    with h5py.File(root / "cuhk-03.mat", "a") as mat:
        match thing:
            case "group":
                mat.create_group("odd")
            case "type":
                mat["odd"] = np.dtype("f8")
            case "nothing":
                mat["odd"] = h5py.Empty("f8")
        cells = mat[variable.split()[-1]]
        if variable.startswith("cell"):
            cells = mat[cells[0, 0]]
        cells[0, 0] = mat["odd"].ref

    with pytest.raises(DataError, match=r"cuhk-03.mat: (labeled|testsets)\{1\}.*: found .* of shape \(\)"):
        prepare(root)
    assert names(root) == ["cuhk-03.mat"]


def test_numbers_in_place_of_cells_are_named(root):
    write_mat(root / "cuhk-03.mat", {})
    with h5py.File(root / "cuhk-03.mat", "a") as mat:
        del mat["labeled"]
        mat["labeled"] = np.zeros((1, 5))

    with pytest.raises(DataError, match=r"labeled: found an array of shape \(1, 5\), expected a cell array"):
        prepare(root)


def test_kinds_with_different_identities_are_named(root, tmp_path):
    write_mat(root / "cuhk-03.mat", {})
    write_mat(tmp_path / "other.mat", {}, pairs=(4, 2, 1, 1, 1))
    with h5py.File(root / "cuhk-03.mat", "a") as mat, h5py.File(tmp_path / "other.mat") as other:
        other.copy("labeled", mat, "labeled2", expand_refs=True)
        mat["labeled"][0, 0] = mat["labeled2"][0, 0]

    with pytest.raises(DataError, match=r"found \[4, 2, 1, 1, 1\] labeled and \[3, 2, 1, 1, 1\] detected"):
        prepare(root)


def test_a_release_that_is_not_unpacked_says_which_command_does_it(root):
    with pytest.raises(
        DataError, match=r"no cuhk-03.mat; unpack the release again, then run python -m protocols.prepare"
    ):
        read_release(root)

    (root / "cuhk-03.mat").touch()
    command = f"run python -m protocols.prepare cuhk03-labeled --data-root {root.parent}"
    with pytest.raises(DataError, match="is there, but its images are not unpacked") as error:
        read_release(root)
    assert command in str(error.value)


def test_test_sets_that_were_edited_are_refused(root):
    write_mat(root / "cuhk-03.mat", {})
    prepare(root)
    stated = json.loads((root / "testsets.json").read_text())

    (root / "testsets.json").write_text(json.dumps(stated | {"testsets": [[[1, 9]]]}))
    with pytest.raises(
        DataError, match="names identity 9 of camera pair 1, but the pairs have 3, 2, 1, 1, 1"
    ):
        read_release(root)

    del stated["images"]
    (root / "testsets.json").write_text(json.dumps(stated))
    with pytest.raises(DataError, match=r"testsets.json: damaged .*; run python"):
        read_release(root)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("1_001_2_05.png", "not a CUHK03 file name; expected PAIR_ROW_VIEW_IMAGE.png"),
        ("1_001_1_06.png", "not a CUHK03 file name"),
        ("6_001_1_01.png", "not a CUHK03 file name"),
        ("1_001_1_11.png", "not a CUHK03 file name"),
        ("0001_c1_1.png", "not a CUHK03 file name"),
        ("1_004_1_01.png", "names identity 4 of camera pair 1"),
        ("1_000_1_01.png", "names identity 0 of camera pair 1"),
    ],
)
def test_a_foreign_image_is_named(root, name, match):
    write_mat(root / "cuhk-03.mat", {})
    prepare(root)
    folder = root / "images_labeled"
    (folder / "1_001_1_01.png").rename(folder / name)

    with pytest.raises(DataError, match=match) as error:
        read_release(root).records("labeled")
    assert name in str(error.value)
