"""Data of a run: every test image once, every protocol's lists, and nobody tested who was trained on."""

import shutil
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from methods import METHODS
from protocols import PROTOCOLS, Protocol
from reproductions.evaluation import Judged
from reproductions.execute import _sorted_out as sorted_out
from reproductions.execute import load_data, run_seed
from reproductions.jobs import Changes, make_job
from reproductions.records import RERANKED
from reproductions.spec import load_paper
from retable.errors import DataError
from retable.registry import Source as Registered
from tests.reproductions.conftest import MINI
from tests.reproductions.halves import Halves


@dataclass(frozen=True)
class Source:
    """A rendered street that stands in for a release."""

    protocol: Protocol
    root: Path

    def folder(self, cache: Path, console: Console) -> Path:  # noqa: ARG002
        return self.root


@pytest.fixture(scope="module")
def cuhk03(layout_street, tmp_path_factory):
    """The release folder of a tiny street in the layout of CUHK03, its images unpacked."""
    root = layout_street("cuhk03")
    root = shutil.copytree(root, tmp_path_factory.mktemp("cuhk03") / root.name)
    PROTOCOLS.get("cuhk03-labeled")().prepare(root, lambda *_: None)
    return root


@pytest.fixture
def load(layout_street, cuhk03):
    """Data of a protocol on the tiny street in a layout, with others beside it."""

    def of(layout, protocol, *beside, seed=0):
        judge, *others = (
            PROTOCOLS.get(one)() if isinstance(one, str) else one for one in (protocol, *beside)
        )
        root = cuhk03 if layout == "cuhk03" else layout_street(layout)
        source, console = Source(judge, root), Console(file=StringIO())
        return load_data(source, tuple(others), seed, 16, 8, torch.device("cpu"), console)

    return of


def test_every_test_image_is_decoded_once(load):
    alone = load("market1501", "market1501/openreid")
    data = load("market1501", "market1501/openreid", "market1501")

    headline, official = data.lists
    assert len(alone.test) == len({*alone.lists[0].query, *alone.lists[0].gallery})
    assert torch.equal(data.test[: len(alone.test)], alone.test)
    assert len(data.test) == len({*headline.query, *headline.gallery, *official.query, *official.gallery})
    assert len(data.test) > len(alone.test)  # junk is in the official gallery alone
    assert len(headline.query) > len(official.query)
    assert len(data.train) == len(data.labels()) == len(data.split.train)
    assert data.labels().unique().tolist() == list(range(data.num_pids))


@pytest.mark.parametrize("seed", [0, 1])
def test_a_protocol_of_many_splits_stands_beside_with_its_first(load, seed):
    data = load("cuhk03", "cuhk03-merged/openreid", "cuhk03-labeled", seed=seed)

    assert data.names == {
        "cuhk03-merged/openreid": "cuhk03-merged/openreid",
        "cuhk03-labeled": "cuhk03-labeled split 0",
    }
    merged, labeled = data.lists
    assert (merged.split, labeled.split) == ("0", "0")
    assert len(merged.query) == len(merged.gallery) == len(data.test)
    assert set(labeled.query_labels.pids) <= set(merged.query_labels.pids)


def test_each_seed_takes_a_split_in_turn(load):
    first, second, last, again = (load("cuhk03", "cuhk03-labeled", seed=seed) for seed in (0, 1, 19, 21))

    assert [data.split.name for data in (first, second, last, again)] == ["0", "1", "19", "1"]
    assert [data.lists[0].split for data in (first, second, last, again)] == ["0", "1", "19", "1"]
    assert again.split.digests() == second.split.digests() != first.split.digests()
    for data in (first, second, last):
        assert len(data.train) == len(data.labels()) == len(data.split.train)
        tested = {*data.lists[0].query_labels.pids, *data.lists[0].gallery_labels.pids}
        assert tested.isdisjoint(record.pid for record in data.split.train)


def test_a_protocol_beside_takes_its_split_of_the_same_place(load):
    data = load("cuhk03", "cuhk03-labeled", "cuhk03-detected", seed=3)

    assert data.names == {"cuhk03-labeled": "cuhk03-labeled", "cuhk03-detected": "cuhk03-detected split 3"}
    with pytest.raises(DataError, match=r"openreid, split 0, tests 3 of .* cuhk03-labeled, split 3, trains"):
        load("cuhk03", "cuhk03-labeled", "cuhk03-merged/openreid", seed=3)  # its one split is the first


def test_nobody_is_tested_beside_who_was_trained_on(load):
    protocol = PROTOCOLS.get("market1501")()

    def mixed_up(root):
        """As ``protocol``, but one identity is tested under a trained one's label."""
        (split,) = protocol.load(root)
        tested, trained = split.query[0].pid, split.train[0].pid
        lists = {
            name: tuple(replace(r, pid=trained) if r.pid == tested else r for r in getattr(split, name))
            for name in ("query", "gallery")
        }
        return (replace(split, **lists),)

    leaking = replace(protocol, name="market1501/leaking", load=mixed_up)
    with pytest.raises(
        DataError, match="market1501/leaking tests 1 of the identities that market1501 trains"
    ):
        load("market1501", "market1501", leaking)


def test_parts_are_filed_apart_from_what_stands_beside():
    """A part by the first protocol is one of the parts; re-ranked, or by another protocol, it is not."""
    result = SimpleNamespace(metrics={"mAP": 1.0})
    own, part, reranked, whole, other = (
        Judged(protocol, way, result, name)
        for protocol, way, name in (
            ("market1501", "", ""),
            ("market1501", "", "upper"),
            ("market1501", RERANKED, "upper"),
            ("market1501", RERANKED, ""),
            ("market1501/openreid", "", "upper"),
        )
    )

    first, parts, beside = sorted_out([own, part, reranked, whole, other])

    assert first is result
    assert parts == {"upper": result.metrics}
    assert beside == [reranked, whole, other]


class Posed(Halves):
    """The layer for upper halves stands in for a pose network."""

    def load_pose(self, state):
        self.upper.load_state_dict(state)


@pytest.mark.parametrize("pose", ["openpose", "street"])
def test_a_pose_network_has_its_weights_when_training_starts(pose, tmp_path, monkeypatch, shell):
    monkeypatch.setitem(METHODS._objects, "halves", Posed)
    monkeypatch.setitem(METHODS._sources, "halves", Registered("tests.reproductions.halves", "1"))
    monkeypatch.setenv("RETABLE_CACHE", shell.environment["RETABLE_CACHE"])
    state = {"weight": torch.full((12, 12), 0.5), "bias": torch.full((12,), 0.5)}
    file = tmp_path / "pose.safetensors"
    save_file(state, file)
    monkeypatch.setattr("reproductions.execute.read_openpose", load_file)
    monkeypatch.setattr("reproductions.execute.street_pose_weights", lambda *_: file)
    fields = {"pose": pose, "epochs": 1, "schedule": [[1, 1e-12]]}
    job = make_job(
        *(load_paper("ways", MINI), "Net", "crosswalk", "proxy"),
        changes=Changes(recipe_fields=fields, pose_weights=str(file)),
    )

    _, kept = run_seed(job, 0, "cpu", tmp_path / "results", Console(quiet=True))

    torch.testing.assert_close(load_file(kept.weights)["upper.weight"], state["weight"])
