"""The ``gt_query`` folder: which gallery images are good and which are junk for each query."""

from io import BytesIO
from pathlib import Path

import numpy as np
from scipy.io import savemat

from protocols.crosswalk.names import GALLERY, QUERY
from protocols.crosswalk.shots import Shot

HEADER = b"MATLAB 5.0 MAT-file, written by protocols.crosswalk".ljust(116)


def write_answers(folder: Path, shots: tuple[Shot, ...]) -> int:
    """Write ``<stem>_good.mat`` and ``<stem>_junk.mat`` for every query; returns the number of files.

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
            (folder / f"{stem}_{kind}.mat").write_bytes(_mat({f"{kind}_index": index}))
    return 2 * len(queries)


def _mat(variables: dict[str, np.ndarray]) -> bytes:
    """A MATLAB v5 file without the time of writing in its header, so that equal content is equal bytes."""
    buffer = BytesIO()
    savemat(buffer, variables)
    return HEADER + buffer.getvalue()[len(HEADER) :]
