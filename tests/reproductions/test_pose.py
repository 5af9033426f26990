"""Pose networks of the street: who is in it, what they learn, PCK, the cache and the command."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from protocols.crosswalk import LAYOUTS
from protocols.crosswalk.truth import HIDDEN, JOINTS, OUTSIDE, VISIBLE
from reproductions import pose, pose_training, pose_weights
from reproductions.augment import normalise
from reproductions.jobs import street_seed
from reproductions.pose_evaluation import joint_maps_of, mean_places, pck, places_of
from reproductions.pose_people import People, chosen, people, resized
from reproductions.pose_recipe import POSE_RECIPE, PoseRecipe, digest
from reproductions.pose_record import PoseRecord
from reproductions.pose_targets import mirrored, pose_targets
from reproductions.pose_training import first_network, share_of_rate, train_pose
from reproductions.pose_weights import street_pose_identity, street_pose_weights
from retable.errors import RetableError

TINY = PoseRecipe(street_size="tiny", train_images=24, test_images=6, epochs=1)
NETWORK = "openpose", 0.03, 64, 32
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def people_cache(tmp_path_factory):
    """A cache in which the tiny recipe's people are rendered."""
    cache = tmp_path_factory.mktemp("poses")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETABLE_CACHE", str(cache))
        people(TINY, 64, 32, QUIET)
    return cache


@pytest.fixture(autouse=True)
def tiny(people_cache, monkeypatch):
    monkeypatch.setenv("RETABLE_CACHE", str(people_cache))
    monkeypatch.setattr(pose_weights, "POSE_RECIPE", TINY)


def made_up(count=3, seed=0):
    """People with all joints in images of 128 x 64."""
    joints = torch.rand(count, 18, 3, generator=torch.Generator().manual_seed(seed))
    joints[..., :2] *= torch.tensor([64.0, 128.0])
    joints[..., 2] = VISIBLE
    return joints


def test_nobody_of_these_is_ever_re_identified():
    assert POSE_RECIPE.street_seed not in {street_seed(layout) for layout in LAYOUTS}
    assert POSE_RECIPE.street_seed >= 2**16  # a layout's seed has 16 bits

    shots = chosen(POSE_RECIPE)
    learnt, tested = shots[: POSE_RECIPE.train_images], shots[POSE_RECIPE.train_images :]
    assert len(set(shots)) == POSE_RECIPE.train_images + POSE_RECIPE.test_images
    assert not {shot.pid for shot in learnt} & {shot.pid for shot in tested}
    assert all(shot.scene == "person" and shot.subject.name == f"pid {shot.pid}" for shot in shots)
    assert len({shot.pid for shot in learnt}) == 400  # all training identities


def test_joints_lie_where_they_do_in_images_of_another_size(people_cache):
    learnt, tested = people(TINY, 64, 32, QUIET)
    assert learnt.images.shape == (24, 3, 64, 32)
    assert tested.joints.shape == (6, 18, 3)
    with np.load(next(people_cache.glob("pose/people-*/joints.npz"))) as truth:
        np.testing.assert_allclose(learnt.joints, truth["joints"][:24] * [0.5, 0.5, 1])
    wider = resized(made_up(), 96, 64)  # 3/4 of the rendered height, the whole width
    torch.testing.assert_close(wider, made_up() * torch.tensor([1.0, 0.75, 1.0]))


def test_peaks_of_a_joints_own_map_are_where_the_joint_is():
    joints = made_up(8)
    joints[..., :2] = joints[..., :2].clamp(8, 56)
    maps = pose_targets(joints, (16, 8), POSE_RECIPE.sigma, POSE_RECIPE.limb_width).joints
    away = (places_of(maps) - joints[..., :2]).norm(dim=-1)
    assert away.max() < 2.5  # pixels; a cell has 8


def test_mirrored_maps_have_mirrored_places():
    maps = torch.rand(4, 19, 6, 3, generator=torch.Generator().manual_seed(0))
    found, mirror = places_of(maps), places_of(maps.flip(-1))
    torch.testing.assert_close(mirror, torch.stack([24 - found[..., 0], found[..., 1]], -1))


def test_joints_are_read_off_the_last_stage():
    network = first_network("openpose", 0.03, 0)
    images = torch.randint(256, (3, 3, 32, 16), dtype=torch.uint8)
    with torch.no_grad():
        *_, joints = network(normalise(images))
    torch.testing.assert_close(joint_maps_of(network, images), joints, rtol=1e-3, atol=1e-5)


