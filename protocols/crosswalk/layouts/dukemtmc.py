"""DukeMTMC-reID (Zheng et al., ICCV 2017): eight cameras; who is asked for and who is not look alike."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from protocols.crosswalk.dials import Dials
from protocols.crosswalk.layouts.base import Layout
from protocols.crosswalk.planning import (
    apportion,
    asked_of,
    asking,
    cameras_of,
    parted,
    refuse_unless,
    scattered,
    share_out,
    subjects_of,
)
from protocols.crosswalk.seeding import generator
from protocols.crosswalk.shots import Shot, Subject

TRAIN, GALLERY, QUERY = "bounding_box_train", "bounding_box_test", "query"
MOST_QUERIES = 5  # of an identity
FRAME_STEP = 120  # two seconds
FRAMES = 2_800  # kept frames of a camera
LABELS_PER_PERSON = 4  # the release's labels have holes
TRAIN_VIEWS = 0.418  # share of cameras that see somebody: about 1,041 are in more than two, as released
TEXTS = {
    "README.md": """A rendered street in the layout of DukeMTMC-reID. All people in it are synthetic.

bounding_box_train  training images
bounding_box_test   gallery images; some identities are never asked for, and their labels do not tell
query               one image for each identity and camera asked for
crosswalk.json      what was rendered: version, size, seed, dials and counts
names.txt           every file of the release
""",
    "LICENSE_DukeMTMC.txt": "No image of the DukeMTMC data set is here; see README.md.\n",
    "LICENSE_DukeMTMC-reID.txt": "No image of the DukeMTMC-reID data set is here; see README.md.\n",
    "CITATION.txt": "Do not cite the DukeMTMC-reID data set for results on a rendered street.\n",
}


@dataclass(frozen=True, slots=True)
class Size:
    """Number of images of each camera, and of identities.

    Attributes:
        name: appears in paths and in ``crosswalk.json``.
        train_pids: identities to train on, at least 2.
        train: training images of each camera, at least ``train_pids`` each; 2..8 cameras.
        test_pids: identities to test on, at least 2.
        query: query images of each camera, at least 1, at most one for each identity; 2..5 per
            identity in all.
        gallery: gallery images of each camera, distractors among them.
        distractor_pids: identities of the gallery that nobody asks for, each seen by one camera.
        distractors: their images, at least one each.

    Raises ``StreetError`` when these bounds do not hold.
    """

    name: str
    train_pids: int
    train: tuple[int, ...]
    test_pids: int
    query: tuple[int, ...]
    gallery: tuple[int, ...]
    distractor_pids: int
    distractors: int

    def __post_init__(self) -> None:
        refuse_unless(self.name, self._rules())

    def _rules(self) -> Iterator[tuple[bool, str]]:
        cameras, asked = len(self.train), sum(self.query)
        most = min(MOST_QUERIES, cameras) * self.test_pids
        yield 2 <= cameras <= 8, "2..8 cameras"
        yield len(self.query) == len(self.gallery) == cameras, "one number per camera"
        yield min(self.train_pids, self.test_pids) >= 2, "at least two training and two test identities"
        yield min(self.train) >= self.train_pids, "each camera needs train_pids training images"
        yield max(self.query) <= self.test_pids, "at most one query for each test identity and camera"
        yield min(self.query) >= 1, "at least one query from each camera"
        yield 2 * self.test_pids <= asked <= most, f"2..{MOST_QUERIES} queries per test identity"
        yield self.distractors >= self.distractor_pids, "at least one image of each distractor identity"
        yield self.distractor_pids > 0 or self.distractors == 0, "distractors without a distractor identity"
        enough = all(good >= query for good, query in zip(self.good, self.query, strict=True))
        yield enough, "gallery without distractors must be at least one per query in each camera"
        yield LABELS_PER_PERSON * self.pids <= 9999, "labels have four digits"

    @property
    def pids(self) -> int:
        """Number of identities, those included that are never asked for."""
        return self.train_pids + self.test_pids + self.distractor_pids

    @property
    def strangers(self) -> list[int]:
        """Distractor identities of each camera, in proportion to its gallery."""
        none = np.zeros(len(self.gallery), dtype=np.int64)
        return [int(n) for n in apportion(self.distractor_pids, np.array(self.gallery), none)]

    @property
    def strange(self) -> list[int]:
        """Distractor images of each camera."""
        pids = np.array(self.strangers)
        return [int(n) for n in apportion(self.distractors, pids, pids)] if pids.any() else [0] * len(pids)

    @property
    def good(self) -> list[int]:
        """Gallery images of test identities of each camera."""
        return [images - strange for images, strange in zip(self.gallery, self.strange, strict=True)]


SIZES = {
    size.name: size
    for size in (
        Size(
            name="tiny",
            train_pids=8,
            train=(14, 10, 9, 12, 10),
            test_pids=8,
            query=(6, 4, 3, 5, 4),
            gallery=(14, 8, 6, 10, 16),
            distractor_pids=4,
            distractors=8,
        ),
        Size(
            name="default",
            train_pids=300,
            train=(380, 400, 300, 310, 330, 420, 310, 320),
            test_pids=150,
            query=(88, 82, 41, 34, 46, 79, 52, 56),
            gallery=(310, 320, 100, 130, 140, 380, 150, 500),
            distractor_pids=80,
            distractors=400,
        ),
        Size(
            name="release",
            train_pids=702,
            train=(2809, 3009, 1088, 1395, 1685, 3700, 1330, 1506),
            test_pids=702,
            query=(413, 383, 190, 155, 216, 369, 239, 263),
            gallery=(2704, 2798, 828, 1139, 1209, 3308, 1255, 4420),
            distractor_pids=408,
            distractors=3463,
        ),
    )
}


def plan(size: Size, seed: int, dials: Dials) -> tuple[Shot, ...]:
    """Training, query and gallery images; exactly those numbers from each camera that ``size`` says.

    How many identities are in more than two cameras depends on ``seed``: at size ``release`` about as
    many as in the release, 1,041.
    """
    rng = generator(seed, "labels")
    labels = scattered(rng, size.pids, 1, LABELS_PER_PERSON * size.pids)
    train, test, strangers = parted(rng, labels, size.train_pids, size.test_pids, size.distractor_pids)
    subjects = subjects_of(train, seed, dials.confusers) | subjects_of(
        test + strangers, seed, dials.confusers
    )
    tracks = (
        *_tracks(TRAIN, train, _train(size, seed), seed, subjects),
        *asking(seed, QUERY, _tracks(GALLERY, test, _test(size, seed), seed, subjects)),
        *_tracks(GALLERY, strangers, _strange(size, seed), seed, subjects),
    )
    return tuple(sorted(tracks, key=lambda shot: (shot.folder, shot.name)))


def _train(size: Size, seed: int) -> np.ndarray:
    """Images of each training identity from each camera, (pids, cameras)."""
    rng = generator(seed, "train")
    cells = max(2 * size.train_pids, round(TRAIN_VIEWS * len(size.train) * size.train_pids))
    return share_out(rng, cameras_of(rng, size.train, size.train_pids, cells), size.train)


def _test(size: Size, seed: int) -> np.ndarray:
    """Images of each test identity from each camera, (pids, cameras), its query among them."""
    rng = generator(seed, "test")
    asked = asked_of(rng, size.query, size.test_pids, 2, min(MOST_QUERIES, len(size.query)))
    images: np.ndarray = share_out(rng, asked, size.good) + asked
    return images


def _strange(size: Size, seed: int) -> np.ndarray:
    """Images of each identity that nobody asks for, (pids, cameras), all from one camera."""
    rng = generator(seed, "strangers")
    home = rng.permutation(np.repeat(np.arange(len(size.gallery)), size.strangers))
    return share_out(rng, home[:, None] == np.arange(len(size.gallery)), size.strange)


def _tracks(
    folder: str, pids: Sequence[int], images: np.ndarray, seed: int, subjects: dict[int, Subject]
) -> Iterator[Shot]:
    """Somebody's way past each camera that sees them; ``images`` is (pids, cameras)."""
    for row, column in np.argwhere(images).tolist():
        pid, camid = pids[row], column + 1
        start = int(generator(seed, "track", pid, camid).integers(FRAMES))
        for step in range(int(images[row, column])):
            frame = FRAME_STEP * (start + step)
            name = f"{pid:04d}_c{camid}_f{frame:07d}.jpg"
            yield Shot(folder, name, pid, camid, 1, frame, step, box=0, subject=subjects[pid])


