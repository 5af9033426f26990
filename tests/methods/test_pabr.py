from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.losses import all_triplets
from methods.openpose import RCPM, OpenPose
from methods.pabr import PABR, UNSTATED, PABROptions
from reproductions.training import make_optimizer
from retable.errors import SpecError, WeightsError
from tests.methods.bilinear_literal import literal_bilinear, literal_sketch_then_pool

SLIM = {"width": 0.0625}
SMALL = {"appearance_channels": 8, "part_channels": 5, "dimension": 12, "pose_width": 0.0625}
COLOURS = torch.randn(6, 3, 8, 4, generator=torch.Generator().manual_seed(0))
IMAGES = F.interpolate(COLOURS, (64, 32))  # maps of 4x2, or 8x4 dilated
PIDS = torch.tensor([0, 0, 1, 1, 2, 2])
FIXED = {"train_pose": False}
ROWS = {
    "Baseline": {"aggregation": "none"},
    "Proposed": {},
    "joint only": {"part_maps": "joints"},
    "limb only": {"part_maps": "limbs"},
    "internal only": {"part_maps": "internal"},
    "Proposed (R-CPM)": {"pose": "r-cpm"},
    "+ dilation": {"dilated": True},
    "Baseline, dilated": {"aggregation": "none", "dilated": True},
    "Proposed (non-negative)": {"non_negative": True},
    "exact": {"aggregation": "exact bilinear"},
    "concat": {"aggregation": "concat"},
}
"""The networks of Tables 1, 2 and 7 and of section 6.3, and exact bilinear pooling."""
FIXED_ROWS = {
    "Proposed, P_pose fixed": FIXED,
    "concat, P_pose fixed": {"aggregation": "concat", **FIXED},
    "joint only, P_pose fixed": {"part_maps": "joints", **FIXED},
}
ALL = {**ROWS, **FIXED_ROWS}

each = pytest.mark.parametrize("options", ALL.values(), ids=ALL.keys())


def slim(backbone: str = "googlenet", network: dict | None = None, **options) -> PABR:
    """A small network whose BN statistics are those of the images."""
    torch.manual_seed(0)
    model = PABR(PABR.parse_options({**SMALL, **options}), 3, backbone, "none", network or SLIM)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    model.maps(IMAGES)
    for norm in norms:
        norm.momentum = 0.1
    return model


def maps_of(model: PABR) -> tuple[Tensor, Tensor]:
    a, p = model.maps(IMAGES)
    assert p is not None
    return a, p


# Sizes


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("dilated", "map_size"), [(False, (10, 5)), (True, (20, 10))])
def test_the_network_has_the_derived_sizes(dilated, map_size):
    with torch.device("meta"):
        model = PABR(
            PABR.parse_options({"dilated": dilated}), 751, "googlenet", "none", {"form": "2014"}
        ).eval()
        images = torch.empty(2, 3, 160, 80)
        a, p = model.maps(images)
        described = model.describe(images)

    assert a.shape == (2, 512, *map_size) and p.shape == (2, 128, *map_size)
    assert described.shape == (2, 512)
    assert size(model.backbone) == 3_486_016
    assert size(model.appearance) == 426_496
    assert size(model.pose) == 17_172_146
    assert size(model.part) == 213_248
    assert size(model) == 3_486_016 + 426_496 + 17_172_146 + 213_248


@pytest.mark.parametrize(
    ("options", "width"), [({"aggregation": "none"}, 512), ({"aggregation": "exact bilinear"}, 512 * 128)]
)
def test_other_networks_describe_by_as_many_columns_as_they_say(options, width):
    with torch.device("meta"):
        model = PABR(PABR.parse_options(options), 751, "googlenet", "none").eval()

        assert model.describe(torch.empty(2, 3, 160, 80)).shape == (2, width)


