import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods import METHODS
from methods.mi_irnn import MIIRNN, Gate, MIIRNNOptions
from methods.spatial_pyramid import pyramid_bins
from retable.errors import SpecError, WeightsError
from tests.methods.irnn_literal import literal_stack
from tests.methods.peak_memory import PeakMemory
from tests.methods.test_losses import literal_deviance

SLIM = {"width": 0.0625, "batch_norm": True}  # 32 channels
SMALL = {"map_size": (2, 3), "joint": 7, "hidden": 6, "output": 5, "dropout": 0.0}  # for images of 32x48
IMAGES = torch.randn(6, 3, 32, 48, generator=torch.Generator().manual_seed(0))
PIDS = torch.tensor([0, 0, 1, 1, 2, 2])
PAIRS = torch.tensor([[0, 1], [3, 2], [0, 2], [3, 5], [4, 5], [5, 1], [1, 0]])
ZERO = 1e-9  # what an image may be off itself; distances of others are 1e-5 and more
MIXED = {"shared": False, "second_backbone": "vgg_m"}
ROWS = {
    "MI + SPP": {"integration": "hadamard", "pooling": "spp"},
    "Ours (VGG-D, VGG-M)": MIXED,
    "Ours (VGG-D, VGG-D)": {},
}
"""The networks of Table 1; (VGG-M, VGG-M) is the last with another backbone."""
ALL = {
    **ROWS,
    "gate + SPP": {"pooling": "spp"},
    "product + IRNN": {"integration": "hadamard"},
    "product, two streams": {"integration": "hadamard", "shared": False},
    "two streams": {"shared": False},
    "eq. 1": {"activation": "none"},
    "no biases": {"biases": False},
    "diagonal": {"recurrence": "diagonal"},
    "flattened": {"head": "flattened"},
    "flattened SPP": {"integration": "hadamard", "pooling": "spp", "head": "flattened"},
    "square": {"map_size": (3, 3)},
}

each = pytest.mark.parametrize("options", ALL.values(), ids=ALL.keys())


def slim(backbone: str = "vgg11", **options) -> MIIRNN:
    """A small network, in which x_A and x_B differ more than they do at the start."""
    torch.manual_seed(0)
    model = MIIRNN(MIIRNN.parse_options({**SMALL, **options}), 3, backbone, "none", SLIM)
    nn.init.normal_(model.fc.weight)
    if isinstance(model.integration, Gate):
        for layer in (model.integration.u, model.integration.v, model.integration.p):
            nn.init.normal_(layer.weight, std=0.5)
    return model


def rows_of(described: dict[str, Tensor], rows) -> dict[str, Tensor]:
    return {name: tensor[rows] for name, tensor in described.items()}


# The network, written out pair by pair and cell by cell


