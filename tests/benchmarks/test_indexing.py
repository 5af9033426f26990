"""Reading which images a release has, at the size of the release."""

import pytest

from protocols.dukemtmc import dukemtmc
from protocols.market1501 import load_multi_query, market1501
from protocols.msmt17 import msmt17
from tests.protocols.empty_files import write_empty

MARKET_FOLDERS = {
    "bounding_box_train": (12_936, 751, 751),
    "bounding_box_test": (19_732, 1, 750),
    "query": (3_368, 1, 750),
    "gt_bbox": (25_259, 1, 1_501),
}
"""Number of images, first label, number of identities."""


@pytest.fixture(scope="session")
def market(tmp_path_factory):
    root = tmp_path_factory.mktemp("market")
    for folder, (images, first, pids) in MARKET_FOLDERS.items():
        names = (f"{first + n % pids:04d}_c{n // pids % 6 + 1}s1_{n:06d}_00.jpg" for n in range(images))
        write_empty(root / folder, names)
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
