import math
from hashlib import sha256

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from methods import METHODS
from methods.sona import (
    SONA,
    UNSTATED,
    BatchFeatureErasing,
    DropBlock,
    SecondOrderNonLocal,
    SONAOptions,
    attend,
    position_covariance,
)
from retable.errors import SpecError

SLIM = {"layers": (1, 1, 1, 1), "channels": (8, 16, 24, 32)}
IMAGES = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))  # maps of 8x8 at stride 8
PIDS = torch.arange(8) // 2
BASELINE = 31_120_960  # parameters of the base code's network without classifiers


def slim_sona(**options) -> SONA:
    """A small network whose p is not zero, so that everything has an effect from the start."""
    torch.manual_seed(0)
    model = SONA(SONAOptions(**{"global_dim": 12, "local_dim": 20, **options}), 4, "resnet18", "none", SLIM)
    for module in model.attention.values():
        for parameter in module.p.parameters():
            nn.init.normal_(parameter)
    return model


def random_attention(channels, **options) -> SecondOrderNonLocal:
    return SecondOrderNonLocal(channels, SONAOptions(p_init="torch", **options))


# Attention: equations 1 to 3


def literal_covariance(theta: Tensor) -> Tensor:
    d = theta.shape[2]
    i_bar = (torch.eye(d, dtype=theta.dtype) - torch.ones(d, d, dtype=theta.dtype) / d) / d
    return theta @ i_bar @ theta.mT


def literal_sona(module: SecondOrderNonLocal, x: Tensor) -> Tensor:
    b, c, h, w = x.shape
    d = module.g.out_channels
    theta, g = (f(x).permute(0, 2, 3, 1).reshape(b, h * w, d) for f in (module.theta, module.g))
    z = torch.softmax(literal_covariance(theta) / math.sqrt(d), dim=-1) @ g
    p_z = z @ module.p.weight.view(c, d).T + module.p.bias
    return x + p_z.view(b, h, w, c).permute(0, 3, 1, 2)


@pytest.mark.parametrize("shape", [(1, 4, 2, 3), (2, 6, 5, 4), (3, 16, 6, 2), (2, 64, 3, 3)])
@pytest.mark.parametrize("reduction", [1, 2])
def test_fused_attention_is_the_paper_in_value_and_gradient(shape, reduction):
    torch.manual_seed(0)
    module = random_attention(shape[1], reduction=reduction).double()
    x = (4 * torch.randn(shape, dtype=torch.float64) + 1).requires_grad_()
    weights = torch.randn(shape, dtype=torch.float64)

    fused, literal = module(x), literal_sona(module, x)

    torch.testing.assert_close(fused, literal)
    inputs = [x, *module.parameters()]
    gradients, expected = (torch.autograd.grad((y * weights).sum(), inputs) for y in (fused, literal))
    torch.testing.assert_close(gradients, expected)


def test_covariance_is_equation_1():
    theta = torch.randn(2, 7, 5, dtype=torch.float64)

    torch.testing.assert_close(position_covariance(theta), literal_covariance(theta))
    expected = torch.stack([torch.cov(t, correction=0) for t in theta])
    torch.testing.assert_close(position_covariance(theta), expected)


def test_attention_ignores_what_all_channels_share():
    theta, g = torch.randn(2, 7, 5, dtype=torch.float64), torch.randn(2, 7, 5, dtype=torch.float64)
    shared = torch.randn(2, 7, 1, dtype=torch.float64)

    torch.testing.assert_close(attend(theta + shared, g), attend(theta, g))


def test_attention_rows_sum_to_one_and_are_what_forward_uses():
    module = random_attention(16).double().eval()
    x = 5 * torch.randn(2, 16, 4, 3, dtype=torch.float64)

    attention = module.attention(x)
    z = attention @ module.g(x).flatten(2).mT

    torch.testing.assert_close(attention.sum(2), torch.ones(2, 12, dtype=torch.float64))
    torch.testing.assert_close(x + module.p(z.mT.unflatten(2, (4, 3))), module(x))
    assert attention.std(2).min() > 0


def test_attention_starts_as_the_identity():
    x = torch.randn(2, 8, 4, 3)

    assert torch.equal(SecondOrderNonLocal(8, SONAOptions())(x), x)


