"""CUHK03-NP (Zhong et al., CVPR 2017): CUHK03 in the form of Market-1501, drawn and detected boxes apart."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from protocols.crosswalk.dials import Dials
from protocols.crosswalk.layouts.base import Layout
from protocols.crosswalk.planning import asking, crop_size, parted, refuse_unless, subjects_of
from protocols.crosswalk.seeding import generator
from protocols.crosswalk.shots import Shot, Subject

VARIANTS = ("labeled", "detected")
TRAIN, GALLERY, QUERY = "bounding_box_train", "bounding_box_test", "query"
VIEWS = 2
MOST = 5  # images of an identity from one view
FEWEST = 4  # detected images of the identity that is trained on only where boxes are detected
README = """A rendered street in the layout of CUHK03-NP. All people in it are synthetic.

labeled, detected   the same frames with boxes drawn by hand, and with those of an erring detector
bounding_box_train  training images, IDENTITY_cVIEW_NUMBER.png
bounding_box_test   gallery images
query               one image for each test identity and view
crosswalk.json      what was rendered: version, size, seed, dials and counts
names.txt           every file of the release

One identity is trained on in labeled and tested on in detected, another one the other way round: as
in the release, who trains on one variant and tests on the other has seen one test identity.
"""


class Part(NamedTuple):
    """Numbers of images of one variant; there are two queries for each test identity beside them."""

    train: int
    gallery: int


@dataclass(frozen=True, slots=True)
class Size:
    """Number of images of either variant, and of identities.

    One image of the detected variant has no counterpart: a training identity has nothing else in
    that view. One identity changes from test to training between the variants, another one back.

    Attributes:
        name: appears in paths and in ``crosswalk.json``.
        train_pids: identities to train on, at least 3.
        test_pids: identities to test on, at least 2.
        labeled: images with boxes drawn by hand.
        detected: images with detected boxes, one more in all than ``labeled``.

    Raises ``StreetError`` when these bounds do not hold, or identities cannot have 1..5 images (test
    identities: 2..5) from either view.
    """

    name: str
    train_pids: int
    test_pids: int
    labeled: Part
    detected: Part

    def __post_init__(self) -> None:
        refuse_unless(self.name, self._rules())

    def _rules(self) -> Iterator[tuple[bool, str]]:
        yield self.train_pids >= 3 and self.test_pids >= 2, "at least three training and two test identities"
        yield sum(self.detected) == sum(self.labeled) + 1, "one detected image more than labeled ones"
        yield 0 <= self.exchanged <= 6, "labeled must have at most 5 training images more than detected"
        train, test = self.common
        cells = VIEWS * (self.train_pids - 1) - 1
        yield cells < train <= MOST * cells + 1, "1..5 images of each training identity from either view"
        cells = VIEWS * (self.test_pids - 1)
        yield 2 * cells <= test <= MOST * cells, "2..5 images of each test identity from either view"
        yield self.train_pids + self.test_pids <= 9999, "labels have four digits"

    @property
    def exchanged(self) -> int:
        """By how many images the two identities differ that change sides."""
        return self.labeled.train - self.detected.train + 1

    @property
    def common(self) -> tuple[int, int]:
        """Detected images of identities that are trained on, and tested on, in both variants."""
        test = self.detected.gallery + VIEWS * self.test_pids
        return self.detected.train - FEWEST, test - FEWEST - self.exchanged


SIZES = {
    size.name: size
    for size in (
        Size("tiny", 6, 6, labeled=Part(45, 36), detected=Part(44, 38)),
        Size("default", 200, 120, labeled=Part(1923, 922), detected=Part(1920, 926)),
        Size("release", 767, 700, labeled=Part(7368, 5328), detected=Part(7365, 5332)),
    )
}


def plan(size: Size, seed: int, dials: Dials) -> tuple[Shot, ...]:
    """Both variants; the same people, frames and views, boxes and queries of their own."""
    rng = generator(seed, "labels")
    labels = range(1, size.train_pids + size.test_pids + 1)
    train, test = parted(rng, labels, size.train_pids, size.test_pids)
    subjects = subjects_of(train, seed, dials.confusers) | subjects_of(test, seed, dials.confusers)
    frames = _frames(size, seed, train, test)
    labeled = {at: count for at, count in frames.items() if at != (train[1], 2)}
    shots = (
        *_variant("labeled", labeled, {*train[1:], test[0]}, seed, subjects),
        *_variant("detected", frames, set(train), seed, subjects),
    )
    return tuple(sorted(shots, key=lambda shot: (shot.folder, shot.name)))


def _frames(size: Size, seed: int, train: Sequence[int], test: Sequence[int]) -> dict[tuple[int, int], int]:
    """Detected images of each identity and view.

    The first identity of each part changes sides between the variants; the second training
    identity has one image from view 2.
    """
    rng = generator(seed, "frames")
    in_train, in_test = size.common
    cells = [
        (pid, camid) for pid in (*train[1:], *test[1:]) for camid in (1, 2) if (pid, camid) != (train[1], 2)
    ]
    trained = VIEWS * (size.train_pids - 1) - 1
    drawn = (
        *_between(rng, trained, in_train - 1, least=1),
        *_between(rng, len(cells) - trained, in_test, least=2),
    )
    more = size.exchanged // 2
    own = {(train[1], 2): 1, (train[0], 1): 2, (train[0], 2): 2}
    other = {(test[0], 1): 2 + size.exchanged - more, (test[0], 2): 2 + more}
    return dict(zip(cells, drawn, strict=True)) | own | other


def _between(rng: np.random.Generator, cells: int, total: int, least: int) -> list[int]:
    """``cells`` random numbers of ``least``..``MOST`` that add up to ``total``."""
    room = MOST - least
    lost = rng.choice(cells * room, MOST * cells - total, replace=False) // room
    return [int(n) for n in MOST - np.bincount(lost, minlength=cells)]


def _variant(
    name: str,
    frames: Mapping[tuple[int, int], int],
    train: set[int],
    seed: int,
    subjects: Mapping[int, Subject],
) -> Iterator[Shot]:
    """One variant's images, numbered through in order of identity and view."""
    box = 0 if name == "labeled" else 1
    number = 0
    tested = []
    for (pid, camid), count in sorted(frames.items()):
        for step in range(count):
            number += 1
            folder = f"{name}/{TRAIN if pid in train else GALLERY}"
            file = f"{pid:04d}_c{camid}_{number}.png"
            shot = Shot(folder, file, pid, camid, 1, step + 1, step, box, subjects[pid])
            if pid in train:
                yield shot
            else:
                tested.append(shot)
    yield from asking(seed, f"{name}/{QUERY}", tested)


def encode(image: np.ndarray, quality: int, shot: Shot) -> bytes:  # noqa: ARG001
    """A PNG; boxes were never brought to one size."""
    from protocols.crosswalk.develop import png, resized

    return png(resized(image, *crop_size(shot)))


def complete(root: Path, shots: Sequence[Shot]) -> None:  # noqa: ARG001
    """A readme."""
    (root / "readme.txt").write_text(README, encoding="utf-8")


def counts(size: Size, shots: Sequence[Shot]) -> dict[str, dict[str, int]]:
    """Of each variant."""
    files = Counter(shot.folder for shot in shots)
    return {
        f"cuhk03-np-{name}": {
            "train": files[f"{name}/{TRAIN}"],
            "query": files[f"{name}/{QUERY}"],
            "gallery": files[f"{name}/{GALLERY}"],
            "train_pids": size.train_pids,
            "query_pids": size.test_pids,
        }
        for name in VARIANTS
    }


LAYOUT = Layout(
    name="cuhk03-np",
    root="cuhk03-np",
    sizes=SIZES,
    plan=plan,
    encode=encode,
    complete=complete,
    counts=counts,
)
