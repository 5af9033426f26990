"""Market-1501: the release's file names, and how a copy is verified."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat

from protocols import PROTOCOLS
from protocols.files import count, locate, read
from protocols.market1501 import load, parse
from retable.errors import DataError

MARKET = PROTOCOLS.get("market1501")()


@given(
    pid=st.one_of(st.just("-1"), st.integers(0, 1501).map("{:04d}".format)),
    camid=st.integers(1, 6),
    sequence=st.integers(1, 6),
    frame=st.integers(0, 999_999),
    box=st.integers(0, 99),
    ending=st.sampled_from([".jpg", ".jpg.jpg"]),
)
def test_every_released_kind_of_name_is_read(tmp_path_factory, pid, camid, sequence, frame, box, ending):
    name = f"{pid}_c{camid}s{sequence}_{frame:06d}_{box:02d}{ending}"

    record = parse(tmp_path_factory.getbasetemp() / name)

    assert (record.pid, record.camid) == (int(pid), camid)


@pytest.mark.parametrize(
    "name",
    [
        "0002_c7s1_000451_03.jpg",
        "0002_c1s1_000451_03.png.jpg",
        "1502_c1s1_000451_03.jpg",
        "-2_c1s1_000451_03.jpg",
        "0002_c1s1_000451_03 (1).jpg",
        "0002_c1s1_000451_03.jpg.jpg.jpg",
        "photo.jpg",
    ],
)
def test_any_other_name_is_an_error_that_shows_it(tmp_path, name):
    with pytest.raises(DataError, match="not a Market-1501 file name; expected IDENTITY_cCAMERA"):
        parse(tmp_path / name)


@pytest.fixture
def release(tiny_street, tmp_path):
    """A copy of the tiny street that a test may damage."""
    root = tmp_path / MARKET.folder
    shutil.copytree(tiny_street, root)
    return root


def test_a_rendered_street_reads_whole(release):
    (split,) = read(MARKET, release)

    counts = json.loads((release / "crosswalk.json").read_text())["counts"]["market1501"]
    assert {name: counts[name] for name in ("train", "query", "gallery")} == {
        "train": len(split.train),
        "query": len(split.query),
        "gallery": len(split.gallery),
    }
    assert {record.pid for record in split.query} <= {record.pid for record in split.gallery}
    assert {-1, 0} <= {record.pid for record in split.gallery}
    assert not {record.pid for record in split.train} & {record.pid for record in split.query}
    assert any(record.path.name.endswith(".jpg.jpg") for record in split.query)


def test_other_files_are_passed_over(release):
    (release / "query" / "Thumbs.db").write_bytes(b"")

    (split,) = read(MARKET, release)

    assert len(split.query) == count(split, MARKET)["query"]


def test_a_digest_depends_on_names_and_not_on_the_place(release, tiny_street):
    (here,), (there,) = load(release), load(tiny_street)
    assert here.digests() == there.digests()

    next((release / "query").glob("*.jpg")).unlink()
    changed = load(release)[0].digests()
    assert changed["query"] != there.digests()["query"]
    assert changed["gallery"] == there.digests()["gallery"]


def test_a_missing_file_is_named(release):
    gone = sorted((release / "bounding_box_test").glob("*.jpg"))[5]
    gone.unlink()

    with pytest.raises(DataError, match=rf"gallery: found \d+, expected \d+.*missing \(1\): .*{gone.name}"):
        read(MARKET, release)


def test_an_extra_file_is_named(release):
    extra = release / "query" / "0001_c1s1_999999_00.jpg"
    shutil.copy(next((release / "query").glob("*.jpg")), extra)

    with pytest.raises(DataError, match=rf"query: found .*extra \(1\): query/{extra.name}"):
        read(MARKET, release)


@pytest.mark.parametrize("folder", ["bounding_box_train", "query", "bounding_box_test"])
def test_a_missing_or_empty_folder_is_named(release, folder):
    shutil.rmtree(release / folder)
    with pytest.raises(DataError, match=f"{folder}: no such folder"):
        read(MARKET, release)

    (release / folder).mkdir()
    with pytest.raises(DataError, match=f"{folder}: holds no .jpg file"):
        read(MARKET, release)


def test_a_real_release_is_held_against_its_own_counts(release):
    (release / "crosswalk.json").unlink()

    with pytest.raises(DataError, match=r"query: found 22, expected 3,368"):
        read(MARKET, release)


@pytest.fixture
def real_release(release):
    """The street passed off as the release: no manifest, no list of names, but ``gt_query``."""
    (release / "crosswalk.json").unlink()
    (release / "names.txt").unlink()
    return release


def test_ground_truth_names_missing_and_extra_queries(real_release):
    gone, kept = sorted((real_release / "query").glob("*.jpg"))[2:4]
    gone.unlink()
    shutil.copy(kept, kept.with_name("0001_c1s1_999999_00.jpg"))

    with pytest.raises(DataError) as error:
        read(MARKET, real_release)

    assert f"missing queries (1): {gone.name.split('.jpg')[0]}" in str(error.value)
    assert "extra queries (1): 0001_c1s1_999999_00" in str(error.value)
    assert "train images of camera 3: found 12, expected 2,707" in str(error.value)


def test_ground_truth_tells_whose_gallery_image_is_missing(real_release):
    (split,) = load(real_release)
    pids = sorted({record.pid for record in split.query})
    victim = next(record for record in split.gallery if record.pid == pids[3])
    victim.path.unlink()

    with pytest.raises(DataError, match=rf"gallery images of identity {pids[3]:04d} or of one before it"):
        read(MARKET, real_release)


@pytest.mark.parametrize("position", [0, 9_999])
def test_ground_truth_that_counts_from_0_or_past_the_end_is_noticed(real_release, position):
    first = min((real_release / "gt_query").glob("*_good.mat"))
    savemat(first, {"good_index": np.array([[position]], np.uint16)})

    with pytest.raises(DataError, match=rf"gallery images of identity {first.name[:4]} or of one before"):
        read(MARKET, real_release)


def test_ground_truth_is_not_opened_for_a_gallery_of_the_right_size(real_release, monkeypatch):
    (split,) = load(real_release)
    for file in (real_release / "gt_query").iterdir():
        file.write_bytes(b"")
    with pytest.raises(DataError, match=r"_good\.mat: no MATLAB 5 file"):
        MARKET.explain(real_release, split)

    monkeypatch.setattr("protocols.market1501.GALLERY_IMAGES", len(split.gallery))

    assert MARKET.explain(real_release, split) == []


def test_what_macos_puts_beside_files_is_passed_over(release):
    image = next((release / "query").glob("*.jpg"))
    expected = read(MARKET, release)
    image.with_name(f"._{image.name}").touch()

    assert read(MARKET, release) == expected


def test_a_damaged_manifest_is_named(release):
    (release / "crosswalk.json").write_text("{")

    with pytest.raises(DataError, match=r"crosswalk.json: damaged"):
        read(MARKET, release)


def test_the_release_is_found_below_the_data_root(release):
    assert locate(MARKET, release.parent) == release
    with pytest.raises(DataError, match=r"expected the folder Market-1501-v15.09.15, found"):
        locate(MARKET, release)
    with pytest.raises(DataError, match="no such folder"):
        locate(MARKET, release / "nowhere")
