"""CUHK03 (Li et al., DeepReID, CVPR 2014), its old protocol: 20 test sets of 100 identities, single shot.

Papers mean different things by it, and mostly do not say which:

==================  =============================  ==================================================
name ends in        each query asks                one image of every other identity comes from
==================  =============================  ==================================================
nothing             from view 1, one an identity   view 2
``/original``       the same; 1,160 identities trained on, 100 held out, camera pairs 4 and 5 unused
``/openreid``       from both views, all of them   the other view
``/torchreid``      from both views, all of them   both views
==================  =============================  ==================================================
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from protocols import two_views
from protocols.base import PROTOCOLS, Counts, Protocol, Record, Rules, SingleShot, Split
from protocols.cuhk03_images import ARCHIVES, DETECTED, FOLDER, LABELED, NEEDS, Release, read_release
from protocols.cuhk03_release import prepare
from protocols.splits import Drawing, DrawnSplits, Item, shuffled

IMAGES = {LABELED: (8177, 4337, 649, 510, 423), DETECTED: (8177, 4337, 650, 510, 423)}
"""Images of each camera pair."""

TESTSETS = 20
TEST_PIDS = 100
TRAIN_PIDS = 1367

ORIGINAL_PAIRS = 3
"""The original split is of the 1,360 identities of the first camera pairs."""

ORIGINAL_TRAIN, ORIGINAL_VAL = 1160, 100

Divide = Callable[[Sequence[Record], frozenset[int], str], Split]
"""All images, the identities to test on and the split's name -> the split."""


@PROTOCOLS.register("cuhk03-labeled")
def labeled() -> Protocol:
    """Hand-drawn boxes; one query of view 1 and one gallery image of view 2 for each identity."""
    return _from_one_view("cuhk03-labeled", (LABELED,))


@PROTOCOLS.register("cuhk03-detected")
def detected() -> Protocol:
    """Detected boxes; one query of view 1 and one gallery image of view 2 for each identity."""
    return _from_one_view("cuhk03-detected", (DETECTED,))


@PROTOCOLS.register("cuhk03-merged")
def merged() -> Protocol:
    """Hand-drawn and detected boxes together."""
    return _from_one_view("cuhk03-merged", (LABELED, DETECTED))


@PROTOCOLS.register("cuhk03-labeled/original")
def labeled_original() -> Protocol:
    """As the data set's paper trains: 1,160 identities, 100 more held out."""
    return _original("cuhk03-labeled/original", LABELED)


@PROTOCOLS.register("cuhk03-detected/original")
def detected_original() -> Protocol:
    """As the data set's paper trains: 1,160 identities, 100 more held out."""
    return _original("cuhk03-detected/original", DETECTED)


@PROTOCOLS.register("cuhk03-labeled/openreid")
def labeled_openreid() -> Protocol:
    """Every test image asks; images of its own view are left out."""
    return _from_both_views("cuhk03-labeled/openreid", (LABELED,))


@PROTOCOLS.register("cuhk03-detected/openreid")
def detected_openreid() -> Protocol:
    """Every test image asks; images of its own view are left out."""
    return _from_both_views("cuhk03-detected/openreid", (DETECTED,))


@PROTOCOLS.register("cuhk03-merged/openreid")
def merged_openreid() -> Protocol:
    """What open-reid trains and tests on unless told otherwise: all boxes, the first test set alone."""
    return _from_both_views("cuhk03-merged/openreid", (LABELED, DETECTED), testsets=1)


@PROTOCOLS.register("cuhk03-labeled/torchreid")
def labeled_torchreid() -> Protocol:
    """Every test image asks; only its own identity is left out in its own view."""
    return _from_both_views("cuhk03-labeled/torchreid", (LABELED,))


@PROTOCOLS.register("cuhk03-detected/torchreid")
def detected_torchreid() -> Protocol:
    """Every test image asks; only its own identity is left out in its own view."""
    return _from_both_views("cuhk03-detected/torchreid", (DETECTED,))


@PROTOCOLS.register("cuhk03-merged/torchreid")
def merged_torchreid() -> Protocol:
    """Every test image asks; only its own identity is left out in its own view."""
    return _from_both_views("cuhk03-merged/torchreid", (LABELED, DETECTED))


def _from_one_view(name: str, kinds: tuple[str, ...]) -> Protocol:
    return _protocol(
        name,
        kinds,
        source="the release's test sets; draws as in zlmzju/part_reid",
        rules=Rules(headline_ap="step"),
        single_shot=SingleShot(probe="drawn", repeats=1),
        counts=_counts(kinds, TRAIN_PIDS, asked_in_both_views=False),
        load=partial(_load, kinds=kinds, testsets=TESTSETS, divide=_one_view),
    )


def _original(name: str, kind: str) -> Protocol:
    return _protocol(
        name,
        (kind,),
        source="Li et al., CVPR 2014; identities held out are drawn here",
        rules=Rules(headline_ap="step"),
        single_shot=SingleShot(probe="drawn", repeats=1),
        counts=_counts((kind,), ORIGINAL_TRAIN, asked_in_both_views=False),
        load=DrawnSplits(partial(_hold_out, name=name), partial(_load_held_out, kind=kind)),
    )


