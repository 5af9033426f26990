"""Finding a release below a data root, and counting what it holds."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from protocols import PROTOCOLS, Protocol, Record, Rules, Split
from protocols.base import Counts
from protocols.files import count, differences, locate, read
from protocols.folders import file_names
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


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path):
    (tmp_path / DUKE.folder).touch()

    with pytest.raises(Absent, match=rf"{DUKE.folder}: a file, expected the folder of DukeMTMC-reID"):
        locate(DUKE, tmp_path)
    with pytest.raises(Absent, match=rf"{DUKE.folder}: a file, expected a folder; give --data-root"):
        locate(DUKE, tmp_path / DUKE.folder)


def test_a_name_in_other_capitals_is_to_be_changed(tmp_path):
    if (tmp_path / "a").mkdir() or (tmp_path / "A").exists():
        pytest.skip("capitals make no difference on this disk")
    (tmp_path / "dukemtmc-reid" / "Query").mkdir(parents=True)
    with pytest.raises(Absent, match="rename dukemtmc-reid to DukeMTMC-reID"):
        locate(DUKE, tmp_path)

    with pytest.raises(DataError, match="query: no such folder, but Query: rename it to query"):
        file_names(tmp_path / "dukemtmc-reid" / "query", ".jpg")


@pytest.fixture
def viper(layout_street, tmp_path):
    """A copy of a street that a test may damage."""
    shutil.copytree(layout_street("viper"), tmp_path / "VIPeR")
    return tmp_path / "VIPeR"


VIPER = PROTOCOLS.get("viper")()


def test_a_list_of_names_beside_a_release_takes_no_other_check_away(viper):
    (viper / "crosswalk.json").unlink()
    cameras = replace(VIPER, per_camera={"query": (316,)}, explain=lambda *_: ["explained"])
    gone = min((viper / "cam_a").iterdir())
    gone.unlink()
    min((viper / "cam_b").glob(f"{gone.name[:3]}_*")).unlink()

    found = differences(cameras, viper, cameras.load(viper))

    assert any(line.startswith("query images of camera 1: found") for line in found)
    assert "explained" in found and any(line.startswith("missing (2): cam_a/") for line in found)


def test_a_street_is_held_against_its_own_counts_alone(viper):
    strict = replace(VIPER, per_camera={"query": (316,)}, explain=lambda *_: ["explained"])

    assert differences(strict, viper, strict.load(viper)) == []


def test_an_empty_list_of_names_is_an_error(viper):
    (viper / "names.txt").write_text("\n")

    with pytest.raises(DataError, match=r"names\.txt: empty, expected a path a line"):
        read(VIPER, viper)


@pytest.mark.parametrize("counts", [{}, {"market1501": {"train": 1}}, {"viper": {}}])
def test_a_street_without_counts_of_the_protocol_is_an_error(viper, counts):
    (viper / "crosswalk.json").write_text(json.dumps({"counts": counts}))

    with pytest.raises(DataError, match=r"crosswalk\.json: has no counts of viper, but of"):
        read(VIPER, viper)


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
