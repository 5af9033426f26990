"""MATLAB v5 files with equal bytes for equal content."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
from scipy.io import savemat

HEADER = b"MATLAB 5.0 MAT-file, written by protocols.crosswalk".ljust(116)


def write_matlab5(path: Path, variables: Mapping[str, np.ndarray]) -> None:
    """Write ``variables``; an array of objects becomes a cell array. Leaves out the time of writing."""
    buffer = BytesIO()
    savemat(buffer, dict(variables))
    path.write_bytes(HEADER + buffer.getvalue()[len(HEADER) :])
