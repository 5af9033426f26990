"""Whether labels look like those of the whole release."""

from collections.abc import Mapping

import numpy as np

from protocols.base import Protocol, Rules
from protocols.ranking import Labels


def label_counts(query: Labels, gallery: Labels, rules: Rules) -> dict[str, int]:
    """How many queries and gallery images there are, and how many of the latter match nobody."""
    junk = np.isin(gallery.pids, rules.junk_pids)
    nobody = ~junk & ~np.isin(gallery.pids, query.pids)
    return {
        "queries": len(query),
        "query_pids": len(np.unique(query.pids)),
        "gallery": len(gallery),
        "junk": int(junk.sum()),
        "distractors": int(nobody.sum()),
    }


UNSIGNED = (2**8 - 1, 2**16 - 1, 2**32 - 1)
"""What -1 becomes in types that know no sign."""


def unsigned_junk(query: Labels, gallery: Labels, rules: Rules) -> list[str]:
    """A note where the gallery's largest label looks like junk that lost its sign, and nobody asks for it."""
    largest = int(gallery.pids.max())
    junk_is_there = bool((gallery.pids == -1).any())
    if -1 not in rules.junk_pids or junk_is_there or largest not in UNSIGNED or largest in query.pids:
        return []
    count = int((gallery.pids == largest).sum())
    return [
        f"{count:,} gallery images have the pid {largest:,}: is it junk, -1, stored in an unsigned type? "
        "They take ranks like anybody; store pids in a signed one"
    ]


def differences(found: Mapping[str, int], protocol: Protocol) -> list[str]:
    """What differs from the release, in words; a gallery that was given without its junk does not."""
    counts = protocol.counts
    whole = [
        ("queries", "queries", counts.query),
        ("query_pids", "identities among the queries", counts.query_pids),
    ]
    whole += [("distractors", "distractors", counts.distractors)]
    notes = [
        _note(found[key], words, (number,), protocol) for key, words, number in whole if number is not None
    ]
    if counts.gallery is not None:
        galleries = (counts.gallery, counts.gallery - (counts.junk or 0))
        notes.append(_note(found["gallery"], "gallery images", galleries, protocol))
    if counts.junk is not None and found["junk"]:
        notes.append(_note(found["junk"], "junk images", (counts.junk,), protocol))
    return [note for note in notes if note]


def _note(found: int, words: str, expected: tuple[int, ...], protocol: Protocol) -> str:
    """For example ``3,362 queries, Market-1501 has 3,368: ...``; nothing if it is as expected."""
    if found in expected:
        return ""
    numbers = " or ".join(f"{number:,}" for number in dict.fromkeys(expected))
    why = "were files lost, or names not understood?" if found < expected[0] else "is this another list?"
    return f"{found:,} {words}, {protocol.title} has {numbers}: {why}"
