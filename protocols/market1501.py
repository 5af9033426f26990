"""Market-1501 (Zheng et al., Scalable Person Re-identification, ICCV 2015)."""

import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from protocols.base import PROTOCOLS, Counts, Part, Protocol, Record, Rules, SingleShot, Split
from protocols.folders import file_names, names_in
from protocols.matlab import as_integers, read_variables
from protocols.openreid import pooled
from retable.errors import DataError, some

JUNK = -1
DISTRACTOR = 0

NAME = re.compile(
    r"(?P<pid>-1|\d{4})_c(?P<camid>[1-6])s(?P<sequence>[1-6])"
    r"_(?P<frame>\d{6})_(?P<box>\d{2})\.jpg(?:\.jpg)?"
)
"""identity, camera, sequence, frame, box (00 drawn by hand, 01.. detected); 38 released files end
in ``.jpg.jpg``."""

HIGHEST_PID = 1501

TRAIN_PER_CAMERA = (2017, 1709, 2707, 920, 2338, 3245)

ARCHIVE = "Market-1501-v15.09.15.zip"
TRAIN, QUERY, GALLERY = FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
GALLERY_IMAGES = 19_732

BOXES = "gt_bbox"
ALL_BOXES, TEST_BOXES = 25_259, 12_688
"""Hand-drawn boxes, and those of the queries' identities and cameras; 1 to 42 for a query."""


@PROTOCOLS.register("market1501")
def market1501() -> Protocol:
    """Single query: each query image against the whole test gallery."""
    return Protocol(
        name="market1501",
        title="Market-1501",
        source="Zheng et al., ICCV 2015, and the authors' evaluation code",
        folder="Market-1501-v15.09.15",
        rules=Rules(headline_ap="step", junk_pids=(JUNK,), distractor_pids=(DISTRACTOR,)),
        counts=Counts(
            train=12_936,
            query=3_368,
            gallery=GALLERY_IMAGES,
            junk=3_819,
            distractors=2_798,
            train_pids=751,
            query_pids=750,
            test_pids=750,
            cameras=6,
            images=32_668,
        ),
        load=load,
        explain=explain,
        per_camera={"train": TRAIN_PER_CAMERA},
        authors_ap="trapezoid",
        archives={ARCHIVE: "65005ab7d12ec1c44de4eeafe813e68a"},
        needs=tuple(Part((folder,), ARCHIVE) for folder in FOLDERS),
    )


@PROTOCOLS.register("market1501/openreid")
def market1501_openreid() -> Protocol:
    """Open-reid's lists (see ``protocols.openreid``); junk is dropped as they are read."""
    official = market1501()
    return replace(
        official,
        name="market1501/openreid",
        source="Cysu/open-reid",
        counts=replace(official.counts, query=16_483, gallery=19_281, junk=0),
        load=load_openreid,
    )


@PROTOCOLS.register("market1501/multi-query")
def market1501_multi_query() -> Protocol:
    """Multiple queries: the description of a query is pooled over all boxes of its person and camera."""
    official = market1501()
    return replace(
        official,
        name="market1501/multi-query",
        load=load_multi_query,
        explain=explain_multi_query,
        pooling="mean",
        needs=(*official.needs, Part((BOXES,), ARCHIVE)),
    )


@PROTOCOLS.register("market1501/single-shot")
def market1501_single_shot() -> Protocol:
    """Single shot: of each person who counts for a query, one image from another camera is drawn, ten times.

    Distractors stay in every gallery (``protocols.single_shot``); average precision is the usual one.
    """
    official = market1501()
    return replace(
        official,
        name="market1501/single-shot",
        rules=replace(official.rules, same_camera="all"),
        single_shot=SingleShot(probe="every", repeats=10),
    )


def load(root: Path) -> tuple[Split, ...]:
    """The one split of the release at ``root``; raises ``DataError`` naming the offending file."""
    return (
        Split(
            train=read_folder(root / TRAIN),
            query=read_folder(root / QUERY),
            gallery=read_folder(root / GALLERY),
        ),
    )


