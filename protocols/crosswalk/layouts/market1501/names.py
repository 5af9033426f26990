"""Names of the Market-1501 release: folders and the grammar of files."""

ROOT = "Market-1501-v15.09.15"
TRAIN = "bounding_box_train"
GALLERY = "bounding_box_test"
QUERY = "query"
BOXES = "gt_bbox"
IMAGE_FOLDERS = (TRAIN, GALLERY, QUERY, BOXES)
ANSWERS = "gt_query"

DISTRACTOR = 0
JUNK = -1
HAND_DRAWN = 0  # box number of hand-drawn boxes; the detector's start at 1


def file_name(pid: int, camid: int, sequence: int, frame: int, box: int, doubled: bool = False) -> str:
    """For example ``0002_c1s1_000451_03.jpg``; label -1 is written without zeros."""
    label = "-1" if pid == JUNK else f"{pid:04d}"
    return f"{label}_c{camid}s{sequence}_{frame:06d}_{box:02d}.jpg{'.jpg' if doubled else ''}"
