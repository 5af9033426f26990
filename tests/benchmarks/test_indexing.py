"""Reading which images a release has, at the size of the release."""

import pytest

from protocols.dukemtmc import dukemtmc
from protocols.files import read
from protocols.market1501 import TRAIN_PER_CAMERA, load_multi_query, market1501, market1501_multi_query
from protocols.msmt17 import msmt17
from tests.protocols.empty_files import write_empty


def names_of(labels):
    return [
        f"{pid if pid < 0 else f'{pid:04d}'}_c{camid}s1_{n:06d}_00.jpg"
        for n, (pid, camid) in enumerate(labels)
    ]


@pytest.fixture(scope="session")
def market(tmp_path_factory):
    """Empty files in the numbers of the release, the ground truth among them."""
    root = tmp_path_factory.mktemp("market")
    cameras = [camid for camid, images in enumerate(TRAIN_PER_CAMERA, 1) for _ in range(images)]
    queries = [(752 + n % 750, n // 750 + 1) for n in range(3_368)]
    lists = {
        "bounding_box_train": [(1 + n % 751, camid) for n, camid in enumerate(cameras)],
        "bounding_box_test": [(-1, 1)] * 3_819
        + [(0, 1)] * 2_798
        + [queries[n % 3_368] for n in range(13_115)],
        "query": queries,
        "gt_bbox": [queries[n % 3_368] for n in range(12_688)] + [(1, 1)] * 12_571,
    }
    for folder, labels in lists.items():
        write_empty(root / folder, names_of(labels))
    stems = [name.removesuffix(".jpg") for name in names_of(queries)]
    write_empty(root / "gt_query", [f"{stem}_{kind}.mat" for stem in stems for kind in ("good", "junk")])
    return root


@pytest.fixture(scope="session")
def duke(tmp_path_factory):
    root = tmp_path_factory.mktemp("duke")
    for folder, images in (("bounding_box_train", 16_522), ("query", 2_228), ("bounding_box_test", 17_661)):
        write_empty(root / folder, (f"{n % 702:04d}_c{n % 8 + 1}_f{n:07d}.jpg" for n in range(images)))
    return root


@pytest.fixture(scope="session")
def msmt(tmp_path_factory):
    root = tmp_path_factory.mktemp("msmt")
    lists = {
        "train": (30_248, 1_041),
        "val": (2_373, 1_041),
        "query": (11_659, 3_060),
        "gallery": (82_161, 3_060),
    }
    for frame, (name, (images, pids)) in enumerate(lists.items()):
        paths = [
            f"{n % pids:04d}/{n % pids:04d}_{n // pids:03d}_{n % 15 + 1:02d}_0303noon_{frame:04d}_0.jpg"
            for n in range(images)
        ]
        write_empty(root / ("train" if name in ("train", "val") else "test"), paths)
        (root / f"list_{name}.txt").write_text("".join(f"{path} {int(path[:4])}\n" for path in paths))
    return root


@pytest.mark.benchmark(group="indexing")
@pytest.mark.parametrize(
    ("release", "load"),
    [
        ("market", market1501().load),
        ("market", load_multi_query),
        ("duke", dukemtmc().load),
        ("msmt", msmt17().load),
    ],
    ids=["market1501", "market1501/multi-query", "dukemtmc", "msmt17"],
)
def test_indexing(benchmark, request, release, load):
    root = request.getfixturevalue(release)

    (split,) = benchmark(load, root)

    benchmark.extra_info.update({name: len(records) for name, records in split.lists().items()})


@pytest.mark.benchmark(group="indexing")
@pytest.mark.parametrize(
    "protocol", [market1501(), market1501_multi_query()], ids=lambda protocol: protocol.name
)
def test_indexing_and_verifying(benchmark, market, protocol):
    (split,) = benchmark(read, protocol, market)

    assert len(split.gallery) == protocol.counts.gallery
