"""Which images of a street a contact sheet shows."""

from collections.abc import Iterable, Sequence
from itertools import groupby, islice
from typing import TypeVar

from protocols.crosswalk.render import render_shot
from protocols.crosswalk.shots import Shot, Subject
from protocols.crosswalk.truth import OCCLUDER
from protocols.crosswalk.walks import Street

COLUMNS = 12  # images in a row
IDENTITIES = 6
PAIRS = 2
HIDDEN = 0.08  # share of an image behind which somebody counts as hidden
TRIED = 10 * COLUMNS  # images that are rendered to find hidden people

T = TypeVar("T")


def by_camera(shots: Sequence[Shot]) -> list[list[Shot]]:
    """A row for each identity that is seen most, in order of camera."""
    rows = (_across_cameras(own) for own in _by_subject(_people(shots)).values())
    return sorted(rows, key=len, reverse=True)[:IDENTITIES]


def confusers(shots: Sequence[Shot]) -> list[list[Shot]]:
    """Two rows for each pair of confusers, one for either."""
    pairs: dict[str, list[list[Shot]]] = {}
    for subject, own in _by_subject(_people(shots)).items():
        if subject.look.startswith("pair"):
            pairs.setdefault(subject.look, []).append(_across_cameras(own))
    return [row for pair in islice(pairs.values(), PAIRS) for row in pair]


def boxes(shots: Sequence[Shot]) -> list[list[Shot]]:
    """The same frames twice: boxes drawn by hand, then the detector's; no rows where there is one kind."""
    drawn, detected = ({_frame(s): s for s in shots if (s.box == 0) == by_hand} for by_hand in (True, False))
    both = _spread([frame for frame in drawn if frame in detected], COLUMNS)
    return [[kind[frame] for frame in both] for kind in (drawn, detected)] if both else []


def occluded(shots: Sequence[Shot], street: Street) -> list[list[Shot]]:
    """People with something in front of them, at most one image of anybody's way past a camera."""
    some = _spread(_one_a_track(_people(shots)), TRIED)
    hidden = (s for s in some if (render_shot(street, s).parts == OCCLUDER).mean() > HIDDEN)
    return _row(islice(hidden, COLUMNS))


def people(shots: Sequence[Shot]) -> list[list[Shot]]:
    """Anybody who has a label of their own."""
    return _row(_spread(_one_a_track(_people(shots)), COLUMNS))


def strays(shots: Sequence[Shot]) -> list[list[Shot]]:
    """Distractors and junk, an image of each."""
    found = {shot.subject: shot for shot in shots if not _labelled(shot)}
    return _row(_spread(sorted(found.values(), key=lambda shot: shot.pid), COLUMNS))


def _labelled(shot: Shot) -> bool:
    """Whether somebody with a label of their own is there; 0 is an ordinary label in some layouts."""
    return shot.scene == "person" and shot.subject.name.startswith("pid")


def _people(shots: Sequence[Shot]) -> list[Shot]:
    """People by identity, camera and sequence, each frame once; of a tracklet its first and middle frame."""
    frames = {_frame(shot): shot for shot in sorted(shots, key=lambda s: s.box) if _labelled(shot)}
    return [
        shot for _, track in groupby(sorted(frames.values(), key=_frame), _track) for shot in _apart(track)
    ]


def _frame(shot: Shot) -> tuple[Subject, int, int, int]:
    return *_track(shot), shot.frame


def _track(shot: Shot) -> tuple[Subject, int, int]:
    return shot.subject, shot.camid, shot.sequence


def _apart(track: Iterable[Shot]) -> list[Shot]:
    """Frames of one track that are not almost the same image."""
    own = list(track)
    return own if own[0].moment is None else [own[at] for at in sorted({0, len(own) // 2})]


def _one_a_track(shots: Sequence[Shot]) -> list[Shot]:
    return list({_track(shot): shot for shot in shots}.values())


def _by_subject(shots: Sequence[Shot]) -> dict[Subject, list[Shot]]:
    return {subject: list(own) for subject, own in groupby(shots, lambda shot: shot.subject)}


def _across_cameras(own: Sequence[Shot]) -> list[Shot]:
    """One image from every camera, and a second one from as many as fit; different tracklets if there are."""
    in_order = sorted(own, key=lambda shot: (shot.camid, shot.step))
    cameras = [list(seen) for _, seen in groupby(in_order, lambda shot: shot.camid)]
    chosen = [seen[turn] for turn in (0, 1) for seen in cameras if len(seen) > turn][:COLUMNS]
    return sorted(chosen, key=lambda shot: shot.camid)


def _spread(items: Sequence[T], most: int) -> list[T]:
    """At most so many items at even distances."""
    return list(items[:: -(-len(items) // most) or 1])


def _row(shots: Iterable[Shot]) -> list[list[Shot]]:
    """One row, or none if there is nothing to show."""
    row = list(shots)
    return [row] if row else []
