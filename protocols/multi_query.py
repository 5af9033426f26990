"""Multiple queries: all boxes of a query's person and camera are pooled and asked in its place."""

from collections.abc import Mapping
from typing import Any

from protocols.arrays import InputError, check_lengths
from protocols.base import PROTOCOLS, Protocol
from protocols.features import check_matrix
from protocols.ranking import Labels, labels

SUFFIX = "/multi-query"
"""What tells the protocol with multiple queries from that of the same data set with single ones."""

ARRAYS = ("multiquery_features", "multiquery_pids", "multiquery_camids")


def find_protocol(protocol: object, *, multi_query: bool) -> Protocol:
    """The protocol of a name, that with multiple queries where they are asked; one's own stays itself.

    Raises:
        UnknownName: no protocol has this name.
        InputError: it is no name, or the protocol has no multiple queries.
    """
    if isinstance(protocol, Protocol):
        return protocol
    if not isinstance(protocol, str):
        raise InputError(
            f"protocol: found {protocol!r}, expected a name, such as 'market1501', or a Protocol"
        )
    single = PROTOCOLS.get(protocol)()
    if not multi_query or asks_multiple(single):
        return single
    if protocol + SUFFIX not in PROTOCOLS.names():
        those = ", ".join(name for name in PROTOCOLS.names() if name.endswith(SUFFIX))
        raise InputError(
            f"{protocol} has no multiple queries; leave {ARRAYS[0]} and its labels out, or take {those}"
        )
    return PROTOCOLS.get(protocol + SUFFIX)()


def asks_multiple(protocol: Protocol) -> bool:
    """Whether a protocol's queries are pooled over boxes."""
    return protocol.name.endswith(SUFFIX)


def box_labels(given: Mapping[str, Any]) -> Labels | None:
    """Labels of the boxes; None without any. Raises ``InputError`` if only some of the arrays are there."""
    there = [name for name in ARRAYS if name in given]
    if not there:
        return None
    if len(there) < len(ARRAYS) or "query_tracklets" in given:
        raise InputError(
            f"multi-query: found {', '.join(sorted(there))}, expected {', '.join(ARRAYS)} and no "
            "query_tracklets; give all three, or none"
        )
    boxes = labels("multiquery", given["multiquery_pids"], given["multiquery_camids"])
    check_lengths({"multiquery_pids": len(boxes), ARRAYS[0]: len(check_matrix(ARRAYS[0], given[ARRAYS[0]]))})
    return boxes
