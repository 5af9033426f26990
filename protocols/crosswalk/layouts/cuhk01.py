"""CUHK01 (Li et al., ACCV 2012): two views, two images of everybody from each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from protocols.crosswalk.dials import Dials
from protocols.crosswalk.layouts.base import Layout
from protocols.crosswalk.planning import refuse_unless, subjects_of
from protocols.crosswalk.shots import Shot

PER_VIEW = 2  # images of an identity
VIEWS = 2
RELEASED_PIDS = 971
WIDTH, HEIGHT = 60, 160  # pixels
README = """A rendered street in the layout of the CUHK01 release. All people in it are synthetic.

IIIINNN.png     image NNN (001, 002 from view A; 003, 004 from view B) of identity IIII
crosswalk.json  what was rendered: version, size, seed, dials and counts
names.txt       every file of the release
"""


@dataclass(frozen=True, slots=True)
class Size:
    """Number of identities, each with two images from either view.

    Attributes:
        name: appears in paths and in ``crosswalk.json``.
        pids: identities, labelled 1..pids; 4..971.

    Raises ``StreetError`` when these bounds do not hold.
    """

    name: str
    pids: int

    def __post_init__(self) -> None:
        holds = 4 <= self.pids <= RELEASED_PIDS
        refuse_unless(self.name, [(holds, f"4..{RELEASED_PIDS} identities")])


SIZES = {size.name: size for size in (Size("tiny", 24), Size("default", 300), Size("release", RELEASED_PIDS))}


def plan(size: Size, seed: int, dials: Dials) -> tuple[Shot, ...]:
    """Everybody twice in either view; images 001 and 002 from view A, 003 and 004 from view B."""
    labels = range(1, size.pids + 1)
    subjects = subjects_of(labels, seed, dials.confusers)
    return tuple(
        Shot(
            folder="",
            name=f"{pid:04d}{1 + PER_VIEW * view + step:03d}.png",
            pid=pid,
            camid=view + 1,
            sequence=1,
            frame=step + 1,
            step=step,
            box=0,
            subject=subjects[pid],
        )
        for pid in labels
        for view in range(VIEWS)
        for step in range(PER_VIEW)
    )


def encode(image: np.ndarray, quality: int, shot: Shot) -> bytes:  # noqa: ARG001
    """A PNG, 60 x 160."""
    from protocols.crosswalk.develop import png, resized

    return png(resized(image, WIDTH, HEIGHT))


def complete(root: Path, shots: Sequence[Shot]) -> None:  # noqa: ARG001
    """A readme."""
    (root / "readme.txt").write_text(README, encoding="utf-8")


def counts(size: Size, shots: Sequence[Shot]) -> dict[str, dict[str, int]]:  # noqa: ARG001
    """With 100 and with 486 identities to test on, or the larger half where that is less."""
    tested = {number: min(number, size.pids - size.pids // 2) for number in (100, 486)}
    return {
        f"cuhk01-{number}": {
            "train": PER_VIEW * VIEWS * (size.pids - test_pids),
            "query": PER_VIEW * test_pids,
            "gallery": PER_VIEW * test_pids,
            "train_pids": size.pids - test_pids,
            "query_pids": test_pids,
        }
        for number, test_pids in tested.items()
    }


LAYOUT = Layout(
    name="cuhk01", root="campus", sizes=SIZES, plan=plan, encode=encode, complete=complete, counts=counts
)
