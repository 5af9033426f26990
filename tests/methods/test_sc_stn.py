import re
from functools import cache
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from methods.losses import ranked_list
from methods.sc_stn import NEEDS, SCSTN, UNSTATED, SCSTNOptions
from methods.spatial_transformer import OriginalTransformer, SelfConstrainedTransformer
from methods.vertical_convolution import VerticalConvolution
from retable.errors import SpecError

SLIM = {"layers": (1, 1, 1, 1), "channels": (8, 16, 24, 32)}
SIZE = (64, 48)  # maps of 4x3, or 8x6 dilated


def look_alikes(size: tuple[int, int]) -> Tensor:
    """Six images of two looks in turn, so that each has others near it that are not its own person."""
    generator = torch.Generator().manual_seed(0)
    looks = torch.randn(2, 3, *(side // 16 for side in size), generator=generator)
    noise = torch.randn(6, 3, *size, generator=generator)
    return F.interpolate(looks, size).repeat(3, 1, 1, 1) + 0.15 * noise


IMAGES = look_alikes(SIZE)
PIDS = torch.tensor([0, 0, 1, 1, 2, 2])
ROWS = {
    "f^g w/o f^s (Baseline)": {"branches": "global"},
    "f^s w/o f^g": {"branches": "spatial"},
    "Baseline+VCN": {"transformer": "none"},
    "Baseline+STN+VCN": {"transformer": "stn"},
    "Baseline+STN(w/o rotate)+VCN": {"transformer": "stn without rotation"},
    "Baseline+SC-STN(eps in (0,1))+VCN": {"epsilon_max": 1.0},
    "Baseline+SC-STN(eps=0.4)+VCN": {"epsilon": "fixed"},
    "Baseline+SC-STN+GP": {"spatial": "gp"},
    "Baseline+SC-STN+FC": {"spatial": "fc"},
    "Baseline+SC-STN+VCN (w/o HP)": {"spatial": "vcn without horizontal pooling"},
    "Baseline+SC-STN+VCN (shared)": {"spatial": "shared vcn"},
    "Baseline+SC-STN+MGN": {"spatial": "stripes"},
    "Full Model w/o L_r": {"ranked": False},
    "Full Model": {},
    "Full Model (M)": {"dilated": True},
}
"""The networks of Table 3, and ResNet-50 (M)."""

each_row = pytest.mark.parametrize("options", ROWS.values(), ids=ROWS.keys())


def built(options: SCSTNOptions) -> SCSTN:
    torch.manual_seed(0)
    return SCSTN(options, 3, "resnet18", "none", SLIM)


def unmoved(**options) -> SCSTN:
    """A small network as it is initialised."""
    return built(SCSTN.parse_options({"image_size": SIZE, "hidden": 7, **options}))


def slim(**options) -> SCSTN:
    """A small network in which everything matters, see ``moved``."""
    return moved(unmoved(**options))


def moved(model: SCSTN) -> SCSTN:
    """The network without the neutral start of any statistic, scale or shift."""
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            with torch.no_grad():
                module.weight.add_(torch.rand_like(module.weight) * 0.5 + 0.2)
                module.bias.add_(torch.rand_like(module.bias) * 0.5 - 0.2)
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.3, 1.5)
    return model


def outcome(options: dict, images: Tensor = IMAGES) -> list[Tensor]:
    """Losses, gradients and descriptions of one small network."""
    model = slim(**options)
    losses = model.losses(images, PIDS)
    sum(losses.values()).backward()
    gradients = [p.grad.sum() if p.grad is not None else torch.tensor(torch.pi) for p in model.parameters()]
    return [*losses.values(), torch.stack(gradients), model.eval().describe(images).detach()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


# Sizes


@pytest.mark.parametrize(
    ("options", "head", "map_size"),
    [
        ({}, 24_704 + 256 + 645 + 10 + 294_912 + 24_576 + 4_096, (24, 8)),
        ({"dilated": True}, 717_839, (48, 16)),
        ({"dilated": True, "kernel_height": 24}, 422_927, (48, 16)),  # Table 4's +0.42 M
    ],
)
def test_resnet50_has_the_papers_sizes(options, head, map_size):
    with torch.device("meta"):
        model = SCSTN(SCSTN.parse_options(options), 751, "resnet50", "none").eval()
        images = torch.empty(1, 3, 384, 128)

    backbone, classifiers, whole = (
        sum(p.numel() for p in part.parameters()) for part in (model.backbone, model.classifiers, model)
    )
    assert backbone == 23_508_032
    assert whole - backbone - classifiers == head
    assert model.feature_maps(images).shape == (1, 2048, *map_size)
    assert SCSTN.parse_options(options).map_size == map_size
    features = {branch: tuple(feature.shape) for branch, feature in model.features(images).items()}
    assert features == {"global": (1, 2048), "spatial": (1, 12_288)}
    assert classifiers == 751 * (2048 + 12_288)


@given(height=st.integers(33, 130), width=st.integers(33, 70), dilated=st.booleans())
@settings(max_examples=8, deadline=None)
def test_maps_have_the_size_that_the_layers_are_made_for(height, width, dilated):
    model = unmoved(image_size=(height, width), dilated=dilated).eval()

    assert model.feature_maps(torch.zeros(1, 3, height, width)).shape[2:] == model.options.map_size


def test_images_of_another_size_are_an_error_that_says_what_to_set():
    model = unmoved().eval()

    with pytest.raises(SpecError, match=r"images of 96x48 make maps of 6x3.*64x48.*image_size = \[96, 48\]"):
        model.describe(torch.zeros(2, 3, 96, 48))
    assert unmoved(branches="global").eval().describe(torch.zeros(2, 3, 96, 48)).shape == (2, 32)


# Features and losses


def test_branches_are_figure_2():
    model = slim().eval()
    m = model.backbone(IMAGES)
    transformer, vcn = model.transformer, model.head
    assert isinstance(transformer, SelfConstrainedTransformer)
    assert isinstance(vcn, VerticalConvolution)
    assert (transformer(m) - m).abs().max() > 0.1

    features = model.features(IMAGES)

    torch.testing.assert_close(features["global"], m.mean((2, 3)) + m.flatten(2).max(2).values)
    torch.testing.assert_close(features["spatial"], vcn(transformer(m)))


@pytest.mark.parametrize("transformer", ["self-constrained", "stn", "stn without rotation"])
@pytest.mark.parametrize("start", ["identity", "random"])
def test_the_transformer_is_the_one_of_the_options(transformer, start):
    options = {"outside": "border", "align_corners": True, "start": start, "transformer": transformer}
    model = unmoved(**options)

    match model.transformer:
        case SelfConstrainedTransformer() as found:
            assert transformer == "self-constrained" and (found.epsilon, found.epsilon_max) == (
                "learned",
                0.4,
            )
        case OriginalTransformer() as found:
            assert transformer == ("stn" if found.rotation else "stn without rotation")
    assert (found.outside, found.align_corners) == ("border", True)
    assert found.bn2.weight.any() == (start == "random")


@pytest.mark.parametrize(
    "options",
    [*ROWS.values(), {"spatial_ranked": "before BN"}, {"spatial_ranked": "before BN", "branches": "spatial"}],
    ids=[*ROWS, "before BN", "f^s w/o f^g before BN"],
)
def test_losses_are_the_terms_of_equation_8(options):
    model = slim(**options, classifier_deviation=0.1).train()
    before = options.get("spatial_ranked") == "before BN"
    features = model.features(IMAGES)
    ranked = {"global": 1e-7, "spatial": 0.5}
    classified = {"global": 0.5, "spatial": 1.0}
    expected = {}
    for branch, feature in features.items():
        normed = model.norms[branch](feature)
        logits = normed @ model.classifiers[branch].weight.mT
        targets = 0.9 * F.one_hot(PIDS, 3) + 0.1 / 3
        expected[f"{branch}_ce"] = classified[branch] * -(targets * logits.log_softmax(1)).sum(1).mean()
        if options.get("ranked", True):
            x = feature if branch == "spatial" and before else normed
            expected[f"{branch}_ranked"] = ranked[branch] * ranked_list(x, PIDS, 1.2, 0.4, 10.0)

    losses = model(IMAGES, PIDS)

    assert losses.keys() == expected.keys()
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-10)


@pytest.mark.parametrize("spatial_feature", ["after BN", "before BN"])
def test_a_description_has_both_features_each_of_length_1(spatial_feature):
    model = slim(spatial_feature=spatial_feature).eval()
    features = model.features(IMAGES)
    normed = {branch: model.norms[branch](f) for branch, f in features.items()}
    spatial = (normed if spatial_feature == "after BN" else features)["spatial"]

    described = model.describe(IMAGES)

    parts = model.parts
    assert parts == {"global": slice(0, 32), "spatial": slice(32, 32 + 6 * 32)}
    assert described.shape == (6, 7 * 32) and described.dtype == torch.float32
    torch.testing.assert_close(described[:, parts["global"]], F.normalize(normed["global"]))
    torch.testing.assert_close(described[:, parts["spatial"]], F.normalize(spatial))


@pytest.mark.parametrize("branch", ["global", "spatial"])
def test_a_single_branch_has_no_parts(branch):
    model = slim(branches=branch).eval()

    assert model.parts == {}
    torch.testing.assert_close(model.describe(IMAGES).norm(dim=1), torch.ones(6))
    assert model.features(IMAGES).keys() == {branch}


def test_fusion_is_the_sum_of_the_cosine_distances_of_the_parts():
    model = slim().eval()
    described = model.describe(IMAGES).detach()
    queries, gallery = described[:2], described[2:]

    def cosine_distance(part: slice) -> Tensor:
        rows = [[1 - F.cosine_similarity(q[part], g[part], dim=0) for g in gallery] for q in queries]
        return torch.tensor(rows)

    singly = [cosine_distance(part) for part in model.parts.values()]

    torch.testing.assert_close(model.distance(queries, gallery), singly[0] + singly[1], rtol=1e-4, atol=1e-6)
    for part, expected in zip(model.parts.values(), singly, strict=True):
        found = model.distance(queries[:, part], gallery[:, part])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert model.distance(described, described).diagonal().abs().max() < 1e-5


def test_what_is_ranked_and_what_describes_can_differ():
    before, after = (slim(spatial_feature=f).eval().describe(IMAGES) for f in ("before BN", "after BN"))

    torch.testing.assert_close(before[:, :32], after[:, :32])
    assert (before[:, 32:] - after[:, 32:]).abs().max() > 0.01


@each_row
def test_every_row_trains_each_parameter_and_describes_images_one_by_one(options):
    model = slim(**options)

    losses = model(IMAGES, PIDS)
    sum(losses.values()).backward()

    assert all(loss.isfinite() and loss.ndim == 0 for loss in losses.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    still = {n for n, p in model.named_parameters() if not p.grad.any()}
    assert not still
    described = model.eval().describe(IMAGES)
    torch.testing.assert_close(model.describe(IMAGES[3:4]), described[3:4], rtol=1e-4, atol=1e-5)


def test_rows_are_networks_of_their_own():
    outcomes = {row: outcome(options) for row, options in ROWS.items()}

    names = list(outcomes)
    assert not [(a, b) for i, a in enumerate(names) for b in names[:i] if same(outcomes[a], outcomes[b])]


def test_the_same_seed_gives_the_same_network():
    assert same(outcome({}), outcome({}))


def test_the_backbone_learns_from_the_spatial_branch_through_the_transform_alone():
    model = slim(spatial="gp").train()
    m = model.backbone(IMAGES)
    model.transformer.matrices(m).square().sum().backward()

    assert all(p.grad.any() for n, p in model.backbone.named_parameters() if "conv" in n)


@each_row
def test_autocast_and_channels_last_change_little(options):
    model = slim(**options, classifier_deviation=0.1).to(memory_format=torch.channels_last)
    expected = model(IMAGES, PIDS)

    with torch.autocast("cpu", torch.bfloat16):
        losses = model(IMAGES.contiguous(memory_format=torch.channels_last), PIDS)
        described = model.eval().describe(IMAGES)
    sum(losses.values()).backward()

    assert described.dtype == torch.float32
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    torch.testing.assert_close(losses, expected, rtol=0.1, atol=1e-3)
    assert all(p.grad.isfinite().all() for p in model.parameters())
    torch.testing.assert_close(described, model.describe(IMAGES), rtol=0, atol=0.05)


# What the figures show


def test_transforms_are_those_that_warp_the_map():
    model = slim().eval()
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    transforms = model.transforms(IMAGES)

    grid = F.affine_grid(transforms, (6, 32, 4, 3), align_corners=False)
    warped = F.grid_sample(model.feature_maps(IMAGES), grid, align_corners=False)
    torch.testing.assert_close(model.head(warped), model.features(IMAGES)["spatial"])
    assert transforms.shape == (6, 2, 3) and not transforms.requires_grad
    assert not model.feature_maps(IMAGES).requires_grad
    torch.testing.assert_close(dict(model.state_dict()), kept, rtol=0, atol=0)


@pytest.mark.parametrize("options", [{"transformer": "none"}, {"branches": "global"}])
def test_without_a_transformer_every_transform_is_the_identity(options):
    expected = torch.tensor([[1.0, 0, 0], [0, 1, 0]]).repeat(6, 1, 1)

    torch.testing.assert_close(slim(**options).eval().transforms(IMAGES), expected, rtol=0, atol=0)


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"start": "anywhere"},
            "start 'anywhere' needs transformer 'stn' or 'stn without rotation', not 'self-constrained'",
        ),
        (
            {"branches": "global", "spatial": "gp"},
            "spatial 'gp' needs branches 'both' or 'spatial', not 'global'",
        ),
        ({"ranked": False, "ranked_margin": 1.3}, "ranked_margin 1.3 needs ranked True, not False"),
        ({"kernel_height": 25}, "kernel_height 25 must be below the height of the map, 24"),
        ({"kernel_height": 48, "dilated": True}, "kernel_height 48 must be below the height of the map, 48"),
        ({"epsilon_max": 0}, "epsilon_max = 0"),
        ({"epsilon_max": 1.1}, "epsilon_max = 1.1"),
        ({"image_size": [0, 10]}, "image_size"),
        ({"pooling": "vcn"}, "unknown option 'pooling'"),
    ],
)
def test_options_that_do_not_fit_are_errors(options, message):
    with pytest.raises(SpecError) as caught:
        SCSTN.parse_options(options)

    assert message in str(caught.value)


