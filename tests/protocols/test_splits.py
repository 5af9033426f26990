"""Drawn splits: the same for everybody, recorded, and refused when they were changed or are not ours."""

import hashlib
import json
import shutil
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from protocols import PROTOCOLS
from protocols.splits import (
    Drawing,
    DrawnSplits,
    draw_pids,
    main,
    read_drawing,
    recorded_at,
    shuffled,
    write_drawing,
)
from retable.cli import application
from retable.errors import DataError

PIDS = st.lists(st.integers(-1, 2000), min_size=2, max_size=40, unique=True)
VIPER = PROTOCOLS.get("viper")()


def test_the_order_is_that_of_hashes_of_names_and_item():
    def key(item):
        return hashlib.sha256(f"viper\n3\n{item}\n".encode()).hexdigest()

    assert shuffled(range(50), "viper", "3") == sorted(range(50), key=key)
    assert shuffled(["b.jpg", "a.jpg"], "viper", "3") == sorted(["a.jpg", "b.jpg"], key=key)


@given(PIDS, st.randoms(use_true_random=False))
def test_the_order_does_not_depend_on_that_of_the_items(pids, rng):
    mixed = rng.sample(pids, len(pids))

    assert shuffled(mixed, "a") == shuffled(pids, "a")
    assert sorted(shuffled(pids, "a")) == sorted(pids)


@given(PIDS)
def test_an_item_less_leaves_the_order_of_the_others(pids):
    gone = pids[0]

    assert shuffled(pids[1:], "a") == [pid for pid in shuffled(pids, "a") if pid != gone]


def test_names_are_kept_apart():
    orders = [
        shuffled(range(100), *names)
        for names in ((), ("a",), ("a", "b"), ("ab",), ("b", "a"), ("a", "b", ""))
    ]

    assert len({tuple(order) for order in orders}) == len(orders)


def test_every_item_is_first_equally_often():
    """Of 7 items in 7,000 orders; 1,000 are expected, and their deviation is 29."""
    firsts = [shuffled(range(7), str(draw))[0] for draw in range(7000)]

    assert all(abs(firsts.count(item) - 1000) < 4 * 29.3 for item in range(7))


@given(PIDS, st.data())
def test_a_split_divides_the_identities(pids, data):
    tests = data.draw(st.integers(0, len(pids)))

    drawing = draw_pids("viper", pids, tests, splits=3)

    assert list(drawing.splits) == ["0", "1", "2"]
    for parts in drawing.splits.values():
        assert len(parts["test"]) == tests
        assert sorted(parts["train"] + parts["test"]) == sorted(pids)
        assert list(parts["train"]) == sorted(parts["train"])
        assert list(parts["test"]) == sorted(parts["test"])


@pytest.mark.parametrize(
    ("protocol", "pids", "tests", "digest"),
    [
        (
            "cuhk01-100",
            range(1, 972),
            100,
            "6d7556b23f6be3473d419d465fe85782da3c9da40b20685eac0a924a8df4c532",
        ),
        (
            "cuhk01-486",
            range(1, 972),
            486,
            "2bdbe55c6b5817da54488e0923edbdccf588a61463a02581b2440e07222869b0",
        ),
        # VIPeR has 632 of the labels 0..873; which ones, only its owners know
        ("viper", range(632), 316, "48eabadaa14cfbf86a0d3f35a47782351db50ac29a6719dd7fdd9cb73b2a4aa3"),
    ],
)
def test_splits_that_are_in_use_never_change(protocol, pids, tests, digest):
    assert draw_pids(protocol, pids, tests).digest() == digest


def test_the_first_split_of_cuhk01_is_this():
    test = draw_pids("cuhk01-100", range(1, 972), 100).splits["0"]["test"]

    assert test[:8] == (37, 38, 47, 55, 57, 62, 70, 76)


