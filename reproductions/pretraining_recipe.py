"""How weights that stand for ImageNet's are trained on the street, as data; importing it imports no torch."""

from typing import Any

STREET_SEED = 65_537
"""Of the street whose people are told apart. It is above the seeds of all rows' streets
(``jobs.street_seed``), so nobody of these is ever re-identified."""

STREET_SIZE = "default"
"""In Market-1501's layout."""

PRETRAINING: dict[str, Any] = {
    "weights": "none",
    "flip": 0.5,
    "sampler": "shuffled",
    "images_per_batch": 32,
    "epochs": 12,
    "optimizer": "adam",
    "momentum": 0.0,
    "nesterov": False,
    "weight_decay": 5e-4,
    "backbone_rate": 1.0,
    "schedule": ((1, 2e-3), (10, 2e-4)),
    "ranking": ("all",),
}
"""What differs from the recipe of the row that starts from these weights."""
