"""CUHK03's old protocol: who is trained on, who asks, and where each variant looks."""

import json
import shutil
from hashlib import sha256
from itertools import accumulate

import pytest

from protocols import PROTOCOLS
from protocols.base import SingleShot
from protocols.cuhk03_release import prepare
from protocols.files import read
from protocols.splits import read_drawing, write_drawing
from retable.errors import DataError

OLD = [name for name in PROTOCOLS.names() if name.startswith("cuhk03-") and not name.startswith("cuhk03-np")]
KINDS = ("labeled", "detected", "merged")
IMAGES = {"labeled": (8177, 4337, 649, 510, 423), "detected": (8177, 4337, 650, 510, 423)}
PAIRS = (843, 440, 77, 58, 49)


def write_unpacked(root, pairs, slots, testsets):
    """A release as unpacked, of empty files; ``slots``: (kind, pair, row) -> numbers of its images."""
    names = {"labeled": [], "detected": []}
    for (kind, pair, row), numbers in slots.items():
        names[kind] += [f"{pair}_{row:03d}_{1 if n <= 5 else 2}_{n:02d}.png" for n in numbers]
    for kind, files in names.items():
        (root / f"images_{kind}").mkdir(parents=True)
        for name in files:
            (root / f"images_{kind}" / name).touch()
    stated = {"pairs": pairs, "images": {kind: len(names[kind]) for kind in names}, "testsets": testsets}
    (root / "testsets.json").write_text(json.dumps(stated))


def numbers_of(rows, images, lacking=None):
    """(row, numbers of its images) for so many images; ``lacking`` has none of view 1."""
    others = [row for row in range(1, rows + 1) if row != lacking]
    fewer, left = divmod(10 * rows - images - 5 * bool(lacking), len(others))
    yield from ((row, range(1, 11 - fewer - (at < left))) for at, row in enumerate(others))
    if lacking:
        yield lacking, range(6, 11)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """Empty files in the numbers of the release; identity 1 of pair 3 has no labeled image of view 1.

    That identity is in the first test set, one of pair 5 in the last; all others are of pairs 1-3.
    """
    root = tmp_path_factory.mktemp("data") / "cuhk03_release"
    slots = {
        (kind, pair, row): numbers
        for kind, images in IMAGES.items()
        for pair, (rows, wanted) in enumerate(zip(PAIRS, images, strict=True), 1)
        for row, numbers in numbers_of(rows, wanted, 1 if (kind, pair) == ("labeled", 3) else None)
    }
    everybody = [(pair, row) for pair in (1, 2, 3) for row in range(1, PAIRS[pair - 1] + 1)]
    others = [(3, 1) if i == 0 else (5, 3) if i == 19 else (2, 440) for i in range(20)]
    testsets = [[other, *everybody[60 * i : 60 * i + 99]] for i, other in enumerate(others)]
    write_unpacked(root, PAIRS, slots, testsets)
    return root


@pytest.fixture
def damaged(release):
    """The release, for a test to change; what the changes here do is undone."""
    stated = (release / "testsets.json").read_text()
    yield release
    (release / "testsets.json").write_text(stated)
    (release / "images_labeled" / "3_002_1_01.png").touch()
    shutil.rmtree(release / "splits", ignore_errors=True)


def splits_of(name, root):
    return read(PROTOCOLS.get(name)(), root)


def pids(records):
    return {record.pid for record in records}


@pytest.mark.parametrize("name", OLD)
def test_a_copy_with_the_numbers_of_the_release_is_whole(release, name):
    protocol = PROTOCOLS.get(name)()

    splits = read(protocol, release)

    assert [split.name for split in splits] == [
        str(i) for i in range(1 if name == "cuhk03-merged/openreid" else 20)
    ]
    if not name.endswith("/original"):
        for split in splits:
            images = {record.path for part in split.lists().values() for record in part}
            assert len(images) == protocol.counts.images
    assert protocol.counts.images == (28_193 if "merged" in name else 14_096 if "labeled" in name else 14_097)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_count_through_the_camera_pairs(release, kind):
    offsets = (0, *accumulate(PAIRS[:-1]))
    assert offsets == (0, 843, 1283, 1360, 1418)

    split = splits_of(f"cuhk03-{kind}", release)[0]

    records = [record for part in split.lists().values() for record in part]
    assert pids(records) == set(range(1, 1468))
    for record in records:
        pair, row, view, _ = record.path.stem.split("_")
        assert record.pid == offsets[int(pair) - 1] + int(row)
        assert record.camid == int(view)


@pytest.mark.parametrize("kind", KINDS)
def test_queries_are_of_view_1_and_the_gallery_of_view_2(release, kind):
    protocol = PROTOCOLS.get(f"cuhk03-{kind}")()
    assert protocol.single_shot == SingleShot(probe="drawn", repeats=1)

    for split in read(protocol, release):
        assert {record.camid for record in split.query} == {1}
        assert {record.camid for record in split.gallery} == {2}
        assert len(pids(split.gallery)) == 100
        assert not pids(split.train) & pids(split.gallery)


