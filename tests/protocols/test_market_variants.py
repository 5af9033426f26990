"""Market-1501 asked in other ways: open-reid's lists, several queries at once, more distractors."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import PROTOCOLS, evaluate
from protocols.files import count, differences, read
from protocols.market1501 import load, load_multi_query, load_openreid
from protocols.market1501_500k import (
    distractor_folder,
    distractor_names,
    load_all,
    parse_camid,
    some_distractors,
)
from protocols.splits import recorded_at, write_drawing
from retable.errors import Absent, DataError
from tests.protocols.empty_files import write_empty

MARKET = PROTOCOLS.get("market1501")()
OPENREID = PROTOCOLS.get("market1501/openreid")()
MULTI = PROTOCOLS.get("market1501/multi-query")()
SINGLE = PROTOCOLS.get("market1501/single-shot")()
MORE = {amount: PROTOCOLS.get(f"market1501+{amount // 1000}k")() for amount in (100_000, 200_000, 500_000)}


def test_the_protocol_of_recorded_runs_is_as_it_was():
    assert MARKET.fingerprint() == "95cbb6615451fece"


def test_no_two_variants_share_a_fingerprint():
    variants = [MARKET, OPENREID, MULTI, SINGLE, *MORE.values()]

    assert len({variant.fingerprint() for variant in variants}) == len(variants)


def test_the_gallery_is_stated_in_parts():
    counts = MARKET.counts
    good = counts.gallery - counts.junk - counts.distractors

    assert good == 13_115
    assert OPENREID.counts.query == good + counts.query == 16_483
    assert OPENREID.counts.gallery == good + counts.distractors + counts.query == 19_281
    assert {amount: more.counts.gallery for amount, more in MORE.items()} == {
        100_000: 119_732,
        200_000: 219_732,
        500_000: 519_732,
    }
    for amount, more in MORE.items():
        assert more.counts.distractors == counts.distractors + amount
        assert more.counts.junk == counts.junk
    assert MORE[500_000].counts.gallery - counts.junk == 515_913
    assert sum(MARKET.per_camera["train"]) == counts.train


@pytest.fixture
def release(tmp_path):
    """A few images with all that is odd in the release."""
    root = tmp_path / MARKET.folder
    write_empty(root / "bounding_box_train", ["0002_c1s1_000451_03.jpg", "0007_c2s3_070952_01.jpg"])
    write_empty(
        root / "query",
        [
            "0001_c1s1_001051_00.jpg",
            "0001_c2s1_000301_00.jpg",
            "1488_c5s3_062240_00.jpg.jpg",
            "1501_c6s4_002152_00.jpg",
        ],
    )
    write_empty(
        root / "bounding_box_test",
        [
            "-1_c1s1_000401_03.jpg",
            "-1_c4s6_031891_04.jpg.jpg",
            "0000_c1s1_000151_01.jpg",
            "0000_c5s2_131727_05.jpg.jpg",
            "0001_c1s1_001051_03.jpg",
            "0001_c2s1_001976_01.jpg",
            "1488_c1s6_012571_01.jpg.jpg",
            "1501_c6s4_001902_01.jpg",
        ],
    )
    write_empty(
        root / "gt_bbox",
        [
            "0001_c1s1_001051_00.jpg",
            "0001_c1s2_037091_00.jpg",
            "0001_c1s6_011741_00.jpg",
            "0001_c2s1_000301_00.jpg",
            "0001_c3s1_000551_00.jpg",
            "0002_c1s1_000451_00.jpg",
            "1488_c5s3_062240_00.jpg.jpg",
            "1488_c5s3_062265_00.jpg.jpg",
            "1501_c6s4_001877_00.jpg",
            "1501_c6s4_002152_00.jpg",
        ],
    )
    for folder in ("bounding_box_train", "query", "bounding_box_test", "gt_bbox"):
        write_empty(root / folder, ["Thumbs.db"])
    return root


def names(records):
    return [record.path.name for record in records]


def test_openreid_asks_for_every_test_image_and_drops_junk(release):
    (split,) = load_openreid(release)

    assert names(split.query) == [
        "0001_c1s1_001051_00.jpg",
        "0001_c1s1_001051_03.jpg",
        "0001_c2s1_000301_00.jpg",
        "0001_c2s1_001976_01.jpg",
        "1488_c1s6_012571_01.jpg.jpg",
        "1488_c5s3_062240_00.jpg.jpg",
        "1501_c6s4_001902_01.jpg",
        "1501_c6s4_002152_00.jpg",
    ]
    assert names(split.gallery) == [
        "0000_c1s1_000151_01.jpg",
        "0000_c5s2_131727_05.jpg.jpg",
        *names(split.query),
    ]
    assert split.train == load(release)[0].train


def test_boxes_are_those_of_the_query_s_identity_and_camera(release):
    (split,) = load_multi_query(release)
    (single,) = load(release)

    assert [record.frames for record in split.query] == [
        ("0001_c1s1_001051_00.jpg", "0001_c1s2_037091_00.jpg", "0001_c1s6_011741_00.jpg"),
        ("0001_c2s1_000301_00.jpg",),
        ("1488_c5s3_062240_00.jpg.jpg", "1488_c5s3_062265_00.jpg.jpg"),
        ("1501_c6s4_001877_00.jpg", "1501_c6s4_002152_00.jpg"),
    ]
    assert [(r.pid, r.camid) for r in split.query] == [(r.pid, r.camid) for r in single.query]
    assert all(image.is_file() for record in split.query for image in record.images())
    assert (split.train, split.gallery) == (single.train, single.gallery)


def test_a_query_without_boxes_is_named(release):
    for box in (release / "gt_bbox").glob("1488_*.jpg.jpg"):
        box.unlink()

    with pytest.raises(DataError, match=r"gt_bbox: no box for 1 queries \(1488_c5s3_062240_00\.jpg\.jpg\)"):
        load_multi_query(release)


def test_boxes_are_pooled_by_their_mean():
    assert MULTI.pooling == "mean"
    assert MARKET.pooling is None


def test_the_number_of_boxes_is_verified(release):
    found = differences(MULTI, release, load_multi_query(release))

    assert "boxes of queries: found 8, expected 12,688" in found
    assert "images in gt_bbox: found 10, expected 25,259" in found


@pytest.mark.parametrize("protocol", [OPENREID, MULTI], ids=lambda protocol: protocol.name)
def test_ground_truth_speaks_of_the_official_lists(tiny_street, tmp_path, protocol):
    root = tmp_path / MARKET.folder
    shutil.copytree(tiny_street, root)
    (root / "crosswalk.json").unlink()
    (root / "names.txt").unlink()
    of_whole = differences(protocol, root, protocol.load(root))
    gone = sorted((root / "query").glob("*.jpg"))[2]
    gone.unlink()

    found = differences(protocol, root, protocol.load(root))

    assert f"missing queries (1): {gone.name.split('.jpg')[0]}" in found
    assert not any("missing" in line for line in of_whole)


@pytest.mark.parametrize("protocol", [OPENREID, MULTI], ids=lambda protocol: protocol.name)
def test_a_rendered_street_reads_whole(tiny_street, protocol):
    (split,) = read(protocol, tiny_street)

    assert count(split, protocol)["query_pids"] == count(load(tiny_street)[0], MARKET)["query_pids"]


def test_a_street_s_boxes_are_all_of_its_test_identities(tiny_street):
    (split,) = load_multi_query(tiny_street)

    size = json.loads((tiny_street / "crosswalk.json").read_text())["size"]
    assert sum(len(query.frames) for query in split.query) == size["gt_bbox_test"]


def test_single_shot_has_the_official_lists(release):
    assert SINGLE.load(release) == MARKET.load(release)
    assert SINGLE.counts == MARKET.counts


@pytest.mark.parametrize(
    ("pid", "camid", "misses"),  # of a gallery image that lies nearer than the query's match
    [
        (2, 2, 100.0),  # another person from another camera
        (2, 1, 0.0),  # from the query's own camera, which is left out
        (1, 1, 0.0),
        (0, 2, 100.0),  # a distractor is in every gallery
        (-1, 2, 0.0),
    ],
)
def test_single_shot_draws_from_other_cameras_beside_all_distractors(pid, camid, misses):
    result = evaluate(
        "market1501/single-shot",
        query_pids=np.array([1]),
        query_camids=np.array([1]),
        gallery_pids=np.array([pid, 1]),
        gallery_camids=np.array([camid, 2]),
        distances=np.array([[0.1, 0.5]], np.float32),
    )

    assert result.metrics["rank1"] == result.metrics["rank1_sampled"] == 100 - misses


def test_single_shot_draws_one_image_of_each_person():
    nearest_of_four = np.array([[0.1, 0.9, 0.9, 0.9, 0.5]], np.float32)

    result = evaluate(
        "market1501/single-shot",
        query_pids=np.array([1]),
        query_camids=np.array([1]),
        gallery_pids=np.array([2, 2, 2, 2, 1]),
        gallery_camids=np.array([2, 3, 4, 5, 6]),
        distances=nearest_of_four,
    )

    assert result.metrics["rank1"] == pytest.approx(75)
    assert result.metrics["mAP"] == pytest.approx(50)  # of all images, as without draws


PER_CAMERA = (5, 4, 3)
DISTRACTORS = [
    f"0000_c{camid}s1_{frame:06d}_01.jpg" for camid, n in enumerate(PER_CAMERA, start=1) for frame in range(n)
]


@pytest.fixture
def distractors(release):
    write_empty(release / "distractors_500k", DISTRACTORS)
    return release / "distractors_500k"


@given(
    camid=st.integers(1, 3),
    sequence=st.integers(1, 30),
    frame=st.integers(0, 10**7),
    box=st.integers(0, 999),
    ending=st.sampled_from([".jpg", ".jpg.jpg"]),
)
def test_every_name_of_a_distractor_is_read(tmp_path_factory, camid, sequence, frame, box, ending):
    name = f"0000_c{camid}s{sequence}_{frame:06d}_{box:02d}{ending}"

    assert parse_camid(tmp_path_factory.getbasetemp(), name) == camid


@pytest.mark.parametrize(
    "name",
    ["0001_c1s1_000151_01.jpg", "0000_c4s1_000151_01.jpg", "-1_c1s1_000151_01.jpg", "0000_c1_f0000151.jpg"],
)
def test_another_file_among_the_distractors_is_named(release, distractors, name):
    write_empty(distractors, ["Thumbs.db", name])

    with pytest.raises(DataError, match=f"distractors_500k/{name}: not the name of a distractor"):
        load_all(release, PER_CAMERA)


@pytest.mark.parametrize(
    "place",
    [
        "Market-1501-v15.09.15/distractors_500k",
        "Market-1501-v15.09.15/distractors_500k/images",
        "Market-1501-v15.09.15/images",
        "distractors_500k",
        "distractors_500k/images",
    ],
)
def test_distractors_are_found_inside_and_beside(release, place):
    write_empty(release.parent / place, DISTRACTORS)

    assert distractor_folder(release) == release.parent / place
    assert distractor_names(release, PER_CAMERA) == DISTRACTORS


@pytest.mark.parametrize("protocol", MORE.values(), ids=lambda protocol: protocol.name)
def test_without_them_it_is_said_where_they_are_expected(release, protocol):
    with pytest.raises(
        Absent, match=r"v15\.09\.15: no folder distractors_500k or images, and no distractors_500k beside"
    ):
        protocol.load(release)


@pytest.mark.usefixtures("distractors")
@pytest.mark.parametrize("protocol", MORE.values(), ids=lambda protocol: protocol.name)
def test_nothing_is_drawn_from_a_part_of_them(release, protocol):
    with pytest.raises(
        DataError,
        match=r"found 12 distractors, 5 \+ 4 \+ 3 of .*expected 500,000, 165,225 \+ 321,255 \+ 13,520",
    ):
        protocol.load(release)


@pytest.mark.usefixtures("distractors")
def test_all_distractors_follow_the_gallery(release):
    (split,) = load_all(release, PER_CAMERA)
    (official,) = load(release)

    assert split.gallery[: len(official.gallery)] == official.gallery
    assert names(split.gallery[len(official.gallery) :]) == DISTRACTORS
    assert {record.pid for record in split.gallery[len(official.gallery) :]} == {0}
    assert (split.query, split.train) == (official.query, official.train)
    assert count(split, MARKET)["distractors"] == count(official, MARKET)["distractors"] + 12


def drawn(release, amount, protocol="market1501+100k"):
    (split,) = some_distractors(protocol, amount, PER_CAMERA)(release)
    return [name for name in names(split.gallery) if name in DISTRACTORS]


@pytest.mark.usefixtures("distractors")
def test_the_smaller_draw_is_part_of_the_larger(release):
    few, many = drawn(release, 4), drawn(release, 8, "market1501+200k")

    assert (len(few), len(many)) == (4, 8)
    assert set(few) < set(many) < set(DISTRACTORS)
    assert few == sorted(few)


@pytest.mark.usefixtures("distractors")
def test_the_draw_never_changes(release):
    load_some = some_distractors("market1501+100k", 4, PER_CAMERA)

    assert (
        load_some.drawing(release).digest()
        == "9a43d62789b3293f4a0600bd9986b5b3b81bb853e34836b63b3c2d9a24bceaee"
    )


@pytest.mark.usefixtures("distractors")
def test_a_recorded_draw_is_used(release):
    load_some = some_distractors("market1501+100k", 4, PER_CAMERA)
    theirs = replace(load_some.drawing(release), splits={"": {"gallery": tuple(DISTRACTORS[:4])}})
    write_drawing(recorded_at(release, "market1501+100k"), theirs)

    assert drawn(release, 4) == DISTRACTORS[:4]
