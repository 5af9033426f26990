"""The CUHK03 layout: numbers of the release, its MATLAB 7.3 file and the new protocol's lists."""

from collections import Counter, defaultdict
from dataclasses import replace
from io import BytesIO
from itertools import takewhile

import h5py
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from scipy.io import loadmat

from protocols.crosswalk import render
from protocols.crosswalk.dials import Dials
from protocols.crosswalk.errors import StreetError
from protocols.crosswalk.layouts.cuhk03 import LAYOUT, SIZES, Size, encode, plan
from protocols.crosswalk.matlab73 import matlab73
from protocols.crosswalk.walks import Street

SEED = 0
BOXES = ("detected", "labeled")
TINY = SIZES["tiny"]


@pytest.fixture(scope="module")
def shots():
    return plan(TINY, SEED, Dials())


@pytest.fixture(scope="module")
def root(layout_street):
    return layout_street("cuhk03")


@pytest.fixture(scope="module")
def mat(root):
    with h5py.File(root / "cuhk-03.mat", "r") as file:
        yield file


@pytest.fixture(scope="module")
def release():
    return plan(SIZES["release"], 0, Dials())


def parse(shot):
    """Camera pair, row, view and image of a name."""
    return tuple(map(int, shot.name.removesuffix(".png").split("_")))


def cells(mat, boxes):
    """Data set of each cell by (pair, row, image), all 1-based."""
    return {
        (pair, row, image): mat[mat[reference][image - 1, row - 1]]
        for pair, reference in enumerate(mat[boxes][0], start=1)
        for image in range(1, mat[reference].shape[0] + 1)
        for row in range(1, mat[reference].shape[1] + 1)
    }


def of(shots, boxes, role=None):
    return [s for s in shots if s.folder.split("/") == [boxes, role or s.folder.split("/")[1]]]


def pids(shots):
    return {shot.pid for shot in shots}


