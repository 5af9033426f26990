"""The ``info`` folder of MARS: names of all images, the tracklets they make up, and the queries."""

from collections.abc import Sequence
from hashlib import sha256
from itertools import groupby
from pathlib import Path

import numpy as np

from protocols.crosswalk.layouts.mars.plan import TEST, TRAIN
from protocols.crosswalk.matlab5 import write_matlab5
from protocols.crosswalk.seeding import generator
from protocols.crosswalk.shots import Shot


def write_info(folder: Path, shots: Sequence[Shot]) -> None:
    """Write five files for ``shots`` in order of folder and name.

    ``train_name.txt`` and ``test_name.txt`` are image names, a line each. ``track_train_info`` and
    ``track_test_info``, (n, 4) int32, have first and last line (1-based, inclusive), identity and
    camera of each tracklet. ``query_IDX``, (1, q) uint16, are 1-based rows of the latter.
    """
    folder.mkdir()
    for half, top in (("train", TRAIN), ("test", TEST)):
        own = [shot for shot in shots if shot.folder.startswith(f"{top}/")]
        names = "".join(f"{shot.name}\n" for shot in own)
        (folder / f"{half}_name.txt").write_text(names, encoding="utf-8")
        tracks = track_info(own)
        write_matlab5(folder / f"tracks_{half}_info.mat", {f"track_{half}_info": tracks})
    queries = query_rows(tracks, names).astype(np.uint16)[None, :]
    write_matlab5(folder / "query_IDX.mat", {"query_IDX": queries})


def track_info(shots: Sequence[Shot]) -> np.ndarray:
    """First and last line, identity and camera of each tracklet, (n, 4) int32."""
    tracks = []
    end = 0
    for (_, pid, camid, _), frames in groupby(shots, _tracklet_of):
        start, end = end + 1, end + sum(1 for _ in frames)
        tracks.append((start, end, pid, camid))
    return np.array(tracks, dtype=np.int32)


def _tracklet_of(shot: Shot) -> tuple[str, int, int, int]:
    return shot.folder, shot.pid, shot.camid, shot.sequence


def query_rows(tracks: np.ndarray, names: str) -> np.ndarray:
    """1-based rows of ``tracks``, sorted: one of each identity and camera, drawn at random.

    Who is seen by one camera only is not asked for. ``names`` decides what is drawn.
    """
    rng = generator("queries", sha256(names.encode()).hexdigest())
    choice: dict[int, dict[int, list[int]]] = {}
    for row, (pid, camid) in enumerate(tracks[:, 2:].tolist(), start=1):
        if pid > 0:
            choice.setdefault(pid, {}).setdefault(camid, []).append(row)
    asked = [rows for cameras in choice.values() if len(cameras) > 1 for rows in cameras.values()]
    return np.sort([rows[int(rng.integers(len(rows)))] for rows in asked])