@pytest.mark.parametrize("dilated", [False, True])
def test_other_appearance_networks_have_maps_of_the_same_size(dilated):
    with torch.device("meta"):
        model = PABR(PABR.parse_options({"dilated": dilated}), 751, "resnet18", "none").eval()
        a, p = model.maps(torch.empty(1, 3, 160, 80))

    assert a.shape[1:] == (512, *((20, 10) if dilated else (10, 5)))
    assert p.shape[2:] == a.shape[2:]
    assert model.appearance[0].in_channels == 512


def test_images_whose_maps_do_not_fit_are_an_error_that_says_what_does():
    model = slim().eval()

    with pytest.raises(SpecError, match=r"images of 80x40 make .* 5x2 .* 5x3; .* multiples of 16"):
        model.describe(torch.zeros(2, 3, 80, 40))
    assert slim(aggregation="none").eval().describe(torch.zeros(2, 3, 80, 40)).shape == (2, 12)


# Maps and features


@pytest.mark.parametrize("options", [{}, {"dilated": True}, {"non_negative": True}, {"part_maps": "limbs"}])
def test_maps_are_figure_2(options):
    model = slim(**options).eval()
    _, limbs, joints = model.pose(IMAGES)
    internal = model.pose.part_maps(IMAGES, "internal")
    kept = limbs if "part_maps" in options else torch.cat((limbs, joints, internal), 1)
    if not options.get("dilated"):
        kept = kept.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).amax((3, 5))

    a, p = maps_of(model)

    appearance, part = model.appearance, model.part
    convolution = next(m for m in part if isinstance(m, nn.Conv2d))
    norm = next(m for m in part if isinstance(m, nn.BatchNorm2d))
    expected = convolution(kept)
    mean, variance = (x[:, None, None] for x in (norm.running_mean, norm.running_var))
    expected = (expected - mean) / (variance + norm.eps).sqrt()
    torch.testing.assert_close(p, expected.relu() if "non_negative" in options else expected)
    torch.testing.assert_close(a, appearance[1](appearance[0](model.backbone(IMAGES))))
    assert a.min() < 0 and expected.min() < 0