def literal_maps(stream: nn.Module, images: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, h, w, D)."""
    return F.interpolate(stream(images), size, mode="bilinear", align_corners=False).permute(0, 2, 3, 1)


def literal_f(model: MIIRNN, g_a: Tensor, g_b: Tensor) -> Tensor:
    """Eq. 1 or 2, of a pair: (h, w, D)."""
    if model.options.integration == "hadamard":
        return g_a * g_b
    sigma = (lambda x: 1 / (1 + torch.exp(-x))) if model.options.activation == "sigmoid" else (lambda x: x)
    gate = model.integration
    u, v, p = gate.u.weight.mT, gate.v.weight.mT, gate.p.weight.mT  # D x d, D x d, d x D
    b_a, b_b = (gate.u.bias, gate.v.bias) if model.options.biases else (0, 0)
    cells = [
        p.mT @ (sigma(u.mT @ a + b_a) * sigma(v.mT @ b + b_b)) + gate.p.bias
        for a, b in zip(g_a.flatten(0, 1), g_b.flatten(0, 1), strict=True)
    ]
    return torch.stack(cells).view(g_a.shape)


def literal_positions(model: MIIRNN, x: Tensor) -> list[Tensor]:
    """The vectors of all cells, or the maxima of all bins."""
    if model.options.pooling == "irnn":
        return [x[i, j] for i in range(x.shape[0]) for j in range(x.shape[1])]
    return [x[rows, columns].amax((0, 1)) for rows, columns in pyramid_bins(*x.shape[:2])]


def literal_outputs(model: MIIRNN, g_a: Tensor, g_b: Tensor) -> list[Tensor]:
    """x_A and x_B of a pair (section 3.4)."""
    f = literal_f(model, g_a, g_b)
    if model.pooling:
        f = literal_stack(f.permute(2, 0, 1)[None], model.pooling)[0].permute(1, 2, 0)
    outputs = []
    for g in (g_a, g_b):
        both = list(zip(literal_positions(model, g), literal_positions(model, f), strict=True))
        if model.options.head == "flattened":
            vector = torch.cat([(x - y).abs() for x, y in both])
        else:
            vector = torch.stack([(x - y).square().sum().sqrt() for x, y in both])
        outputs.append(model.fc.weight @ vector + model.fc.bias)
    return outputs


def literal_similarity(model: MIIRNN, g_a: Tensor, g_b: Tensor) -> Tensor:
    x_a, x_b = literal_outputs(model, g_a, g_b)
    return x_a @ x_b / (x_a.norm() * x_b.norm())


@each
def test_losses_are_the_literal_network_in_value_and_gradient(options):
    model = slim(**options).double().eval()
    images = IMAGES.double()

    loss = model.losses(images, PIDS, PAIRS)

    assert list(loss) == ["deviance"]
    first = literal_maps(model.backbone, images, model.options.map_size)
    second = literal_maps(model.second, images, model.options.map_size) if model.second else first
    s = torch.stack([literal_similarity(model, first[i], second[j]) for i, j in PAIRS.tolist()])
    expected = literal_deviance(s, PIDS[PAIRS[:, 0]] == PIDS[PAIRS[:, 1]], 2.0, 0.5)
    torch.testing.assert_close(loss["deviance"], expected)
    parameters = list(model.parameters())
    found, literal = (torch.autograd.grad(x, parameters) for x in (loss["deviance"], expected))
    torch.testing.assert_close(found, literal)


@torch.inference_mode()
@each
def test_distances_are_one_minus_the_mean_similarity_of_both_orders(options):
    model = slim(**options).double().eval()
    described = model.describe(IMAGES.double())
    first = described["conv5"].double()
    second = described.get("conv5_second", described["conv5"]).double()

    distances = model.distance(rows_of(described, slice(2)), rows_of(described, slice(1, 4)))
    of_pairs = model.pair_distance(rows_of(described, PAIRS[:, 0]), rows_of(described, PAIRS[:, 1]))

    def expected(i: int, j: int) -> float:
        one, other = (literal_similarity(model, first[a], second[b]) for a, b in ((i, j), (j, i)))
        return 1 - (one.item() + other.item()) / 2

    assert distances.dtype == of_pairs.dtype == torch.float32
    for found, literal in (
        (distances, [[expected(i, j) for j in (1, 2, 3)] for i in (0, 1)]),
        (of_pairs, [expected(i, j) for i, j in PAIRS.tolist()]),
    ):
        torch.testing.assert_close(found, torch.tensor(literal), rtol=1e-5, atol=ZERO)


@torch.inference_mode()
@each
def test_distances_are_symmetric_and_of_equal_images_0(options):
    model = slim(**options).eval()
    described = model.describe(IMAGES)

    distances = model.distance(described, described)

    torch.testing.assert_close(distances, distances.mT, rtol=1e-3, atol=ZERO)
    assert (distances >= 0).all() and (distances <= 2).all()
    assert distances[~torch.eye(6, dtype=torch.bool)].min() > 0
    if model.second is None:
        assert not distances.diagonal().any()


def test_training_scores_a_pair_in_its_own_order():
    model = slim().double().eval()

    one, other = (
        model.losses(IMAGES.double(), PIDS, pairs)["deviance"] for pairs in (PAIRS[:5], PAIRS[:5].flip(1))
    )

    assert not torch.isclose(one, other, rtol=1e-7)


# Equations and sizes


@pytest.mark.parametrize("activation", ["sigmoid", "none"])
def test_gradient_of_the_gate_is_equation_3_with_p_and_the_derivative_of_sigma(activation):
    """Errata M13: printed is U diag(V^T g_B) dL/dF, without P and, with eq. 2, without sigma' and sigma."""
    torch.manual_seed(0)
    gate = Gate(4, MIIRNNOptions(joint=4, activation=activation)).double()
    g_a, g_b = (torch.randn(4, dtype=torch.float64).requires_grad_() for _ in range(2))
    of_f = torch.randn(4, dtype=torch.float64)
    u, v, p = gate.u.weight.mT, gate.v.weight.mT, gate.p.weight.mT
    a, b = u.mT @ g_a + gate.u.bias, v.mT @ g_b + gate.v.bias

    found = torch.autograd.grad(gate(gate.first(g_a), gate.second(g_b)), (g_a, g_b), of_f)

    def slope(x: Tensor) -> Tensor:
        return x.sigmoid() * (1 - x.sigmoid()) if activation == "sigmoid" else torch.ones_like(x)

    def sigma(x: Tensor) -> Tensor:
        return x.sigmoid() if activation == "sigmoid" else x

    torch.testing.assert_close(found[0], u @ torch.diag(slope(a) * sigma(b)) @ p @ of_f)
    torch.testing.assert_close(found[1], v @ torch.diag(slope(b) * sigma(a)) @ p @ of_f)
    assert not torch.allclose(found[0], u @ torch.diag(v.mT @ g_b) @ of_f, rtol=0.1)


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("options", "gate", "pooling", "fc"),
    [
        ({}, 787_968, 4_457_984, 196 * 128 + 128),
        ({"biases": False}, 786_944, 4_457_984, 196 * 128 + 128),
        ({"recurrence": "diagonal"}, 787_968, 4_457_984 - 8 * 512**2 + 8 * 512, 196 * 128 + 128),
        ({"head": "flattened"}, 787_968, 4_457_984, 100_352 * 128 + 128),
        (ROWS["MI + SPP"], 0, 0, 5 * 128 + 128),
        ({**ROWS["MI + SPP"], "head": "flattened"}, 0, 0, 2560 * 128 + 128),
    ],
)
def test_parameter_counts(options, gate, pooling, fc):
    with torch.device("meta"):
        model = MIIRNN(MIIRNN.parse_options(options), 751, "vgg16", "none")

    assert size(model.backbone) == 14_714_688
    assert size(model.integration) == gate
    assert (size(model.pooling) if model.pooling else 0) == pooling
    assert size(model.fc) == fc
    assert size(model) == 14_714_688 + gate + pooling + fc


