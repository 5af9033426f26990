"""Data of a run: every test image once, every protocol's lists, and nobody tested who was trained on."""

import shutil
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from protocols import PROTOCOLS, Protocol
from reproductions.execute import load_data
from retable.errors import DataError, RetableError


@dataclass(frozen=True)
class Source:
    """A rendered street that stands in for a release."""

    protocol: Protocol
    root: Path

    def folder(self, cache: Path, console: Console) -> Path:  # noqa: ARG002
        return self.root


@pytest.fixture
def load(layout_street, tmp_path):
    """Data of a protocol on the tiny street in a layout, with others beside it."""

    def of(layout, protocol, *beside):
        judge, *others = (
            PROTOCOLS.get(one)() if isinstance(one, str) else one for one in (protocol, *beside)
        )
        root = layout_street(layout)
        if judge.prepare:
            root = shutil.copytree(root, tmp_path / root.name)
            judge.prepare(root, lambda *_: None)
        source, console = Source(judge, root), Console(file=StringIO())
        return load_data(source, tuple(others), 16, 8, torch.device("cpu"), console)

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


def test_a_protocol_of_many_splits_stands_beside_with_its_first(load):
    data = load("cuhk03", "cuhk03-merged/openreid", "cuhk03-labeled")

    assert data.names == {
        "cuhk03-merged/openreid": "cuhk03-merged/openreid",
        "cuhk03-labeled": "cuhk03-labeled split 0",
    }
    merged, labeled = data.lists
    assert (merged.split, labeled.split) == ("0", "0")
    assert len(merged.query) == len(merged.gallery) == len(data.test)
    assert set(labeled.query_labels.pids) <= set(merged.query_labels.pids)


def test_what_is_judged_first_has_one_split(load):
    with pytest.raises(RetableError, match=r"cuhk03-labeled: \d+ splits, and a run trains on one"):
        load("cuhk03", "cuhk03-labeled")


def test_tracklets_are_refused(load):
    with pytest.raises(RetableError, match="expected one a record"):
        load("market1501", "market1501", "market1501/multi-query")


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
