"""Why no query has a true match: what became of the images of each query's identity."""

import numpy as np

from protocols.arrays import InputError
from protocols.base import Rules
from protocols.ranking import Labels, true_matches

ADVICE = {
    "absent": "check that both lists are of one split and that neither was relabelled",
    "nobody": "its label is one of junk or distractors, so query and gallery may be interchanged",
    "camera": "check that camids are those of the images; code that gives every image camera 0 ends here",
}


def check_matches(query: Labels, gallery: Labels, rules: Rules) -> None:
    """Raise ``InputError`` saying which rule removed them if no query has a true match."""
    if len(true_matches(query, gallery, rules)[1]):
        return
    absent = ~np.isin(query.pids, gallery.pids)
    nobody = np.isin(query.pids, (*rules.junk_pids, *rules.distractor_pids)) & ~absent
    camera = ~absent & ~nobody
    reasons = []
    for key, those, why in (
        (
            "absent",
            absent,
            "of {n:,} the identity is not in the gallery (the first is query {row}, pid {pid})",
        ),
        ("nobody", nobody, "{n:,} show nobody by their label (the first is query {row}, pid {pid})"),
        (
            "camera",
            camera,
            "of {n:,} the gallery has the identity from the query's own camera only, which the same-camera "
            "rule leaves out (the first is query {row}, pid {pid}, camid {camid})",
        ),
    ):
        if those.any():
            row = int(np.argmax(those))
            count, pid, camid = int(those.sum()), query.pids[row], query.camids[row]
            reasons.append(f"{why.format(n=count, row=row, pid=pid, camid=camid)}; {ADVICE[key]}")
    raise InputError(f"none of the {len(query):,} queries has a true match: {'. '.join(reasons)}")
