"""The Market-1501 street on disk: queries, boxes and the answers that lie beside them."""

from collections import Counter
from hashlib import sha256

import numpy as np
from scipy.io import loadmat

from protocols.crosswalk.layouts.market1501.names import ANSWERS, BOXES, GALLERY, QUERY


def test_a_query_holds_the_same_bytes_as_its_hand_drawn_box(tiny_street):
    for query in (tiny_street / QUERY).iterdir():
        assert query.read_bytes() == (tiny_street / BOXES / query.name).read_bytes()


def test_no_two_gallery_images_are_the_same(tiny_street):
    images = Counter(sha256(file.read_bytes()).digest() for file in (tiny_street / GALLERY).iterdir())
    assert max(images.values()) == 1


def test_gt_query_points_at_the_right_gallery_images(tiny_street):
    gallery = sorted(file.name for file in (tiny_street / GALLERY).glob("*.jpg"))
    queries = sorted(file.name for file in (tiny_street / QUERY).iterdir())
    assert len(list((tiny_street / ANSWERS).iterdir())) == 2 * len(queries)
    for query in queries:
        stem = query[: query.index(".jpg")]
        for kind in ("good", "junk"):
            index = loadmat(tiny_street / ANSWERS / f"{stem}_{kind}.mat")[f"{kind}_index"]
            assert index.dtype == np.uint16 and index.shape[0] == 1
            expected = [
                name
                for name in gallery
                if name[:4] == query[:4] and (name[5:7] != query[5:7]) == (kind == "good")
            ]
            assert [gallery[i - 1] for i in index[0]] == expected


def test_answers_hold_no_time_of_writing(tiny_street):
    for file in (tiny_street / ANSWERS).iterdir():
        head = file.read_bytes()[:128]
        assert head.startswith(b"MATLAB 5.0 MAT-file") and b"Created on" not in head
