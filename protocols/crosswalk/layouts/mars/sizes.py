"""How many tracklets a street in the layout of MARS has, and how long they are."""

from dataclasses import dataclass
from typing import NamedTuple

from protocols.crosswalk.planning import refuse_unless


class Part(NamedTuple):
    """Training or test half.

    Attributes:
        pids: identities; junk and distractors aside.
        tracklets: of everybody, junk and distractors among them.
        boxes: images of all tracklets.
        shortest: images of the shortest tracklet.
        longest: images of the longest tracklet.
    """

    pids: int
    tracklets: int
    boxes: int
    shortest: int
    longest: int

    def fits(self) -> bool:
        """Whether tracklets between the shortest and the longest can have so many boxes."""
        others = self.tracklets - 1
        least = others * self.shortest + self.longest
        most = others * self.longest + self.shortest
        return self.tracklets >= 2 and 1 <= self.shortest <= self.longest and least <= self.boxes <= most


@dataclass(frozen=True, slots=True)
class Size:
    """Number of tracklets, images and identities, in the terms of the MARS release.

    Who is asked for has one query in each camera that sees them; who is not is seen by one camera.

    Attributes:
        name: appears in paths and in ``crosswalk.json``.
        cameras: 3..6.
        train: identities to train on, at least 3.
        test: test identities and all else before the cameras.
        query_pids: identities asked for, at least as many as cameras.
        query: queries, 2..cameras an identity asked for.
        distractors: test tracklets of nobody who is asked for (label 0000).
        junk: test tracklets that are to be ignored (label 00-1).
        lonely: queries whose person other cameras show in queries only, fewer than ``query_pids``.

    Raises ``StreetError`` when these bounds do not hold.
    """

    name: str
    cameras: int
    train: Part
    test: Part
    query_pids: int
    query: int
    distractors: int
    junk: int
    lonely: int

    def __post_init__(self) -> None:
        refuse_unless(self.name, self._rules())

    def _rules(self) -> list[tuple[bool, str]]:
        needed = self.query + 2 * self.query_pids + self.unasked
        return [
            (3 <= self.cameras <= 6, "3..6 cameras"),
            (self.train.pids >= max(3, self.cameras), "at least as many training identities as cameras"),
            (self.train.tracklets >= 2 * self.train.pids, "two training tracklets per identity"),
            (self.cameras <= self.query_pids <= self.test.pids, "query_pids must lie in cameras..test.pids"),
            (
                2 * self.query_pids <= self.query <= self.cameras * self.query_pids,
                "2..cameras queries per identity asked for",
            ),
            (self.people >= needed, "test tracklets: too few for the queries and what they shall find"),
            (0 <= self.lonely < self.query_pids, "lonely must be below query_pids"),
            (self.junk >= 0 and self.distractors >= 0, "junk and distractors cannot be negative"),
            (self.train.fits() and self.test.fits(), "boxes: too few or too many for the tracklets"),
            (self.train.pids + self.test.pids <= 8000, "labels have four digits"),
        ]

    @property
    def people(self) -> int:
        """Test tracklets of test identities."""
        return self.test.tracklets - self.distractors - self.junk

    @property
    def unasked(self) -> int:
        """Test identities that are not asked for."""
        return self.test.pids - self.query_pids


SIZES: dict[str, Size] = {
    size.name: size
    for size in (
        Size(
            name="tiny",
            cameras=3,
            train=Part(pids=8, tracklets=20, boxes=110, shortest=2, longest=12),
            test=Part(pids=8, tracklets=40, boxes=190, shortest=2, longest=12),
            query_pids=7,
            query=16,
            distractors=4,
            junk=3,
            lonely=3,
        ),
        Size(
            name="default",
            cameras=6,
            train=Part(pids=60, tracklets=300, boxes=4200, shortest=3, longest=60),
            test=Part(pids=62, tracklets=420, boxes=5400, shortest=2, longest=80),
            query_pids=60,
            query=190,
            distractors=60,
            junk=20,
            lonely=14,
        ),
        Size(
            name="release",
            cameras=6,
            train=Part(pids=625, tracklets=8298, boxes=509_914, shortest=5, longest=900),
            test=Part(pids=634, tracklets=12_180, boxes=681_089, shortest=2, longest=920),
            query_pids=626,
            query=1980,
            distractors=3248,
            junk=870,
            lonely=140,
        ),
    )
}
