"""The loop: it learns, one seed decides everything, and an interruption changes nothing."""

from copy import deepcopy

import pytest
import torch
from PIL import Image

from methods import METHODS
from reproductions.augment import normalise, random_flip, random_step
from reproductions.checkpoint import Checkpoint
from reproductions.descriptions import describe_all
from reproductions.frames import Frames
from reproductions.images import ImageFiles
from reproductions.recipe import Recipe
from reproductions.training import _augment as augmented
from reproductions.training import (
    make_accelerator,
    make_optimizer,
    refuse_misfit,
    seed_everything,
    train,
)
from retable.errors import RetableError, SpecError

RECIPE = Recipe(
    backbone="resnet18",
    backbone_options={"channels": [8, 8, 16, 16]},
    weights="none",
    height=48,
    width=16,
    flip=0.5,
    cutout_probability=0.5,
    cutout_size=4,
    ids_per_batch=4,
    images_per_id=4,
    epochs=3,
    optimizer="adam",
    weight_decay=5e-4,
    schedule=((1, 1e-3), (3, 1e-4)),
    precision="bf16",
)
OPTIONS = {
    "sona": {"block_height": 1, "block_width": 2, "global_dim": 16, "local_dim": 16},
    "kpm": {"matching": "warp"},
}


@pytest.fixture(scope="module")
def coloured():
    """Eight identities, each one colour with noise; 64 images and their labels."""
    generator = torch.Generator().manual_seed(0)
    colours = torch.randint(0, 200, (8, 3, 1, 1), generator=generator)
    labels = torch.arange(8).repeat_interleave(8)
    noise = torch.randint(0, 56, (64, 3, 48, 16), generator=generator)
    return (colours[labels] + noise).to(torch.uint8), labels


def new_method(seed=0, name="sona"):
    seed_everything(seed, "initial weights")
    method = METHODS.get(name)
    return method(method.parse_options(OPTIONS[name]), 8, RECIPE.backbone, "none", RECIPE.backbone_options)


def run(coloured, recipe=RECIPE, seed=0, resumed=None, name="sona"):
    """Train to the end; the method, the entries and the optimizer's state after each epoch."""
    method = new_method(seed, name)
    accelerator = make_accelerator("cpu", recipe.precision)
    states, entries = [], []
    for entry, optimizer in train(method, *coloured, recipe, seed, accelerator, resumed):
        entries.append(entry)
        states.append(deepcopy((method.state_dict(), optimizer)))
    return method, entries, states


