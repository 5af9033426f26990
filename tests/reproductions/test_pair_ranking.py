"""Pairs are ranked as a double loop over single pairs ranks them, in whatever pieces they are read."""

import ctypes
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from protocols import evaluate
from reproductions import pair_ranking
from reproductions.descriptions import Descriptions, describe_all
from reproductions.pair_ranking import AllPairs, TwoStage, first_nearest, places, seconds_for_all
from reproductions.training import make_accelerator
from tests.reproductions.patches import Patches, literal

CPU = torch.device("cpu")


def describe(device="cpu", place=None):
    """60 images, of few colours so that there are ties."""
    colours = torch.randint(0, 4, (60, 3, 4, 2), generator=torch.Generator().manual_seed(0))
    accelerator = make_accelerator(device, "fp32")
    return describe_all(Patches(), (60 * colours).to(torch.uint8), accelerator, place=place)


def divided(described):
    """13 queries and 51 gallery images, some of them the same, in no order."""
    order = np.random.default_rng(0).permutation(60)
    return described.of(order[:13]), described.of(order[9:])


@pytest.fixture(scope="module")
def described():
    return describe()


@pytest.fixture(scope="module")
def lists(described):
    return divided(described)


def literal_order(query, gallery, scored):
    """(Q, G) places in the gallery, best first, as a list is sorted by hand."""
    scores, pooled = (
        literal(query, gallery),
        (part.only("pooled").rows(slice(None)) for part in (query, gallery)),
    )
    asked, sought = (part.double() for part in pooled)
    rows = []
    for q in range(len(query)):
        coarse = [(float((asked[q] - sought[g]).square().sum()), g) for g in range(len(gallery))]
        coarse.sort()
        near = sorted((float(scores[q, g]), g) for _, g in coarse[:scored])
        rows.append([g for _, g in near] + [g for _, g in coarse[scored:]])
    return torch.tensor(rows)


@pytest.mark.parametrize("tile_bytes", [1, 1_000, 5_000, 2**30])
def test_all_pairs_in_tiles_of_any_size(lists, tile_bytes):
    ranking = AllPairs(Patches(), *lists, tile_bytes=tile_bytes)

    blocks = torch.cat([ranking(0, 5), ranking(5, 6), ranking(6, 13)])

    torch.testing.assert_close(blocks, literal(*lists), rtol=0, atol=0)


@pytest.mark.parametrize("tile_bytes", [1, 5_000, 2**30])
@pytest.mark.parametrize("scored", [1, 7, 50])
def test_two_stages_order_the_gallery_as_a_literal_sort_does(lists, scored, tile_bytes):
    ranking = TwoStage(Patches(), *lists, scored, tile_bytes=tile_bytes)

    blocks = torch.cat([ranking(0, 4), ranking(4, 13)])

    assert torch.equal(blocks.argsort(dim=1, stable=True), literal_order(*lists, scored))


def test_ties_of_scores_stay_ties(lists):
    """Bounds over the order of equal distances depend on them."""
    scored, exhaustive = TwoStage(Patches(), *lists, 50)(0, 13), AllPairs(Patches(), *lists)(0, 13)

    for row, expected in zip(scored, exhaustive, strict=True):
        last = row.argmax()  # the one that was not scored
        kept = torch.arange(51) != last
        assert torch.equal(places(row[None, kept]), places(expected[None, kept]))


@pytest.mark.parametrize("scored", [51, 52, 10_000])
def test_two_stages_that_score_everything_rank_as_all_pairs_do(lists, scored):
    assert torch.equal(TwoStage(Patches(), *lists, scored)(0, 13), AllPairs(Patches(), *lists)(0, 13))


def test_images_that_were_not_scored_keep_their_order_to_the_last_bit():
    """Coarse distances one float apart, far larger than any score, stay apart and behind."""
    gap = torch.tensor([3.0, 3.0 + 2**-22, 2_000.0, 2_000.0 + 2**-13, 1.0, 2.0])
    stored = {"pooled": torch.cat([torch.zeros(1), gap])[:, None], "map": torch.full((7, 8, 3), 1e4)}
    stored["map"][0] = 0
    whole = Descriptions(stored, CPU)

    row = TwoStage(Patches(), whole.first(1), whole.of(np.arange(1, 7)), 2)(0, 1)[0]

    assert row.argsort().tolist() == [4, 5, 0, 1, 2, 3]
    assert len(row.unique()) == 5  # the two that were scored are alike, all others differ


@given(
    st.lists(st.lists(st.integers(0, 4), min_size=6, max_size=6), min_size=1, max_size=5), st.integers(1, 6)
)
def test_the_nearest_are_the_first_of_a_stable_sort(rows, count):
    distances = torch.tensor(rows, dtype=torch.float32)

    expected = distances.argsort(dim=1, stable=True)[:, :count].sort(dim=1).values

    assert torch.equal(first_nearest(distances, count), expected)


@given(
    st.lists(st.lists(st.floats(width=32, allow_nan=False), min_size=4, max_size=4), min_size=1, max_size=5)
)
def test_places_keep_order_and_ties(rows):
    for row, found in zip(rows, places(torch.tensor(rows, dtype=torch.float32)).tolist(), strict=True):
        assert found == [len({other for other in row if other < value}) for value in row]


@pytest.mark.parametrize("name", ["pooled", "map"])
@pytest.mark.parametrize("scored", [2, 50])
def test_what_is_not_a_number_is_not_ranked_away(described, name, scored):
    stored = {key: tensor.clone() for key, tensor in described.rows(slice(None)).items()}
    stored[name][:, 0] = torch.nan
    broken = Descriptions(stored, CPU)

    assert TwoStage(Patches(), broken.first(3), broken, scored)(0, 3).isnan().any()


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_where_descriptions_lie_changes_no_distance(lists, place, monkeypatch, tmp_path):
    monkeypatch.setenv("RETABLE_CACHE", str(tmp_path))
    parts = divided(describe(place=place))

    for way in (AllPairs, lambda *given: TwoStage(*given, 7)):
        assert torch.equal(way(Patches(), *parts)(0, 13), way(Patches(), *lists)(0, 13))


