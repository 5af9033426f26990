"""From images to numbers: described once, ranked each way, judged by each protocol."""

import io
import shutil
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch.nn import functional as F

from methods import METHODS
from methods.base import EmbeddingMethod
from protocols import PROTOCOLS, Record, Split
from protocols import evaluate as judge
from protocols.files import read
from reproductions import descriptions, evaluation
from reproductions.descriptions import describe_all
from reproductions.evaluation import evaluate, evaluate_release, pool
from reproductions.images import decode
from reproductions.pair_ranking import AllPairs, TwoStage
from reproductions.training import make_accelerator, seed_everything
from retable.errors import DataError, RetableError, SpecError, UnknownName
from tests.reproductions.patches import Patches, literal

SIZE = 64, 32


class Colours(EmbeddingMethod):
    """Mean colour: an embedding."""

    def describe(self, images):
        return images.mean((2, 3))


class Bands(EmbeddingMethod):
    """Mean colour of four bands: an embedding with parts, whose descriptions are counted."""

    def __init__(self, **parts):
        super().__init__()
        self.stretches, self.described = parts, 0

    @property
    def parts(self):
        return self.stretches

    def describe(self, images):
        self.described += len(images)
        return F.adaptive_avg_pool2d(images, (4, 1)).flatten(1)  # (B, 12)


@pytest.fixture(scope="module")
def accelerator():
    return make_accelerator("cpu", "fp32")


@pytest.fixture(scope="module")
def kpm():
    """The whole network, small and untrained."""
    method = METHODS.get("kpm")
    options = method.parse_options({"matching": "warp", "attention": True, "scales": "hourglass"})
    seed_everything(0, "initial weights")
    return method(options, 8, "resnet18", "none", {"channels": [8, 8, 16, 16]})


@pytest.fixture(scope="module")
def market(tiny_street):
    return asked(tiny_street, "market1501/openreid", "market1501")


@pytest.fixture(scope="module")
def cuhk03(layout_street, tmp_path_factory):
    street = layout_street("cuhk03")
    root = shutil.copytree(street, tmp_path_factory.mktemp("prepared") / street.name)
    PROTOCOLS.get("cuhk03-merged/openreid")().prepare(root, lambda *_: None)
    return root


def asked(root, *names):
    """Images and lists of the first split of some protocols."""
    protocols = [PROTOCOLS.get(name)() for name in names]
    files, lists = pool([(protocol, read(protocol, root)[0]) for protocol in protocols])
    return decode(files, *SIZE, torch.device("cpu")), lists


def judged_by_hand(asking, distances):
    return judge(
        asking.protocol,
        query_pids=asking.query_labels.pids,
        query_camids=asking.query_labels.camids,
        gallery_pids=asking.gallery_labels.pids,
        gallery_camids=asking.gallery_labels.camids,
        distances=distances,
        split=asking.split,
    )


def two_stages_by_hand(query, gallery, scored):
    """(Q, G) places of the gallery images in the order that a list would be sorted in."""
    scores, places = literal(query, gallery), torch.empty(len(query), len(gallery))
    pooled = [part.only("pooled").rows(slice(None)) for part in (query, gallery)]
    for q, coarse in enumerate((pooled[0] - pooled[1].T).square()):
        order = coarse.argsort(stable=True)
        near = order[:scored].sort().values
        near = near[scores[q, near].argsort(stable=True)]
        places[q, torch.cat([near, order[scored:]])] = torch.arange(len(gallery)).float()
    return places


def assert_same_ranks(result, expected):
    assert np.array_equal(result.ranks.gallery, expected.ranks.gallery)
    assert np.array_equal(result.ranks.rank, expected.ranks.rank)
    assert result.metrics == expected.metrics


def test_two_protocols_share_their_images(tiny_street, market):
    images, (openreid, official) = market

    assert len(images) == len(official.query) + len(official.gallery)  # junk is the official list's alone
    assert set(openreid.gallery) < {*official.query, *official.gallery}
    (split,) = read(official.protocol, tiny_street)
    assert official.gallery_labels.pids.tolist() == [record.pid for record in split.gallery]
    first = decode([split.gallery[0].path], *SIZE, torch.device("cpu"))[0]
    assert torch.equal(images[official.gallery[0]], first)


