import math
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods import METHODS
from methods.losses import batch_hard_triplet
from methods.open_reid import UNSTATED, OpenReID, OpenReIDOptions
from retable.errors import SpecError

LOSSES = ["softmax", "oim", "triplet"]
SLIM = {"layers": (1, 1, 1, 1), "channels": (8, 16, 24, 32)}
IMAGES = torch.randn(8, 3, 64, 32, generator=torch.Generator().manual_seed(0))  # maps of 2x1 at stride 32
PIDS = torch.arange(8) // 2


def slim(loss: str, **options) -> OpenReID:
    """A small network; OIM's table is filled, or nothing would learn from the first batch."""
    torch.manual_seed(0)
    options = {"features": 12, "hidden": 20, **options}
    model = OpenReID(OpenReIDOptions(loss=loss, **options), 4, "resnet18", "none", SLIM)
    if loss == "oim":
        nn.init.orthogonal_(model.matching.table)
    return model


@pytest.mark.parametrize(
    ("loss", "head"),
    [
        ("softmax", 2048 * 128 + 128 + 2 * 128 + 128 * 751 + 751),
        ("oim", 2048 * 128 + 128 + 2 * 128),
        ("triplet", 2048 * 1024 + 1024 + 2 * 1024 + 1024 * 128 + 128),
    ],
)
def test_parameter_counts(loss, head):
    with torch.device("meta"):
        model = OpenReID(OpenReIDOptions(loss=loss), 751, "resnet50", "none")

    assert sum(p.numel() for p in model.parameters()) == 23_508_032 + head  # ResNet-50 without classifier
    assert sum(p.numel() for p in model.backbone.parameters()) == 23_508_032


def test_maps_are_8_by_4_of_256_by_128():
    with torch.device("meta"):
        model = OpenReID(OpenReIDOptions(), 751, "resnet50", "none")
        assert model.backbone(torch.empty(2, 3, 256, 128)).shape == (2, 2048, 8, 4)


def literal_output(model: OpenReID, images: Tensor) -> Tensor:
    """The network in evaluation, from its weights: pool, linear, BN, then ReLU or length 1, then linear."""
    x = torch.stack([channel.mean() for image in model.backbone(images) for channel in image])
    x = x.reshape(len(images), -1)
    linear, norm = model.embedding
    x = x @ linear.weight.T + linear.bias
    x = (x - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
    if model.options.loss == "oim":
        return x / x.square().sum(1, keepdim=True).sqrt()
    last = model.head[1] if model.options.loss == "softmax" else model.head
    return x.clamp(min=0) @ last.weight.T + last.bias


@pytest.mark.parametrize(("loss", "width"), [("softmax", 4), ("oim", 12), ("triplet", 12)])
def test_description_is_the_output_of_the_network(loss, width):
    model = slim(loss)
    model.losses(IMAGES, PIDS)  # moves BN's statistics off 0 and 1
    model.eval()

    description = model.describe(IMAGES)

    assert description.shape == (8, width)
    torch.testing.assert_close(description, literal_output(model, IMAGES))


def test_softmax_can_describe_by_its_embedding():
    model = slim("softmax", description="embedding").eval()

    embedding = model.describe(IMAGES)

    assert embedding.shape == (8, 12) and embedding.min() == 0
    torch.testing.assert_close(model.head(embedding), slim("softmax").eval().describe(IMAGES))


@pytest.mark.parametrize("loss", ["oim", "triplet"])
def test_only_softmax_describes_by_logits(loss):
    model, other = slim(loss).eval(), slim(loss, description="embedding").eval()

    assert torch.equal(model.describe(IMAGES), other.describe(IMAGES))


@pytest.mark.parametrize("loss", LOSSES)
def test_a_description_does_not_depend_on_the_batch(loss):
    model = slim(loss).eval()

    alone = torch.cat([model.describe(image[None]) for image in IMAGES])

    torch.testing.assert_close(alone, model.describe(IMAGES))


def test_losses_are_those_of_the_output():
    """Without dropout; a network in evaluation mode leaves OIM's table as it is."""
    models = {loss: slim(loss, dropout=0.0, scalar=7.0).eval() for loss in LOSSES}
    output = {loss: literal_output(model, IMAGES) for loss, model in models.items()}

    losses = {name: value for m in models.values() for name, value in m.losses(IMAGES, PIDS).items()}

    expected = {
        "softmax": F.cross_entropy(output["softmax"], PIDS),
        "oim": F.cross_entropy(7 * output["oim"] @ models["oim"].matching.table.T, PIDS),
        "triplet": batch_hard_triplet(output["triplet"], PIDS, 0.5),
    }
    torch.testing.assert_close(losses, expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_parameter_learns(loss):
    model = slim(loss)

    losses = model(IMAGES, PIDS)
    losses[loss].backward()

    assert list(losses) == [loss] and losses[loss].shape == ()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    new = [*model.embedding.parameters(), *model.head.parameters()]
    assert all(p.grad.any() for p in new if p.ndim == 2)


def test_dropout_comes_after_the_features_are_scaled_to_length_one():
    """What is left of a feature is scaled up by 1 / (1 - p) and not scaled to length 1 again."""
    model, seen = slim("oim", features=400, dropout=0.5), []
    model.matching.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))

    model.losses(IMAGES, PIDS)

    assert (seen[0] == 0).float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert seen[0].norm(dim=1).mean().item() == pytest.approx(math.sqrt(2), abs=0.1)


