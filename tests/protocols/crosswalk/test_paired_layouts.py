"""Streets in the layouts of VIPeR and CUHK01: two views of everybody, and no training half."""

from collections import defaultdict

import pytest

from protocols.crosswalk import Dials, StreetError
from protocols.crosswalk.layouts import cuhk01, viper


@pytest.mark.parametrize("size", viper.SIZES)
def test_viper_shows_everybody_once_in_either_camera_from_two_angles(size):
    pairs = defaultdict(dict)
    for shot in viper.plan(viper.SIZES[size], 5, Dials()):
        pairs[shot.pid][shot.folder] = shot
    for pair in pairs.values():
        angles = {shot.name.partition("_")[2] for shot in pair.values()}
        assert (pair.keys(), len(angles)) == ({"cam_a", "cam_b"}, 2)
        assert pair["cam_a"].subject == pair["cam_b"].subject


def test_viper_has_the_counts_and_the_holes_of_the_release():
    shots = viper.plan(viper.SIZES["release"], 0, Dials())
    labels = sorted({shot.pid for shot in shots})
    assert (len(shots), len(labels), labels[0], labels[-1]) == (2 * 632, 632, 0, 873)
    assert viper.LAYOUT.counts(viper.SIZES["release"], shots) == {
        "viper": {"train": 632, "query": 316, "gallery": 316, "train_pids": 316, "query_pids": 316}
    }


def test_names_in_both_folders_of_viper_pair_up_in_order(layout_street):
    cameras = (sorted((layout_street("viper") / folder).iterdir()) for folder in ("cam_a", "cam_b"))
    assert all(one.name[:3] == other.name[:3] for one, other in zip(*cameras, strict=True))


@pytest.mark.parametrize("size", cuhk01.SIZES)
def test_cuhk01_shows_everybody_twice_in_either_view(size):
    shots = cuhk01.plan(cuhk01.SIZES[size], 5, Dials())
    views = defaultdict(list)
    for shot in shots:
        views[shot.pid].append((shot.name[4:7], shot.camid))
    assert views.keys() == set(range(1, cuhk01.SIZES[size].pids + 1))
    assert {tuple(own) for own in views.values()} == {(("001", 1), ("002", 1), ("003", 2), ("004", 2))}


def test_cuhk01_has_the_counts_of_the_release():
    shots = cuhk01.plan(cuhk01.SIZES["release"], 0, Dials())
    assert len(shots) == 3884
    assert cuhk01.LAYOUT.counts(cuhk01.SIZES["release"], shots) == {
        "cuhk01-100": {
            "train": 3484, "query": 200, "gallery": 200, "train_pids": 871, "query_pids": 100
        },
        "cuhk01-486": {
            "train": 1940, "query": 972, "gallery": 972, "train_pids": 485, "query_pids": 486
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("size", "pids", "message"),
    [
        (viper.Size, 25, "even"),
        (viper.Size, 634, "4..632"),
        (viper.Size, 2, "4..632"),
        (cuhk01.Size, 972, "4..971"),
    ],
)
def test_impossible_sizes_are_refused(size, pids, message):
    with pytest.raises(StreetError, match=message):
        size("drawn", pids)