def test_maps_at_the_papers_size():
    with torch.device("meta"):
        model = MIIRNN(MIIRNN.parse_options(MIXED), 751, "vgg16", "none").eval()
        described = model.describe(torch.empty(1, 3, 224, 224))
        alone = MIIRNN(MIIRNN.parse_options({"map_size": (13, 13)}), 751, "vgg_m", "none")

    assert described["pooled"].shape == (1, 512)
    assert described["conv5"].shape == described["conv5_second"].shape == (1, 14, 14, 512)
    assert size(model) == size(model.backbone) + 6_528_640 + 787_968 + 4_457_984 + 196 * 128 + 128
    assert alone.fc.in_features == 169


# The whole network


@each
def test_every_parameter_of_both_streams_learns(options):
    model = slim(**options)

    model(IMAGES, PIDS, PAIRS)["deviance"].backward()

    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("options", ROWS.values(), ids=ROWS.keys())
def test_losses_fall_when_trained(options):
    torch.manual_seed(0)
    model = MIIRNN(MIIRNN.parse_options({**SMALL, **options}), 3, "vgg11", "none", SLIM)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    found = []
    for _ in range(30):
        loss = model.losses(IMAGES, PIDS, PAIRS)["deviance"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())

    assert sum(found[-5:]) < 0.7 * sum(found[:5])


@torch.inference_mode()
@pytest.mark.parametrize("options", ROWS.values(), ids=ROWS.keys())
def test_what_is_stored_of_an_image(options):
    model = slim(**options).eval()

    described, alone = model.describe(IMAGES), model.describe(IMAGES[2:3])

    expected = {"pooled": ((6, 32), torch.float32), "conv5": ((6, 2, 3, 32), torch.bfloat16)}
    if model.second:
        expected["conv5_second"] = expected["conv5"]
    assert {name: (tuple(t.shape), t.dtype) for name, t in described.items()} == expected
    maps = model.backbone(IMAGES)
    torch.testing.assert_close(described["pooled"], F.normalize(maps.mean((2, 3))))
    assert torch.equal(described["conv5"], maps.permute(0, 2, 3, 1).bfloat16())
    assert torch.equal(model.feature_maps(IMAGES), maps)
    for name, tensor in alone.items():
        tolerance = 2**-7 if tensor.dtype == torch.bfloat16 else 1e-5  # the last place
        torch.testing.assert_close(described[name][2:3], tensor, rtol=tolerance, atol=tolerance)


