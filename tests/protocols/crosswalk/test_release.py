"""A street on disk: files, indices, facts about itself, and what an interrupted run leaves."""

import json
from collections import Counter
from hashlib import sha256

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

from protocols.crosswalk import SIZES, STREET_VERSION, Dials, StreetError, plan, street, write_street, writing
from protocols.crosswalk.layouts.market1501.names import ANSWERS, GALLERY, IMAGE_FOLDERS, QUERY, ROOT
from protocols.crosswalk.truth import JOINTS, PARTS


def facts_of(release):
    return json.loads((release / "crosswalk.json").read_text())


def test_files_on_disk_are_those_of_the_plan(release):
    shots = plan(SIZES["tiny"], 3, Dials())
    for folder in IMAGE_FOLDERS:
        assert {file.name for file in (release / folder).iterdir()} == {
            s.name for s in shots if s.folder == folder
        }


def test_images_are_crops_of_the_release_size(release):
    for folder in IMAGE_FOLDERS:
        for file in (release / folder).iterdir():
            with Image.open(file) as image:
                assert (image.format, image.size, image.mode) == ("JPEG", (64, 128), "RGB")


def test_a_query_holds_the_same_bytes_as_its_hand_drawn_box(release):
    for query in (release / QUERY).iterdir():
        assert query.read_bytes() == (release / "gt_bbox" / query.name).read_bytes()


def test_no_two_gallery_images_are_the_same(release):
    digests = Counter(sha256(file.read_bytes()).digest() for file in (release / GALLERY).iterdir())
    assert max(digests.values()) == 1


def test_gt_query_points_at_the_right_gallery_images(release):
    gallery = sorted(file.name for file in (release / GALLERY).glob("*.jpg"))
    queries = sorted(file.name for file in (release / QUERY).iterdir())
    assert len(list((release / ANSWERS).iterdir())) == 2 * len(queries)
    for query in queries:
        stem = query[: query.index(".jpg")]
        for kind in ("good", "junk"):
            index = loadmat(release / ANSWERS / f"{stem}_{kind}.mat")[f"{kind}_index"]
            assert index.dtype == np.uint16 and index.shape[0] == 1
            expected = [
                name
                for name in gallery
                if name[:4] == query[:4] and (name[5:7] != query[5:7]) == (kind == "good")
            ]
            assert [gallery[i - 1] for i in index[0]] == expected


def test_answers_hold_no_time_of_writing(release):
    for file in (release / ANSWERS).iterdir():
        head = file.read_bytes()[:128]
        assert head.startswith(b"MATLAB 5.0 MAT-file") and b"Created on" not in head


def test_facts_agree_with_the_folders(release):
    facts = facts_of(release)
    names = {f: sorted(p.name for p in (release / f).iterdir()) for f in (*IMAGE_FOLDERS, ANSWERS)}
    pids = {f: {int(n.split("_")[0]) for n in names[f]} - {-1, 0} for f in IMAGE_FOLDERS}

    own = {
        "train": len(names["bounding_box_train"]),
        "query": len(names["query"]),
        "gallery": len(names["bounding_box_test"]),
        "train_pids": len(pids["bounding_box_train"]),
        "query_pids": len(pids["query"]),
    }
    good = sum(name[:4] in {query[:4] for query in names["query"]} for name in names["bounding_box_test"])
    junk = sum(name.startswith("-1") for name in names["bounding_box_test"])
    openreid = {"query": good + own["query"], "gallery": own["gallery"] - junk + own["query"]}
    assert facts["counts"] == {
        "market1501": own,
        "market1501/multi-query": own,
        "market1501/openreid": own | openreid,
    }
    names[""] = ["readme.txt"]
    for folder, own in names.items():
        assert facts["folders"][folder] == len(own)
        assert facts["files"][folder] == sha256("".join(f"{n}\n" for n in own).encode()).hexdigest()
    listed = (release / "names.txt").read_text().splitlines()
    assert listed == sorted(f"{folder}/{name}".lstrip("/") for folder, own in names.items() for name in own)
    assert (facts["street_version"], facts["seed"]) == (STREET_VERSION, 3)


def test_truth_is_written_for_every_image(release):
    for folder in IMAGE_FOLDERS:
        truth = np.load(release / "truth" / f"{folder}.npz")
        assert truth["names"].tolist() == sorted(file.name for file in (release / folder).iterdir())
        n = len(truth["names"])
        assert truth["joints"].shape == (n, len(JOINTS), 3)
        assert truth["parts"].shape == (n, 128, 64) and truth["parts"].max() < len(PARTS)


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "_facts", fail)  # the last step but one: all images are there
    with pytest.raises(KeyboardInterrupt):
        write_street(tmp_path, "market1501", "tiny")
    assert list(tmp_path.iterdir()) == []


def test_a_target_with_something_in_it_is_refused(tmp_path):
    (tmp_path / ROOT).mkdir()
    (tmp_path / ROOT / "mine.txt").write_text("keep me")
    with pytest.raises(StreetError, match="not empty"):
        write_street(tmp_path, "market1501", "tiny")
    assert (tmp_path / ROOT / "mine.txt").read_text() == "keep me"


def test_an_empty_target_is_used(tmp_path):
    (tmp_path / ROOT).mkdir()
    assert (write_street(tmp_path, "market1501", "tiny") / "crosswalk.json").is_file()


def test_a_cached_street_is_rendered_once(tmp_path, monkeypatch):
    first = street(tmp_path, "tiny", seed=1)
    monkeypatch.setattr(writing, "_fill", lambda *_: pytest.fail("rendered again"))
    assert street(tmp_path, "tiny", seed=1) == first
    assert first.name == ROOT


@pytest.mark.parametrize("change", [{"seed": 2}, {"size": "default"}, {"dials": Dials(occlusion=0.26)}])
def test_other_parameters_are_other_streets(tmp_path, monkeypatch, change):
    monkeypatch.setattr(writing, "_fill", lambda root, *_: (root / "crosswalk.json").write_text("{}"))
    arguments = {"size": "tiny", "seed": 1, "dials": Dials()}
    assert street(tmp_path, **arguments) != street(tmp_path, **{**arguments, **change})