@pytest.mark.parametrize("scored", [5, 10_000])
def test_pairs_are_judged_as_a_double_loop_judges_them(market, accelerator, scored):
    images, lists = market

    found = evaluate(Patches(), images, lists, accelerator, ways=("all", scored))

    assert [judged.name for judged in found] == [
        "market1501/openreid exhaustive",
        f"market1501/openreid top-{scored}",
        "market1501 exhaustive",
        f"market1501 top-{scored}",
    ]
    described = describe_all(Patches(), images, accelerator)
    for asking, (exhaustive, two_stage) in zip(lists, (found[:2], found[2:]), strict=True):
        parts = described.of(asking.query), described.of(asking.gallery)
        assert_same_ranks(exhaustive.result, judged_by_hand(asking, literal(*parts)))
        if scored < len(asking.gallery):
            assert_same_ranks(two_stage.result, judged_by_hand(asking, two_stages_by_hand(*parts, scored)))
        else:
            assert_same_ranks(two_stage.result, exhaustive.result)
            assert two_stage.result.bounds == exhaustive.result.bounds


def test_single_shot_protocols_rank_pairs_too(cuhk03, accelerator):
    images, (asking,) = asked(cuhk03, "cuhk03-labeled")

    (found,) = evaluate(Patches(), images, [asking], accelerator)

    described = describe_all(Patches(), images, accelerator)
    matrix = literal(described.of(asking.query), described.of(asking.gallery))
    expected = judged_by_hand(asking, matrix)
    assert "rank1_sampled" in found.result.metrics
    assert_same_ranks(found.result, expected)


def test_kpm_ranks_alike_either_way_when_everything_is_scored(kpm, market, accelerator):
    images, lists = market

    found = evaluate(kpm, images, lists, accelerator, ways=("all", 75))

    for exhaustive, two_stage in (found[:2], found[2:]):
        assert exhaustive.way == "exhaustive" and two_stage.way == "top-75"
        assert len(lists[0].gallery) <= 75
        assert_same_ranks(two_stage.result, exhaustive.result)


def test_kpms_second_stage_scores_as_all_pairs_do(kpm, market, accelerator):
    images, (asking, _) = market
    described = describe_all(kpm, images, accelerator)
    parts = described.of(asking.query), described.of(asking.gallery)
    expected = AllPairs(kpm, *parts, tile_bytes=100_000)(0, len(asking.query))

    found = TwoStage(kpm, *parts, len(asking.gallery) - 1, tile_bytes=100_000)(0, len(asking.query))

    tolerance = 1e-5 * float(expected.std())
    for row, distances in zip(found, expected, strict=True):
        in_order = distances[row.argsort()[:-1]]
        assert in_order.diff().min() > -tolerance


@pytest.mark.parametrize("ways", [("all",), (5,)])
def test_where_kpms_maps_lie_changes_no_rank(kpm, market, accelerator, monkeypatch, tmp_path, ways):
    monkeypatch.setenv("RETABLE_CACHE", str(tmp_path))
    images, lists = market
    expected = evaluate(kpm, images, lists, accelerator, ways=ways)
    monkeypatch.setattr(descriptions, "available_memory", lambda: 0)

    found = evaluate(kpm, images, lists, accelerator, ways=ways)

    for a, b in zip(found, expected, strict=True):
        assert_same_ranks(a.result, b.result)


def test_images_are_described_once_for_all_lists_and_ways(market, accelerator, monkeypatch):
    images, lists = market
    seen = []
    describe = Patches.describe
    monkeypatch.setattr(
        Patches, "describe", lambda self, batch: (seen.append(len(batch)), describe(self, batch))[1]
    )

    evaluate(Patches(), images, lists, accelerator, ways=("all", 3))

    assert sum(seen) == len(images)


def test_an_embedding_has_one_way(market, accelerator):
    images, lists = market

    found = evaluate(Colours(), images, lists, accelerator, ways=("all", 75))

    assert [(judged.name, judged.way) for judged in found] == [
        ("market1501/openreid", ""),
        ("market1501", ""),
    ]
    colours = describe_all(Colours(), images, accelerator).rows(slice(None))
    for asking, judged in zip(lists, found, strict=True):
        distances = Colours().distance(colours[asking.query], colours[asking.gallery])
        assert_same_ranks(judged.result, judged_by_hand(asking, distances))


