"""VIPeR (Gray et al., PETS 2007): 632 people, one image of each from either of two cameras."""

import re
from collections.abc import Callable
from pathlib import Path

from protocols.base import PROTOCOLS, Counts, Protocol, Record, Rules, Split
from protocols.folders import file_names
from protocols.splits import Drawing, DrawnSplits, draw_pids
from protocols.two_views import VIEW_A, VIEW_B, arranged
from retable.errors import Absent, DataError, some

FOLDERS = {VIEW_A: "cam_a", VIEW_B: "cam_b"}

NAME = re.compile(r"(?P<pid>\d{3})_(?P<angle>\d{1,3})\.bmp")
"""identity, angle from which it is seen in degrees; the two angles of an identity differ."""

SPLITS = 10

PARTITION = "partition_viper.mat"
"""Published with dapengchen123/SCSP (Chen et al., CVPR 2016), which halves the identities 100 times."""

COUNTS = Counts(
    train=632,
    query=316,
    gallery=316,
    junk=0,
    distractors=0,
    train_pids=316,
    query_pids=316,
    test_pids=316,
    cameras=2,
    images=1_264,
)


@PROTOCOLS.register("viper")
def viper() -> Protocol:
    """Ten random halves; the release states none, and every code base draws its own, mostly unseeded."""
    return _protocol(
        "viper",
        source="Gray et al., PETS 2007; halves are drawn here and can be recorded (protocols.splits)",
        load=DrawnSplits(_draw, _arrange),
    )


@PROTOCOLS.register("viper/scsp")
def viper_scsp() -> Protocol:
    """The first ten of the hundred halves that SCSP published; its file must lie in the release's folder."""
    return _protocol(
        "viper/scsp",
        source="dapengchen123/SCSP, partition_viper.mat; its main.m runs the first ten",
        load=load_scsp,
    )


def _protocol(name: str, source: str, load: Callable[[Path], tuple[Split, ...]]) -> Protocol:
    """Single shot by nature: the gallery has one image of each identity."""
    return Protocol(
        name=name,
        title="VIPeR",
        source=source,
        folder="VIPeR",
        rules=Rules(headline_ap="step"),
        counts=COUNTS,
        load=load,
        reverse=True,
        archives={"VIPeR.v1.0.zip": "1c2d9fc1cc800332567a0da25a1ce68c"},
    )


def read_images(root: Path) -> tuple[Record, ...]:
    """All images, those of camera A first, each camera's in order of identity.

    Raises ``DataError`` for a file of another data set and for an identity without its pair.
    """
    of_a, of_b = (_of_camera(root / folder, camid) for camid, folder in FOLDERS.items())
    alone = sorted(of_a.keys() ^ of_b.keys())
    if alone:
        raise DataError(
            f"{root}: identities with an image in only one of {' and '.join(FOLDERS.values())} "
            f"({len(alone):,}): {some([f'{pid:03d}' for pid in alone])}; unpack the release again"
        )
    return (*of_a.values(), *of_b.values())


def _of_camera(folder: Path, camid: int) -> dict[int, Record]:
    """One image of each identity, in order of identity."""
    found: dict[int, Record] = {}
    for name in file_names(folder, ".bmp"):
        record = parse(folder / name, camid)
        if record.pid in found:
            raise DataError(
                f"{record.path}: a second image of identity {record.pid:03d} beside "
                f"{found[record.pid].path.name}, expected one from each camera; remove what is not VIPeR's"
            )
        found[record.pid] = record
    return found


def parse(path: Path, camid: int) -> Record:
    """Identity from a file name. Raises ``DataError`` when it is not a VIPeR name."""
    match = NAME.fullmatch(path.name)
    if match is None:
        raise DataError(
            f"{path}: not a VIPeR file name; expected IDENTITY_ANGLE.bmp such as 000_45.bmp; "
            "remove or rename it"
        )
    return Record(path, pid=int(match["pid"]), camid=camid)


def _draw(root: Path) -> Drawing:
    """Half of the identities (the smaller half of an odd number) is tested on."""
    pids = {record.pid for record in read_images(root)}
    return draw_pids("viper", pids, test_pids=len(pids) // 2, splits=SPLITS)


def _arrange(root: Path, drawing: Drawing) -> tuple[Split, ...]:
    return arranged(read_images(root), drawing)


def load_scsp(root: Path) -> tuple[Split, ...]:
    """SCSP's first ten splits; raises ``DataError`` if its file is not there or does not fit the images."""
    images = read_images(root)
    pids = sorted({record.pid for record in images})
    halves = read_partition(root / PARTITION, pids)
    return arranged(images, Drawing("viper/scsp", "as published", pids, halves))


def read_partition(file: Path, pids: list[int]) -> dict[str, dict[str, tuple[int, ...]]]:
    """Identities to train and to test on in the first ten splits of SCSP's file.

    Args:
        file: holds MATLAB's struct ``parti`` with the fields ``trnSet`` and ``tstSet``; they number
            identities from 1 in the order of file names.
        pids: all identities, in that order.

    Raises:
        Absent: the file is not there.
        DataError: it is another file, or not about as many identities.
    """
    if not file.is_file():
        raise Absent(
            f"{file}: no such file; viper/scsp needs {PARTITION} of dapengchen123/SCSP there. Put it there, "
            "or use the protocol viper, which draws its own splits"
        )
    halves = {}
    for number, parts in enumerate(_positions(file)):
        if sorted(parts["train"] + parts["test"]) != list(range(1, len(pids) + 1)):
            raise DataError(
                f"{file}: its split {number + 1} does not divide the identities 1..{len(pids)}, as many as "
                f"are in {file.parent}; fetch the file again, and see that all of VIPeR is there"
            )
        halves[str(number)] = {
            part: tuple(sorted(pids[n - 1] for n in numbers)) for part, numbers in parts.items()
        }
    return halves


def _positions(file: Path) -> list[dict[str, list[int]]]:
    from scipy.io import loadmat

    try:
        rows = loadmat(file)["parti"].ravel()[:SPLITS]
        fields = {"train": "trnSet", "test": "tstSet"}
        found = [{part: row[field].ravel().tolist() for part, field in fields.items()} for row in rows]
    except Exception as error:  # scipy raises a dozen kinds on damaged files
        raise DataError(
            f"{file}: cannot be read as SCSP's file ({type(error).__name__}: {error}); expected a struct "
            "parti with the fields trnSet and tstSet; fetch it again"
        ) from error
    if len(found) < SPLITS:
        raise DataError(f"{file}: found {len(found)} splits, expected at least {SPLITS}; fetch it again")
    return found