def drawing(protocol="viper", pids=range(8)):
    return draw_pids(protocol, pids, len(pids) // 2, splits=2)


def test_what_is_written_is_read_back(tmp_path):
    own = drawing()
    others = Drawing("viper", "by hand", own.items, dict.fromkeys(("0", "1"), own.splits["1"]))
    write_drawing(tmp_path / "splits" / "viper.json", others)

    assert read_drawing(tmp_path / "splits" / "viper.json", own) == others


def test_names_of_files_are_written_and_read_back(tmp_path):
    own = Drawing("market1501+100k", "", ["a.jpg", "b.jpg", "c.jpg"], {"": {"gallery": ("a.jpg", "c.jpg")}})
    write_drawing(tmp_path / "f.json", own)

    assert read_drawing(tmp_path / "f.json", own) == own


def rewritten(file, change):
    """The file with ``change`` done to its content, but not to its hash."""
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return content


def test_an_edited_file_is_refused_with_both_hashes(tmp_path):
    file, own = tmp_path / "viper.json", drawing()
    write_drawing(file, own)

    def swap(content):
        parts = content["splits"]["1"]
        parts["train"][0], parts["test"][0] = parts["test"][0], parts["train"][0]

    rewritten(file, swap)

    with pytest.raises(
        DataError, match=rf"edited or damaged: .* SHA-256 [0-9a-f]{{64}}, expected {own.digest()}"
    ):
        read_drawing(file, own)


@pytest.mark.parametrize("key", ["protocol", "rule", "note"])
def test_every_word_of_the_file_is_hashed(tmp_path, key):
    file, own = tmp_path / "viper.json", drawing()
    write_drawing(file, own)
    rewritten(file, lambda content: content.update({key: "another"}))

    with pytest.raises(DataError, match="edited or damaged"):
        read_drawing(file, own)


def test_splits_of_another_protocol_are_refused(tmp_path):
    write_drawing(tmp_path / "viper.json", drawing("cuhk01-486"))

    with pytest.raises(
        DataError, match=r"splits of cuhk01-486, expected viper; .*python -m protocols.splits viper"
    ):
        read_drawing(tmp_path / "viper.json", drawing())


def test_splits_of_other_identities_are_refused_with_their_names(tmp_path):
    write_drawing(tmp_path / "viper.json", drawing(pids=range(100, 108)))

    with pytest.raises(DataError, match=r"split '0' names 8 items that are not in this copy .*\(10\d, "):
        read_drawing(tmp_path / "viper.json", drawing())


def test_splits_of_another_shape_are_refused(tmp_path):
    write_drawing(tmp_path / "viper.json", draw_pids("viper", range(8), 3, splits=1))

    expected = r"found splits of 1 x \(train 5, test 3\), expected 2 x \(train 4, test 4\)"
    with pytest.raises(DataError, match=expected):
        read_drawing(tmp_path / "viper.json", drawing())


def test_an_identity_to_train_and_to_test_on_is_refused(tmp_path):
    own = drawing()
    leaking = {name: {"train": parts["test"], "test": parts["test"]} for name, parts in own.splits.items()}
    write_drawing(tmp_path / "viper.json", Drawing("viper", own.rule, own.items, leaking))

    with pytest.raises(DataError, match="split '0' names an item twice"):
        read_drawing(tmp_path / "viper.json", own)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"sha256": "0", "splits": []}', '{"sha256": "0"}'])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "viper.json").write_text(content)

    with pytest.raises(DataError, match=r"viper\.json: not a file of splits"):
        read_drawing(tmp_path / "viper.json", drawing())


@pytest.fixture
def data_root(layout_street, tmp_path):
    """A data root with a copy of the tiny VIPeR street."""
    shutil.copytree(layout_street("viper"), tmp_path / VIPER.folder)
    return tmp_path


def splits(*arguments):
    outcome = CliRunner().invoke(application(main), list(map(str, arguments)))
    return outcome.exit_code, outcome.output


def test_the_command_records_what_is_drawn_anyway(data_root):
    root = data_root / VIPER.folder
    drawn = VIPER.load(root)

    code, printed = splits("viper", "--data-root", data_root)

    file = root / "splits" / "viper.json"
    assert (code, json.loads(file.read_text())["sha256"] in printed) == (0, True)
    assert VIPER.load(root) == drawn


def test_the_command_runs_as_a_module(data_root):
    """Its classes must be those of the protocols, which import the module by its own name."""
    command = [sys.executable, "-m", "protocols.splits", "viper", "--data-root", str(data_root)]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert recorded_at(data_root / VIPER.folder, "viper").is_file()


def test_recorded_splits_are_used(data_root):
    root = data_root / VIPER.folder
    own = VIPER.load.drawing(root)
    others = dict(zip(own.splits, reversed(own.splits.values()), strict=True))
    write_drawing(recorded_at(root, "viper"), Drawing("viper", "reversed", own.items, others))

    first = VIPER.load(root)[0]

    assert {record.pid for record in first.train} == set(own.splits["9"]["train"])


def test_the_command_exports_what_is_in_use(data_root, tmp_path):
    root = data_root / VIPER.folder
    own = VIPER.load.drawing(root)
    write_drawing(recorded_at(root, "viper"), Drawing("viper", "another lab's", own.items, own.splits))

    splits("viper", "--data-root", data_root, "-o", tmp_path / "shared.json")

    assert json.loads((tmp_path / "shared.json").read_text())["rule"] == "another lab's"


def test_nothing_is_recorded_from_a_damaged_copy(data_root):
    root = data_root / VIPER.folder
    pid = VIPER.load(root)[0].query[0].pid
    for image in root.glob(f"cam_?/{pid:03d}_*.bmp"):
        image.unlink()

    code, printed = splits("viper", "--data-root", data_root)

    assert (code, "not a whole VIPeR" in printed) == (2, True)
    assert not (root / "splits").exists()


def test_the_command_refuses_a_protocol_with_stated_splits(data_root):
    code, printed = splits("market1501", "--data-root", data_root)

    assert (code, "nothing to draw" in printed) == (2, True)


@pytest.mark.parametrize("name", ["viper", "cuhk01-100", "cuhk01-486", "market1501+100k", "market1501+200k"])
def test_these_protocols_can_be_recorded(name):
    assert isinstance(PROTOCOLS.get(name)().load, DrawnSplits)
