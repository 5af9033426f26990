"""The loop: it learns, one seed decides everything, and an interruption changes nothing."""

from dataclasses import replace

import pytest
import torch

from methods import METHODS
from protocols import PROTOCOLS, Record
from reproductions.checkpoint import Checkpoint
from reproductions.evaluation import Gallery, evaluate
from reproductions.recipe import Recipe
from reproductions.training import make_accelerator, seed_everything, train
from retable.errors import RetableError

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
OPTIONS = {"block_height": 1, "block_width": 2, "global_dim": 16, "local_dim": 16}


@pytest.fixture(scope="module")
def coloured():
    """Eight identities, each one colour with noise; 64 images and their labels."""
    generator = torch.Generator().manual_seed(0)
    colours = torch.randint(0, 200, (8, 3, 1, 1), generator=generator)
    labels = torch.arange(8).repeat_interleave(8)
    noise = torch.randint(0, 56, (64, 3, 48, 16), generator=generator)
    return (colours[labels] + noise).to(torch.uint8), labels


def new_method(seed=0):
    seed_everything(seed, "initial weights")
    method = METHODS.get("sona")
    return method(method.parse_options(OPTIONS), 8, RECIPE.backbone, "none", RECIPE.backbone_options)


def run(coloured, recipe=RECIPE, seed=0, resumed=None):
    """Train to the end; the method, the entries and the optimizer's state after each epoch."""
    method = new_method(seed)
    accelerator = make_accelerator("cpu", recipe.precision)
    states, entries = [], []
    for entry, optimizer in train(method, *coloured, recipe, seed, accelerator, resumed):
        entries.append(entry)
        weights = {name: tensor.clone() for name, tensor in method.state_dict().items()}
        states.append((weights, optimizer))
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


def test_evaluation_ranks_by_the_methods_distance(coloured, tmp_path):
    images, labels = coloured
    records = tuple(
        Record(tmp_path / f"{index}.jpg", int(label) + 1, 1 + index % 2)
        for index, label in enumerate(labels.tolist())
    )
    protocol = PROTOCOLS.get("market1501")()
    rules = replace(protocol.rules, max_rank=20)
    method, accelerator = new_method(), make_accelerator("cpu", "fp32")
    query, gallery = Gallery(records[:16], images[:16]), Gallery(records, images)

    result = evaluate(method, query, gallery, replace(protocol, rules=rules), accelerator)

    assert result.queries == 16
    from reproductions.evaluation import describe

    described = describe(method, images, accelerator).double()
    for q in range(16):
        distance = (described[q] - described).square().sum(1)
        counted = [
            j
            for j in range(64)
            if not (records[j].pid == records[q].pid and records[j].camid == records[q].camid)
        ]
        nearest = min(distance[j] for j in counted if records[j].pid == records[q].pid)
        before = sum(distance[j] < nearest - 1e-4 for j in counted)
        first = result.ranks.rank[result.ranks.ends[q - 1] if q else 0]
        assert abs(first - (before + 1)) <= 1


@pytest.mark.gpu
def test_the_loop_and_the_evaluation_on_a_gpu(coloured, tmp_path):
    images, labels = coloured
    method, accelerator = new_method(), make_accelerator("cuda", "bf16")
    cached = images.to(accelerator.device)

    entries = [entry for entry, _ in train(method, cached, labels, RECIPE, 0, accelerator)]

    assert all(entry["global_ce"] > 0 for entry in entries)
    records = tuple(Record(tmp_path / str(i), 1 + i // 8, 1 + i % 2) for i in range(64))
    query, gallery = Gallery(records[:8], cached[:8]), Gallery(records, cached)
    result = evaluate(method, query, gallery, PROTOCOLS.get("market1501")(), accelerator)
    assert 0 <= result.metrics["mAP"] <= 100


def test_a_missing_gpu_is_refused():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(RetableError, match="torch sees no GPU"):
        make_accelerator("cuda", "bf16")
