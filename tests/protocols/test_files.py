"""Finding a release below a data root, and counting what it holds."""

import shutil
from pathlib import Path

import pytest

from protocols import PROTOCOLS, Protocol, Record, Rules, Split
from protocols.base import Counts
from protocols.files import count, locate, read
from retable.errors import Absent, DataError

DUKE = PROTOCOLS.get("dukemtmc")()


def test_an_expected_folder_one_level_up_is_pointed_to(tmp_path):
    inside = tmp_path / DUKE.folder / "query"
    inside.mkdir(parents=True)

    for given in (inside, inside.parent):
        with pytest.raises(Absent, match=rf"expected the folder {DUKE.folder}, .*but {tmp_path} holds it"):
            locate(DUKE, given)


def test_an_expected_folder_one_level_down_is_pointed_to(tmp_path):
    (tmp_path / "sets" / DUKE.folder).mkdir(parents=True)

    with pytest.raises(Absent, match=rf"found sets; but {tmp_path / 'sets'} holds it: give that"):
        locate(DUKE, tmp_path)


def test_a_release_that_is_nowhere_near_is_to_be_unpacked(tmp_path):
    with pytest.raises(Absent, match="found nothing; unpack the release there"):
        locate(DUKE, tmp_path)


def records(*labels):
    return tuple(Record(Path(f"{n}.jpg"), pid, camid) for n, (pid, camid) in enumerate(labels))


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        # pid 9 is an ordinary label that nobody asks for, 0 and -1 have a meaning only where rules say so
        (Rules("step"), {"junk": 0, "distractors": 4, "test_pids": 4}),
        (Rules("step", junk_pids=(-1,)), {"junk": 2, "distractors": 2, "test_pids": 3}),
        (Rules("step", junk_pids=(-1,), distractor_pids=(0,)), {"junk": 2, "distractors": 2, "test_pids": 2}),
    ],
)
def test_junk_and_distractors_are_counted_by_the_rules(rules, expected):
    protocol = Protocol("x", "X", "", "x", rules, Counts(), load=lambda _: ())
    split = Split(
        train=records((1, 1), (1, 2), (2, 3)),
        query=records((5, 1), (5, 2)),
        gallery=records((5, 1), (5, 6), (-1, 1), (-1, 2), (0, 1), (9, 1)),
    )

    found = count(split, protocol)

    assert {name: found[name] for name in expected} == expected
    assert (found["train"], found["query"], found["gallery"]) == (3, 2, 6)
    assert (found["train_pids"], found["query_pids"], found["cameras"]) == (2, 1, 4)


def test_images_beside_all_folders_are_named_too(layout_street, tmp_path):
    cuhk01 = PROTOCOLS.get("cuhk01-100")()
    root = tmp_path / cuhk01.folder
    shutil.copytree(layout_street("cuhk01"), root)
    gone = sorted(root.glob("*.png"))[7]
    gone.unlink()

    with pytest.raises(DataError, match=rf"missing \(1\): {gone.name}"):
        read(cuhk01, root)
