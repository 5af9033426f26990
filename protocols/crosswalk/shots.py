"""Which images a street has: names, labels and who is in them, all known before one is rendered."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

Content = Literal["person", "fragment", "nobody"]


class Subject(NamedTuple):
    """Who is in an image.

    Attributes:
        name: decides walk and pose, for example ``"pid 12"``.
        look: decides appearance; the two members of a pair of confusers share it.
        swapped: the second member of a pair, whose colours change places.
    """

    name: str
    look: str
    swapped: bool = False


class Moment(NamedTuple):
    """When a frame of a tracklet was taken, seconds.

    Attributes:
        elapsed: since the tracklet's first frame.
        lasting: from the tracklet's first frame to its last; decides how far somebody can walk.
    """

    elapsed: float
    lasting: float


@dataclass(frozen=True, slots=True)
class Shot:
    """One image file, not yet rendered.

    ``step`` counts the subject's frames in this sequence; ``box`` is 0 where the box is hand-drawn.
    ``scene`` is ``"fragment"`` for a box that holds a small part of a person and ``"nobody"`` for
    a false detection. ``moment`` is None for a still. Frames with a moment that share subject,
    camera and sequence are one tracklet: what is drawn at random is drawn once for all of them.
    """

    folder: str
    name: str
    pid: int
    camid: int
    sequence: int
    frame: int
    step: int
    box: int
    subject: Subject
    scene: Content = "person"
    moment: Moment | None = None
