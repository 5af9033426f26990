"""Query and gallery as open-reid evaluates Market-1501 and DukeMTMC-reID, which no paper's rules state.

Cysu/open-reid (``reid/datasets/market1501.py``, ``reid/utils/data/dataset.py``; issues 16 and 35) files all
test images by identity and forgets which were queries. Every image of an identity that is asked for
becomes a query, and the query crops lie in the gallery too. Scores compare only with those of that code.
"""

from protocols.base import Split


def pooled(split: Split, junk_pids: tuple[int, ...] = ()) -> Split:
    """``split`` with queries and gallery images pooled; junk is dropped as the files are read."""
    images = sorted((*split.query, *split.gallery), key=lambda record: record.path.name)
    asked = {record.pid for record in split.query}
    return Split(
        train=split.train,
        query=tuple(record for record in images if record.pid in asked),
        gallery=tuple(record for record in images if record.pid not in junk_pids),
    )