def test_a_part_is_judged_as_its_columns_alone_would_be(market, accelerator):
    images, lists = market
    stretches = {"head": slice(3), "legs": slice(6, None)}
    method = Bands(**stretches)

    found = evaluate(method, images, lists, accelerator)

    assert method.described == len(images)
    names = [judged.name for judged in found]
    assert names == [f"{asking.protocol.name}{part}" for asking in lists for part in ("", " head", " legs")]
    features = describe_all(method, images, accelerator).rows(slice(None))
    for asking, judged in ((lists[place // 3], one) for place, one in enumerate(found)):
        columns = features[:, stretches.get(judged.part, slice(None))]
        expected = judge(
            asking.protocol,
            query_pids=asking.query_labels.pids,
            query_camids=asking.query_labels.camids,
            gallery_pids=asking.gallery_labels.pids,
            gallery_camids=asking.gallery_labels.camids,
            query_features=columns[asking.query],
            gallery_features=columns[asking.gallery],
            metric="euclidean",
        )
        assert judged.result.metrics == pytest.approx(expected.metrics)
    assert len({judged.result.metrics["mAP"] for judged in found[:3]}) == 3


@pytest.mark.parametrize(
    "parts",
    [
        {"head": slice(10, 13)},
        {"head": slice(5, 5)},
        {"head": slice(-3, None)},
        {"head": slice(0, 12, 2)},
        {"": slice(3)},
        {"head and legs": slice(3)},
    ],
)
def test_a_part_is_a_named_stretch_of_the_description(market, accelerator, parts):
    images, lists = market

    with pytest.raises(SpecError, match=r"Bands: found part .* expected an identifier and .* 12 columns"):
        evaluate(Bands(**parts), images, lists, accelerator)


def test_all_pairs_beside_a_headline_are_left_out_where_they_take_too_long(market, accelerator, monkeypatch):
    images, lists = market
    monkeypatch.setattr(evaluation, "LONGEST_SECONDS", 60)
    monkeypatch.setattr(evaluation, "seconds_for_all", lambda *_: 7200.0)
    console = Console(file=io.StringIO(), width=300)

    found = evaluate(Patches(), images, lists[1:], accelerator, ways=(3, "all"), console=console)

    assert [judged.way for judged in found] == ["top-3"]
    pairs = len(lists[1].query) * len(lists[1].gallery)
    told = f"market1501 exhaustive: left out, {pairs:,} pairs would take about 2.0 h here"
    assert told in console.file.getvalue()


@pytest.mark.parametrize(("ways", "seconds"), [(("all", 3), 7200.0), ((3, "all"), 59.0)])
def test_all_pairs_run_as_the_headline_and_where_they_are_quick(
    market, accelerator, monkeypatch, ways, seconds
):
    images, lists = market
    monkeypatch.setattr(evaluation, "LONGEST_SECONDS", 60)
    monkeypatch.setattr(evaluation, "seconds_for_all", lambda *_: seconds)

    found = evaluate(Patches(), images, lists[:1], accelerator, ways=ways)

    assert sorted(judged.way for judged in found) == ["exhaustive", "top-3"]


def test_progress_is_shown_in_images(market, accelerator):
    images, lists = market
    console = Console(file=io.StringIO(), force_terminal=True, width=120)

    evaluate(Patches(), images, lists[1:], accelerator, ways=(3,), console=console)

    shown = console.file.getvalue()
    queries = len(lists[1].query)
    assert f"{len(images)}/{len(images)}" in shown
    assert "ranking market1501 top-3" in shown
    assert f"{queries}/{queries}" in shown


def test_a_release_on_disk_is_all_it_takes(tiny_street, market, accelerator):
    images, lists = market

    found = evaluate_release(Patches(), "market1501", tiny_street, *SIZE, accelerator, ways=(3, "all"))

    expected = evaluate(Patches(), images, lists[1:], accelerator, ways=(3, "all"))
    assert [judged.name for judged in found] == ["market1501 top-3", "market1501 exhaustive"]
    assert [judged.result.metrics for judged in found] == [judged.result.metrics for judged in expected]


def test_a_split_is_asked_for_by_name(cuhk03, accelerator):
    (found,) = evaluate_release(Colours(), "cuhk03-labeled", cuhk03, *SIZE, accelerator, split="1")

    assert found.result.split == "1"
    with pytest.raises(UnknownName, match=r"unknown split ''.*known: 0, 1"):
        evaluate_release(Colours(), "cuhk03-labeled", cuhk03, *SIZE, accelerator)


def frames_of(root, name):
    """The split of a protocol, and for each side of it what ``protocols.evaluate`` takes of its frames."""
    protocol = PROTOCOLS.get(name)()
    (split,) = read(protocol, root)
    sides = {}
    for side in ("query", "gallery"):
        records = getattr(split, side)
        paths = [path for record in records for path in record.images()]
        owner = np.repeat(np.arange(len(records)), [len(record.images()) for record in records])
        labels = evaluation.labels_of(records)
        sides[side] = decode(paths, *SIZE, torch.device("cpu")), owner, labels
    return protocol, sides


def judged_from_frames(method, root, name, stretch=slice(None), **options):
    """What ``protocols.evaluate`` makes of every frame's description and its tracklet."""
    protocol, sides = frames_of(root, name)
    given = {}
    accelerator = make_accelerator("cpu", "fp32")
    for side, (images, owner, labels) in sides.items():
        given[f"{side}_features"] = describe_all(method, images, accelerator).vectors()[:, stretch]
        given[f"{side}_tracklets"] = owner
        given[f"{side}_pids"], given[f"{side}_camids"] = labels.pids[owner], labels.camids[owner]
    return judge(protocol, **given, **options)


@pytest.mark.parametrize("name", ["mars", "mars/torchreid"])
def test_tracklets_are_judged_as_from_their_frames(layout_street, accelerator, name):
    root = layout_street("mars")
    images, lists = asked(root, "mars", "mars/torchreid")
    method = Bands(legs=slice(6, None))

    found = evaluate(
        method, images, lists, accelerator, reranked=[f"{name} re-ranked", f"{name} legs re-ranked"]
    )

    assert method.described == len(images) > len(lists[0].gallery)
    mine = {judged.name: judged.result for judged in found if judged.protocol == name}
    for part, stretch in (("", slice(None)), (" legs", slice(6, None))):
        for way, options in (("", {}), (" re-ranked", {"rerank": True})):
            expected = judged_from_frames(Bands(), root, name, stretch, **options)
            assert mine[f"{name}{part}{way}"].metrics == pytest.approx(expected.metrics)
    assert {judged.name for judged in found if judged.way} == {f"{name} re-ranked", f"{name} legs re-ranked"}
    assert len({result.metrics["mAP"] for result in mine.values()}) == 4


def test_multiple_queries_are_judged_as_from_their_boxes(tiny_street, accelerator):
    images, lists = asked(tiny_street, "market1501", "market1501/multi-query")
    names = [asking.protocol.name for asking in lists]
    method = Bands()

    found = evaluate(method, images, lists, accelerator, reranked=[f"{name} re-ranked" for name in names])

    assert [judged.name for judged in found] == [
        f"{name}{way}" for name in names for way in ("", " re-ranked")
    ]
    (split,) = read(lists[1].protocol, tiny_street)
    paths = [path for record in split.query for path in record.images()]
    sizes = [len(record.frames) for record in split.query]
    assert max(sizes) > 1 and len(images) == lists[0].images + len(paths)
    features = describe_all(Bands(), images, accelerator).vectors()
    boxes = describe_all(Bands(), decode(paths, *SIZE, torch.device("cpu")), accelerator).vectors()
    labels = lists[1].query_labels
    single = {
        "query_pids": labels.pids,
        "query_camids": labels.camids,
        "gallery_features": features[lists[0].gallery],
        "gallery_pids": lists[0].gallery_labels.pids,
        "gallery_camids": lists[0].gallery_labels.camids,
    }
    several = {
        "multiquery_features": boxes,
        "multiquery_pids": np.repeat(labels.pids, sizes),
        "multiquery_camids": np.repeat(labels.camids, sizes),
    }
    for place, rerank in ((2, False), (3, True)):
        expected = judge("market1501", **single, **several, rerank=rerank)
        assert found[place].result.metrics == pytest.approx(expected.metrics)
    expected = judge("market1501", **single, query_features=features[lists[0].query], rerank=True)
    assert found[1].result.metrics == expected.metrics


def test_only_what_is_wanted_is_made_and_described(tiny_street, accelerator):
    images, lists = asked(tiny_street, "market1501", "market1501/multi-query")
    method = Bands(legs=slice(6, None))

    names = {"market1501", "market1501 legs", "market1501/multi-query legs"}
    found = evaluate(method, images, lists, accelerator, known=names, reranked=["market1501 legs re-ranked"])

    assert [judged.name for judged in found] == ["market1501 legs re-ranked", "market1501/multi-query"]
    method.described = 0
    evaluate(method, images, lists[:1], accelerator)
    assert method.described == len(lists[0].query) + len(lists[0].gallery) < len(images)


def test_ways_of_pairs_that_are_known_are_not_made_again(market, accelerator):
    images, lists = market
    known = {"market1501/openreid exhaustive", "market1501 top-5", "market1501"}

    found = evaluate(Patches(), images, lists, accelerator, ways=("all", 5), known=known)

    assert [judged.name for judged in found] == ["market1501/openreid top-5", "market1501 exhaustive"]


def test_what_has_no_vectors_is_neither_pooled_nor_re_ranked(layout_street, market, accelerator):
    class Weighted(Bands):
        def distance(self, queries, gallery):
            return super().distance(2 * queries, gallery)

    images, lists = market
    name = f"{lists[0].protocol.name} re-ranked"
    with pytest.raises(SpecError, match=r"Weighted: found a distance of its own, .* no rerank = true"):
        evaluate(Weighted(), images, lists, accelerator, reranked=[name])
    images, lists = asked(layout_street("mars"), "mars")
    with pytest.raises(SpecError, match="Patches on mars: found records of several images"):
        evaluate(Patches(), images, lists, accelerator)


def test_an_image_of_two_records_is_refused():
    first, second = (Record(Path("mars/0001"), 1, camid, ("a.jpg", "b.jpg")[:camid]) for camid in (2, 1))

    with pytest.raises(RetableError, match=r"mars/0001/a\.jpg: in two records"):
        pool([(PROTOCOLS.get("mars")(), Split((), (first,), (second,)))])


def test_a_missing_release_is_told(tmp_path, accelerator):
    with pytest.raises(DataError):
        evaluate_release(Colours(), "market1501", tmp_path, *SIZE, accelerator)


@pytest.mark.gpu
def test_a_gpu_judges_as_a_cpu_does(market, accelerator):
    images, lists = market
    expected = evaluate(Patches(), images, lists, accelerator, ways=("all", 5))

    there = make_accelerator("cuda", "fp32")
    found = evaluate(Patches().to(there.device), images.to(there.device), lists, there, ways=("all", 5))

    for a, b in zip(found, expected, strict=True):
        assert a.name == b.name
        assert_same_ranks(a.result, b.result)


@pytest.mark.gpu
@pytest.mark.parametrize("place", ["device", "memory", "disk"])
def test_kpm_on_a_gpu_gives_the_distances_of_a_cpu(kpm, market, accelerator, place, monkeypatch, tmp_path):
    monkeypatch.setenv("RETABLE_CACHE", str(tmp_path))
    images, (asking, _) = market
    found = []
    for where in (accelerator, make_accelerator("cuda", "fp32")):
        method = deepcopy(kpm).to(where.device)
        described = describe_all(method, images, where, place=None if where is accelerator else place)
        parts = described.of(asking.query), described.of(asking.gallery)
        found.append(AllPairs(method, *parts)(0, len(asking.query)).cpu())

    scale = float(found[0].std())
    torch.testing.assert_close(found[1] / scale, found[0] / scale, rtol=0.02, atol=0.02)  # maps in bfloat16
