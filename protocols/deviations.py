"""Habits of well-known evaluators that change numbers: never on by themselves, and named where they are on.

``ap-top-50``
    Average precision sums the matches among the first 50 ranks, after junk is removed, and still
    divides by the number of all matches. ``trainers/evaluator.py`` (``eval_func_gpu``) of
    daizuozhuo/batch-dropblock-network, the code base of BDB and of those built upon it.
``truncate-4000``
    The ranked list is cut behind its first 4,000 images, before junk is removed: what lies behind
    does not exist for CMC and average precision, which still divides by the number of all matches.
    ``evaluation_res_duke_fast.m`` and ``compute_AP.m`` of sxzrt/DukeMTMC-reID_evaluation, as
    hou-yz/DeepCC-local carries them below ``src/external``.
``drop-matchless``
    Queries without a true match leave all means: ``torchreid/metrics/rank.py`` of
    KaiyangZhou/deep-person-reid, ``reid/evaluation_metrics/ranking.py`` of Cysu/open-reid.
``zero-matchless``
    They count as misses with average precision 0: ``evaluation.m`` of zhunzhong07/person-re-ranking.

mINP knows no cut, as none of those evaluators reports it.
"""

from collections.abc import Collection
from dataclasses import replace
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from protocols.arrays import InputError
from protocols.base import Rules
from protocols.ranking import Ints

DEVIATIONS = ("ap-top-50", "truncate-4000", "drop-matchless", "zero-matchless")

AP_REACH = 50
LIST_LENGTH = 4_000

Reached = NDArray[np.float64]
"""Ranks, infinite where an evaluator does not get to the match."""


def check_deviations(names: str | Collection[str]) -> tuple[str, ...]:
    """``names``, or one name, in the order of ``DEVIATIONS``. Raises ``InputError`` for a senseless one."""
    names = (names,) if isinstance(names, str) else names
    for name in names:
        if name not in DEVIATIONS:
            near = get_close_matches(name, DEVIATIONS, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise InputError(f"unknown deviation {name!r}: {hint}known: {', '.join(DEVIATIONS)}")
    if {"drop-matchless", "zero-matchless"} <= set(names):
        raise InputError("drop-matchless and zero-matchless exclude each other; give one of them")
    return tuple(name for name in DEVIATIONS if name in names)


def deviate(rules: Rules, deviations: Collection[str]) -> Rules:
    """``rules`` with what ``deviations`` say about queries without a true match."""
    if "drop-matchless" in deviations:
        return replace(rules, matchless="drop")
    return replace(rules, matchless="zero") if "zero-matchless" in deviations else rules


def acts_on(name: str, *, single_shot: bool) -> str:
    """The metrics that a deviation can change."""
    if name == "ap-top-50":
        return "average precision"
    if name == "truncate-4000":
        return "average precision and the ranks of all shots" if single_shot else "CMC and average precision"
    return "all means"


def why_idle(name: str, rules: Rules, images: int, matchless: int) -> str:
    """Why a deviation changes nothing here; empty where it can.

    Args:
        name: one of ``DEVIATIONS``.
        rules: the protocol's own.
        images: number of gallery images.
        matchless: number of queries without a true match.
    """
    cut = {"ap-top-50": AP_REACH, "truncate-4000": LIST_LENGTH}.get(name)
    if cut:
        return f"the gallery has {images:,} images, so nothing is cut" if images <= cut else ""
    if name == f"{rules.matchless}-matchless":
        return "the protocol's own rule"
    return "" if matchless else "every query has a true match"


def reach(rank: Ints, unfiltered: Ints, deviations: Collection[str]) -> tuple[Reached, Reached]:
    """Ranks as CMC and as average precision see them.

    Args:
        rank: (M,) among the images that count.
        unfiltered: (M,) ranks of the same matches among all images of the gallery.
        deviations: names of ``DEVIATIONS``.

    Returns:
        Two (M,) float64 arrays, infinite behind a cut.
    """
    listed = rank.astype(np.float64)
    if "truncate-4000" in deviations:
        listed[unfiltered > LIST_LENGTH] = np.inf
    summed = listed.copy()
    if "ap-top-50" in deviations:
        summed[listed > AP_REACH] = np.inf
    return listed, summed