def load_openreid(root: Path) -> tuple[Split, ...]:
    """As ``load``, without junk, queries and gallery pooled."""
    return tuple(pooled(split, junk_pids=(JUNK,)) for split in load(root))


def load_multi_query(root: Path) -> tuple[Split, ...]:
    """As ``load``, each query with all hand-drawn boxes of its person from its camera.

    Raises ``DataError`` naming the offending file, or a query that has no box.
    """
    (single,) = load(root)
    boxes = defaultdict(list)
    for record in read_folder(root / BOXES):
        boxes[_person_and_camera(record)].append(record.path.name)
    alone = [query.path.name for query in single.query if _person_and_camera(query) not in boxes]
    if alone:
        raise DataError(
            f"{root / BOXES}: no box for {len(alone):,} queries ({some(alone)}), expected a file "
            "name with the same first seven characters for each; unpack the release again"
        )
    query = (
        Record(root / BOXES, record.pid, record.camid, tuple(boxes[_person_and_camera(record)]))
        for record in single.query
    )
    return (replace(single, query=tuple(query)),)


def _person_and_camera(record: Record) -> str:
    """The authors' code goes by these characters, ``0002_c1``."""
    return record.path.name[:7]


def read_folder(folder: Path) -> tuple[Record, ...]:
    """Records of all JPEG files of a folder by name; other files (``Thumbs.db``) are passed over."""
    return tuple(parse(folder / name) for name in file_names(folder, ".jpg"))


def parse(path: Path) -> Record:
    """Identity and camera from a file name. Raises ``DataError`` when it is not a Market name."""
    match = NAME.fullmatch(path.name)
    if match is None or int(match["pid"]) > HIGHEST_PID:
        raise DataError(
            f"{path}: not a Market-1501 file name; expected IDENTITY_cCAMERAsSEQUENCE_FRAME_BOX.jpg "
            f"such as 0002_c1s1_000451_03.jpg, identity -1 or 0000..{HIGHEST_PID}; remove or rename it"
        )
    return Record(path, pid=int(match["pid"]), camid=int(match["camid"]))


def explain(root: Path, split: Split) -> list[str]:  # noqa: ARG001
    """Where the authors' lists differ from the release, from the ground truth that lies beside the images.

    ``gt_query`` names every query, and lists the gallery positions of its identity in order of name. Its
    3,368 files are opened only for a gallery of another size.
    """
    suffix = "_good.mat"
    truth = [name.removesuffix(suffix) for name in names_in(root / "gt_query", suffix)]
    queries = {name.split(".jpg")[0] for name in names_in(root / QUERY, ".jpg")}
    found = []
    for what, names in (("missing", set(truth) - queries), ("extra", queries - set(truth))):
        if truth and names:
            found.append(f"{what} queries ({len(names):,}): {some(sorted(names))}")
    if len(names_in(root / GALLERY, ".jpg")) != GALLERY_IMAGES:
        files = [root / "gt_query" / f"{stem}{suffix}" for stem in truth]
        found += _shifted_gallery(read_folder(root / GALLERY), files)
    return found


def explain_multi_query(root: Path, split: Split) -> list[str]:
    """As ``explain``, and whether the numbers of boxes are the release's."""
    of_queries = sum(len(query.frames) for query in split.query)
    numbers = (
        ("boxes of queries", of_queries, TEST_BOXES),
        (f"images in {BOXES}", len(names_in(root / BOXES, ".jpg")), ALL_BOXES),
    )
    wrong = [
        f"{what}: found {found:,}, expected {expected:,}"
        for what, found, expected in numbers
        if found != expected
    ]
    return wrong + explain(root, split)


def _shifted_gallery(gallery: tuple[Record, ...], truth: list[Path]) -> list[str]:
    """The first identity whose gallery images are not where the ground truth says they are."""
    for path in truth:
        pid = int(path.name[:4])
        positions = as_integers(
            path, "good_index", read_variables(path, ("good_index",), ARCHIVE)["good_index"]
        )
        for position in positions.ravel().tolist():
            if not 1 <= position <= len(gallery) or gallery[position - 1].pid != pid:
                return [f"gallery images of identity {pid:04d} or of one before it are missing or extra"]
    return []
