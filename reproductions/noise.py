"""How much scores vary from seed to seed, and the tolerances that follow; noise.toml has the numbers."""

import math
import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).with_name("noise.toml")


class ToleranceRule(NamedTuple):
    """What ``noise.toml`` says under ``[tolerance]``; its comments explain the fields."""

    deviations: float
    floor: float
    floor_single: float
    several: int
    step: float


class NoiseTable(NamedTuple):
    """The content of ``noise.toml``: deviations by data set and metric, in percentage points."""

    tolerance: ToleranceRule
    weight: int
    deviation: dict[str, dict[str, float]]


@cache
def noise_table() -> NoiseTable:
    """Read ``noise.toml``, once."""
    data = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return NoiseTable(ToleranceRule(**data["tolerance"]), data["steadying"]["weight"], data["deviation"])


def usual_noise(dataset: str, metric: str) -> float:
    """Deviation between seeds, for example ``usual_noise("market1501", "mAP")``.

    A data set that has not been measured yet, and a variant without values of its own, takes those of
    ``elsewhere``. Kinds of average precision share mAP's value, all ranks share rank 1's, which
    is on the safe side, as higher ranks vary less.
    """
    known = noise_table().deviation
    return known.get(dataset, known["elsewhere"])["rank1" if metric.startswith("rank") else "mAP"]


def tolerance(noise: float, runs: int) -> float:
    """Distance from a printed mean of ``runs`` runs that still counts as reproduced, at least the floor.

    The printed value carries its own luck, and the tolerance is the only place for it.
    """
    rule = noise_table().tolerance
    floor = rule.floor if runs >= rule.several else rule.floor_single
    luck = rule.deviations * noise / math.sqrt(runs)
    steps = math.ceil(round(luck / rule.step, 9))  # a luck of exactly 0.3 must not become 0.4
    return max(floor, round(steps * rule.step, 9))
