"""Identities that a network was trained on must not be tested: a guard for splits of one data set."""

from protocols.base import Protocol, Split
from retable.errors import DataError, some

LABEL_SPACES = {
    "cuhk03_release": "CUHK03",
    "cuhk03-np": "CUHK03",
    "Market-1501-v15.09.15": "Market-1501",
    "DukeMTMC-reID": "DukeMTMC-reID",
    "MARS": "MARS",
    "VIPeR": "VIPeR",
    "campus": "CUHK01",
}
"""Folders of releases that label an identity the same way in all their splits and lists.

Others cannot be compared by label: MSMT17's lists, for example, each count from 0.
"""


def label_space(protocol: Protocol) -> str | None:
    """What the labels of a protocol's identities count over; None if they hold within one list only."""
    return LABEL_SPACES.get(protocol.folder)


def refuse_leaks(trained: tuple[Protocol, Split], tested: tuple[Protocol, Split]) -> None:
    """Raise ``DataError`` naming identities of one split's training lists that the other tests.

    Splits whose labels cannot be compared pass. CUHK03's new protocol is why this exists: a network
    trained on hand-drawn boxes has seen one of the identities tested with detected boxes.

    Args:
        trained: the protocol and split whose ``train`` and ``val`` were used.
        tested: the protocol and split whose ``query`` and ``gallery`` are to be used.
    """
    space = label_space(trained[0])
    if space is None or space != label_space(tested[0]):
        return
    shared = sorted(_training_pids(trained[1]) & _test_pids(*tested))
    if shared:
        raise DataError(
            f"{_named(*tested)} tests {len(shared):,} of the identities that {_named(*trained)} trains on "
            f"({space} labels {some(shared)}); expected none: train and test on the same split, or leave "
            "them out"
        )


def _named(protocol: Protocol, split: Split) -> str:
    return f"{protocol.name}, split {split.name}," if split.name else protocol.name


def _training_pids(split: Split) -> set[int]:
    return {record.pid for record in (*split.train, *split.val)}


def _test_pids(protocol: Protocol, split: Split) -> set[int]:
    nobody = {*protocol.rules.junk_pids, *protocol.rules.distractor_pids}
    return {record.pid for record in (*split.query, *split.gallery)} - nobody