def test_normalisation_has_no_scale_or_shift():
    norms = [m for name, m in slim().named_modules() if name.startswith(("appearance", "part"))]

    norms = [m for m in norms if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 2 and not any(m.affine for m in norms)


def test_new_layers_start_as_glorot_and_bengio_draw_them():
    model = slim(aggregation="concat", appearance_channels=64, part_channels=64)

    for layer in (model.appearance[0], model.part[1], model.linear):
        fans = nn.init._calculate_fan_in_and_fan_out(layer.weight)
        assert layer.weight.std().item() == pytest.approx((2 / sum(fans)) ** 0.5, rel=0.15)
        assert not layer.bias.any()


def test_features_are_their_definitions():
    for row in ("Proposed", "exact", "concat"):
        model = slim(**ROWS[row]).eval()
        a, p = maps_of(model)
        match row:
            case "Proposed":
                expected = literal_sketch_then_pool(a, p, model.compact)
            case "exact":
                expected = literal_bilinear(a, p).flatten(1)
            case _:
                means = torch.cat((a.mean((2, 3)), p.mean((2, 3))), 1)
                expected = means @ model.linear.weight.mT + model.linear.bias
        torch.testing.assert_close(model.aggregate(a, p), expected, rtol=1e-4, atol=1e-5)
    model = slim(aggregation="none").eval()
    a, p = model.maps(IMAGES)
    assert p is None and not hasattr(model, "part") and model.pose is None
    torch.testing.assert_close(model.aggregate(a, p), model.linear(a.mean((2, 3))))


@each
def test_descriptions_are_of_length_1_and_of_an_image_alone(options):
    model = slim(**options).eval()

    described = model.describe(IMAGES)

    assert described.dtype == torch.float32
    assert torch.equal(described, model.describe(IMAGES))
    torch.testing.assert_close(described.norm(dim=1), torch.ones(6))
    torch.testing.assert_close(model.describe(IMAGES[3:4]), described[3:4], rtol=1e-3, atol=1e-4)
    a, p = model.maps(IMAGES)
    torch.testing.assert_close(described, F.normalize(model.aggregate(a, p)))


def test_similarities_are_those_of_all_pairs_of_positions():
    """Eq. 8 and 9."""
    model = slim(aggregation="exact bilinear").eval()
    f = model.describe(IMAGES).detach()

    local = model.local_maps(IMAGES)

    a, p = (local[name].flatten(2) for name in ("appearance", "part"))  # (B, c, S)
    products = torch.einsum("bcx,dcy->bdxy", a, a) * torch.einsum("bcx,dcy->bdxy", p, p)
    torch.testing.assert_close(products.mean((2, 3)), f @ f.mT, rtol=1e-4, atol=1e-5)
    assert local["joints"].shape == (6, 19, 8, 4)
    assert torch.equal(local["joints"], model.pose(IMAGES)[2])
    assert not any(m.requires_grad for m in local.values())


def test_compact_pooling_has_local_maps_too_and_others_have_none():
    model = slim().eval()
    a, p = maps_of(model)
    length = model.aggregate(a, p).norm(dim=1)

    local = model.local_maps(IMAGES)

    torch.testing.assert_close(
        local["appearance"] * local["part"][:, :1], a * p[:, :1] / length.view(-1, 1, 1, 1)
    )
    assert torch.equal(model.feature_maps(IMAGES), a)
    for aggregation in ("concat", "none"):
        with pytest.raises(SpecError, match=f"bilinear pooling, not aggregation '{aggregation}'"):
            slim(aggregation=aggregation).eval().local_maps(IMAGES)


# Training


@each
def test_every_row_trains_what_it_should_and_nothing_else(options):
    model = slim(**options)

    loss = model(IMAGES, PIDS)["triplet"]
    loss.backward()

    assert loss.isfinite() and loss > 0
    moved = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {n for n, p in model.named_parameters() if p.requires_grad} - {
        n for n, p in model.named_parameters() if _is_bias_before_norm(n) and n not in moved
    }
    if model.pose is not None:
        expected = set(model.pose.needed(model.options.part_maps).parameters())
        learns = {p for p in model.pose.parameters() if p.requires_grad}
        assert learns == (expected if model.options.train_pose else set())


def _is_bias_before_norm(name: str) -> bool:
    """Normalisation takes these away, so that their gradient is 0 but for rounding."""
    return name in ("appearance.0.bias", "part.0.bias", "part.1.bias")


def recipe() -> SimpleNamespace:
    return SimpleNamespace(optimizer="sgd", backbone_rate=1, momentum=0.0, nesterov=False, weight_decay=0.1)


def step(model: PABR, optimizer: torch.optim.Optimizer) -> float:
    optimizer.param_groups[0]["lr"] = 0.05
    loss = model(IMAGES, PIDS)["triplet"]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@pytest.mark.parametrize("row", ["Baseline", "Proposed", "concat", "Proposed, P_pose fixed"])
def test_the_loss_falls(row):
    model = slim(**ALL[row], mean_over="all").train()
    optimizer = make_optimizer(model, recipe())

    losses = [step(model, optimizer) for _ in range(12)]

    assert losses[-1] < 0.5 * losses[0]


def test_a_fixed_pose_network_stays_as_it_is_under_weight_decay():
    model = slim(**FIXED).train()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}

    optimizer = make_optimizer(model, recipe())
    for _ in range(2):
        step(model, optimizer)

    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {n for n in before if not n.startswith("pose.")}


