"""Nobody who was trained on may be tested."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from protocols import PROTOCOLS
from protocols.base import Record, Split
from protocols.files import read
from protocols.leaks import label_space, refuse_leaks
from retable.errors import DataError

LABELED = PROTOCOLS.get("cuhk03-np-labeled")()
DETECTED = PROTOCOLS.get("cuhk03-np-detected")()


def records(*pids):
    return tuple(Record(Path(f"{pid}.png"), pid, 1) for pid in pids)


def split(train, test, val=(), name=""):
    return Split(records(*train), records(*test), records(*test), records(*val), name)


def test_training_on_drawn_boxes_and_testing_on_detected_ones_leaks_an_identity(layout_street):
    root = layout_street("cuhk03-np")
    labeled, detected = ((protocol, *read(protocol, root)) for protocol in (LABELED, DETECTED))

    for trained, tested in ((labeled, detected), (detected, labeled)):
        train = {record.pid for record in trained[1].train}
        (leaked,) = train & {record.pid for record in tested[1].query}
        names = f"{tested[0].name} tests 1 of the identities that {trained[0].name} trains on"
        message = f"{names} (CUHK03 labels {leaked})"
        with pytest.raises(DataError, match=re.escape(message)):
            refuse_leaks(trained, tested)
    for same in (labeled, detected):
        refuse_leaks(same, same)


def test_folders_and_lists_of_cuhk03_share_their_labels():
    names = [name for name in PROTOCOLS.names() if name.startswith("cuhk03-")]

    assert len(names) == 15
    assert {label_space(PROTOCOLS.get(name)()) for name in names} == {"CUHK03"}


def test_held_out_identities_count_as_trained_on():
    old = PROTOCOLS.get("cuhk03-labeled/original")()

    with pytest.raises(DataError, match=r"tests 1 of .* cuhk03-labeled/original, split 3, trains on"):
        refuse_leaks((old, split([1], [5], val=[2], name="3")), (DETECTED, split([9], [2])))


def test_many_identities_are_counted_and_some_of_them_shown():
    with pytest.raises(DataError, match=r"tests 9 of .*labels 1, 2, 3, 4, 5 and 4 more\)"):
        refuse_leaks((LABELED, split(range(1, 10), [20])), (DETECTED, split([20], range(1, 10))))


def test_nobody_is_not_an_identity():
    """Distractors and junk have labels that training lists may use for somebody."""
    market = PROTOCOLS.get("market1501")()

    refuse_leaks((market, split([0, -1, 5], [7])), (market, split([5], [7, 0, -1])))


def test_labels_of_different_data_sets_are_not_compared():
    market = PROTOCOLS.get("market1501")()
    elsewhere = replace(market, folder="lists-that-each-count-from-0")

    refuse_leaks((market, split([1], [2])), (LABELED, split([2], [1])))
    refuse_leaks((elsewhere, split([1], [2])), (elsewhere, split([2], [1])))