OTHERS = {
    "transformer": "none",
    "epsilon": "fixed",
    "epsilon_max": 0.7,
    "spatial": "gp",
    "kernels": 5,
    "alpha": 0.7,
    "beta": 0.7,
    "gamma": 0.7,
    "start": "identity",
    "outside": "border",
    "align_corners": True,
    "columns": "side by side",
    "kernel_height": 3,
    "spatial_feature": "before BN",
    "spatial_ranked": "before BN",
    "ranked_alpha": 1.5,
    "ranked_margin": 0.9,
    "ranked_temperature": 1.0,
}
"""A value other than its default for each option that not every network uses."""


@cache
def numbers(**options) -> list[Tensor]:
    """Losses and descriptions of a small network, whose options need not fit together."""
    model = moved(built(SCSTNOptions.model_construct(image_size=SIZE, hidden=7, **options)))
    with torch.no_grad():
        return [*model(IMAGES, PIDS).values(), model.eval().describe(IMAGES)]


@pytest.mark.parametrize(
    ("option", "needed"), [(option, needed) for option, needs in NEEDS.items() for needed in needs]
)
def test_an_option_is_refused_where_it_changes_nothing_and_nowhere_else(option, needed):
    other, needs = OTHERS[option], NEEDS[option]
    fitting = {name: values[0] for name, values in needs.items()}
    for value in get_args(SCSTNOptions.model_fields[needed].annotation) or (True, False):
        if value in needs[needed]:
            options = fitting | {needed: value}
            SCSTN.parse_options({"image_size": SIZE, **options, option: other})
            assert not same(numbers(**options), numbers(**options, **{option: other}))
        else:
            options = {needed: value}
            with pytest.raises(SpecError, match=re.escape(f"{option} {other!r} needs {needed} ")):
                SCSTN.parse_options({"image_size": SIZE, **options, option: other})
            assert same(numbers(**options), numbers(**options, **{option: other}))


