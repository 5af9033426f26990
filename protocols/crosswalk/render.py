"""Images and their truth, one at a time or in parallel: the bytes do not depend on order or processes."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

from protocols.crosswalk.scene import compose, photograph
from protocols.crosswalk.seen import joints, parts
from protocols.crosswalk.shots import Shot
from protocols.crosswalk.walks import Street
from protocols.crosswalk.writing import Progress

CHUNK = 128  # images per task
ALONE = 400  # starting processes does not pay for fewer images than this
Encode = Callable[[np.ndarray, int, Shot], bytes]


class Rendered(NamedTuple):
    """One image and what is known about it.

    Attributes:
        image: (128, 64, 3) uint8.
        joints: (18, 3) float32 in the order of ``truth.JOINTS``: x, y in pixels, visibility
            (0 outside the image or nobody there, 1 hidden, 2 visible).
        parts: (128, 64) uint8, index into ``truth.PARTS``.
    """

    image: np.ndarray
    joints: np.ndarray
    parts: np.ndarray


class Truth(NamedTuple):
    """Joints and parts of one written image."""

    joints: np.ndarray
    parts: np.ndarray


def render_shot(street: Street, shot: Shot) -> Rendered:
    """Render one image of a plan with its truth, before JPEG."""
    scene = compose(street, shot)
    return Rendered(photograph(street, shot, scene), joints(scene), parts(scene))


def write_shots(
    root: Path,
    street: Street,
    shots: Sequence[Shot],
    encode: Encode,
    workers: int | None,
    truth: bool,
    progress: Progress | None,
) -> list[Truth]:
    """Write every image below ``root``; returns their truths, in order, if asked for.

    ``encode`` makes an image (128, 64, 3) uint8 and its camera's JPEG quality the bytes of its file.
    ``workers=None`` uses all cores; few images are rendered in this process.
    """
    workers = (os.cpu_count() or 1) if workers is None else workers
    chunks = [shots[i : i + CHUNK] for i in range(0, len(shots), CHUNK)]
    tell = progress or (lambda _done, _total: None)
    run = _serial if workers == 1 or len(shots) <= ALONE else _parallel
    found: list[list[Truth]] = [[] for _ in chunks]
    done = 0
    for index, result in run(root, street, chunks, encode, workers, truth):
        found[index] = result
        done += len(chunks[index])
        tell(done, len(shots))
    return [one for result in found for one in result]


def _serial(
    root: Path, street: Street, chunks: list[Sequence[Shot]], encode: Encode, _workers: int, truth: bool
) -> Iterator[tuple[int, list[Truth]]]:
    for index, chunk in enumerate(chunks):
        yield index, _write_chunk(root, street, chunk, encode, truth)


def _parallel(
    root: Path, street: Street, chunks: list[Sequence[Shot]], encode: Encode, workers: int, truth: bool
) -> Iterator[tuple[int, list[Truth]]]:
    """Spawned processes, so that threads and devices of the caller do no harm."""
    compose(street, chunks[0][0])  # compiles once, into the cache that all workers load
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_leave_interrupts_to_the_caller
    )
    try:
        waiting: dict[Future[list[Truth]], int] = {
            pool.submit(_write_chunk, root, street, chunk, encode, truth): index
            for index, chunk in enumerate(chunks)
        }
        while waiting:
            finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                yield waiting.pop(future), future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts_to_the_caller() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _write_chunk(
    root: Path, street: Street, shots: Sequence[Shot], encode: Encode, truth: bool
) -> list[Truth]:
    truths = []
    for shot in shots:
        scene = compose(street, shot)
        image = photograph(street, shot, scene)
        (root / shot.folder / shot.name).write_bytes(encode(image, scene.view.quality, shot))
        if truth:
            truths.append(Truth(joints(scene), parts(scene)))
    return truths
