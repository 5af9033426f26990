"""Whether a copy of a data set is whole, and what is wrong with it if not."""

import json
import os
import shutil
import struct

import pytest
from PIL import Image
from typer.testing import CliRunner

from protocols import PROTOCOLS
from protocols.doctor import examine, main, unreadable
from retable.cli import application

MARKET = PROTOCOLS.get("market1501")()


@pytest.fixture
def data_root(tiny_street, tmp_path):
    """A data root that holds a copy of the tiny street, which a test may damage."""
    shutil.copytree(tiny_street, tmp_path / MARKET.folder)
    return tmp_path


@pytest.fixture
def gallery(data_root):
    return sorted((data_root / MARKET.folder / "bounding_box_test").glob("*.jpg"))


def doctor(*arguments):
    """Exit code and what was printed; JSON parsed."""
    outcome = CliRunner().invoke(application(main), [*map(str, arguments), "--format", "json"])
    return outcome.exit_code, json.loads(outcome.stdout) if outcome.stdout else outcome.stderr


def test_a_whole_street_is_whole(data_root):
    code, rows = doctor("market1501", "--data-root", data_root)

    (row,) = rows
    assert (code, row["state"], row["problems"]) == (0, "street", [])
    release = data_root / MARKET.folder
    folders = ("bounding_box_train", "bounding_box_test", "query")
    assert row["images"] == sum(len(list((release / folder).glob("*.jpg"))) for folder in folders)


def test_missing_extra_and_corrupt_files_are_all_named(data_root, gallery):
    gallery[3].unlink()
    shutil.copy(gallery[4], gallery[4].with_name("0001_c1s1_999999_09.jpg"))
    gallery[5].write_bytes(gallery[5].read_bytes()[:-200])
    gallery[6].write_bytes(b"no image at all")

    code, (row,) = doctor("market1501", "--data-root", data_root)

    problems = "\n".join(row["problems"])
    assert (code, row["state"]) == (1, "damaged")
    assert f"missing (1): bounding_box_test/{gallery[3].name}" in problems
    assert "extra (1): bounding_box_test/0001_c1s1_999999_09.jpg" in problems
    assert f"corrupt: {gallery[5]}" in problems and f"corrupt: {gallery[6]}" in problems


def test_quick_opens_no_image(data_root, gallery):
    gallery[0].write_bytes(b"no image at all")

    assert doctor("market1501", "--data-root", data_root, "--quick")[0] == 0
    assert doctor("market1501", "--data-root", data_root)[0] == 1


def test_a_real_release_is_held_against_the_published_counts(data_root):
    release = data_root / MARKET.folder
    (release / "crosswalk.json").unlink()
    (release / "names.txt").unlink()

    finding = examine(MARKET, data_root)

    assert finding.state == "damaged"
    assert "query: found 22, expected 3,368" in finding.problems
    assert "train images of camera 3: found 12, expected 2,707" in finding.problems


def test_a_folder_that_cannot_be_read_is_damaged_and_says_why(data_root):
    shutil.rmtree(data_root / MARKET.folder / "query")

    finding = examine(MARKET, data_root)

    assert finding.state == "damaged" and "query: no such folder" in finding.problems[0]


def test_what_was_asked_for_and_is_absent_fails(tmp_path):
    empty = tmp_path

    code, (row,) = doctor("market1501", "--data-root", empty)
    assert (code, row["state"]) == (1, "absent")

    code, error = doctor("--data-root", empty)
    assert code == 2 and "holds no data set that a protocol knows" in error


def test_all_protocols_of_a_folder_are_examined_when_none_is_named(data_root):
    code, rows = doctor("--data-root", data_root)

    assert code == 0
    assert {row["protocol"] for row in rows} >= {"market1501", "market1501/openreid"}
    assert {row["folder"] for row in rows} == {str(data_root / MARKET.folder)}


