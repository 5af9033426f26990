"""The ``gt_query`` folder: which gallery images are good and which are junk for each query."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from protocols.crosswalk.layouts.market1501.names import GALLERY, QUERY
from protocols.crosswalk.matlab5 import write_matlab5
from protocols.crosswalk.shots import Shot


def write_answers(folder: Path, shots: Sequence[Shot]) -> None:
    """Write ``<stem>_good.mat`` and ``<stem>_junk.mat`` for every query.

    Each holds ``good_index`` or ``junk_index``, (1, n) uint16, 1-based positions in the name-sorted
    gallery: the query's person in other cameras, and in the query's own. A stem ends at the first
    ``.jpg`` of the query's name.
    """
    folder.mkdir()
    gallery = [shot for shot in shots if shot.folder == GALLERY]
    pids, camids = np.array([(shot.pid, shot.camid) for shot in gallery]).T
    queries = [shot for shot in shots if shot.folder == QUERY]
    for shot in queries:
        stem = shot.name.partition(".jpg")[0]
        same = pids == shot.pid
        for kind, wanted in (
            ("good", same & (camids != shot.camid)),
            ("junk", same & (camids == shot.camid)),
        ):
            index = (np.flatnonzero(wanted) + 1).astype(np.uint16)[None, :]
            write_matlab5(folder / f"{stem}_{kind}.mat", {f"{kind}_index": index})