def assert_equal_weights(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def timeless(entries):
    return [{k: v for k, v in e.items() if k not in ("seconds", "images_per_s")} for e in entries]


def test_a_resumed_training_is_bit_identical(coloured, tmp_path):
    method, entries, _ = run(coloured)
    cut = RECIPE.model_copy(update={"epochs": 1, "schedule": ((1, 1e-3),)})
    _, _, states = run(coloured, cut)
    weights, optimizer = states[0]
    Checkpoint("job", 1, weights, optimizer, entries[:1], {}).save(tmp_path / "checkpoint.pt")

    resumed = Checkpoint.load(tmp_path / "checkpoint.pt", "job")
    again, later_entries, _ = run(coloured, resumed=resumed)

    assert_equal_weights(method.state_dict(), again.state_dict())
    assert timeless(later_entries) == timeless(entries)[1:]


def test_one_seed_decides_everything_and_another_seed_differs(coloured):
    first, _, _ = run(coloured)
    torch.rand(7)  # whatever was drawn before must not matter
    second, _, _ = run(coloured)
    other, _, _ = run(coloured, seed=1)

    assert_equal_weights(first.state_dict(), second.state_dict())
    name = "classifiers.global.weight"
    assert not torch.equal(first.state_dict()[name], other.state_dict()[name])


def test_tracklets_in_files_train_as_those_in_memory(coloured, tmp_path):
    """32 tracklets of one to three frames; what lies in files is decoded as it is drawn."""
    images, labels = coloured
    counts = torch.tensor([1, 3, 2, 2]).repeat(8)
    paths = [tmp_path / f"{place}.png" for place in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    recipe = RECIPE.model_copy(update={"epochs": 2, "schedule": ((1, 1e-3),)})

    trained = []
    for where in (images, ImageFiles(paths, *images.shape[2:])):
        method, accelerator = new_method(), make_accelerator("cpu", "fp32")
        list(train(method, where, labels[::2], recipe, 0, accelerator, frames=Frames(counts)))
        described = describe_all(method, where, accelerator).rows(slice(None))
        trained.append(method.state_dict() | {"described": described})

    assert_equal_weights(*trained)


def test_it_learns_and_follows_the_schedule(coloured):
    recipe = RECIPE.model_copy(update={"epochs": 12, "schedule": ((1, 3e-3), (10, 1e-4))})

    _, entries, _ = run(coloured, recipe)

    assert entries[-1]["global_ce"] < 0.8 * entries[0]["global_ce"]
    assert [entry["lr"] for entry in entries] == [3e-3] * 9 + [1e-4] * 3
    assert [entry["epoch"] for entry in entries] == list(range(1, 13))
    assert all(entry["images_per_s"] > 0 for entry in entries)


def test_a_diverging_loss_stops_with_its_name(coloured):
    recipe = RECIPE.model_copy(update={"schedule": ((1, 1e30),), "precision": "fp32"})

    with pytest.raises(RetableError, match=r"epoch [123]: the loss \w+ is (nan|inf)"):
        run(coloured, recipe)


PAIRS = {"sampler": "pairs", "anchors_per_batch": 6, "negatives": 3, "erasing_probability": 0.5}
SHUFFLED = {"sampler": "shuffled", "images_per_batch": 16}
ALL_PAIRS = {"sampler": "all pairs", "images_per_batch": 8}
FITTED = {"sampler": "fitted"}
SGD = {"optimizer": "sgd", "momentum": 0.9, "backbone_rate": 0.1}


def changed(**fields):
    return Recipe.model_validate(RECIPE.model_dump() | fields)


@pytest.mark.parametrize("fields", [PAIRS, PAIRS | SGD, SHUFFLED | SGD], ids=["pairs", "sgd", "shuffled"])
def test_every_sampler_and_optimizer_resumes_bit_identically(coloured, tmp_path, fields):
    name = "kpm" if fields["sampler"] == "pairs" else "sona"
    method, entries, _ = run(coloured, changed(**fields), name=name)
    _, _, states = run(coloured, changed(**fields, epochs=1, schedule=((1, 1e-3),)), name=name)
    weights, optimizer = states[0]
    Checkpoint("job", 1, weights, optimizer, entries[:1], {}).save(tmp_path / "checkpoint.pt")

    resumed = Checkpoint.load(tmp_path / "checkpoint.pt", "job")
    again, later_entries, _ = run(coloured, changed(**fields), resumed=resumed, name=name)

    assert_equal_weights(method.state_dict(), again.state_dict())
    assert timeless(later_entries) == timeless(entries)[1:]


def test_training_images_take_steps(coloured):
    images, _ = coloured
    still = {"flip": 0.0, "cutout_probability": 0.0}
    torch.manual_seed(0)
    moved = random_step(random_flip(images, 0.0), 2, 1)  # which draws, too
    torch.manual_seed(0)

    seen = augmented(images, changed(**still, shift=(2, 1)))

    torch.testing.assert_close(seen, normalise(moved))
    assert not torch.equal(moved, images)


def test_pairs_of_two_colours_are_learnt(coloured):
    seen = []
    recipe = changed(**PAIRS | {"erasing_probability": 0.0, "epochs": 6, "schedule": ((1, 3e-3),)})
    method, accelerator = new_method(name="kpm"), make_accelerator("cpu", "fp32")

    entries = [entry for entry, _ in train(method, *coloured, recipe, 0, accelerator, progress=seen.append)]

    assert seen == ([6 * 5] * 10 + [4 * 5]) * 6
    (loss,) = set(entries[0]) - {"epoch", "lr", "images_per_s", "seconds"}
    assert entries[-1][loss] < 0.8 * entries[0][loss]


def test_sgd_with_momentum_and_a_slower_backbone_is_the_formula():
    """v <- 0.9 v + (g + decay p); p <- p - rate v, the rate a tenth in the backbone."""
    method = new_method(name="kpm")
    recipe = changed(**PAIRS | SGD, weight_decay=0.01)
    optimizer = make_optimizer(method, recipe)
    before = {name: parameter.detach().clone() for name, parameter in method.named_parameters()}
    velocity = {name: torch.zeros_like(value) for name, value in before.items()}
    for group in optimizer.param_groups:
        group["lr"] = 0.5 * group.get("rate", 1.0)
    for step in range(2):
        for parameter in method.parameters():
            parameter.grad = torch.full_like(parameter, 0.1 + step)
        optimizer.step()
        for name, value in before.items():
            velocity[name] = 0.9 * velocity[name] + 0.1 + step + 0.01 * value
            before[name] = value - (0.05 if name.startswith("backbone.") else 0.5) * velocity[name]

    assert {name.startswith("backbone.") for name in before} == {True, False}
    for name, parameter in method.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name], msg=name)


def test_the_schedule_holds_for_every_group(coloured):
    _, entries, states = run(coloured, changed(**PAIRS | SGD), name="kpm")

    assert [entry["lr"] for entry in entries] == [1e-3, 1e-3, 1e-4]
    assert [group["lr"] for group in states[-1][1]["param_groups"]] == pytest.approx([1e-5, 1e-4])


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("kpm", {}, 'KPM learns from pairs of images, the recipe has sampler = "pk"; expected .*"pairs"'),
        ("kpm", SHUFFLED, 'the recipe has sampler = "shuffled"'),
        ("sona", PAIRS, 'SONA learns from images one by one, the recipe has sampler = "pairs"; .*"shuffled"'),
        ("sona", ALL_PAIRS, 'has sampler = "all pairs"; expected sampler = "pk" or "shuffled" or "capped"'),
        ("sona", FITTED, 'the recipe has sampler = "fitted"'),
        ("kpm", FITTED, 'the recipe has sampler = "fitted"; expected sampler = "pairs" or "all pairs"'),
    ],
)
def test_a_recipe_that_does_not_fit_the_method(name, fields, message):
    with pytest.raises(SpecError, match=message):
        refuse_misfit(METHODS.get(name), changed(**fields))


def test_recipes_and_methods_that_fit():
    for name, fields in (("sona", {}), ("sona", SHUFFLED), ("kpm", PAIRS), ("kpm", ALL_PAIRS)):
        refuse_misfit(METHODS.get(name), changed(**fields))


@pytest.mark.gpu
@pytest.mark.parametrize(("name", "fields"), [("sona", {}), ("kpm", PAIRS | SGD)])
def test_the_loop_on_a_gpu(coloured, name, fields):
    images, labels = coloured
    method, accelerator = new_method(name=name), make_accelerator("cuda", "bf16")
    cached = images.to(accelerator.device)

    entries = [entry for entry, _ in train(method, cached, labels, changed(**fields), 0, accelerator)]

    assert len(entries) == 3
    assert all(value > 0 for entry in entries for value in entry.values())


def test_a_missing_gpu_is_refused():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(RetableError, match="torch sees no GPU"):
        make_accelerator("cuda", "bf16")