def test_an_identity_without_a_view_is_not_asked_for_and_all_others_are(release):
    first, second, *_ = splits_of("cuhk03-labeled", release)

    assert pids(first.gallery) - pids(first.query) == {1284}
    assert len(pids(second.query)) == 100
    assert len(pids(splits_of("cuhk03-detected", release)[0].query)) == 100


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("code", "same_camera"), [("openreid", "all"), ("torchreid", "identity")])
def test_public_code_lets_every_test_image_ask(release, kind, code, same_camera):
    protocol = PROTOCOLS.get(f"cuhk03-{kind}/{code}")()
    assert protocol.single_shot == SingleShot(probe="every", repeats=10)
    assert protocol.rules.same_camera == same_camera

    for split in read(protocol, release):
        assert split.query == split.gallery
        assert {record.camid for record in split.query} == {1, 2}
        assert len(pids(split.train)) == 1367


def test_an_image_is_merged_beside_its_counterpart(release):
    (split,) = splits_of("cuhk03-merged/openreid", release)

    names = [f"{record.path.parent.name}/{record.path.name}" for record in split.train[:4]]
    assert names == [
        "images_detected/1_100_1_01.png",
        "images_labeled/1_100_1_01.png",
        "images_detected/1_100_1_02.png",
        "images_labeled/1_100_1_02.png",
    ]


@pytest.mark.parametrize("kind", ["labeled", "detected"])
def test_the_original_split_holds_100_identities_out_and_leaves_two_camera_pairs(release, kind):
    for split in splits_of(f"cuhk03-{kind}/original", release):
        train, val, test = pids(split.train), pids(split.val), pids(split.gallery)
        assert (len(train), len(val), len(test)) == (1160, 100, 100)
        assert not train & val and not test & (train | val)
        assert max(train | val) <= 1360


def test_the_same_identities_are_held_out_of_both_kinds_and_never_others(release):
    """The draw is pinned: another one would give other numbers under the same name."""
    labeled, detected = (
        PROTOCOLS.get(f"cuhk03-{kind}/original")().load.drawing(release) for kind in ("labeled", "detected")
    )

    assert labeled.splits == detected.splits
    splits = json.dumps([parts["val"] for parts in labeled.splits.values()])
    assert sha256(splits.encode()).hexdigest()[:32] == "d9dd0ed0d4a204eca043ee2f6cc0f185"
    assert len({parts["val"] for parts in labeled.splits.values()}) == 20


def test_recorded_identities_are_held_out_in_place_of_drawn_ones(damaged):
    protocol = PROTOCOLS.get("cuhk03-labeled/original")()
    file = damaged / "splits" / "cuhk03-labeled" / "original.json"
    drawn = protocol.load.drawing(damaged)
    parts = drawn.splits["0"]
    other = tuple(sorted(parts["train"][:100]))
    trained = tuple(sorted({*parts["train"], *parts["val"]} - {*other}))
    splits = drawn.splits | {"0": dict(parts) | {"val": other, "train": trained}}

    write_drawing(file, type(drawn)(drawn.protocol, drawn.rule, drawn.items, splits))

    assert read_drawing(file, drawn).splits == splits
    assert pids(read(protocol, damaged)[0].val) == set(other)


@pytest.mark.parametrize(("name", "found"), [("cuhk03-labeled", 648), ("cuhk03-merged/torchreid", 648)])
def test_a_copy_that_lacks_an_image_says_of_which_camera_pair(damaged, name, found):
    (damaged / "images_labeled" / "3_002_1_01.png").unlink()
    stated = json.loads((damaged / "testsets.json").read_text())
    stated["images"]["labeled"] -= 1
    stated["testsets"] = stated["testsets"][:19]
    (damaged / "testsets.json").write_text(json.dumps(stated))

    with pytest.raises(DataError) as error:
        splits_of(name, damaged)

    assert f"labeled images of camera pair 3: found {found}, expected 649" in str(error.value)
    assert "test sets: found 19, expected 20" in str(error.value)
    assert "detected images" not in str(error.value)


def test_an_image_that_is_gone_since_the_preparation_is_noticed(damaged):
    (damaged / "images_labeled" / "3_002_1_01.png").unlink()

    with pytest.raises(
        DataError, match=r"images_labeled: holds 14,095 images, expected 14,096; run python -m"
    ):
        splits_of("cuhk03-labeled", damaged)


@pytest.mark.parametrize("name", OLD)
def test_a_rendered_street_reads_whole(street, name):
    for split in splits_of(name, street):
        assert pids(split.query) == pids(split.gallery)
        assert split.train
        assert not pids(split.train) & pids(split.gallery)


@pytest.fixture(scope="module")
def street(layout_street, tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "cuhk03_release"
    shutil.copytree(layout_street("cuhk03"), root)
    prepare(root)
    return root