def _from_both_views(name: str, kinds: tuple[str, ...], testsets: int = TESTSETS) -> Protocol:
    openreid = name.endswith("/openreid")
    return _protocol(
        name,
        kinds,
        source="Cysu/open-reid" if openreid else "KaiyangZhou/deep-person-reid, eval_cuhk03",
        rules=Rules(headline_ap="step", same_camera="all" if openreid else "identity"),
        single_shot=SingleShot(probe="every", repeats=10),
        counts=_counts(kinds, TRAIN_PIDS, asked_in_both_views=True),
        load=partial(_load, kinds=kinds, testsets=testsets, divide=_both_views),
    )


def _protocol(
    name: str,
    kinds: tuple[str, ...],
    *,
    source: str,
    rules: Rules,
    single_shot: SingleShot,
    counts: Counts,
    load: Callable[[Path], tuple[Split, ...]],
) -> Protocol:
    return Protocol(
        name=name,
        title="CUHK03",
        source=source,
        folder=FOLDER,
        rules=rules,
        counts=counts,
        load=load,
        explain=partial(_explain, kinds=kinds),
        single_shot=single_shot,
        archives=ARCHIVES,
        prepare=prepare,
        needs=NEEDS,
    )


def _counts(kinds: tuple[str, ...], train_pids: int, asked_in_both_views: bool) -> Counts:
    """Numbers of images depend on the test set.

    One identity lacks a view of its hand-drawn boxes, so that queries of one view may miss it.
    """
    all_asked = asked_in_both_views or DETECTED in kinds
    return Counts(
        train_pids=train_pids,
        query_pids=TEST_PIDS if all_asked else None,
        test_pids=TEST_PIDS,
        cameras=2,
        images=sum(sum(IMAGES[kind]) for kind in kinds),
    )


def _load(root: Path, kinds: tuple[str, ...], testsets: int, divide: Divide) -> tuple[Split, ...]:
    release = read_release(root)
    images = _images(release, kinds)
    return tuple(divide(images, tested, str(i)) for i, tested in enumerate(release.testsets[:testsets]))


def _images(release: Release, kinds: tuple[str, ...]) -> list[Record]:
    images = [record for kind in kinds for record in release.records(kind)]
    return sorted(images, key=lambda record: (record.path.name, record.path))  # an identity's together


def _one_view(images: Sequence[Record], tested: frozenset[int], name: str) -> Split:
    """Queries of view 1, gallery of view 2."""
    return two_views.split(images, {record.pid for record in images} - tested, tested, name)


def _both_views(images: Sequence[Record], tested: frozenset[int], name: str) -> Split:
    """All test images are queries and gallery."""
    test = tuple(record for record in images if record.pid in tested)
    train = tuple(record for record in images if record.pid not in tested)
    return Split(train, query=test, gallery=test, name=name)


def _hold_out(root: Path, name: str) -> Drawing:
    """Identities to train on and to hold out, for each test set of the release at ``root``.

    Of 1,260 that are left for it, 1,160 and 100; the same shares of fewer.
    """
    release = read_release(root)
    pids = range(1, sum(release.pairs[:ORIGINAL_PAIRS]) + 1)
    splits = {}
    for i, tested in enumerate(release.testsets):
        order = shuffled((pid for pid in pids if pid not in tested), "cuhk03/original", str(i))
        held_out = min(ORIGINAL_VAL, round(len(order) * ORIGINAL_VAL / (ORIGINAL_TRAIN + ORIGINAL_VAL)))
        parts = {
            "val": order[:held_out],
            "train": order[held_out : held_out + ORIGINAL_TRAIN],
            "test": tested,
        }
        splits[str(i)] = {part: tuple(sorted(chosen)) for part, chosen in parts.items()}
    rule = "identities by the SHA-256 of cuhk03/original, split and identity, a line each; the first are val"
    return Drawing(name, rule, range(1, sum(release.pairs) + 1), splits)


def _load_held_out(root: Path, drawing: Drawing, kind: str) -> tuple[Split, ...]:
    images = _images(read_release(root), (kind,))
    return tuple(_with_val(images, parts, name) for name, parts in drawing.splits.items())


def _with_val(images: Sequence[Record], parts: Mapping[str, Sequence[Item]], name: str) -> Split:
    """``_one_view`` of drawn identities, with some of them held out."""
    train, val, test = ({int(pid) for pid in parts[part]} for part in ("train", "val", "test"))
    held_out = tuple(record for record in images if record.pid in val)
    return replace(two_views.split(images, train, test, name), val=held_out)


def _explain(root: Path, split: Split, kinds: tuple[str, ...]) -> list[str]:
    """Where the images differ from the release's, by camera pair; the same for all splits."""
    if split.name != "0":
        return []
    release = read_release(root)
    found = []
    if len(release.testsets) != TESTSETS:
        found.append(f"test sets: found {len(release.testsets)}, expected {TESTSETS}")
    for kind in kinds:
        pairs = Counter(release.pair(record.pid) for record in release.records(kind))
        found += [
            f"{kind} images of camera pair {pair}: found {pairs[pair]:,}, expected {expected:,}"
            for pair, expected in enumerate(IMAGES[kind], 1)
            if pairs[pair] != expected
        ]
    return found