def test_dropout_is_not_for_the_triplet_loss():
    assert not [m for m in slim("triplet", dropout=0.9).modules() if isinstance(m, nn.Dropout)]


def test_oim_is_in_the_checkpoint():
    model, other = slim("oim"), slim("oim")
    model.losses(IMAGES, PIDS)

    other.load_state_dict(model.state_dict())

    assert torch.equal(other.matching.table, model.matching.table)
    assert not torch.equal(slim("oim").matching.table, model.matching.table)


@pytest.mark.parametrize("loss", LOSSES)
def test_describing_changes_nothing(loss):
    model = slim(loss).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    model.describe(IMAGES)

    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("loss", LOSSES)
def test_new_layers_start_as_in_the_library(loss):
    """sqrt(2 / fan_out) in the first, 0.001 in the last layer, where torch would take about 0.1 and 0.05."""
    model = slim(loss, features=300, hidden=300)
    linear, norm = model.embedding
    last = [m for m in model.head.modules() if isinstance(m, nn.Linear)]

    assert linear.weight.std().item() == pytest.approx(math.sqrt(2 / 300), rel=0.05)
    assert [m.weight.std().item() for m in last] == pytest.approx([0.001] * len(last), rel=0.1)
    assert not any(layer.bias.any() for layer in [linear, norm, *last])
    assert (norm.weight == 1).all() and len(last) == (loss != "oim")


@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_falls_when_trained(loss):
    model = slim(loss)
    if loss == "oim":
        model.matching.table.zero_()  # as at the start of a training
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    totals = []
    for _ in range(40):
        total = model.losses(IMAGES, PIDS)[loss]
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())

    assert sum(totals[-10:]) / 10 < 0.5 * totals[0]


@pytest.mark.parametrize("loss", LOSSES)
def test_bfloat16_autocast_and_channels_last(loss):
    model = slim(loss).to(memory_format=torch.channels_last)
    images = IMAGES.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        total = model.losses(images, PIDS)[loss]
        total.backward()
        description = model.eval().describe(images)

    assert total.dtype == description.dtype == torch.float32 and total.isfinite()
    torch.testing.assert_close(description, model.describe(images), rtol=0.1, atol=0.1)
    if loss == "oim":
        torch.testing.assert_close(description.norm(dim=1), torch.ones(8))
        assert model.matching.table.dtype == torch.float32