def encode(image: np.ndarray, quality: int, shot: Shot) -> bytes:  # noqa: ARG001
    """A JPEG as large as rendered."""
    from protocols.crosswalk.develop import jpeg

    return jpeg(image, quality)


def complete(root: Path, shots: Sequence[Shot]) -> None:  # noqa: ARG001
    """The texts that lie beside the image folders."""
    for name, text in TEXTS.items():
        (root / name).write_text(text, encoding="utf-8")


def counts(size: Size, shots: Sequence[Shot]) -> dict[str, dict[str, int]]:
    """Of the authors' lists, and of Open-ReID's: all images of who is asked for are queries there."""
    files = Counter(shot.folder for shot in shots)
    own = {
        "train": files[TRAIN],
        "query": files[QUERY],
        "gallery": files[GALLERY],
        "train_pids": size.train_pids,
        "query_pids": size.test_pids,
    }
    pooled = {"query": sum(size.good) + files[QUERY], "gallery": files[GALLERY] + files[QUERY]}
    return {"dukemtmc": own, "dukemtmc/openreid": own | pooled}


LAYOUT = Layout(
    name="dukemtmc",
    root="DukeMTMC-reID",
    sizes=SIZES,
    plan=plan,
    encode=encode,
    complete=complete,
    counts=counts,
)