def test_a_mapped_gallery_is_read_for_larger_blocks_of_queries(described):
    mapped = Descriptions(described.rows(slice(None)), CPU, mapped=True)

    for way in (AllPairs, lambda *given: TwoStage(*given, 7)):
        assert way(Patches(), described, mapped).block_bytes > way(Patches(), mapped, described).block_bytes


def test_every_gallery_image_is_read_once_for_a_block(lists, monkeypatch):
    query, gallery = lists
    read = []
    rows = Descriptions.rows

    def counted(self, which):
        if self is gallery:
            read.extend(range(len(gallery))[which])
        return rows(self, which)

    monkeypatch.setattr(Descriptions, "rows", counted)

    AllPairs(Patches(), query, gallery, tile_bytes=1_000)(0, 13)

    assert read == list(range(51))


@pytest.mark.parametrize(("scored", "pairs"), [(None, 13 * 51), (7, 13 * 7), (99, 13 * 51)])
def test_progress_counts_every_scored_pair(lists, scored, pairs):
    seen = []
    given = {"progress": seen.append, "tile_bytes": 3_000}
    ranking = TwoStage(Patches(), *lists, scored, **given) if scored else AllPairs(Patches(), *lists, **given)

    ranking(0, 6), ranking(6, 13)

    assert sum(seen) == pairs
    assert len(seen) > 2


def test_an_interruption_leaves_at_once(lists):
    def interrupted(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        AllPairs(Patches(), *lists, progress=interrupted)(0, 13)


class Held(Patches):
    """Scores nothing, and notes how much memory the process holds meanwhile."""

    def __init__(self):
        super().__init__()
        self.most = 0

    def distance(self, queries, gallery):
        self.most = max(self.most, private_bytes())
        return torch.zeros(len(queries["map"]), len(gallery["map"]))

    def pair_distance(self, queries, gallery):  # noqa: ARG002 - held, not looked at
        self.most = max(self.most, private_bytes())
        return torch.zeros(len(queries["map"]))


def private_bytes():
    """Memory of this process that is in use and no file's."""
    ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back first
    status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(status["RssAnon"].split()[0])


@pytest.mark.parametrize("way", ["all", 75])
def test_memory_for_rows_stays_below_the_setting(way):
    """120 MB of maps, in an order that makes every tile a copy, 16 MB at a time."""
    if not Path("/proc/self/status").exists() or not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("needs Linux and glibc")
    stored = {"pooled": torch.rand(2_000, 1), "map": torch.rand(2_000, 8, 1_880)}
    whole = Descriptions(stored, CPU).of(np.random.default_rng(0).permutation(2_000))
    method, bound = Held(), 16 * 2**20
    parts = whole.first(300), whole
    ranking = (
        AllPairs(method, *parts, tile_bytes=bound)
        if way == "all"
        else TwoStage(method, *parts, way, tile_bytes=bound)
    )
    distances = 4 * 300 * 2_000
    before = private_bytes()

    ranking(0, 300)

    assert bound / 4 < method.most - before < bound + 12 * distances


def test_on_a_gpu_pairs_are_compared_in_larger_tiles_for_as_long_as_it_takes(monkeypatch):
    method, gpu = Patches(), torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10**12, 10**12))
    usual = method.tile_bytes

    def interrupted():
        with pair_ranking.large_tiles(method, gpu):
            assert method.tile_bytes == 10**11
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert method.tile_bytes == usual
    with pair_ranking.large_tiles(method, CPU):
        assert method.tile_bytes == usual


def test_the_cost_of_all_pairs_is_a_timed_sample(lists, monkeypatch):
    class Slow(Patches):
        def distance(self, queries, gallery):
            time.sleep(1e-4 * len(queries["map"]) * len(gallery["map"]))
            return super().distance(queries, gallery)

    monkeypatch.setattr(pair_ranking, "SAMPLED_SECONDS", 0.005)
    query, gallery = lists

    seconds = seconds_for_all(Slow(), query, gallery)

    assert seconds >= 1e-4 * len(query) * len(gallery)


def test_a_sample_ends_where_there_is_no_more_to_sample(lists):
    query, gallery = lists

    assert 0 < seconds_for_all(Patches(), query.first(1), gallery.first(3)) < 1


def test_it_goes_wherever_a_matrix_of_distances_would(lists):
    query, gallery = lists
    labels = {
        "query_pids": np.arange(13) % 4,
        "query_camids": np.ones(13, int),
        "gallery_pids": np.arange(51) % 4,
        "gallery_camids": np.arange(51) % 3,
    }

    found = evaluate("market1501", **labels, distances=AllPairs(Patches(), query, gallery))

    assert found.metrics == evaluate("market1501", **labels, distances=literal(query, gallery)).metrics


@pytest.mark.gpu
@pytest.mark.parametrize("place", ["device", "memory", "disk"])
def test_a_gpu_ranks_as_a_cpu_does(lists, place, monkeypatch, tmp_path):
    monkeypatch.setenv("RETABLE_CACHE", str(tmp_path))
    parts = divided(describe("cuda", place))

    for way in (AllPairs, lambda *given: TwoStage(*given, 7, tile_bytes=5_000)):
        found = way(Patches(), *parts)(0, 13)
        assert found.is_cuda
        assert torch.equal(found.cpu(), way(Patches(), *lists)(0, 13))