@pytest.mark.parametrize("options", [{}, {"similarity": "inner product", "mean_over": "all", "margin": 0.3}])
def test_the_loss_is_of_all_triplets_as_the_options_say(options):
    model = slim(**options).train()

    loss = model(IMAGES, PIDS)["triplet"]

    with torch.no_grad():
        f = model.aggregate(*model.maps(IMAGES))
    chosen = (options.get(k, v) for k, v in (("margin", 0.2), ("similarity", "squared distance")))
    expected = all_triplets(f, PIDS, *chosen, options.get("mean_over", "violating"))
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("options", [{}, {"aggregation": "exact bilinear"}, {"aggregation": "concat"}])
def test_autocast_and_channels_last_change_little(options):
    model = slim(**options, mean_over="all").to(memory_format=torch.channels_last)
    expected = model(IMAGES, PIDS)

    with torch.autocast("cpu", torch.bfloat16):
        losses = model(IMAGES.contiguous(memory_format=torch.channels_last), PIDS)
        described = model.eval().describe(IMAGES)
    losses["triplet"].backward()

    assert described.dtype == losses["triplet"].dtype == torch.float32
    torch.testing.assert_close(losses, expected, rtol=0.1, atol=0.01)
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert (described * model.describe(IMAGES)).sum(1).min() > 0.9


# Weights of poses


@pytest.mark.parametrize(("pose", "network"), [("openpose", OpenPose), ("r-cpm", RCPM)])
def test_a_pose_network_starts_from_weights_that_it_is_given(pose, network):
    torch.manual_seed(5)
    trained = network(SMALL["pose_width"])
    model = slim(pose=pose)

    model.load_pose(trained.state_dict())

    assert type(model.pose) is network
    assert torch.equal(model.pose.part_maps(IMAGES), trained.part_maps(IMAGES))


def test_weights_of_another_pose_network_are_refused():
    state = OpenPose(SMALL["pose_width"]).state_dict()

    with pytest.raises(WeightsError, match="pose weights holds the weights of another network"):
        slim(pose="r-cpm").load_pose(state)
    del state["trunk.conv1_1.weight"]
    with pytest.raises(WeightsError, match=r"1 missing \(trunk\.conv1_1\.weight\)"):
        slim().load_pose(state)
    with pytest.raises(SpecError, match="'none' has no pose network"):
        slim(aggregation="none").load_pose(state)


# Options


def outcome(options: dict) -> list[Tensor]:
    """Loss, gradients and descriptions of one small network."""
    model = slim(**options)
    loss = model(IMAGES, PIDS)["triplet"]
    loss.backward()
    gradients = [p.grad.sum() if p.grad is not None else torch.tensor(torch.pi) for p in model.parameters()]
    return [loss, torch.stack(gradients), model.eval().describe(IMAGES).detach()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(map(torch.equal, one, other))


def test_rows_are_networks_of_their_own():
    outcomes = {row: outcome(options) for row, options in ALL.items()}

    names = list(outcomes)
    assert not [(a, b) for i, a in enumerate(names) for b in names[:i] if same(outcomes[a], outcomes[b])]
    assert same(outcomes["Proposed"], outcome({}))


@pytest.mark.parametrize("choice", UNSTATED, ids=lambda choice: choice.option)
def test_every_alternative_of_an_unstated_choice_runs_and_matters(choice):
    default = PABR.parse_options({**SMALL, **choice.when}).model_dump()
    reference = outcome(default)

    assert choice.reason and choice.alternatives
    for alternative in choice.alternatives:
        assert default[choice.option] != alternative
        assert not same(reference, outcome({**default, choice.option: alternative}))


def test_options_that_the_paper_does_not_state_are_all_listed():
    fields = list(PABROptions.model_fields)

    opened = fields[fields.index("similarity") : fields.index("appearance_channels")]
    assert [choice.option for choice in UNSTATED] == opened


@pytest.mark.parametrize(
    "option", [{"part_maps": "limbs"}, {"pose": "r-cpm"}, {"train_pose": False}, {"non_negative": True}]
)
def test_a_baseline_takes_no_options_of_a_part_stream(option):
    (name,) = option

    with pytest.raises(SpecError, match=f"{name} .* needs a part stream, but aggregation is 'none'"):
        PABR.parse_options({"aggregation": "none", **option})
    PABR.parse_options({"aggregation": "none", "pose_width": 0.5, "part_channels": 3, "dimension": 4})
