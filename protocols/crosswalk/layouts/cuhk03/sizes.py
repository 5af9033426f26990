"""How many images a street in the layout of CUHK03 has."""

from dataclasses import dataclass

from protocols.crosswalk.planning import refuse_unless

PAIRS = 5  # of cameras
PER_VIEW = 5  # cells of an identity and view; some are empty
OLD_PAIRS = 3  # the old protocol tests identities of the first three camera pairs
LACKING_PAIR = 3  # of the identity that the hand-drawn boxes show in one view only
TESTSET = 100  # identities of an old test set


@dataclass(frozen=True, slots=True)
class Size:
    """Number of images and identities, in the terms of the CUHK03 release; tuples by camera pair.

    Two identities and one image make ``labeled`` differ from ``detected``: an identity of pair 3
    lacks a view, and one of the new protocol's test identities in pair 1 is another.

    Attributes:
        name: appears in paths and in ``crosswalk.json``.
        pids: identities of each of the five camera pairs, 2..999.
        images: detected images, ten an identity unless cells are empty; pair 3 has one fewer labeled.
        test_pids: the new protocol's test identities, one or more in pair 1; pairs 1 and 3 need
            another identity to train on.
        test_images: detected images of test identities, queries and gallery.
        fewer: by how much hand-drawn images of test identities are fewer, 0..6.

    Raises ``StreetError`` when these bounds do not hold.
    """

    name: str
    pids: tuple[int, ...]
    images: tuple[int, ...]
    test_pids: tuple[int, ...]
    test_images: int
    fewer: int

    def __post_init__(self) -> None:
        refuse_unless(self.name, self._rules())

    def _rules(self) -> list[tuple[bool, str]]:
        if not PAIRS == len(self.pids) == len(self.images) == len(self.test_pids):
            return [(False, f"pids, images and test_pids state one number for each of {PAIRS} camera pairs")]
        leave = [pair in (1, LACKING_PAIR) for pair in range(1, PAIRS + 1)]
        least, most = self.empty_bounds()
        return [
            (all(2 <= count <= 999 for count in self.pids), "2..999 identities per camera pair"),
            (self.test_pids[0] >= 1, "camera pair 1 needs a test identity"),
            (
                all(t + n <= p for t, n, p in zip(self.test_pids, leave, self.pids, strict=True)),
                "more test identities than identities; pairs 1 and 3 also need one to train on",
            ),
            (0 <= self.fewer <= 6, "fewer must lie in 0..6"),
            (
                all(low <= high for low, high in zip(least, most, strict=True)),
                "images per camera pair: too few or too many for its identities",
            ),
            (
                sum(least) <= self.test_empty <= sum(most),
                "test_images: too few or too many for the test identities and images",
            ),
        ]

    @property
    def empty(self) -> tuple[int, ...]:
        """Empty cells of ``detected`` in each camera pair."""
        return tuple(2 * PER_VIEW * p - n for p, n in zip(self.pids, self.images, strict=True))

    @property
    def test_empty(self) -> int:
        """Empty cells of ``detected`` that belong to test identities."""
        return 2 * PER_VIEW * sum(self.test_pids) - self.test_images

    def train_empty(self, pair: int) -> int:
        """Empty cells of training identities in camera pair ``pair`` that are decided beforehand."""
        return (self.fewer if pair == 1 else 0) + (PER_VIEW - 1 if pair == LACKING_PAIR else 0)

    def room(self, pair: int) -> tuple[int, int]:
        """How many more cells can be empty for the test and for the training identities of a pair.

        A test identity keeps two images in each view, any other one.
        """
        train = self.pids[pair - 1] - self.test_pids[pair - 1] - (pair in (1, LACKING_PAIR))
        test = self.test_pids[pair - 1] - (pair == 1)
        return 2 * (PER_VIEW - 2) * test, 2 * (PER_VIEW - 1) * train

    def empty_bounds(self) -> tuple[list[int], list[int]]:
        """Least and greatest number of empty cells of test identities in each camera pair."""
        least, most = [], []
        for pair, empty in enumerate(self.empty, start=1):
            free = empty - self.train_empty(pair)
            test, train = self.room(pair)
            least.append(max(0, free - train))
            most.append(min(test, free))
        return least, most

    @property
    def testset_pids(self) -> int:
        """Identities of each old test set."""
        return testset_pids(sum(self.pids[:OLD_PAIRS]) - 1)


def testset_pids(eligible: int) -> int:
    """Identities of an old test set: 100, or three quarters of those that can be tested if they are few."""
    return min(TESTSET, 3 * eligible // 4)


SIZES: dict[str, Size] = {
    size.name: size
    for size in (
        Size(
            name="tiny",
            pids=(8, 4, 2, 2, 2),
            images=(74, 38, 15, 18, 19),
            test_pids=(3, 2, 1, 1, 0),
            test_images=66,
            fewer=2,
        ),
        Size(
            name="default",
            pids=(172, 90, 16, 12, 10),
            images=(1668, 887, 135, 106, 86),
            test_pids=(56, 30, 5, 5, 4),
            test_images=962,
            fewer=4,
        ),
        Size(
            name="release",
            pids=(843, 440, 77, 58, 49),
            images=(8177, 4337, 650, 510, 423),
            test_pids=(416, 212, 28, 23, 21),
            test_images=6732,
            fewer=4,
        ),
    )
}
