"""Persistent appearance: the same person looks the same everywhere, and patterns turn with the body."""

import numpy as np
import pytest

from protocols.crosswalk.body import Arm, Stance, pose
from protocols.crosswalk.figure import figure, materials_of
from protocols.crosswalk.looks import Build, look_of
from protocols.crosswalk.raster import FAR, cast, place
from protocols.crosswalk.scene import HEIGHT, WIDTH
from protocols.crosswalk.seeding import generator, pick
from protocols.crosswalk.shade import shade
from protocols.crosswalk.shots import Subject
from protocols.crosswalk.stances import draw_habit, draw_stance

ARM = Arm(0.0, 0.15, 0.2, 0.0)
STILL = Stance(0.0, 0.0, 0.0, 0.0, 0.0, (ARM, ARM))
LOGO = 4.0  # linear light, brighter than anything else


def looks(n):
    return [look_of(0, Subject(f"pid {i}", f"pid {i}")) for i in range(n)]


def test_a_look_is_a_function_of_its_name():
    subject = Subject("pid 7", "pid 7")
    look_of.cache_clear()
    first = look_of(0, subject)
    look_of.cache_clear()
    assert look_of(0, subject) == first
    assert look_of(1, subject) != first


def test_people_differ():
    assert len({look.hues for look in looks(200)}) == 200


@pytest.mark.parametrize("phase", np.linspace(0, 6, 9).tolist())
def test_somebody_stands_on_the_ground_in_any_phase(phase):
    build = Build(1.7, 1.0, 1.0, 1.0, 0.0)
    bones = pose(build, STILL._replace(phase=phase, stride=0.4))
    soles = [y for leg in bones.legs for y in (leg.heel[1], leg.toe[1])]
    assert min(soles) == pytest.approx(0.02 * 1.7)
    assert bones.head[1] == pytest.approx(0.93 * 1.7, abs=0.12)


def test_legs_and_arms_swing_against_each_other():
    rng = generator("swing")
    for _ in range(20):
        stance = draw_stance(rng, ("swing", "swing", 0.45))
        bones = pose(Build(1.7, 1.0, 1.0, 1.0, 0.0), stance)
        apart = bones.legs[0].knee[2] - bones.legs[1].knee[2]
        if abs(apart) > 0.15:
            assert apart * (bones.arms[0].elbow[2] - bones.arms[1].elbow[2]) < 0


def test_every_habit_and_every_look_makes_a_figure():
    rng = generator("habits")
    for look in looks(60):
        shapes, _ = figure(look, draw_stance(rng, draw_habit(rng)))
        assert np.isfinite(shapes).all()
        assert (shapes[:, 9:11] > 0).all()


def logo_pixels(look, yaw):
    shapes, _ = figure(look, STILL)
    table = materials_of(look).copy()
    table[3, 3:6] = LOGO
    placed = place(shapes, yaw, 0.2)
    depth = np.full((2 * HEIGHT, 2 * WIDTH), FAR, dtype=np.float32)
    seen = np.full(depth.shape, -1, dtype=np.int16)
    image = np.zeros((*depth.shape, 3), dtype=np.float32)
    window = (-0.5, -1.9, 1.0, 2.0)
    cast(placed, window, depth, seen)
    shade(placed, table, window, (0.0, -1.0, 0.0, 0.0, 1.0), depth, seen, image)
    return int((image.min(axis=2) > 1.2).sum())


@pytest.mark.parametrize(("logo", "seen_from"), [("front", 0.0), ("back", np.pi)])
def test_a_logo_is_seen_from_its_side_only(logo, seen_from):
    look = next(
        look for look in looks(400) if look.logo == logo and look.bag == "none" and look.top == "tee"
        and look.top_cloth.pattern == "plain" and look.hairstyle in ("short", "crop")
    )  # fmt: skip
    assert logo_pixels(look, seen_from) > 100
    assert logo_pixels(look, seen_from + np.pi) == 0


def test_pick_keeps_its_shares():
    rng = generator("shares")
    drawn = [pick(rng, {"a": 1.0, "b": 3.0}) for _ in range(4000)]
    assert 0.22 < drawn.count("a") / 4000 < 0.28


def test_a_generator_knows_where_one_name_ends():
    assert generator("ab", "c").random() != generator("a", "bc").random()
