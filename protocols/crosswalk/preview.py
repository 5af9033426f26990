"""A contact sheet, to judge a street by eye before rendering it."""

from collections import Counter
from collections.abc import Callable, Sequence
from io import BytesIO
from itertools import islice

import numpy as np
from PIL import Image, ImageDraw

from protocols.crosswalk.develop import jpeg
from protocols.crosswalk.render import Rendered, render_shot
from protocols.crosswalk.scene import HEIGHT, WIDTH
from protocols.crosswalk.shots import Shot, Subject
from protocols.crosswalk.truth import OCCLUDER, PARTS, VISIBLE
from protocols.crosswalk.walks import Street

COLUMNS = 12
TITLE_HEIGHT = 14
ZOOM = 2
PAPER = 244  # grey level

Tile = np.ndarray
PART_COLOURS = np.random.default_rng(5).integers(40, 255, (len(PARTS), 3))
PART_COLOURS[0] = 0


def contact_sheet(shots: Sequence[Shot], street: Street) -> Image.Image:
    """Identities by camera, confusers, occlusion, boxes, joints and parts, strays; twice the real size."""
    frames = {(s.subject, s.camid, s.frame): s for s in sorted(shots, key=lambda s: s.box)}
    alone = Counter(subject for subject, _, _ in frames)
    people = [shot for shot in frames.values() if alone[shot.subject] > 1]
    strays = [shot for shot in frames.values() if alone[shot.subject] == 1]
    hidden = _occluded(street, people)
    sections = [
        ("one identity a row, cameras from left to right", _by_camera(street, people)),
        (
            "confusers: two identities a pair of rows, the same colours in other places",
            _confusers(street, people),
        ),
        ("boxes of the same frames: drawn by hand above, detected below", _boxes(street, shots)),
        ("occlusion", [hidden[:COLUMNS]]),
        ("joints (filled: visible) and parts", _truths(street, people)),
        (
            "distractors and junk",
            [[_plain(street, shot) for shot in strays[:: max(1, len(strays) // COLUMNS)]]],
        ),
    ]
    strips = [strip for title, rows in sections if any(rows) for strip in (_title(title), *map(_row, rows))]
    sheet = Image.fromarray(np.concatenate(strips))
    return sheet.resize((ZOOM * sheet.width, ZOOM * sheet.height), Image.Resampling.BICUBIC)


def _compressed(image: np.ndarray) -> Tile:
    return np.asarray(Image.open(BytesIO(jpeg(image, 85))))


def _plain(street: Street, shot: Shot) -> Tile:
    return _compressed(render_shot(street, shot).image)


def _row(tiles: Sequence[Tile]) -> np.ndarray:
    blank = np.full((HEIGHT, WIDTH, 3), PAPER, dtype=np.uint8)
    padded = [*tiles, *([blank] * COLUMNS)][:COLUMNS]
    return np.concatenate(padded, axis=1)


def _title(text: str) -> np.ndarray:
    strip = Image.new("RGB", (COLUMNS * WIDTH, TITLE_HEIGHT), (PAPER,) * 3)
    ImageDraw.Draw(strip).text((3, 1), text, fill=(20, 20, 20))
    return np.asarray(strip)


def _by_subject(shots: Sequence[Shot]) -> dict[Subject, list[Shot]]:
    """Shots of each identity, at most two a camera, ordered by camera."""
    found: dict[Subject, list[Shot]] = {}
    for shot in sorted(shots, key=lambda s: (s.subject, s.camid, s.step)):
        own = found.setdefault(shot.subject, [])
        if sum(other.camid == shot.camid for other in own) < 2:
            own.append(shot)
    return found


def _by_camera(street: Street, people: Sequence[Shot]) -> list[list[Tile]]:
    richest = sorted(_by_subject(people).values(), key=len, reverse=True)[:6]
    return [[_plain(street, shot) for shot in own] for own in richest]


def _confusers(street: Street, people: Sequence[Shot]) -> list[list[Tile]]:
    pairs: dict[str, list[list[Shot]]] = {}
    for own in _by_subject(people).values():
        if own[0].subject.look.startswith("pair"):
            pairs.setdefault(own[0].subject.look, []).append(own)
    return [[_plain(street, shot) for shot in own] for pair in islice(pairs.values(), 2) for own in pair]


def _boxes(street: Street, shots: Sequence[Shot]) -> list[list[Tile]]:
    drawn, detected = (
        {(s.subject, s.camid, s.frame): s for s in shots if (s.box == 0) == by_hand}
        for by_hand in (True, False)
    )
    both = ((drawn[at], detected[at]) for at in drawn if at in detected)
    pairs = list(islice(both, 0, 4 * COLUMNS, 4))
    return [[_plain(street, pair[row]) for pair in pairs] for row in (0, 1)]


def _occluded(street: Street, people: Sequence[Shot]) -> list[Tile]:
    rendered = (render_shot(street, shot) for shot in people[: 10 * COLUMNS])
    hidden = (_compressed(one.image) for one in rendered if (one.parts == OCCLUDER).mean() > 0.08)
    return list(islice(hidden, COLUMNS))


def _truths(street: Street, people: Sequence[Shot]) -> list[list[Tile]]:
    some = [render_shot(street, shot) for shot in people[:: max(1, len(people) // COLUMNS)][:COLUMNS]]
    painters: tuple[Callable[[Rendered], Tile], ...] = (_with_joints, _with_parts)
    return [[paint(one) for one in some] for paint in painters]


def _with_joints(one: Rendered) -> Tile:
    image = Image.fromarray(one.image)
    draw = ImageDraw.Draw(image)
    for x, y, visibility in one.joints.tolist():
        box = (x - 1.5, y - 1.5, x + 1.5, y + 1.5)
        draw.ellipse(box, fill=(255, 60, 40) if visibility == VISIBLE else None, outline=(255, 220, 0))
    return np.asarray(image)


def _with_parts(one: Rendered) -> Tile:
    mixed: Tile = (0.4 * one.image + 0.6 * PART_COLOURS[one.parts]).astype(np.uint8)
    return mixed