@torch.inference_mode()
@pytest.mark.parametrize("name", [*ROWS, "gate + SPP", "flattened"])
def test_a_block_is_scored_as_its_parts_within_its_memory(name):
    model = slim(**ALL[name]).eval()
    described = model.describe(IMAGES)
    queries, gallery = (rows_of(described, torch.arange(count) % 6) for count in (5, 20))
    model.tile_bytes = 2**30
    whole, pairs = model.distance(queries, gallery), model.pair_distance(gallery, gallery)

    model.tile_bytes = 2**17
    with PeakMemory() as memory:
        tiled = model.distance(queries, gallery)
    with PeakMemory() as of_pairs:
        tiled_pairs = model.pair_distance(gallery, gallery)

    torch.testing.assert_close(tiled, whole, rtol=1e-3, atol=ZERO)
    torch.testing.assert_close(tiled_pairs, pairs, rtol=1e-3, atol=ZERO)
    assert memory.peak < tiled.nbytes + 1.5 * model.tile_bytes
    assert of_pairs.peak < tiled_pairs.nbytes + 1.5 * model.tile_bytes
    model.tile_bytes = 1  # a pair at a time
    torch.testing.assert_close(
        model.distance(rows_of(queries, slice(2)), queries), whole[:2, :5], rtol=1e-3, atol=ZERO
    )


def test_dropout_is_for_training_only():
    model = slim(dropout=0.5)
    for module in model.backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    losses = [model.losses(IMAGES, PIDS, PAIRS)["deviance"].item() for _ in range(2)]

    model.eval()

    assert losses[0] != losses[1]
    torch.testing.assert_close(
        model.losses(IMAGES, PIDS, PAIRS), slim().eval().losses(IMAGES, PIDS, PAIRS), rtol=0, atol=0
    )


@pytest.mark.parametrize("options", ROWS.values(), ids=ROWS.keys())
def test_bfloat16_autocast_and_channels_last(options):
    model = slim(**options).to(memory_format=torch.channels_last)
    images = IMAGES.contiguous(memory_format=torch.channels_last)
    exact = model.losses(images, PIDS, PAIRS)["deviance"]

    with torch.autocast("cpu", torch.bfloat16):
        loss = model.losses(images, PIDS, PAIRS)["deviance"]
        loss.backward()
        described = model.eval().describe(images)

    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=0.1)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert {name: t.dtype for name, t in described.items()} == {
        name: t.dtype for name, t in model.describe(images).items()
    }


@torch.inference_mode()
@pytest.mark.parametrize("options", ROWS.values(), ids=ROWS.keys())
def test_bfloat16_autocast_keeps_the_digits_of_distances(options):
    model = slim(**options).eval()
    described = model.describe(IMAGES)
    exact = model.distance(described, described)

    with torch.autocast("cpu", torch.bfloat16):
        found = model.distance(described, described)

    others = ~torch.eye(6, dtype=torch.bool)
    torch.testing.assert_close(found[others], exact[others], rtol=1e-2, atol=0)


@pytest.mark.gpu
@pytest.mark.parametrize("options", ROWS.values(), ids=ROWS.keys())
def test_cuda_gives_the_losses_and_distances_of_a_cpu(options):
    model = slim(**options).eval()
    loss = model.losses(IMAGES, PIDS, PAIRS)["deviance"].item()
    described = model.describe(IMAGES)
    distances = model.distance(described, described)

    model = model.cuda()
    with torch.autocast("cuda", torch.bfloat16):
        found = model.losses(IMAGES.cuda(), PIDS.cuda(), PAIRS.cuda())["deviance"]
    found.backward()
    kept = {name: tensor.cuda() for name, tensor in described.items()}

    assert found.item() == pytest.approx(loss, rel=0.1)
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    torch.testing.assert_close(model.distance(kept, kept).cpu(), distances, rtol=2e-2, atol=ZERO)


@torch.inference_mode()
@pytest.mark.parametrize("options", ROWS.values(), ids=ROWS.keys())
def test_state_dict_round_trip(options):
    model = slim(**options).eval()
    torch.manual_seed(5)
    other = MIIRNN(model.options, 7, "vgg11", "none", SLIM).eval()

    other.load_state_dict(model.state_dict())

    described, again = model.describe(IMAGES), other.describe(IMAGES)
    assert torch.equal(model.distance(described, described), other.distance(again, again))