def test_a_mirrored_image_has_mirrored_joints():
    learnt, _ = people(TINY, 64, 32, QUIET)
    reflected = People(learnt.images.flip(-1), mirrored(learnt.joints, 32))
    losses = [
        train_pose(first_network("openpose", 0.03, 0), some, replace(TINY, flip=flip))
        for some, flip in ((learnt, 1.0), (reflected, 0.0))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_pck_is_the_share_of_joints_found_near_enough():
    joints = made_up(40)
    joints[..., 2] = torch.randint(0, 3, (40, 18), generator=torch.Generator().manual_seed(2))
    found = joints[..., :2] + 12 * torch.randn(40, 18, 2, generator=torch.Generator().manual_seed(1))
    scores = pck(found, joints)

    shoulder, hip = JOINTS.index("left_shoulder"), JOINTS.index("right_hip")
    for j in range(18):
        body, torso = [], []
        for person, guess in zip(joints.tolist(), found.tolist(), strict=True):
            x, y, visibility = person[j]
            if visibility == OUTSIDE:
                continue
            error = math.hypot(guess[j][0] - x, guess[j][1] - y)
            xs, ys, _ = zip(*(one for one in person if one[2] != OUTSIDE), strict=True)
            body.append(error <= 0.1 * max(max(xs) - min(xs), max(ys) - min(ys)))
            if OUTSIDE not in (person[shoulder][2], person[hip][2]):
                length = math.hypot(*(person[shoulder][i] - person[hip][i] for i in (0, 1)))
                torso.append(error <= 0.2 * length)
        assert scores.body[j] == pytest.approx(100 * np.mean(body))
        assert scores.torso[j] == pytest.approx(100 * np.mean(torso))


def test_a_joint_that_no_image_shows_has_no_score():
    joints = made_up()
    joints[:, 3, 2] = OUTSIDE
    scores = pck(joints[..., :2], joints)
    assert scores.body.isnan().tolist() == [j == 3 for j in range(18)]
    assert scores.body.nan_to_num(100).eq(100).all()


def test_joints_outside_the_image_do_not_move_the_mean_place():
    joints = made_up(3)
    joints[2, :, :2], joints[2, :, 2] = 1e4, OUTSIDE
    joints[1, :, 2] = HIDDEN
    torch.testing.assert_close(mean_places(joints), joints[:2, :, :2].mean(0))


def test_the_rate_rises_in_a_line_and_falls_as_a_cosine():
    rates = [share_of_rate(step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert rates[10] == 1
    assert rates[55] == pytest.approx(0.5)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.01


def test_a_network_learns_the_people_it_sees():
    learnt, _ = people(TINY, 64, 32, QUIET)
    few = People(learnt.images[:4], learnt.joints[:4])
    losses = [
        train_pose(first_network("r-cpm", 0.1, 0), few, replace(TINY, epochs=epochs, batch=4, flip=0.0))
        for epochs in (1, 40)
    ]
    assert losses[1] < 0.75 * losses[0]


def test_a_loss_that_is_no_number_is_refused():
    learnt, _ = people(TINY, 64, 32, QUIET)
    with pytest.raises(RetableError, match="epoch 1: the loss is nan"):
        train_pose(first_network("openpose", 0.03, 0), learnt, replace(TINY, rate=1e30))


def test_weights_are_trained_once_and_the_callers_random_numbers_stay(monkeypatch):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    weights = street_pose_weights(*NETWORK, "cpu", QUIET)
    assert torch.equal(torch.get_rng_state(), before)

    state = load_file(weights)
    network = first_network("openpose", 0.03, TINY.seed)
    untrained = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.load_state_dict(state)
    assert all(not torch.equal(tensor, untrained[name]) for name, tensor in state.items())

    record = PoseRecord.load(weights.with_name("scores.json"))
    assert digest(record.identity) == record.digest == digest(street_pose_identity(*NETWORK))
    assert record.recipe == TINY
    assert weights.parent.name == record.digest
    monkeypatch.setattr(pose_training, "train_street_pose", None)
    assert street_pose_weights(*NETWORK, "cpu", QUIET) == weights


def test_an_interrupted_training_leaves_nothing(monkeypatch, people_cache):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pose_training, "train_pose", interrupted)
    before = {path.name for path in (people_cache / "pose").iterdir() if path.is_dir()}
    with pytest.raises(KeyboardInterrupt):
        street_pose_weights("openpose", 0.02, 64, 32, "cpu", QUIET)
    assert {path.name for path in (people_cache / "pose").iterdir() if path.is_dir()} == before


@pytest.mark.parametrize(
    "other", [("r-cpm", 0.03, 64, 32), ("openpose", 0.04, 64, 32), ("openpose", 0.03, 72, 32)]
)
def test_another_network_has_another_identity(other):
    assert street_pose_identity(*other) != street_pose_identity(*NETWORK)


def test_another_recipe_has_another_identity(monkeypatch):
    before = street_pose_identity(*NETWORK)
    monkeypatch.setattr(pose_weights, "POSE_RECIPE", replace(TINY, epochs=2))
    assert street_pose_identity(*NETWORK) != before


def test_the_command_shows_records_and_draws(tmp_path, capsys):
    code = pose.main(
        "pabr",
        row=["Proposed (Inception V1, OpenPose)"],
        setting=["pose_width=0.03", "recipe.height=64", "recipe.width=32"],
        device="cpu",
        form="json",
        records=tmp_path / "records",
        pictures=tmp_path / "pictures",
        count=2,
    )
    assert code == 0
    lines = json.loads(capsys.readouterr().out)
    assert [line["joint"] for line in lines] == [*JOINTS, "mean"]
    (file,) = (tmp_path / "records").iterdir()
    record = PoseRecord.load(file)
    assert file.name == f"{record.name}.json"
    assert lines[0]["body_trained"] == f"{record.trained['body']['nose']:.1f}"
    (picture,) = (tmp_path / "pictures").iterdir()
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_records_of_poses_are_no_records_of_rows(tmp_path):
    from reproductions.records import load_records

    weights = street_pose_weights(*NETWORK, "cpu", QUIET)
    record = PoseRecord.load(weights.with_name("scores.json"))
    record.save(tmp_path / "pabr" / "pose" / f"{record.name}.json")
    assert load_records(tmp_path) == []


def test_a_damaged_record_is_named(tmp_path):
    file = tmp_path / "scores.json"
    file.write_text("{}")
    with pytest.raises(RetableError, match=r"scores\.json: not a record of a pose network"):
        PoseRecord.load(file)


def test_a_paper_without_poses_is_refused():
    with pytest.raises(RetableError, match="sona, scale proxy: found no row"):
        pose.main("sona")
