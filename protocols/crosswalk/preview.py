"""A contact sheet, to judge a street by eye before rendering it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw

from protocols.crosswalk import samples
from protocols.crosswalk.develop import jpeg
from protocols.crosswalk.render import Rendered, render_shot
from protocols.crosswalk.samples import COLUMNS
from protocols.crosswalk.scene import HEIGHT, WIDTH
from protocols.crosswalk.shots import Shot
from protocols.crosswalk.truth import PARTS, VISIBLE
from protocols.crosswalk.walks import Street

TITLE_HEIGHT = 14
ZOOM = 2
PAPER = 244  # grey level
QUALITY = 85  # of JPEG

Tile = np.ndarray
PART_COLOURS = np.random.default_rng(5).integers(40, 255, (len(PARTS), 3))
PART_COLOURS[0] = 0


def contact_sheet(shots: Sequence[Shot], street: Street) -> Image.Image:
    """Identities by camera, confusers, boxes, occlusion, joints and parts, strays; twice the real size."""
    people = samples.people(shots)
    strips = [
        *_section("one identity a row, cameras from left to right", samples.by_camera(shots), street),
        *_section(
            "confusers: two identities a pair of rows, the same colours in other places",
            samples.confusers(shots),
            street,
        ),
        *_section(
            "boxes of the same frames: drawn by hand above, detected below", samples.boxes(shots), street
        ),
        *_section("occlusion", samples.occluded(shots, street), street),
        *_section("joints (filled: visible)", people, street, _with_joints),
        *_section("parts", people, street, _with_parts),
        *_section("distractors and junk", samples.strays(shots), street),
    ]
    sheet = Image.fromarray(np.concatenate(strips))
    return sheet.resize((ZOOM * sheet.width, ZOOM * sheet.height), Image.Resampling.BICUBIC)


def _compressed(one: Rendered) -> Tile:
    return np.asarray(Image.open(BytesIO(jpeg(one.image, QUALITY))))


def _section(
    title: str,
    rows: Iterable[Sequence[Shot]],
    street: Street,
    paint: Callable[[Rendered], Tile] = _compressed,
) -> Iterator[np.ndarray]:
    """A title and rows of images; nothing where there are no rows."""
    for number, row in enumerate(rows):
        if number == 0:
            yield _title(title)
        yield _row([paint(render_shot(street, shot)) for shot in row])


def _row(tiles: Sequence[Tile]) -> np.ndarray:
    blank = np.full((HEIGHT, WIDTH, 3), PAPER, dtype=np.uint8)
    return np.concatenate([*tiles, *[blank] * (COLUMNS - len(tiles))], axis=1)


def _title(text: str) -> np.ndarray:
    strip = Image.new("RGB", (COLUMNS * WIDTH, TITLE_HEIGHT), (PAPER,) * 3)
    ImageDraw.Draw(strip).text((3, 1), text, fill=(20, 20, 20))
    return np.asarray(strip)


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