def test_options_that_every_network_uses_need_nothing():
    free = {"branches", "dilated", "hidden", "image_size", "ranked"}
    free |= {"label_smoothing", "bn_shift", "classifier_deviation"}

    assert set(SCSTNOptions.model_fields) - NEEDS.keys() == free
    assert NEEDS.keys() == OTHERS.keys()


def name_of(choice) -> str:
    return " ".join([choice.option, *map(str, choice.when.values())])


@pytest.mark.parametrize("choice", UNSTATED, ids=name_of)
def test_every_alternative_of_an_unstated_choice_runs_and_matters(choice):
    size = (200, 48) if choice.option == "kernel_height" else SIZE  # kernels of 24, maps of 25
    images = look_alikes(size)
    default = SCSTN.parse_options({"hidden": 7, "image_size": size, **choice.when}).model_dump()
    reference = outcome(default, images)

    assert choice.reason and choice.alternatives
    assert same(reference, outcome(default, images))
    for alternative in choice.alternatives:
        assert default[choice.option] != alternative
        assert not same(reference, outcome({**default, choice.option: alternative}, images))


def test_options_that_the_paper_does_not_state_are_all_listed():
    fields = list(SCSTNOptions.model_fields)
    stated = set(fields[: fields.index("start")])

    assert {choice.option for choice in UNSTATED} - {"beta"} == set(fields) - stated


def test_defaults_are_the_full_model_on_resnet50_o():
    defaults = SCSTNOptions()

    assert (defaults.alpha, defaults.beta, defaults.gamma) == (0.5, 0.5, 1e-7)
    assert (defaults.epsilon_max, defaults.kernels, defaults.hidden) == (0.4, 6, 128)
    assert defaults.image_size == (384, 128) and not defaults.dilated


def test_a_frozen_shift_stays_at_zero():
    model = unmoved(bn_shift=False)

    assert all(not norm.bias.requires_grad and not norm.bias.any() for norm in model.norms.values())
    assert model.transformer.bn2.bias.requires_grad


def test_classifiers_start_small_and_without_bias():
    torch.manual_seed(0)
    for deviation in (0.001, 0.01):
        model = unmoved(classifier_deviation=deviation)
        for classifier in model.classifiers.values():
            assert classifier.bias is None
            assert classifier.weight.std().item() == pytest.approx(deviation, rel=0.2)
