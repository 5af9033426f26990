"""How many images a street in the layout of Market-1501 has."""

from dataclasses import dataclass

from protocols.crosswalk.planning import refuse_unless


@dataclass(frozen=True, slots=True)
class Doubled:
    """Files named ``.jpg.jpg``: all queries and boxes of one test identity, a few others.

    Attributes:
        pid: the test identity whose queries are all doubled; it is seen by every camera.
        good: its images in the gallery.
        gt_bbox: its hand-drawn boxes, queries among them.
        distractors: doubled images of label 0000.
        junk: doubled images of label -1.
    """

    pid: int
    good: int
    gt_bbox: int
    distractors: int
    junk: int


@dataclass(frozen=True, slots=True)
class Size:
    """Number of images and identities, in the terms of the Market-1501 release.

    Attributes:
        name: appears in paths and in ``crosswalk.json``.
        sequences: recording sequences of each camera; its length is the number of cameras (2..6).
        train_pids: identities to train on, at least 3.
        train: training images of each camera, at least ``train_pids`` each.
        test_pids: identities to test on, at least 2.
        query: query images, 2..cameras per test identity.
        good: gallery images of test identities, at least one per query.
        distractors: gallery images of nobody (label 0000).
        junk: gallery images that are to be ignored (label -1).
        gt_bbox_train: hand-drawn boxes of training identities, at least one each.
        gt_bbox_test: hand-drawn boxes of test identities, at least one per query.
        doubled: which files carry a double extension.

    Raises ``StreetError`` when these bounds do not hold.
    """

    name: str
    sequences: tuple[int, ...]
    train_pids: int
    train: tuple[int, ...]
    test_pids: int
    query: int
    good: int
    distractors: int
    junk: int
    gt_bbox_train: int
    gt_bbox_test: int
    doubled: Doubled

    def __post_init__(self) -> None:
        refuse_unless(self.name, self._rules())

    def _rules(self) -> list[tuple[bool, str]]:
        cameras, doubled = self.cameras, self.doubled
        return [
            (
                2 <= cameras <= 6 and all(1 <= s <= 6 for s in self.sequences),
                "2..6 cameras, 1..6 sequences each",
            ),
            (len(self.train) == cameras, "train must state one number per camera"),
            (
                min(self.train, default=0) >= self.train_pids,
                "each camera needs train_pids training images",
            ),
            (
                2 * self.test_pids <= self.query <= cameras * self.test_pids,
                "2..cameras queries per test identity",
            ),
            (self.train_pids >= 3 and self.test_pids >= 2, "at least three training and two test identities"),
            (self.good - doubled.good >= self.query - cameras, "good must be at least one per query"),
            (
                self.gt_bbox_test - doubled.gt_bbox >= self.query - cameras,
                "gt_bbox_test: at least one per query",
            ),
            (
                self.query - cameras >= 2 * (self.test_pids - 1),
                "the doubled identity needs a query in each camera",
            ),
            (min(doubled.good, doubled.gt_bbox) >= cameras, "the doubled identity is seen by every camera"),
            (self.gt_bbox_train >= self.train_pids, "gt_bbox_train must be at least one per identity"),
            (
                doubled.distractors <= self.distractors and doubled.junk <= self.junk,
                "more doubled files than files",
            ),
            (3 <= doubled.pid <= self.pids - 2, "the doubled identity must lie in 3..pids-2"),
            (self.pids <= 9999, "labels have four digits"),
        ]

    @property
    def cameras(self) -> int:
        """Number of cameras."""
        return len(self.sequences)

    @property
    def pids(self) -> int:
        """Number of identities, train and test; labels run from 1 to this."""
        return self.train_pids + self.test_pids


SIZES: dict[str, Size] = {
    size.name: size
    for size in (
        Size(
            name="tiny",
            sequences=(2, 1, 1, 2),
            train_pids=8,
            train=(12, 11, 12, 9),
            test_pids=8,
            query=22,
            good=44,
            distractors=6,
            junk=6,
            gt_bbox_train=12,
            gt_bbox_test=28,
            doubled=Doubled(pid=14, good=5, gt_bbox=5, distractors=1, junk=1),
        ),
        Size(
            name="default",
            sequences=(6, 3, 3, 6, 3, 4),
            train_pids=400,
            train=(400, 400, 420, 400, 400, 420),
            test_pids=100,
            query=300,
            good=1000,
            distractors=100,
            junk=100,
            gt_bbox_train=400,
            gt_bbox_test=600,
            doubled=Doubled(pid=498, good=13, gt_bbox=14, distractors=3, junk=2),
        ),
        Size(
            name="market",
            sequences=(6, 3, 3, 6, 3, 4),
            train_pids=751,
            train=(2017, 1709, 2707, 920, 2338, 3245),
            test_pids=750,
            query=3368,
            good=13115,
            distractors=2798,
            junk=3819,
            gt_bbox_train=12571,
            gt_bbox_test=12688,
            doubled=Doubled(pid=1488, good=13, gt_bbox=14, distractors=3, junk=2),
        ),
    )
}
