"""The compiled loops behind ``protocols.reranking``."""

import numpy as np
from numba import njit

CHUNK = 64
"""Distances that are compared with the k-th nearest at once."""


@njit(nogil=True, cache=True)
def nearest(block, k):  # type: ignore[no-untyped-def]
    """The k nearest images of each row by distance / largest distance of the row, ties by index.

    Args:
        block: (B, N) float32, rows contiguous.
        k: at most N.

    Returns:
        (B, k) int32, nearest first; and (B,) float32, each row's largest distance, NaN for a row
        that holds a value that is not finite.
    """
    index = np.full((len(block), k), -1, np.int32)
    value = np.full((len(block), k), np.inf, np.float32)
    peak = np.empty(len(block), np.float32)
    for b in range(len(block)):
        row = block[b]
        peak[b] = _largest(row)
        if not peak[b] > 0:
            continue
        for start in range(0, len(row), CHUNK):
            chunk = row[start : start + CHUNK]
            if _any_below(chunk, peak[b], value[b, k - 1]):
                _insert(chunk, start, peak[b], index[b], value[b])
    return index, peak


@njit(nogil=True, cache=True)
def _largest(row):  # type: ignore[no-untyped-def]
    """Maximum of a row, NaN if a value is not finite; no branches: the compiler does many at once."""
    bits = row.view(np.int32)  # as an integer a positive float keeps its order
    top, magnitude = np.int32(0), np.int32(0)
    for j in range(len(bits)):
        top = max(top, bits[j])
        magnitude = max(magnitude, bits[j] & np.int32(0x7FFFFFFF))
    if magnitude >= np.int32(0x7F800000):  # infinity, and above it NaN
        return np.float32(np.nan)
    return np.array([top], np.int32).view(np.float32)[0]


@njit(nogil=True, cache=True)
def _any_below(chunk, peak, bound):  # type: ignore[no-untyped-def]
    below = False
    for j in range(len(chunk)):
        below |= chunk[j] / peak < bound
    return below


@njit(nogil=True, cache=True)
def _insert(chunk, start, peak, index, value):  # type: ignore[no-untyped-def]
    """Put the chunk's distances into the ordered list of the nearest; an equal one goes behind."""
    for j in range(len(chunk)):
        distance = chunk[j] / peak
        slot = len(value)
        while slot > 0 and distance < value[slot - 1]:
            slot -= 1
            if slot + 1 < len(value):
                value[slot + 1], index[slot + 1] = value[slot], index[slot]
        if slot < len(value):
            value[slot], index[slot] = distance, start + j


@njit(nogil=True, cache=True)
def reciprocal(neighbours, start, stop):  # type: ignore[no-untyped-def]
    """Which of the k nearest of images start..stop-1 have the image among their own k nearest.

    Args:
        neighbours: (N, k) int32.
        start: first image.
        stop: image after the last.

    Returns:
        (stop - start, k) int32, those neighbours, nearest first; and (stop - start,) their number.
    """
    members = np.empty((stop - start, neighbours.shape[1]), np.int32)
    sizes = np.zeros(stop - start, np.int32)
    for i in range(start, stop):
        for j in neighbours[i]:
            if np.any(neighbours[j] == i):
                members[i - start, sizes[i - start]] = j
                sizes[i - start] += 1
    return members, sizes


@njit(nogil=True, cache=True)
def expand(members, sizes, half_members, half_sizes, start, stop):  # type: ignore[no-untyped-def]
    """R* of images start..stop-1: R, and R(j, k/2) of each j in R that shares over 2/3 of it with R.

    Args:
        members: (N, k) int32; R of image i is ``members[i, :sizes[i]]``.
        sizes: (N,) int32.
        half_members: (N, k/2) int32; R(j, k/2) likewise.
        half_sizes: (N,) int32.
        start: first image.
        stop: image after the last.

    Returns:
        (stop - start,) int32 sizes; and the sets, each in ascending order, one after the other.
    """
    in_core, in_set = np.full((2, len(members)), -1, np.int32)  # the last image whose R, R* it is in
    most = members.shape[1] * (1 + half_members.shape[1])
    found = np.empty(most, np.int32)
    counts = np.empty(stop - start, np.int32)
    end = 0
    for i in range(start, stop):
        first = end
        if len(found) < first + most:
            found = np.concatenate((found, np.empty(len(found) + most, np.int32)))
        for j in members[i, : sizes[i]]:
            in_core[j] = in_set[j] = i
            found[end] = j
            end += 1
        for j in members[i, : sizes[i]]:
            candidates = half_members[j, : half_sizes[j]]
            if 3 * np.sum(in_core[candidates] == i) > 2 * len(candidates):
                for candidate in candidates:
                    if in_set[candidate] != i:
                        in_set[candidate] = i
                        found[end] = candidate
                        end += 1
        found[first:end].sort()
        counts[i - start] = end - first
    return counts, found[:end].copy()


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def pair_distances(features, ends, columns, start, stop):  # type: ignore[no-untyped-def]
    """Squared Euclidean distances of images start..stop-1 to the images of their sets.

    Args:
        features: (N, d) float32.
        ends: (N + 1,) int; the set of image i is ``columns[ends[i]:ends[i + 1]]``.
        columns: images, int32.
        start: first image.
        stop: image after the last.
    """
    distances = np.empty(ends[stop] - ends[start], np.float32)
    for i in range(start, stop):
        for n in range(ends[i], ends[i + 1]):
            a, b = features[i], features[columns[n]]
            total = np.float32(0)
            for c in range(len(a)):
                total += (a[c] - b[c]) * (a[c] - b[c])
            distances[n - ends[start]] = total
    return distances


@njit(nogil=True, cache=True)
def blend(block, peaks, queries, gallery, weight, out):  # type: ignore[no-untyped-def]
    """Write jaccard * (1 - weight) + distance / peak * weight.

    Args:
        block: (B, G) float32 distances.
        peaks: (B,) float32; each query's largest distance.
        queries: encodings of the queries by rows: ends (B + 1,), columns and values.
        gallery: encodings of the gallery by columns: ends (N + 1,), gallery images and values.
        weight: of the distance; the paper's lambda.
        out: (B, G) float32.
    """
    ends, columns, values = queries
    gallery_ends, images, gallery_values = gallery
    near, far = np.float32(weight), np.float32(1 - weight)
    one, two = np.float32(1), np.float32(2)
    for q in range(len(block)):
        shared = np.zeros(block.shape[1], np.float32)
        for n in range(ends[q], ends[q + 1]):  # ascending columns: one order of summation for all
            for m in range(gallery_ends[columns[n]], gallery_ends[columns[n] + 1]):
                shared[images[m]] += min(values[n], gallery_values[m])
        row, peak = block[q], peaks[q]
        for j in range(len(row)):
            out[q, j] = (one - shared[j] / (two - shared[j])) * far + row[j] / peak * near