@pytest.mark.parametrize("options", ROWS.values(), ids=ROWS.keys())
def test_gate_maps_are_the_strength_of_f_at_each_position(options):
    model = slim(**options).eval()
    queries, gallery = IMAGES[:3], IMAGES[3:]

    maps = model.gate_maps(queries, gallery)

    assert set(maps) == ({"gate", "recurrent"} if model.pooling else {"gate"})
    g_a, g_b = model.conv5(queries)[0][1], model.conv5(gallery)[1][1]
    f = literal_f(model, g_a, g_b)
    assert all(map_.shape == (3, 2, 3) and not map_.requires_grad for map_ in maps.values())
    torch.testing.assert_close(maps["gate"][1], f.norm(dim=2))
    if model.pooling:
        swept = literal_stack(f.permute(2, 0, 1)[None], model.pooling)[0]
        torch.testing.assert_close(maps["recurrent"][1], swept.norm(dim=0))


# What it starts from


def trained(backbone: str = "vgg11", network: dict | None = None, seed: int = 9) -> dict[str, Tensor]:
    """The state dict of a classifier on such convolutions."""
    torch.manual_seed(seed)
    stream = MIIRNN(MIIRNN.parse_options(SMALL), 3, backbone, "none", network or SLIM).backbone
    state = {f"backbone.{name}": tensor for name, tensor in stream.state_dict().items()}
    return state | {"classifier.weight": torch.zeros(3, 4)}


def holds(stream: nn.Module, state: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, state[f"backbone.{name}"]) for name, tensor in stream.state_dict().items())


def test_streams_start_from_the_trained_networks():
    one, other, vgg_m = trained(), trained(seed=8), trained("vgg_m")
    shared, two, equal, mixed = slim(), slim(shared=False), slim(shared=False), slim(**MIXED)

    shared.start_from([one])
    two.start_from([one, other])
    equal.start_from([one])
    mixed.start_from([one, vgg_m])

    assert holds(shared.backbone, one)
    assert holds(two.backbone, one) and holds(two.second, other)
    assert holds(equal.backbone, one) and holds(equal.second, one)
    assert holds(mixed.backbone, one) and holds(mixed.second, vgg_m)


def test_weights_are_those_of_every_stream_of_their_network(tmp_path):
    state = trained()
    file = tmp_path / "w.pth"
    torch.save({name.removeprefix("backbone."): state[name] for name in state if "backbone." in name}, file)

    two, mixed = (
        MIIRNN(MIIRNN.parse_options({**SMALL, **options}), 3, "vgg11", str(file), SLIM)
        for options in ({"shared": False}, MIXED)
    )

    assert holds(two.backbone, state) and holds(two.second, state)
    assert holds(mixed.backbone, state)


def test_networks_that_do_not_fit_are_errors():
    one = trained()

    for model, states in ((slim(), [one, one]), (slim(), []), (slim(**MIXED), [one])):
        with pytest.raises(SpecError, match=f"found {len(states)} networks to start from; expected"):
            model.start_from(states)
    with pytest.raises(WeightsError, match=r"features.0.weight is \(8, 3, 3, 3\), expected \(4, 3, 3, 3\)"):
        slim().start_from([trained(network={**SLIM, "width": 0.125})])
    with pytest.raises(WeightsError, match="missing"):
        slim(**MIXED).start_from([one, one])


# Options


def test_mi_irnn_is_registered():
    assert METHODS.get("mi-irnn") is MIIRNN


@pytest.mark.parametrize(
    ("given_options", "message"),
    [
        ({"second_backbone": "vgg_m"}, "'vgg_m' is a network of its own, but shared is true"),
        ({"integration": "hadamard", "activation": "none"}, "activation 'none' needs a gate"),
        ({"integration": "hadamard", "biases": False}, "biases False needs a gate"),
        ({"pooling": "spp", "recurrence": "diagonal"}, "recurrence 'diagonal' needs recurrent layers"),
        ({"head": "scalar"}, "head = 'scalar'"),
        ({"poolng": "spp"}, "did you mean .*'pooling'"),
        ({"alpha": 0}, "alpha = 0"),
        ({"dropout": 1}, "dropout = 1"),
        ({"map_size": [14, 0]}, "map_size.1 = 0"),
        ({"joint": 0}, "joint = 0"),
    ],
)
def test_wrong_options_are_spec_errors(given_options, message):
    with pytest.raises(SpecError, match=message):
        MIIRNN.parse_options(given_options)


def test_defaults_are_the_papers():
    options = MIIRNNOptions()

    assert (options.hidden, options.dropout, options.alpha, options.beta) == (512, 0.5, 2.0, 0.5)
    assert options.shared and options.map_size == (14, 14)
