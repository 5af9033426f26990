"""From files in every layout to numbers: written, loaded, verified and evaluated under every protocol."""

import shutil

import numpy as np
import pytest

from protocols import PROTOCOLS, evaluate, summarise
from protocols.crosswalk.layouts import LAYOUTS
from protocols.files import read
from retable.errors import Absent

LABELS_RESTART = "msmt17"
"""Its training and test identities are numbered apart."""

NEED_MORE = ("market1501+100k", "market1501+200k", "market1501+500k", "viper/scsp")
"""Protocols that need files besides the release."""

NO_LAYOUT = ("msmt17-v2", "msmt17-v2/train")


@pytest.fixture(scope="module")
def roots(layout_street, tmp_path_factory):
    """Release folders of all layouts by the folder's name; those that need preparing are prepared copies."""
    folders = {}
    for layout in LAYOUTS:
        root = layout_street(layout)
        protocols = [PROTOCOLS.get(name)() for name in PROTOCOLS.names()]
        prepare = next((p.prepare for p in protocols if p.folder == root.name and p.prepare), None)
        if prepare:
            root = shutil.copytree(root, tmp_path_factory.mktemp("prepared") / root.name)
            prepare(root, lambda *_: None)
        folders[root.name] = root
    return folders


def labels(records):
    return np.array([record.pid for record in records]), np.array([record.camid for record in records])


def judged(protocol, split):
    """What somebody scores who tells all identities apart."""
    (query_pids, query_camids), (gallery_pids, gallery_camids) = labels(split.query), labels(split.gallery)
    return evaluate(
        protocol,
        query_pids=query_pids,
        query_camids=query_camids,
        gallery_pids=gallery_pids,
        gallery_camids=gallery_camids,
        distances=(query_pids[:, None] != gallery_pids).astype(np.float32),
    )


@pytest.mark.parametrize("name", sorted({*PROTOCOLS.names()} - {*NEED_MORE, *NO_LAYOUT}))
def test_a_street_can_be_scored_in_full(name, roots):
    protocol = PROTOCOLS.get(name)()

    splits = read(protocol, roots[protocol.folder])

    for split in splits:
        images = [image for part in split.lists().values() for record in part for image in record.images()]
        assert all(image.is_file() for image in set(images))
        trained = {record.pid for record in (*split.train, *split.val)}
        tested = {record.pid for record in (*split.query, *split.gallery)}
        assert name.startswith(LABELS_RESTART) or not trained & tested
    summary = summarise(judged(name, split) for split in splits)
    scores = {key: value for key, value in summary.mean.items() if not key.endswith("_all_shots")}
    assert scores == pytest.approx(dict.fromkeys(scores, 100.0))


@pytest.mark.parametrize("name", NEED_MORE)
def test_what_a_protocol_needs_besides_the_release_is_missed_by_name(name, roots):
    protocol = PROTOCOLS.get(name)()

    with pytest.raises(Absent, match=r"distractors_500k|partition_viper\.mat"):
        protocol.load(roots[protocol.folder])
