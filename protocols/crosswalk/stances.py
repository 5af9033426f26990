"""Walking, standing, telephoning: how people hold themselves, drawn at random."""

from math import pi, sin

import numpy as np

from protocols.crosswalk.body import Arm, Stance
from protocols.crosswalk.seeding import pick

HABITS = {"swing": 6.0, "pocket": 1.0, "phone": 0.6, "text": 0.8, "strap": 0.6, "behind": 0.3}


def draw_habit(rng: np.random.Generator) -> tuple[str, str, float]:
    """What a person does while crossing one camera's view: left arm, right arm, stride in radians."""
    stride = 0.06 if rng.random() < 0.12 else float(rng.uniform(0.26, 0.46))
    left = pick(rng, HABITS)
    right = left if left in ("swing", "text", "behind") and rng.random() < 0.75 else pick(rng, HABITS)
    return left, right, stride


def draw_stance(rng: np.random.Generator, habit: tuple[str, str, float], advance: float = 0.0) -> Stance:
    """One moment of that habit: the one that is drawn, ``advance`` radians of gait later."""
    left, right, stride = habit
    start = float(rng.uniform(0, 2 * pi))
    phase = start + advance
    glance = 0.15 * (sin(start + advance / 3) - sin(start))  # heads turn slowly
    return Stance(
        phase=phase,
        stride=stride,
        lean=float(rng.normal(0.05, 0.03)),
        head_yaw=float(rng.normal(0, 0.25)) + glance,
        head_pitch=float(rng.normal(0.3 if "text" in (left, right) else 0.08, 0.08)),
        arms=(_arm(rng, left, -stride * sin(phase)), _arm(rng, right, stride * sin(phase))),
    )


def _arm(rng: np.random.Generator, habit: str, swing: float) -> Arm:
    loose = float(rng.normal(0, 0.06))
    match habit:
        case "pocket":
            return Arm(-0.25 + loose, 0.28, 0.55, 0.35)
        case "phone":
            return Arm(0.5 + loose, 0.4, 2.4, 0.85)
        case "text":
            return Arm(0.2 + loose, 0.12, 1.35, 0.35)
        case "strap":
            return Arm(0.3 + loose, 0.3, 2.0, 0.55)
        case "behind":
            return Arm(-0.5 + loose, 0.25, 0.1, 0.5)
        case _:
            return Arm(0.75 * swing + loose, 0.13 + abs(loose), 0.22 + 0.5 * max(0.0, swing), 0.04)
