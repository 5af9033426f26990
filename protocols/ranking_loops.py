"""The compiled loop behind ``protocols.ranking`` on the CPU."""

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def count_nearer(distances, query, gallery, all_cameras, ends, matches):  # type: ignore[no-untyped-def]
    """Count what comes before each true match.

    Args:
        distances: (B, G) floats.
        query: pids and camids of the B queries, int64.
        gallery: pids, camids (int64) and usable (bool) of the G gallery images.
        all_cameras: leave out every image of the query's camera, or its own person's only.
        ends: (B,) int64; the matches of query q are ``matches[ends[q - 1]:ends[q]]``.
        matches: (M,) int64 gallery positions.

    Returns:
        Three (M,) int64 arrays over the images that count: how many are nearer than the match, how
        many are as near (itself included), and how many of those come before it in the gallery;
        and (B,) bool, whether any distance of the query is not a number.
    """
    pids, camids, usable = gallery
    nearer, equal, equal_before = np.zeros((3, len(matches)), np.int64)
    not_a_number = np.zeros(len(ends), np.bool_)
    for q in range(len(ends)):
        row, pid, camid = distances[q], query[0][q], query[1][q]
        counts = np.empty_like(row)  # what does not count becomes NaN, which compares as false
        missing = False
        for j in range(len(row)):  # no branches here and below: the compiler does many at once
            own = (camids[j] == camid) & (all_cameras | (pids[j] == pid))
            counts[j] = row[j] if usable[j] & ~own else np.nan
            missing |= row[j] != row[j]
        not_a_number[q] = missing
        for m in range(ends[q - 1] if q else 0, ends[q]):
            target = row[matches[m]]
            below, level = np.int32(0), np.int32(0)
            for j in range(len(row)):
                below += np.int32(counts[j] < target)
                level += np.int32(counts[j] == target)
            nearer[m], equal[m] = below, level
            if level > 1:
                equal_before[m] = np.sum(counts[: matches[m]] == target)
    return nearer, equal, equal_before, not_a_number
