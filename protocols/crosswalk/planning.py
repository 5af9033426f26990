"""What the plans of all layouts share: who looks like whom, who is seen where, and how often."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np

from protocols.crosswalk.errors import StreetError
from protocols.crosswalk.seeding import generator
from protocols.crosswalk.shots import Shot, Subject


def refuse_unless(name: str, rules: Iterable[tuple[bool, str]]) -> None:
    """Raise ``StreetError`` with the first rule that the size called ``name`` does not hold to."""
    for holds, rule in rules:
        if not holds:
            raise StreetError(f"size {name!r}: {rule}")


def scattered(rng: np.random.Generator, count: int, first: int, last: int) -> list[int]:
    """``count`` sorted labels of ``first``..``last``, both ends among them, with holes between."""
    between = rng.choice(np.arange(first + 1, last), count - 2, replace=False)
    return sorted({first, last, *map(int, between)})


def parted(rng: np.random.Generator, labels: Sequence[int], *counts: int) -> list[list[int]]:
    """Sorted parts of ``labels`` that interleave, one of each size in ``counts`` (which add up)."""
    order = [int(label) for label in rng.permutation(labels)]
    ends = np.cumsum(counts).tolist()
    return [sorted(order[end - count : end]) for count, end in zip(counts, ends, strict=True)]


def subjects_of(pids: Sequence[int], seed: int, confusers: float) -> dict[int, Subject]:
    """Who has each label; a share of ``confusers`` come in pairs, and pairs never leave ``pids``."""
    order = [int(pid) for pid in generator(seed, "confusers", pids[0]).permutation(pids)]
    paired = 2 * round(confusers * len(order) / 2)
    looks = {pid: f"pair {order[i - i % 2]}" for i, pid in enumerate(order[:paired])}
    swapped = set(order[1:paired:2])
    return {pid: Subject(f"pid {pid}", looks.get(pid, f"pid {pid}"), pid in swapped) for pid in order}


def apportion(total: int, weights: np.ndarray, least: np.ndarray) -> np.ndarray:
    """Split ``total`` into whole numbers, ``least`` plus a share in proportion to ``weights``, (n,) int."""
    spare = total - int(least.sum())
    exact = spare * weights / weights.sum()
    counts: np.ndarray = np.floor(exact).astype(np.int64)
    fullest = np.argsort(counts - exact, kind="stable")
    counts[fullest[: spare - int(counts.sum())]] += 1
    counts += least
    return counts


def apportion_between(total: int, weights: np.ndarray, least: np.ndarray, most: np.ndarray) -> np.ndarray:
    """As ``apportion``, with nobody above ``most``, (n,) int.

    Needs ``least.sum() <= total <= most.sum()`` and positive weights.
    """
    counts = apportion(total, weights, least)
    full = np.zeros(len(counts), dtype=bool)
    while (counts > most).any():
        full |= counts >= most
        counts[full] = most[full]
        counts[~full] = apportion(total - int(most[full].sum()), weights[~full], least[~full])
    return counts


def uneven(rng: np.random.Generator, n: int) -> np.ndarray:
    """Weights of a long-tailed distribution, (n,): some people stay longer before a camera."""
    weights: np.ndarray = rng.lognormal(0.0, 0.7, n)
    return weights


def cameras_of(rng: np.random.Generator, busy: Sequence[float], pids: int, total: int) -> np.ndarray:
    """Which cameras see whom, (pids, cameras) bool with ``total`` true cells and at least two per row.

    ``busy`` weighs the cameras. Every camera sees somebody if there are as many people as cameras.
    """
    cameras = len(busy)
    more = max(1, cameras - 2)  # places beyond the two that everybody has
    spare = rng.choice(pids * more, total - 2 * pids, replace=False) // more
    wanted = 2 + np.bincount(spare, minlength=pids)
    popularity = rng.gumbel(size=(pids, cameras)) + np.log(busy)
    everyone = np.arange(cameras)
    popularity[everyone % pids, everyone] = np.inf  # no camera stays without anybody
    rank: np.ndarray = np.argsort(np.argsort(-popularity, axis=1), axis=1)
    seen: np.ndarray = rank < wanted[:, None]
    return seen


def asked_of(rng: np.random.Generator, images: Sequence[int], pids: int, least: int, most: int) -> np.ndarray:
    """Whom each camera asks for, (pids, cameras) bool: ``images[c]`` true in column c, least..most in a row.

    Needs least * pids <= sum(images) <= most * pids and images[c] <= pids.
    """
    asked = np.zeros((pids, len(images)), dtype=bool)
    start = 0
    for camera, count in enumerate(images):  # all rows differ by one at most
        asked[np.arange(start, start + count) % pids, camera] = True
        start += count
    asked = asked[rng.permutation(pids)]
    rows = asked.sum(axis=1)
    moves = rng.integers(pids, size=(10 * start, 2))
    for camera, (giver, taker) in zip(rng.integers(len(images), size=len(moves)), moves, strict=True):
        if asked[giver, camera] and not asked[taker, camera] and rows[giver] > least and rows[taker] < most:
            asked[[giver, taker], camera] = False, True
            rows[[giver, taker]] += -1, 1
    return asked


def share_out(rng: np.random.Generator, seen: np.ndarray, images: Sequence[int]) -> np.ndarray:
    """Images of each person from each camera, (pids, cameras): ``images[c]`` in all from camera c.

    At least one where ``seen`` (pids, cameras) is true, none elsewhere.
    """
    counts = np.zeros(seen.shape, dtype=np.int64)
    for camera, total in enumerate(images):
        rows = np.flatnonzero(seen[:, camera])
        counts[rows, camera] = apportion(total, uneven(rng, len(rows)), np.ones(len(rows), dtype=np.int64))
    return counts


def asking(seed: int, folder: str, shots: Iterable[Shot]) -> Iterator[Shot]:
    """``shots``, ordered by identity and camera; one of each identity and camera moves to ``folder``."""
    for at, track in groupby(shots, key=lambda shot: (shot.pid, shot.camid)):
        own = list(track)
        drawn = int(generator(seed, "query", *at).integers(len(own)))
        own[drawn] = replace(own[drawn], folder=folder)
        yield from own


def crop_size(shot: Shot) -> tuple[int, int]:
    """Width and height in pixels of an image of a data set whose crops differ in size; about 1:2.5."""
    rng = generator("crop", shot.folder, shot.name)
    height = int(rng.integers(128, 225))
    return round(height * float(rng.uniform(0.36, 0.46))), height