def test_memory_format_does_not_matter():
    module = random_attention(8)
    x = torch.randn(2, 8, 4, 3)

    torch.testing.assert_close(module(x.contiguous(memory_format=torch.channels_last)), module(x))


def test_bfloat16_attention_is_near_float32():
    theta, g = 3 + torch.randn(2, 40, 64), torch.randn(2, 40, 64)

    low, full = attend(theta.bfloat16(), g.bfloat16()).float(), attend(theta, g)

    assert (low - full).norm() / full.norm() < 0.01


# Dropped blocks

BLOCKS = st.tuples(st.integers(3, 9), st.integers(3, 9), st.integers(1, 3), st.integers(1, 3))


def dropblock(height, width, sizes="fixed", **options):
    return DropBlock(height, width, sizes, SONAOptions(**options))


def opened(dropped: Tensor, block: tuple[int, int]) -> Tensor:
    """Cells of (B, 1, h, w) that lie in a dropped rectangle of size ``block``: erosion, then dilation."""
    whole = -F.max_pool2d(-dropped, block, stride=1)
    (h, w) = block
    return F.max_pool2d(F.pad(whole, (w - 1, w - 1, h - 1, h - 1)), block, stride=1)


def expected_share(rate: float, block: tuple[int, int], size: tuple[int, int]) -> float:
    """Mean over cells of 1 - (1 - rate)^(number of places from where a block covers the cell)."""
    cover = torch.zeros(size)
    for i in range(size[0] - block[0] + 1):
        for j in range(size[1] - block[1] + 1):
            cover[i : i + block[0], j : j + block[1]] += 1
    return (1 - (1 - rate) ** cover).mean().item()