@pytest.mark.parametrize(
    ("boxes", "by_pair", "train", "gallery"),
    [
        ("detected", (8177, 4337, 650, 510, 423), 7365, 5332),
        ("labeled", (8177, 4337, 649, 510, 423), 7368, 5328),
    ],
)
def test_the_release_size_has_the_numbers_of_the_release(release, boxes, by_pair, train, gallery):
    own = of(release, boxes)
    pairs = Counter(parse(shot)[0] for shot in own)
    roles = {role: of(release, boxes, role) for role in ("train", "query", "gallery")}

    assert tuple(pairs[pair] for pair in range(1, 6)) == by_pair
    assert {role: len(found) for role, found in roles.items()} == {
        "train": train, "query": 1400, "gallery": gallery,
    }  # fmt: skip
    assert (len(pids(roles["train"])), len(pids(roles["query"]))) == (767, 700)
    assert pids(own) == set(range(1, 1468))
    tested = Counter(parse(shot)[0] for shot in roles["query"])
    assert [tested[pair] // 2 for pair in range(1, 6)] == [416, 212, 28, 23, 21]


@pytest.mark.parametrize("size", SIZES)
def test_the_two_configurations_share_all_test_identities_but_one(size):
    planned = plan(SIZES[size], 4, Dials())
    detected, labeled = (pids(of(planned, boxes, "query")) for boxes in BOXES)
    assert len(detected) == len(labeled) == sum(SIZES[size].test_pids)
    assert len(detected & labeled) == len(detected) - 1
    assert pids(of(planned, "labeled", "train")) & detected == detected - labeled


@pytest.mark.parametrize("size", ["tiny", "release"])
def test_both_kinds_of_boxes_are_of_the_same_frames_except_one_image_of_an_identity_that_lacks_a_view(size):
    planned = plan(SIZES[size], 1, Dials())
    detected, labeled = ({(s.name, s.subject, s.frame) for s in of(planned, boxes)} for boxes in BOXES)
    ((name, *_),) = detected - labeled
    assert labeled < detected
    assert name.startswith("3_")
    views = Counter((s.pid, s.camid) for s in of(planned, "labeled"))
    assert len(views) == 2 * sum(SIZES[size].pids) - 1
    assert name[:7] not in {s.name[:7] for s in of(planned, "labeled")}


@pytest.mark.parametrize("boxes", BOXES)
def test_test_identities_have_a_query_and_something_to_find_in_either_view(shots, boxes):
    queries = Counter((s.pid, s.camid) for s in of(shots, boxes, "query"))
    gallery = Counter((s.pid, s.camid) for s in of(shots, boxes, "gallery"))
    assert set(queries.values()) == {1}
    assert queries.keys() == gallery.keys()
    assert len(queries) == 2 * sum(TINY.test_pids)
    assert not pids(of(shots, boxes, "train")) & pids(of(shots, boxes, "query"))


def test_real_cameras_differ_between_pairs_and_views(shots):
    for shot in shots:
        pair, _, view, image = parse(shot)
        assert shot.camid == 2 * (pair - 1) + view
        assert (image > 5) == (view == 2)


def test_only_packed_images_and_lists_remain(root):
    assert {file.name for file in root.iterdir()} == {
        "README.md", "crosswalk.json", "cuhk-03.mat", "names.txt",
        "cuhk03_new_protocol_config_detected.mat", "cuhk03_new_protocol_config_labeled.mat",
    }  # fmt: skip


def test_the_file_says_that_it_is_matlab_7_3(root):
    head = (root / "cuhk-03.mat").read_bytes()[:520]
    assert head.startswith(b"MATLAB 7.3 MAT-file") and b"Created on" not in head
    assert head[124:128] == b"\x00\x02IM"
    assert head[512:] == b"\x89HDF\r\n\x1a\n"


def test_cell_arrays_are_references_stored_transposed(mat):
    for boxes in BOXES:
        assert mat[boxes].shape == (1, 5)
        assert mat[boxes].attrs["MATLAB_class"] == b"cell"
        assert [mat[reference].shape for reference in mat[boxes][0]] == [(10, n) for n in TINY.pids]
        for reference in mat[boxes][0]:
            assert mat[reference].attrs["MATLAB_class"] == b"cell"
            assert mat[reference].name.startswith("/#refs#/")


@pytest.mark.parametrize("boxes", BOXES)
def test_cells_hold_the_images_that_were_planned(mat, shots, boxes):
    filled = {place for place, cell in cells(mat, boxes).items() if cell.ndim == 3}
    assert filled == {(pair, row, image) for pair, row, _, image in map(parse, of(shots, boxes))}


def test_images_are_stored_transposed_and_without_loss(mat, shots):
    for shot in shots[::40]:
        pair, row, _, image = parse(shot)
        stored = cells(mat, shot.folder.split("/")[0])[pair, row, image]
        rendered = render.render_shot(Street(SEED, Dials()), shot).image
        with Image.open(BytesIO(encode(rendered, 90, shot))) as expected:
            np.testing.assert_array_equal(stored[()].T, np.asarray(expected).transpose(0, 1, 2))
        assert stored.dtype == np.uint8 and stored.attrs["MATLAB_class"] == b"uint8"


def test_crops_stand_upright_and_vary_in_size(mat):
    shapes = {cell.shape for cell in cells(mat, "detected").values() if cell.ndim == 3}
    assert len(shapes) > 50
    assert all(channels == 3 and 1.5 * width < height for channels, width, height in shapes)


def test_an_empty_cell_is_a_short_list_of_numbers_and_not_an_empty_array(mat):
    empty = [cell for boxes in BOXES for cell in cells(mat, boxes).values() if cell.ndim != 3]
    assert len(empty) == 2 * 10 * sum(TINY.pids) - sum(TINY.images) - sum(TINY.images) + 1
    for cell in empty:
        assert (cell.shape, cell.dtype, cell[()].tolist()) == ((2,), np.uint64, [0, 0])
        assert cell.attrs["MATLAB_empty"] == 1


def test_readers_that_stop_at_the_first_empty_cell_find_fewer_images(mat):
    found = cells(mat, "detected")
    stopping = 0
    for pair, row in {place[:2] for place in found}:
        for view in (range(1, 6), range(6, 11)):
            stopping += len(list(takewhile(lambda i, p=(pair, row): found[*p, i].ndim == 3, view)))
    assert stopping < sum(TINY.images)
    assert all(found[pair, row, 1].ndim == 3 for pair, row, _ in found if pair != 3)


def test_test_sets_name_identities_that_both_kinds_of_boxes_show_in_both_views(mat, shots):
    whole = set.intersection(
        *(
            {parse(s)[:2] for s in of(shots, boxes) if parse(s)[2] == view}
            for boxes in BOXES
            for view in (1, 2)
        )
    )
    sets = [mat[reference] for reference in mat["testsets"][0]]
    assert mat["testsets"].shape == (1, 20)
    for testset in sets:
        assert (testset.shape, testset.dtype) == ((2, TINY.testset_pids), np.float64)
        chosen = set(map(tuple, testset[()].T.astype(int).tolist()))
        assert len(chosen) == TINY.testset_pids
        assert chosen <= whole
        assert all(1 <= pair <= 3 and 1 <= row <= TINY.pids[pair - 1] for pair, row in chosen)
    assert len({testset[()].tobytes() for testset in sets}) > 15


def test_the_release_size_tests_a_hundred_identities_at_a_time():
    assert SIZES["release"].testset_pids == SIZES["default"].testset_pids == 100


@pytest.mark.parametrize("boxes", BOXES)
def test_new_protocol_lists_have_the_types_of_the_published_ones_and_count_from_one(root, shots, boxes):
    lists = loadmat(root / f"cuhk03_new_protocol_config_{boxes}.mat")
    own = sorted(of(shots, boxes), key=lambda shot: shot.name)
    files = [str(name[0]) for (name,) in lists["filelist"]]
    types = {"labels": "uint16", "camId": "uint8", "filelist": "object"}
    types |= {f"{role}_idx": "uint16" for role in ("train", "query", "gallery")}

    assert {name: lists[name].dtype.name for name in types} == types
    assert all(lists[name].shape[1] == 1 for name in types)
    assert files == [shot.name for shot in own] and {len(name) for name in files} == {14}
    offsets = np.cumsum([0, *TINY.pids])
    for name, label, camid in zip(files, lists["labels"][:, 0], lists["camId"][:, 0], strict=True):
        pair, row, view, _ = map(int, name[:-4].split("_"))
        assert (label, camid) == (offsets[pair - 1] + row, view)
    for role in ("train", "query", "gallery"):
        chosen = {files[index - 1] for index in lists[f"{role}_idx"][:, 0]}
        assert chosen == {shot.name for shot in of(shots, boxes, role)}


def test_counts_are_those_of_the_lists(shots):
    counts = LAYOUT.counts(TINY, shots)
    assert counts["cuhk03-labeled"] == counts["cuhk03-merged/openreid"] == {"query_pids": TINY.testset_pids}
    for boxes in BOXES:
        own = {role: of(shots, boxes, role) for role in ("train", "query", "gallery")}
        assert counts[f"cuhk03-np-{boxes}/mat"] == {
            **{role: len(found) for role, found in own.items()},
            "train_pids": len(pids(own["train"])),
            "query_pids": len(pids(own["query"])),
        }


def test_another_seed_has_other_test_identities_and_other_empty_cells():
    one, other = (plan(SIZES["default"], seed, Dials()) for seed in (0, 1))
    for role in ("query", "train"):
        assert pids(of(one, "labeled", role)) != pids(of(other, "labeled", role))
    assert {s.name for s in one} != {s.name for s in other}


def test_confusers_stay_inside_one_half():
    planned = plan(SIZES["default"], 0, Dials(confusers=1))
    halves = defaultdict(set)
    for shot in of(planned, "detected"):
        halves[shot.subject.look].add(shot.folder.endswith("train"))
    assert {len(half) for half in halves.values()} == {1}


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_valid_size_is_planned_exactly(data):
    counts = [data.draw(st.integers(2, 12)) for _ in range(5)]
    tested = [data.draw(st.integers(int(p == 0), n - (p in (0, 2)))) for p, n in enumerate(counts)]
    images = [10 * n - data.draw(st.integers(4 if p == 2 else 0, 2 * n + 4)) for p, n in enumerate(counts)]
    test_images = 10 * sum(tested) - data.draw(st.integers(0, sum(tested)))
    try:
        size = Size("drawn", *map(tuple, (counts, images, tested)), test_images, data.draw(st.integers(0, 6)))
    except StreetError:
        assume(False)
    planned = plan(size, data.draw(st.integers(0, 99)), Dials())
    detected, labeled = (of(planned, boxes) for boxes in BOXES)

    assert Counter(parse(s)[0] for s in detected) == dict(enumerate(images, start=1))
    assert len(labeled) == len(detected) - 1
    for boxes, fewer in (("detected", 0), ("labeled", size.fewer)):
        test = of(planned, boxes, "query") + of(planned, boxes, "gallery")
        assert len(test) == test_images - fewer
        assert len(pids(test)) == sum(tested)
        assert min(Counter((s.pid, s.camid) for s in test).values()) >= 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pids": (8, 4, 2, 2)}, "each of 5 camera pairs"),
        ({"pids": (8, 4, 2, 2, 1)}, "2..999"),
        ({"test_pids": (0, 2, 1, 1, 0)}, "pair 1 needs a test identity"),
        ({"test_pids": (3, 2, 2, 1, 0)}, "also need one to train on"),
        ({"fewer": 7}, "0..6"),
        ({"images": (81, 38, 15, 18, 19)}, "images per camera pair"),
        ({"images": (74, 38, 17, 18, 19)}, "images per camera pair"),
        ({"test_images": 71}, "test_images"),
    ],
)
def test_impossible_sizes_are_refused(change, message):
    with pytest.raises(StreetError, match=message):
        replace(TINY, **change)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=3, max_side=6))
        | arrays.arrays(np.float64, (3, 2)),
        min_size=1,
        max_size=4,
    )
)
def test_what_is_packed_is_read_back_transposed(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("mat") / "any.mat"
    with matlab73(path) as file:
        members = np.empty((1, len(values) + 1), dtype=object)
        members[0] = [*(file.array(value) for value in values), file.empty]
        file.variable("everything", members)
    with h5py.File(path, "r") as file:
        stored = [file[reference] for (reference,) in file["everything"]]
        for value, one in zip(values, stored, strict=False):
            np.testing.assert_array_equal(one[()].T, value)
        assert stored[-1].attrs["MATLAB_empty"] == 1
