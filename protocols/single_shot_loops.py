"""The compiled loops behind ``protocols.single_shot``."""

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def expected_cmc(distances, query, gallery, all_cameras, identities, max_rank, ties):  # type: ignore[no-untyped-def]
    """The exact chance that the drawn match has rank <= k, over all galleries that can be drawn.

    Args:
        distances: (B, G) floats.
        query: identity number (-1: in no gallery), pid and camid of the B queries, int64.
        gallery: identity number (-1: junk), pid and camid of the G gallery images, int64.
        all_cameras: leave out every image of the query's camera, or its own person's only.
        identities: number of identities in the gallery.
        max_rank: K, how far the curve goes.
        ties: -1 places all equal distances behind the match, 1 before it, 0 by gallery index.

    Returns:
        (B, K) chances for ranks <= 1..K, NaN for a query without a match, and whether any distance
        equals that of a match.
    """
    chances = np.full((len(distances), max_rank), np.nan)
    tied = False
    for q in range(len(distances)):
        row, own = distances[q], query[0][q]
        counting = counting_images(query[1][q], query[2][q], gallery, all_cameras)
        images = np.zeros(identities)
        for j in range(len(row)):
            if counting[j]:
                images[gallery[0][j]] += 1
        if own < 0 or images[own] == 0:
            continue
        matches = np.flatnonzero(counting & (gallery[0] == own))
        matches = matches[np.argsort(row[matches], kind="mergesort")]  # which is stable
        nearer = np.zeros((len(matches), identities))
        for j in range(len(row)):
            if counting[j] and gallery[0][j] != own:
                behind = first_behind(row, j, matches, ties)
                tied |= equals_a_match(row, j, matches)
                if behind < len(matches):
                    nearer[behind, gallery[0][j]] += 1
        total = np.zeros(max_rank)
        for m in range(len(matches)):
            if m:
                nearer[m] += nearer[m - 1]
            total += chance_of_rank(nearer[m], images, max_rank)
        chances[q] = total / images[own]
    return chances, tied


@njit(nogil=True, cache=True)
def first_behind(row, j, matches, ties):  # type: ignore[no-untyped-def]
    """Place of the first match that image ``j`` is nearer than; ``matches`` stand nearest first."""
    low, high = 0, len(matches)
    while low < high:
        middle = (low + high) // 2
        match = matches[middle]
        equal = row[j] == row[match]
        if row[j] < row[match] or (equal and (ties > 0 or (ties == 0 and j < match))):
            high = middle
        else:
            low = middle + 1
    return low


@njit(nogil=True, cache=True)
def equals_a_match(row, j, matches):  # type: ignore[no-untyped-def]
    """Whether image ``j`` is as far away as a match."""
    place = first_behind(row, j, matches, 1)  # as if equal distances were nearer
    return place < len(matches) and row[matches[place]] == row[j]


@njit(nogil=True, cache=True)
def chance_of_rank(nearer, images, max_rank):  # type: ignore[no-untyped-def]
    """(K,) chance of at most 0..K-1 nearer identities, each nearer with chance nearer / images."""
    exactly = np.zeros(max_rank)
    exactly[0] = 1
    certain = 0
    for identity in range(len(nearer)):
        if nearer[identity] == 0:
            continue
        if nearer[identity] == images[identity]:
            certain += 1
            continue
        chance = nearer[identity] / images[identity]
        for k in range(max_rank - 1, 0, -1):
            exactly[k] = exactly[k] * (1 - chance) + exactly[k - 1] * chance
        exactly[0] *= 1 - chance
    chances = np.zeros(max_rank)
    so_far = 0.0
    for k in range(certain, max_rank):
        so_far += exactly[k - certain]
        chances[k] = so_far
    return chances


@njit(nogil=True, cache=True)
def drawn_ranks(distances, query, gallery, all_cameras, identities, lots):  # type: ignore[no-untyped-def]
    """Ranks of the drawn matches in galleries of one image an identity, the counting one of lowest lot.

    Args:
        distances: as for ``expected_cmc``.
        query: as for ``expected_cmc``.
        gallery: as for ``expected_cmc``.
        all_cameras: as for ``expected_cmc``.
        identities: as for ``expected_cmc``.
        lots: (R, G) uint64, of every image in every repeat.

    Returns:
        (R, B) int64, 1-based; 0 for a query without a match.
    """
    ranks = np.zeros((len(lots), len(distances)), np.int64)
    drawn = np.empty(identities, np.int64)
    for q in range(len(distances)):
        row, own = distances[q], query[0][q]
        counting = counting_images(query[1][q], query[2][q], gallery, all_cameras)
        for r in range(len(lots)):
            drawn[:] = -1
            for j in range(len(row)):
                identity = gallery[0][j]
                if counting[j] and (drawn[identity] < 0 or lots[r, j] < lots[r, drawn[identity]]):
                    drawn[identity] = j
            if own < 0 or drawn[own] < 0:
                continue
            match = drawn[own]
            rank = 1
            for j in drawn:
                rank += j >= 0 and (row[j] < row[match] or (row[j] == row[match] and j < match))
            ranks[r, q] = rank
    return ranks


@njit(nogil=True, cache=True)
def counting_images(pid, camid, gallery, all_cameras):  # type: ignore[no-untyped-def]
    """(G,) bool, whether an image takes a rank for a query of ``pid`` and ``camid``."""
    counting = np.empty(len(gallery[0]), np.bool_)
    for j in range(len(counting)):
        own = (gallery[2][j] == camid) & (all_cameras | (gallery[1][j] == pid))
        counting[j] = (gallery[0][j] >= 0) & ~own
    return counting