@given(sizes=BLOCKS, gamma=st.floats(0.01, 0.5), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_dropped_cells_lie_in_whole_blocks(sizes, gamma, seed):
    torch.manual_seed(seed)
    h, w, *block = sizes
    x = torch.ones(16, 2, h, w)

    dropped = 1 - dropblock(*block, gamma=gamma).kept(x)

    assert dropped.shape == (16, 1, h, w)
    assert set(dropped.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(opened(dropped, tuple(block)), dropped)


@given(sizes=BLOCKS, gamma=st.floats(0.01, 0.3), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_share_of_dropped_cells_is_what_the_seed_rate_implies(sizes, gamma, seed):
    torch.manual_seed(seed)
    h, w, *block = sizes
    places = (h - block[0] + 1) * (w - block[1] + 1)
    rate = gamma / math.prod(block) * h * w / places

    shares = (1 - dropblock(*block, gamma=gamma).kept(torch.ones(4000, 1, h, w))).mean((1, 2, 3))

    assert abs(shares.mean() - expected_share(rate, block, (h, w))) < 6 * shares.std() / 4000**0.5 + 1e-6


def test_share_is_near_gamma_at_the_papers_size():
    """Blocks may overlap, so a little less than 0.1 is dropped."""
    torch.manual_seed(0)

    dropped = 1 - dropblock(5, 8).kept(torch.ones(4000, 1, 48, 16))

    assert 0.085 < dropped.mean() < 0.1


def test_gamma_as_seed_rate_would_drop_nearly_everything():
    torch.manual_seed(0)

    kept = dropblock(5, 8, gamma_is="seed rate").kept(torch.ones(500, 1, 48, 16))

    assert kept[:, :, 20:28, 8].mean() == pytest.approx(0.9**40, abs=0.01)


@pytest.mark.parametrize(("scope", "shape"), [("channel", (3, 2)), ("image", (3, 1)), ("batch", (1, 1))])
def test_a_mask_is_shared_as_its_scope_says(scope, shape):
    layer = dropblock(3, 2, drop_scope=scope, gamma=0.3, rescale=False)
    torch.manual_seed(0)

    zero = layer(torch.ones(3, 2, 9, 8)) == 0

    masks = [zero[b, c] for b in range(3) for c in range(2)]
    assert len({tuple(m.flatten().tolist()) for m in masks}) == math.prod(shape)
    assert layer.kept(torch.ones(3, 2, 9, 8)).shape == (*shape, 9, 8)


@given(seed=st.integers(0, 999))
@settings(max_examples=30, deadline=None)
def test_rescaling_keeps_the_mean(seed):
    torch.manual_seed(seed)
    x = torch.ones(5, 3, 12, 6)

    torch.testing.assert_close(dropblock(4, 3, gamma=0.3)(x).mean(), torch.ones(()))
    assert dropblock(4, 3, gamma=0.3, rescale=False)(x).unique().tolist() in ([0.0, 1.0], [1.0])


def test_a_map_that_is_dropped_whole_stays_finite():
    assert not dropblock(4, 4, gamma=0.99, gamma_is="seed rate")(torch.ones(1, 2, 4, 4)).isnan().any()


def test_random_sizes_reach_from_one_cell_to_the_whole_block():
    torch.manual_seed(0)
    layer = dropblock(3, 4, "random", gamma=0.001)
    dropped = torch.cat([1 - layer.kept(torch.ones(20, 1, 20, 20)) for _ in range(300)])

    sizes = {(int(d.amax(1).sum()), int(d.amax(0).sum())) for d in dropped[:, 0]}

    assert {(h, w) for h in (1, 2, 3) for w in (1, 2, 3, 4)} <= sizes


def test_a_block_larger_than_the_map_is_an_error():
    with pytest.raises(
        SpecError, match="drop block of 5x8 does not fit the feature map of 12x4; set block_height"
    ):
        dropblock(5, 8)(torch.ones(2, 3, 12, 4))


@given(h=st.integers(2, 50), w=st.integers(2, 20), seed=st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_batch_feature_erasing_drops_one_rectangle_for_the_batch(h, w, seed):
    torch.manual_seed(seed)
    x = torch.rand(3, 2, h, w) + 1

    y = BatchFeatureErasing(0.33, 0.6)(x)

    zero = y == 0
    assert (zero == zero[0, 0]).all()
    assert torch.equal(y[~zero], x[~zero])
    rows, columns = zero[0, 0].any(1).nonzero().flatten(), zero[0, 0].any(0).nonzero().flatten()
    assert zero[0, 0].sum() == round(0.33 * h) * round(0.6 * w) == len(rows) * len(columns)
    for line in (rows, columns):
        assert (line.diff() == 1).all()


def test_batch_feature_erasing_reaches_every_row():
    torch.manual_seed(0)
    x, layer = torch.ones(1, 1, 48, 16), BatchFeatureErasing(0.33, 1.0)

    zeros = torch.cat([layer(x) == 0 for _ in range(500)])

    assert zeros.any(0).all()
    assert (zeros.sum((1, 2, 3)) == 16 * 16).all()  # 0.33 of 48 rows, full width


@pytest.mark.parametrize("layer", [dropblock(5, 8), BatchFeatureErasing(0.33, 1.0)])
def test_nothing_is_dropped_in_evaluation(layer):
    x = torch.randn(2, 3, 12, 9)

    assert layer.eval()(x) is x


@pytest.mark.parametrize("layer", [dropblock(5, 8), BatchFeatureErasing(0.33, 1.0)])
def test_dropped_cells_get_no_gradient(layer):
    x = torch.rand(2, 3, 12, 9, requires_grad=True)

    y = layer.train()(x + 1)
    y.sum().backward()

    assert torch.equal(x.grad == 0, y == 0)


# The network


@pytest.mark.parametrize(
    ("after", "extra"),
    [
        ((), 0),
        (("layer2",), 394_752),
        (("layer3",), 1_575_936),
        (("layer2", "layer3"), 1_970_688),
        (("global",), 6_297_600),
        (("local",), 6_297_600),
        (("layer4",), 6_297_600),
        (("global", "local"), 12_595_200),
    ],
)
@pytest.mark.parametrize("drop", ["none", "dropblock", "dropblock+", "bfe"])
def test_parameter_counts(after, drop, extra):
    with torch.device("meta"):
        model = SONA(SONAOptions(after=after, drop=drop), 751, "resnet50", "none")

    classifiers = (512 + 1) * 751 + (1024 + 1) * 751
    assert sum(p.numel() for p in model.parameters()) == BASELINE + extra + classifiers


def test_shapes_are_the_papers():
    with torch.device("meta"):
        model = SONA(SONAOptions(after=("layer2", "layer3")), 751, "resnet50", "none")
        x, shapes = torch.empty(2, 3, 384, 128), {}
        for name, stage in model.backbone.stages.items():
            x = stage(x)
            shapes[name] = tuple(x.shape[1:])
        features = model.features(torch.empty(2, 3, 384, 128))

    assert shapes["layer1"] == (256, 96, 32)
    assert shapes["layer2"] == (512, 48, 16)
    assert shapes["layer3"] == (1024, 48, 16)
    assert shapes["layer4"] == (2048, 48, 16)
    assert {name: tuple(f.shape) for name, f in features.items()} == {"global": (2, 512), "local": (2, 1024)}


@pytest.mark.parametrize("after", [(), ("layer2", "layer3"), ("layer4",), ("global",), ("local",)])
def test_every_parameter_learns(after):
    model = slim_sona(after=after)

    losses = model.losses(IMAGES, PIDS)
    sum(losses.values()).backward()

    assert list(losses) == ["global_triplet", "global_ce", "local_triplet", "local_ce"]
    assert all(loss.shape == () and loss.isfinite() for loss in losses.values())
    assert set(model.attention) == set(after)
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]


@pytest.mark.parametrize("place", ["global", "local"])
def test_attention_in_a_branch_leaves_the_other_alone(place):
    plain, model = slim_sona(after=(), drop="none").eval(), slim_sona(after=(place,), drop="none").eval()
    plain.load_state_dict(model.state_dict(), strict=False)

    before, after = plain.features(IMAGES), model.features(IMAGES)

    assert {b for b in before if not torch.allclose(before[b], after[b])} == {place}


def test_branches_pool_as_figure_2_shows():
    """Global: mean over positions. Local: bottleneck, then maximum over positions."""
    model = slim_sona(after=(), drop="none").eval()

    features, x = model.features(IMAGES), model.backbone(IMAGES)

    mean, maximum = x.flatten(2).mean(2), model.bottleneck(x).flatten(2).max(2).values
    torch.testing.assert_close(features["global"], model.reductions["global"](mean[:, :, None, None]))
    torch.testing.assert_close(features["local"], model.reductions["local"](maximum[:, :, None, None]))


def test_the_local_branch_drops_before_it_pools():
    model = slim_sona(after=(), drop="bfe", bfe_height=1.0).eval()
    model.drop.train()

    erased = model.features(IMAGES)

    torch.testing.assert_close(erased["local"], model.reductions["local"](torch.zeros(8, 32, 1, 1)))
    torch.testing.assert_close(erased["global"], model.eval().features(IMAGES)["global"])


def test_heads_start_as_in_the_base_code():
    """Standard deviations sqrt(2 / fan); torch's own start would give about sqrt(1 / (3 fan_in))."""
    torch.manual_seed(0)
    options = SONAOptions(global_dim=200, local_dim=300)
    model = SONA(options, 400, "resnet18", "none", {**SLIM, "channels": (8, 16, 24, 100)})
    convs, norms = ([model.reductions[b][i] for b in ("global", "local")] for i in (0, 1))
    layers = [*convs, *model.classifiers.values()]

    stds = [layer.weight.std().item() for layer in layers]

    assert stds == pytest.approx([math.sqrt(2 / fan) for fan in (100, 300, 400, 400)], rel=0.03)
    assert not any(layer.bias.any() for layer in [*layers, *norms])
    assert torch.cat([n.weight for n in norms]).std().item() == pytest.approx(0.02, rel=0.15)


def test_losses_fall_when_trained():
    model = slim_sona()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    totals = []
    for _ in range(25):
        total = sum(model.losses(IMAGES, PIDS).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())

    assert sum(totals[-5:]) < 0.5 * sum(totals[:5])


def test_description_is_the_mean_over_both_views():
    model, plain = slim_sona().eval(), slim_sona(flip=False).eval()

    both = model.describe(IMAGES)

    torch.testing.assert_close(both, (plain.describe(IMAGES) + plain.describe(IMAGES.flip(3))) / 2)
    torch.testing.assert_close(model.describe(IMAGES.flip(3)), both)
    assert both.shape == (8, 32) and not torch.allclose(both, plain.describe(IMAGES))


def test_description_puts_global_before_local():
    model = slim_sona(flip=False).eval()

    features = model.features(IMAGES)

    assert torch.equal(model.describe(IMAGES), torch.cat([features["global"], features["local"]], dim=1))


def test_bfloat16_autocast_and_channels_last():
    model = slim_sona().to(memory_format=torch.channels_last)
    images = IMAGES.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.losses(images, PIDS)
        sum(losses.values()).backward()
        description = model.eval().describe(images)

    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    assert description.dtype == torch.float32
    torch.testing.assert_close(description, model.describe(images), rtol=0.1, atol=0.1)


@pytest.mark.gpu
@pytest.mark.parametrize("after", [("layer2", "layer3"), ("global", "local")])
def test_paper_size_trains_on_cuda(after):
    model = (
        SONA(SONAOptions(after=after), 751, "resnet50", "none").cuda().to(memory_format=torch.channels_last)
    )
    with torch.autocast("cuda", torch.bfloat16):
        losses = model.losses(torch.randn(8, 3, 384, 128, device="cuda"), PIDS.cuda())
    sum(losses.values()).backward()

    assert all(loss.isfinite() for loss in losses.values())


def test_attention_maps_are_those_of_the_forward_pass():
    model = slim_sona(after=("layer2", "global")).eval()

    maps = model.attention_maps(IMAGES)

    assert {place: tuple(m.shape) for place, m in maps.items()} == {
        "layer2": (8, 64, 64),
        "global": (8, 64, 64),
    }
    x = IMAGES
    for name in ("stem", "layer1", "layer2"):
        x = model.backbone.stages[name](x)
    torch.testing.assert_close(maps["layer2"], model.attention["layer2"].attention(x))
    assert not model.attention["layer2"]._forward_pre_hooks


@pytest.mark.parametrize("drop", ["dropblock+", "bfe"])
def test_features_compile_without_graph_breaks(drop):
    model = slim_sona(drop=drop, after=("layer2", "global"))

    compiled = torch.compile(model.features, backend="eager", fullgraph=True)

    assert compiled(IMAGES)["local"].shape == (8, 20)


# Options


def test_sona_is_registered():
    assert METHODS.get("sona") is SONA


def test_places_are_put_in_the_networks_order():
    assert SONA.parse_options({"after": ["local", "layer3", "layer2"]}).after == ("layer2", "layer3", "local")


@pytest.mark.parametrize(
    ("given_options", "message"),
    [
        ({"after": ["layer2", "layer2"]}, "names a place twice"),
        ({"after": ["layer1"]}, "layer1"),
        ({"block_hight": 3}, "did you mean .*'block_height'"),
        ({"gamma": 1.5}, "gamma = 1.5"),
        ({"drop": "dropblock++"}, "drop = 'dropblock"),
        ({"margin": "hard"}, "margin"),
    ],
)
def test_wrong_options_are_spec_errors(given_options, message):
    with pytest.raises(SpecError, match=message):
        SONA.parse_options(given_options)


def outcome(options: SONAOptions) -> dict[str, Tensor]:
    """All that options could change: parameters at the start, losses, gradients, descriptions, counts."""
    torch.manual_seed(0)
    model = SONA(options, 4, "resnet18", "none", {**SLIM, "zero_init_last": False})
    found = {f"start {name}": value.clone() for name, value in model.state_dict().items()}
    for module in model.attention.values():
        for parameter in module.p.parameters():
            nn.init.normal_(parameter)
    torch.manual_seed(1)
    found |= model.losses(IMAGES, PIDS)
    sum(model.losses(IMAGES, PIDS).values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    return found | {"description": model.eval().describe(IMAGES)}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("choice", UNSTATED, ids=lambda choice: choice.option)
def test_every_alternative_of_an_unstated_choice_runs_and_matters(choice):
    default = SONA.parse_options({"global_dim": 12, "local_dim": 20, **choice.when}).model_dump()
    reference = outcome(SONAOptions(**default))

    assert choice.reason and choice.alternatives
    assert same(reference, outcome(SONAOptions(**default)))
    for alternative in choice.alternatives:
        assert not same(reference, outcome(SONA.parse_options({**default, choice.option: alternative})))


def test_options_that_the_paper_does_not_state_are_all_listed():
    stated = {
        "after",
        "drop",
        "reduction",
        "global_dim",
        "local_dim",
        "gamma",
        "block_height",
        "block_width",
        "flip",
    }

    assert {choice.option for choice in UNSTATED} - {"after"} == set(SONAOptions.model_fields) - stated


def test_a_version_keeps_its_defaults():
    """Fails when a default has changed: records hold the version, so raise it, then pin what holds now."""
    defaults = sha256(SONAOptions().model_dump_json().encode()).hexdigest()[:12]

    assert (METHODS.version("sona"), defaults) == ("1", "16a72728f030")