def test_every_kind_of_damage_is_found_and_whole_files_are_not(tmp_path):
    for name in ("whole.png", "whole.bmp", "whole.jpg", "short.png", "short.bmp", "short.jpg"):
        file = tmp_path / name
        Image.effect_noise((48, 128), 60).convert("RGB").save(file)
        if name.startswith("short"):
            file.write_bytes(file.read_bytes()[:-300])
    (tmp_path / "empty.jpg").touch()
    seen = []

    found = {path.name for path, _ in unreadable(sorted(tmp_path.iterdir()), seen.append)}

    assert found == {"short.png", "short.bmp", "short.jpg", "empty.jpg"}
    assert sum(seen) == 7


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_that_swells_is_corrupt_and_ends_nothing(tmp_path):
    for name in ("1.bmp", "2.bmp", "3.bmp"):
        Image.new("RGB", (64, 128)).save(tmp_path / name)
    huge = bytearray((tmp_path / "2.bmp").read_bytes())
    huge[18:26] = struct.pack("<ii", 60_000, 60_000)
    (tmp_path / "2.bmp").write_bytes(huge)

    ((path, fault),) = unreadable(sorted(tmp_path.iterdir()))

    assert path.name == "2.bmp" and fault.startswith("DecompressionBombError: Image size")


def test_only_a_batch_of_images_waits_to_be_opened(tmp_path, monkeypatch):
    monkeypatch.setattr("protocols.doctor.BATCH", 10)
    taken, opened = [], []
    images = (taken.append(n) or tmp_path / str(n) for n in range(100))

    faults = [len(taken) - sum(opened) for _ in unreadable(images, opened.append)]

    assert len(faults) == 100 and max(faults) < 10


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_the_right_to_read_it_is_damaged(data_root):
    query = data_root / MARKET.folder / "query"
    query.chmod(0)
    try:
        finding = examine(MARKET, data_root)
    finally:
        query.chmod(0o755)

    assert finding.state == "damaged" and "Permission denied" in finding.problems[0]


def test_frames_and_boxes_count_as_images(layout_street, tmp_path):
    shutil.copytree(layout_street("mars"), tmp_path / "MARS")

    code, rows = doctor("mars", "mars/torchreid", "--data-root", tmp_path, "--quick")

    frames = {
        part: len(list((tmp_path / "MARS" / part).rglob("*.jpg"))) for part in ("bbox_train", "bbox_test")
    }
    junk = len(list((tmp_path / "MARS" / "bbox_test" / "00-1").iterdir()))
    assert code == 0
    assert [row["images"] for row in rows] == [sum(frames.values()), sum(frames.values()) - junk]


def test_corrupt_frames_are_named(layout_street, tmp_path):
    shutil.copytree(layout_street("mars"), tmp_path / "MARS")
    frame = next((tmp_path / "MARS" / "bbox_test" / "00-1").iterdir())
    frame.write_bytes(b"")

    _, rows = doctor("mars", "mars/torchreid", "--data-root", tmp_path)

    assert [len(row["problems"]) for row in rows] == [1, 0]
    assert f"corrupt: {frame}" in rows[0]["problems"][0]


def test_a_release_that_is_not_prepared_is_not_called_damaged(layout_street, tmp_path):
    shutil.copytree(layout_street("cuhk03"), tmp_path / "cuhk03_release")

    code, rows = doctor("--data-root", tmp_path)
    assert (code, {row["state"] for row in rows}) == (0, {"unprepared"})

    code, (row,) = doctor("cuhk03-labeled", "--data-root", tmp_path)
    assert code == 1 and "run python -m protocols.prepare cuhk03-labeled" in row["problems"][0]


def test_a_problem_that_protocols_share_is_printed_once(data_root, gallery):
    gallery[0].unlink()

    outcome = CliRunner().invoke(application(main), ["--data-root", str(data_root), "--quick"])

    assert outcome.exit_code == 1
    assert outcome.stdout.count("missing (1)") == 1
