"""Evaluation problems that tests share."""

import numpy as np


def labelled(queries=40, images=300, identities=12, cameras=3, seed=0, lowest=1):
    """Labels by the names that ``evaluate`` has for them; every query has a match."""
    rng = np.random.default_rng(seed)
    seen = np.array([(pid, camid) for pid in range(1, identities) for camid in range(1, cameras + 1)])
    gallery = np.concatenate(
        (seen, np.stack((rng.integers(lowest, identities, images), rng.integers(1, cameras + 1, images)), 1))
    )
    return {
        "query_pids": rng.integers(1, identities, queries),
        "query_camids": rng.integers(1, cameras + 1, queries),
        "gallery_pids": gallery[:, 0],
        "gallery_camids": gallery[:, 1],
    }


def featured(width=16, noise=0.6, seed=0, **sizes):
    """The same with features that tell identities apart, but not always."""
    arrays = labelled(seed=seed, **sizes)
    rng = np.random.default_rng(seed + 1)
    centres = rng.normal(size=(100, width))

    def describe(pids):
        return (centres[pids] + noise * rng.normal(size=(len(pids), width))).astype("f4")

    return arrays | {
        "query_features": describe(arrays["query_pids"]),
        "gallery_features": describe(arrays["gallery_pids"]),
    }