def literal_library_triplet(features: Tensor, pids: Tensor, margin: float) -> Tensor:
    """The library's rules: squared distances no smaller than 1e-12, an anchor among its own positives."""
    terms = []
    for a in range(len(pids)):
        d = [(features[a] - f).square().sum().clamp(min=1e-12).sqrt() for f in features]
        positive = torch.stack([d[j] for j in range(len(pids)) if pids[j] == pids[a]]).max()
        negative = torch.stack([d[j] for j in range(len(pids)) if pids[j] != pids[a]]).min()
        terms.append((positive - negative + margin).clamp(min=0))
    return torch.stack(terms).mean()


@pytest.mark.parametrize("pids", [[0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 2], [0, 1, 2, 3, 4, 5]])
@pytest.mark.parametrize("equal", [False, True])
def test_the_triplet_loss_is_the_librarys(pids, equal):
    """Also where two images are one: there the library's distance is 1e-6 instead of 0.

    Which of the two a third image is pulled to or pushed from is a matter of chance, so their gradients
    are added up.
    """
    torch.manual_seed(0)
    features = torch.randn(6, 5, dtype=torch.float64)
    if equal:
        features[1] = features[0]
    features.requires_grad_()
    labels = torch.tensor(pids)

    loss, expected = (f(features, labels, 0.5) for f in (batch_hard_triplet, literal_library_triplet))

    torch.testing.assert_close(loss, expected, rtol=0, atol=2e-6)
    gradients = [torch.autograd.grad(value, features)[0] for value in (loss, expected)]
    if equal:
        gradients = [torch.cat([g[:2].sum(0, keepdim=True), g[2:]]) for g in gradients]
    torch.testing.assert_close(*gradients)


def test_vgg_backbones_work():
    model = OpenReID(OpenReIDOptions(), 4, "vgg11", "none")

    assert model.eval().describe(IMAGES[:2]).shape == (2, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "centre"}, "loss = 'centre'"),
        ({"dropout": 1.0}, "dropout = 1.0"),
        ({"scalar": 0}, "scalar = 0"),
        ({"momentum": 1.0}, "momentum = 1.0"),
        ({"description": "pooled"}, "description = 'pooled'"),
        ({"oim_scalar": 20}, "unknown option 'oim_scalar': did you mean 'scalar'"),
    ],
)
def test_wrong_options_are_errors(options, message):
    with pytest.raises(SpecError) as caught:
        OpenReID.parse_options(options)

    assert message in str(caught.value)


def test_missing_weights_are_an_error(tmp_path: Path):
    from retable.errors import WeightsError

    with pytest.raises(WeightsError, match=r"nowhere\.pth not found"):
        OpenReID(OpenReIDOptions(), 4, "resnet18", str(tmp_path / "nowhere.pth"))


def test_registered_by_name():
    assert METHODS.get("open-reid") is OpenReID


@pytest.mark.parametrize("choice", UNSTATED, ids=lambda c: f"{c.option} of {c.when.get('loss', 'all')}")
def test_every_unstated_choice_changes_something(choice):
    """Values that the options take, and a network that then differs in a weight, a loss or a description."""
    loss = choice.when.get("loss", "softmax")
    default = OpenReIDOptions(**choice.when)
    outcomes = [slim(loss, **{choice.option: getattr(default, choice.option)})]
    outcomes += [slim(loss, **{choice.option: value}) for value in choice.alternatives]

    seen = [_fingerprint(model) for model in outcomes]

    assert len(set(seen)) == len(seen)


def _fingerprint(model: OpenReID) -> tuple:
    torch.manual_seed(1)
    loss = round(sum(model.losses(IMAGES, PIDS).values()).item(), 9)
    state = round(sum(v.double().sum().item() for v in model.state_dict().values()), 6)
    return loss, state, tuple(model.eval().describe(IMAGES).shape)


def test_unstated_choices_cover_all_but_the_loss():
    assert {choice.option for choice in UNSTATED} == set(OpenReIDOptions.model_fields) - {"loss"}


def test_a_version_keeps_its_defaults():
    """Fails when a default has changed: records hold the version, so raise it, then pin what holds now."""
    defaults = sha256(OpenReIDOptions().model_dump_json().encode()).hexdigest()[:12]

    assert (METHODS.version("open-reid"), defaults) == ("1", "707a5e51b2ca")
