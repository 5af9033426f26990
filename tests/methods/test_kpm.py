import math
from hashlib import sha256
from itertools import pairwise, product
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from methods import METHODS, kpm, kpm_comparisons
from methods.kpm import KPM, UNSTATED, Hourglass, KPMOptions, Verification
from methods.kpm_comparisons import ConfidenceVector, WarpedDifference
from retable.errors import SpecError
from tests.methods.kronecker_literal import literal_confidence, literal_difference
from tests.methods.peak_memory import PeakMemory

SLIM = {"layers": (1, 1, 1, 1), "channels": (8, 16, 24, 32)}
SMALL = {"map_size": (3, 2), "attention_channels": 6, "hidden": 7}  # for images of 96x64
IMAGES = torch.randn(6, 3, 96, 64, generator=torch.Generator().manual_seed(0))
PIDS = torch.tensor([0, 0, 1, 1, 2, 2])
PAIRS = torch.tensor([[0, 1], [0, 2], [0, 4], [3, 2], [3, 5], [3, 0], [4, 5], [5, 1]])
FULL = {"matching": "warp", "attention": True, "scales": "hourglass"}
ROWS = {
    "Baseline": {},
    "Absolute value": {"difference": "absolute"},
    "Square before pooling": {"difference": "square before pooling"},
    "no square": {"difference": "signed"},
    "no subtraction": {"difference": "concatenated"},
    "Baseline+KPM": {"matching": "warp"},
    "Baseline+KPM w/o warp": {"matching": "confidence"},
    "Baseline+KPM+RSA": {"matching": "warp", "attention": True},
    "Baseline+HG": {"scales": "hourglass"},
    "Baseline+HG ML": {"scales": "hourglass", "combine": "average"},
    "Baseline+KPM+RSA+HG": FULL,
}
"""Every network of Tables 1, 5 and 6, and the two of section 4.3 that do not converge."""
BEYOND = {
    "KPM+RSA+HG ML": {**FULL, "combine": "average"},
    "w/o warp+HG": {"matching": "confidence", "scales": "hourglass"},
    "square before+HG": {"difference": "square before pooling", "scales": "hourglass"},
    "query to gallery": {**FULL, "direction": "query to gallery"},
    "both directions": {**FULL, "direction": "both"},
    "both directions ML": {**FULL, "direction": "both", "combine": "average"},
    "w/o warp, both directions": {"matching": "confidence", "direction": "both"},
    "dot products": {**FULL, "similarity": "dot", "tau_kpm": 5.0},
    "sums": {**FULL, "pooling": "sum"},
    "baseline of sums": {"pooling": "sum"},
    "absolute KPM": {**FULL, "difference": "absolute"},
    "KPM without square": {**FULL, "difference": "signed"},
    "HG without subtraction": {"scales": "hourglass", "difference": "concatenated"},
    "other temperatures": {**FULL, "tau_kpm": 0.5, "tau_rsa": 0.3},
}
"""Networks that options reach and no table has."""
ALL = {**ROWS, **BEYOND}


def each(networks: dict[str, dict]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("options", networks.values(), ids=networks.keys())


def slim_kpm(**options) -> KPM:
    """A small network in which everything matters: no statistic, scale or weight has its neutral start."""
    torch.manual_seed(0)
    model = KPM(KPMOptions(**{**SMALL, **options}), 3, "resnet18", "none", SLIM)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.5)
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.3, 1.5)
    for module in (*model.comparisons.values(), *model.attention.values()):
        for parameter in module.parameters():
            nn.init.normal_(parameter)
    for attention in model.attention.values():
        nn.init.ones_(attention.layers[4].bias)  # so that the last ReLU lets something through
    for verification in model.verifications.values():
        nn.init.normal_(verification.classifier.weight, std=0.5)
        nn.init.normal_(verification.classifier.bias)
    return model


def exact_in_bfloat16(model: KPM) -> KPM:
    """Rounds feature maps where they arise, so that what is stored of them is what training sees."""
    for module in (*model.backbone.stages.values(), model.hourglass):
        if module is not None:
            module.register_forward_hook(lambda _module, _given, made: rounded(made))
    return model


def rounded(maps: Tensor | dict[str, Tensor]) -> Tensor | dict[str, Tensor]:
    if isinstance(maps, Tensor):
        return maps.bfloat16().to(maps.dtype)
    return {name: m.bfloat16().to(m.dtype) for name, m in maps.items()}


def rows_of(described: dict[str, Tensor], rows) -> dict[str, Tensor]:
    return {name: tensor[rows] for name, tensor in described.items()}


def all_pairs(queries: int, images: int) -> Tensor:
    return torch.tensor(list(product(range(queries), range(images))))


# The network, written out pair by pair


def literal_backbone_maps(model: KPM, images: Tensor) -> dict[str, Tensor]:
    x, found = images, {}
    for name, stage in model.backbone.stages.items():
        x = stage(x)
        found[name] = x
    return {"scale1": found["layer4"], "scale2": found["layer3"], "scale3": found["layer2"]}


def literal_conv1x1(x: Tensor, conv: nn.Conv2d) -> Tensor:
    assert conv.kernel_size == (1, 1)
    weight = conv.weight[:, :, 0, 0]
    return torch.einsum("oc,bchw->bohw", weight, x) + conv.bias[:, None, None]


def literal_hourglass(model: KPM, maps: dict[str, Tensor]) -> dict[str, Tensor]:
    """Section 3.2."""
    if model.options.scales == "layer4":
        return {"scale1": maps["scale1"]}
    made = {"scale1": maps["scale1"]}
    for lower, scale in (("scale1", "scale2"), ("scale2", "scale3")):
        halved = literal_conv1x1(made[lower], model.hourglass.halve[scale])
        doubled = F.interpolate(halved, scale_factor=2, mode="bilinear", align_corners=False)
        made[scale] = doubled + literal_conv1x1(maps[scale], model.hourglass.lateral[scale])
    return made


def literal_norm(x: Tensor, norm: nn.BatchNorm1d) -> Tensor:
    return (x - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias


def literal_attention(model: KPM, scale: str, x: Tensor) -> Tensor:
    """a~ of eq. 9 for x (C, h, w)."""
    first, norm, _, second, last, _ = model.attention[scale].layers
    a = literal_conv1x1(x[None], first)[0].permute(1, 2, 0)  # (h, w, C')
    a = literal_norm(a, norm).relu().permute(2, 0, 1)
    a = literal_norm(literal_conv1x1(a[None], second)[0].permute(1, 2, 0), last).relu()[..., 0]
    powers = (a / model.options.tau_rsa).exp()
    return powers / powers.sum()


def literal_offsets(confidence: Tensor) -> Tensor:
    """K~ (h, w, h, w) as images: channel (down, right), at (i, j), holds K~(i, j, i + down, j + right)."""
    h, w = confidence.shape[:2]
    images = torch.zeros(2 * h - 1, 2 * w - 1, h, w, dtype=confidence.dtype)
    for i, j in product(range(h), range(w)):  # offsets run from -i and -j on, and 0 lies in the middle
        images[h - 1 - i : 2 * h - 1 - i, w - 1 - j : 2 * w - 1 - j, i, j] = confidence[i, j]
    return images.flatten(0, 1)


def literal_vector(model: KPM, scale: str, x: Tensor, y: Tensor) -> Tensor:
    """What the classifier's BN gets of one scale of x and y, (C, h, w) each, y in the role of eq. 8's Y."""
    options, positions = model.options, x.shape[1] * x.shape[2]
    share = 1 / positions if options.pooling == "mean" else 1.0
    last = (x.permute(1, 2, 0)[None], y.permute(1, 2, 0)[None])
    if options.matching == "confidence":
        confidence = literal_confidence(*last, options.tau_kpm, options.similarity)[0]
        images = literal_offsets(confidence)[None]
        return model.comparisons[scale].convolutions(images)[0].mean((1, 2))
    if options.difference == "square before pooling":
        return share * (x - y).square().sum((1, 2))
    if options.difference == "concatenated":
        return share * torch.cat([x.sum((1, 2)), y.sum((1, 2))])
    delta = share * (x - y).sum((1, 2))
    if options.matching == "warp":
        alpha = 1 + literal_attention(model, scale, x) if options.attention else torch.ones_like(x[0])
        delta = literal_difference(*last, share * alpha[None], options.tau_kpm, options.similarity)[0]
    return {"absolute": delta.abs(), "signed": delta}.get(options.difference, delta.square())


def literal_logits(model: KPM, x: dict[str, Tensor], y: dict[str, Tensor]) -> list[Tensor]:
    """Logits (different, same) of every classifier for one pair of lists of maps."""
    found = []
    for verification in model.verifications.values():
        normal = [
            literal_norm(literal_vector(model, scale, x[scale], y[scale]), norm)
            for scale, norm in verification.norms.items()
        ]
        found.append(verification.classifier.weight @ torch.cat(normal) + verification.classifier.bias)
    return found


def literal_pair(model: KPM, maps: dict[str, Tensor], query: int, image: int) -> list[Tensor]:
    """The same for two of the images, with the roles that the options give them."""
    q, g = ({scale: m[i] for scale, m in maps.items()} for i in (query, image))
    forth, back = literal_logits(model, q, g), literal_logits(model, g, q)
    both = [(f + b) / 2 for f, b in zip(forth, back, strict=True)]
    return {"gallery to query": forth, "query to gallery": back, "both": both}[model.options.direction]


def literal_distance(model: KPM, maps: dict[str, Tensor], query: int, image: int) -> Tensor:
    """Log-odds of "different" to "same", by the mean of the classifiers' probabilities."""
    logits = torch.stack(literal_pair(model, maps, query, image)).double()
    different, same = logits.log_softmax(1).logsumexp(0)  # logs of the sums of probabilities
    return different - same


@torch.no_grad()
@each(ALL)
def test_losses_are_the_paper_pair_by_pair(options):
    model = slim_kpm(**options).double().eval()
    images = IMAGES.double()

    losses = model.losses(images, PIDS, PAIRS)

    maps = literal_hourglass(model, literal_backbone_maps(model, images))
    logits = [literal_pair(model, maps, q, g) for q, g in PAIRS.tolist()]
    assert len(losses) == (3 if model.options.combine == "average" else 1)
    for classifier, loss in enumerate(losses.values()):
        total = 0.0
        for (q, g), found in zip(PAIRS.tolist(), logits, strict=True):
            different, same = found[classifier].log_softmax(0).tolist()
            total -= same if PIDS[q] == PIDS[g] else different
        assert loss.item() == pytest.approx(total / len(PAIRS), rel=1e-5)


@torch.no_grad()
@each(ALL)
def test_stored_descriptions_give_the_distances_of_the_paper(options):
    """All pairs, given pairs and the equations; maps are such that storing them loses nothing."""
    model = exact_in_bfloat16(slim_kpm(**options).eval())
    described = model.describe(IMAGES)
    queries, gallery = rows_of(described, slice(2)), rows_of(described, slice(1, 5))
    q, g = all_pairs(2, 4).unbind(1)

    found = []
    for tile_bytes in (1, 2**25):
        model.tile_bytes = tile_bytes
        found.append(model.distance(queries, gallery))
        found.append(model.pair_distance(rows_of(queries, q), rows_of(gallery, g)).view(2, 4))

    maps = {scale: m.features.permute(0, 3, 1, 2) for scale, m in model.maps(IMAGES).items()}
    expected = torch.tensor([literal_distance(model, maps, i, 1 + j) for i, j in all_pairs(2, 4)])
    expected = expected.float().view(2, 4)
    assert expected.std() > 0.02
    for distances in found:
        assert distances.dtype == torch.float32
        torch.testing.assert_close(distances, expected, rtol=1e-4, atol=1e-4)


@each({"HG": {"scales": "hourglass"}, "HG ML": ROWS["Baseline+HG ML"]})
@pytest.mark.parametrize("sign", [-1, 1])
def test_sure_pairs_are_still_told_apart(options, sign):
    """Probabilities would be 0 or 1 in float32, and most of the gallery a tie."""
    model = slim_kpm(**options).eval()
    for verification in model.verifications.values():
        verification.classifier.bias.data = sign * torch.tensor([60.0, -60.0])
    with torch.inference_mode():
        described = model.describe(IMAGES)
        distances = model.distance(described, described)

    once = distances[*torch.triu_indices(6, 6, 1)]
    assert once.isfinite().all() and (sign * once > 30).all()
    assert len(once.unique()) == 15


# Matching and warping


def even_judge(**options) -> KPM:
    """A network whose distance of two images is the sum over channels of their squared difference."""
    model = slim_kpm(**options).eval()
    for verification in model.verifications.values():
        for norm in verification.norms.values():
            norm.reset_running_stats()
            nn.init.ones_(norm.weight)
            nn.init.zeros_(norm.bias)
        nn.init.zeros_(verification.classifier.bias)
        verification.classifier.weight.data = torch.tensor([[0.5], [-0.5]]).expand(
            2, sum(widths(verification))
        )
    return model


def widths(verification: Verification) -> list[int]:
    return [norm.num_features for norm in verification.norms.values()]


def described_features(features: Tensor) -> dict[str, Tensor]:
    """One image with features (N, C), as ``describe`` would give it: (1, N, 1, C)."""
    n = len(features)
    return {
        "pooled": features.mean(0, keepdim=True),
        "scale1": features[None, :, None].bfloat16(),
        "scale1_weights": torch.full((1, n, 1), 1 / n),
    }


def pooled_features(features: Tensor) -> dict[str, Tensor]:
    """The same for the baseline."""
    mean = features.mean(0, keepdim=True)
    return {"pooled": mean, "scale1": mean[:, None, None], "scale1_weights": torch.ones(1, 1, 1)}


PARTS = torch.eye(32)[:8] * 4  # 8 parts of a person, unlike each other


@pytest.mark.parametrize("seed", range(3))
def test_a_misaligned_image_of_the_same_parts_is_no_different(seed):
    """Parts elsewhere and of other sizes: the baseline's mean moves, the warped difference does not."""
    rng = torch.Generator().manual_seed(seed)
    shuffled = torch.cat([torch.randperm(8, generator=rng), torch.tensor([0, 0, 0, 1])])
    query, image = PARTS, PARTS[shuffled]

    warped = even_judge(matching="warp").distance(described_features(query), described_features(image))
    baseline = even_judge().distance(pooled_features(query), pooled_features(image))

    assert warped.item() == pytest.approx(0, abs=1e-6)
    assert baseline.item() > 0.1


def test_the_gallery_image_is_warped_to_the_query():
    """What a gallery image has besides the query's parts costs nothing; what it lacks does."""
    less, more = described_features(PARTS[:6]), described_features(PARTS)
    model, other = even_judge(matching="warp"), even_judge(matching="warp", direction="query to gallery")

    assert model.distance(less, more).item() == pytest.approx(0, abs=1e-6)
    assert model.distance(more, less).item() > 0.1
    assert other.distance(more, less).item() == pytest.approx(0, abs=1e-6)
    assert other.distance(less, more).item() > 0.1


@each(ALL)
def test_roles_change_with_the_direction(options):
    model = slim_kpm(**options).eval()
    with torch.inference_mode():
        described = model.describe(IMAGES)
        distances = model.distance(described, described)

    sided = options.get("matching", "none") != "none" or options.get("difference") in (
        "signed",
        "concatenated",
    )
    symmetric = options.get("direction") == "both" or not sided
    assert torch.allclose(distances, distances.mT, rtol=1e-4, atol=1e-5) == symmetric


def test_both_directions_are_the_mean_of_either():
    forth, back, both = (
        slim_kpm(**FULL, direction=direction).eval()
        for direction in ("gallery to query", "query to gallery", "both")
    )
    with torch.inference_mode():
        described = forth.describe(IMAGES)
        queries, gallery = rows_of(described, slice(2)), rows_of(described, slice(2, 6))
        one = forth.distance(queries, gallery)

        torch.testing.assert_close(one, back.distance(gallery, queries).mT, rtol=1e-4, atol=1e-4)
        mean = (one + back.distance(queries, gallery)) / 2
        torch.testing.assert_close(both.distance(queries, gallery), mean, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_confidence_maps_are_equation_7():
    model = slim_kpm(**FULL).eval()

    found = model.confidence_maps(IMAGES[:2], IMAGES[2:4])
    warmer = model.confidence_maps(IMAGES[:2], IMAGES[2:4], tau=0.7)

    sizes = {"scale1": (2, 3, 2, 3, 2), "scale2": (2, 6, 4, 6, 4), "scale3": (2, 12, 8, 12, 8)}
    assert {scale: tuple(k.shape) for scale, k in found.items()} == sizes
    maps = literal_hourglass(model, literal_backbone_maps(model, IMAGES))
    for (tau, by_scale), scale in product(((0.05, found), (0.7, warmer)), sizes):
        x, y = (maps[scale][part].permute(0, 2, 3, 1) for part in (slice(2), slice(2, 4)))
        expected = literal_confidence(x, y, tau, "cosine")
        torch.testing.assert_close(by_scale[scale], expected, rtol=1e-3, atol=1e-6)


# Confidence without warping


@given(st.integers(1, 3), st.integers(1, 3))
@settings(max_examples=9, deadline=None)
def test_a_channel_of_the_confidence_means_one_relative_offset(height, width):
    """Whoever asks, "two down and one to the right" is in the same channel; what is outside is 0."""
    module = ConfidenceVector(2, (height, width), 0.05, "cosine")
    module.eval()
    confidence = torch.rand(1, height * width, height * width)
    seen: list[Tensor] = []
    module.convolutions.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))

    maps = (kpm.Map(torch.randn(1, height, width, 3), torch.ones(1, height, width)) for _ in range(2))
    with patch.object(kpm_comparisons, "matching_confidence", lambda *_: confidence):
        module(*maps)

    expected = torch.zeros(2 * height - 1, 2 * width - 1, height, width)
    for i, j, p, q in product(range(height), range(width), range(height), range(width)):
        share = confidence[0, i * width + j, p * width + q]
        expected[p - i + height - 1, q - j + width - 1, i, j] = share
    assert torch.equal(seen[0][0], expected.flatten(0, 1))


def test_the_papers_maps_have_105_relative_offsets():
    with torch.device("meta"):
        model = KPM(KPMOptions(matching="confidence"), 751, "resnet50", "none")

    assert model.comparisons["scale1"].convolutions[0].in_channels == 15 * 7


@pytest.mark.parametrize(
    ("scales", "map_size", "message"),
    [
        ("layer4", (8, 4), "needs maps of 8 x 4, found 3 x 2; set map_size"),
        ("layer4", (2, 3), "needs maps of 2 x 3, found 3 x 2; set map_size"),
        ("hourglass", (2, 3), "needs maps of 2 x 3, found 3 x 2; set map_size"),
    ],
)
def test_maps_of_another_size_are_an_error(scales, map_size, message):
    model = slim_kpm(matching="confidence", scales=scales, map_size=map_size)

    with pytest.raises(SpecError, match=message):
        model.losses(IMAGES, PIDS, PAIRS)


# Attention


@torch.no_grad()
@pytest.mark.parametrize("scales", ["layer4", "hourglass"])
def test_attention_is_equation_9(scales):
    model = slim_kpm(matching="warp", attention=True, scales=scales).eval()

    found = model.attention_maps(IMAGES)

    maps = literal_hourglass(model, literal_backbone_maps(model, IMAGES))
    assert found.keys() == maps.keys()
    for scale, attention in found.items():
        torch.testing.assert_close(attention.sum((1, 2)), torch.ones(6))
        expected = torch.stack([literal_attention(model, scale, x) for x in maps[scale]])
        torch.testing.assert_close(attention, expected, rtol=1e-4, atol=1e-6)
        assert attention.std((1, 2)).max() > 1e-3


def test_without_attention_there_are_no_maps():
    assert slim_kpm(matching="warp").eval().attention_maps(IMAGES) == {}


@torch.no_grad()
@pytest.mark.parametrize(("pooling", "total"), [("mean", 1), ("sum", 6)])
def test_weights_are_one_plus_attention(pooling, total):
    """Eq. 10; they add up to N + 1, or to that divided by N."""
    model, plain = (
        slim_kpm(matching="warp", attention=attention, pooling=pooling).eval() for attention in (True, False)
    )

    weights = model.describe(IMAGES)["scale1_weights"]

    expected = (1 + model.attention_maps(IMAGES)["scale1"]) * total / 6
    torch.testing.assert_close(weights, expected)
    torch.testing.assert_close(weights.sum((1, 2)), torch.full((6,), total * 7 / 6))
    torch.testing.assert_close(
        plain.describe(IMAGES)["scale1_weights"].sum((1, 2)), torch.full((6,), float(total))
    )


@torch.no_grad()
def test_lower_temperatures_concentrate_the_attention():
    """Section 4.5: decreasing tau_RSA "leads to lower entropy"."""
    entropies = []
    for tau in (0.1, 0.5, 1.0, 10.0):
        attention = slim_kpm(**FULL, tau_rsa=tau).eval().attention_maps(IMAGES)["scale3"]
        entropies.append(-torch.xlogy(attention, attention).sum((1, 2)))

    for lower, higher in pairwise(entropies):
        assert (lower <= higher + 1e-5).all() and lower.sum() < higher.sum()


def test_attention_survives_bfloat16():
    """At 512 positions a~ is about 0.002, less than half of what bfloat16 can tell beside 1."""
    module = WarpedDifference(8, 0.05, "cosine")
    x, y = torch.randn(1, 32, 16, 8), torch.randn(1, 32, 16, 8)
    alpha = 1 + torch.rand(1, 32, 16).mul(3).exp().flatten(1).softmax(1).view(1, 32, 16)

    with torch.autocast("cpu", torch.bfloat16):
        even, weighted = (
            module(kpm.Map(x, w / 512), kpm.Map(y, w / 512)) for w in (torch.ones_like(alpha), alpha)
        )

    expected = module(kpm.Map(x, (alpha - 1) / 512), kpm.Map(y, alpha))
    assert even.dtype == weighted.dtype == torch.float32
    assert (weighted - even - expected).norm() < 0.05 * expected.norm()


# Hourglass


def test_shapes_are_the_papers():
    with torch.device("meta"):
        model = KPM(KPMOptions(**FULL), 751, "resnet50", "none")
        maps = model.maps(torch.empty(2, 3, 256, 128))
        described = model.describe(torch.empty(2, 3, 256, 128))

    assert {scale: tuple(m.features.shape) for scale, m in maps.items()} == {
        "scale1": (2, 8, 4, 2048),
        "scale2": (2, 16, 8, 1024),
        "scale3": (2, 32, 16, 512),
    }
    assert described["pooled"].shape == (2, 2048)
    assert model.verifications["verification"].classifier.in_features == 3584


RESNET50 = 23_508_032  # parameters without its classifier
HOURGLASS = 3_935_232
HEADS = {c: 2 * c + 2 * c for c in (2048, 1024, 512)}  # BN and FC, without the FC's bias
ATTENTIONS = {c: (c + 1) * 256 + 2 * 256 + 257 + 2 for c in HEADS}


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("Baseline", HEADS[2048] + 2),
        ("no subtraction", 2 * HEADS[2048] + 2),
        ("Baseline+KPM", HEADS[2048] + 2),
        ("Baseline+KPM+RSA", HEADS[2048] + 2 + ATTENTIONS[2048]),
        ("Baseline+HG", HOURGLASS + sum(HEADS.values()) + 2),
        ("Baseline+HG ML", HOURGLASS + sum(HEADS.values()) + 3 * 2),
        ("Baseline+KPM+RSA+HG", HOURGLASS + sum(HEADS.values()) + 2 + sum(ATTENTIONS.values())),
        ("Baseline+KPM w/o warp", 9 * 105 * 128 + 2 * 128 + 128 * 128 + 2 * 128 + 4 * 128 + 2),
    ],
)
def test_parameter_counts(name, extra):
    with torch.device("meta"):
        model = KPM(KPMOptions(**ROWS[name]), 751, "resnet50", "none")

    assert sum(p.numel() for p in model.parameters()) == RESNET50 + extra
    if model.hourglass:
        assert sum(p.numel() for p in model.hourglass.parameters()) == HOURGLASS


def test_a_step_of_the_hourglass_by_hand():
    """The halved channels at twice the size, and the backbone's map beside, each through its convolution."""
    hourglass = Hourglass({"scale1": 2, "scale2": 1, "scale3": 1})
    for parameter in hourglass.parameters():
        nn.init.zeros_(parameter)
    hourglass.halve["scale2"].weight.data[0, :, 0, 0] = torch.tensor([1.0, 0.5])
    hourglass.lateral["scale2"].weight.data.fill_(10)
    hourglass.lateral["scale3"].bias.data.fill_(7)
    smaller = torch.tensor([[[[0.0, 4.0]], [[0.0, 8.0]]]])  # (1, 2, 1, 2): 0 and 8 after the convolution
    own = torch.tensor([[[[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 0.0]]]])

    maps = hourglass({"scale1": smaller, "scale2": own, "scale3": torch.ones(1, 1, 4, 8)})

    assert torch.equal(maps["scale1"], smaller)
    assert maps["scale2"][0, 0].tolist() == [[10, 22, 36, 48], [0, 2, 6, 8]]
    assert (maps["scale3"] == 7).all()


@torch.no_grad()
def test_a_finer_map_knows_what_the_smaller_ones_do():
    model = slim_kpm(**FULL).eval()
    before = model.maps(IMAGES)

    model.backbone.stages["layer4"].register_forward_hook(lambda _module, _given, made: made + 1)

    for scale, after in model.maps(IMAGES).items():
        assert not torch.allclose(after.features, before[scale].features)


# Verification


def test_the_classifier_starts_small():
    verification = Verification({"scale1": 3000, "scale2": 1000}, KPMOptions())

    assert verification.classifier.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert abs(verification.classifier.weight.mean()) < 1e-4
    assert not verification.classifier.bias.any()
    for norm in verification.norms.values():
        assert (norm.weight == 1).all() and not norm.bias.any() and norm.momentum == 0.1


@pytest.mark.parametrize(
    ("difference", "even"), [("square after pooling", torch.square), ("absolute", torch.abs)]
)
def test_training_normalises_over_the_pairs_of_the_batch(difference, even):
    torch.manual_seed(0)
    verification = Verification({"scale1": 5, "scale2": 3}, KPMOptions(difference=difference)).double()
    vectors = {"scale1": torch.randn(9, 5).double(), "scale2": torch.randn(9, 3).double()}

    logits = verification(vectors)

    squares = torch.cat([even(v) for v in vectors.values()], 1)
    normal = (squares - squares.mean(0)) / (squares.var(0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(logits, normal @ verification.classifier.weight.mT)


def test_dropout_is_for_training_only():
    dropping, plain = slim_kpm(dropout=0.8), slim_kpm()
    torch.manual_seed(0)
    assert dropping.losses(IMAGES, PIDS, PAIRS) != plain.losses(IMAGES, PIDS, PAIRS)

    losses = [
        m.eval().losses(IMAGES, PIDS, PAIRS)["verification"] for m in (slim_kpm(dropout=0.8), slim_kpm())
    ]

    assert torch.equal(*losses)


def test_the_more_alike_the_more_same():
    """Label 1 is "same": evidence for it makes pairs of one identity cheaper and others dearer."""
    model = slim_kpm().eval()
    bias = model.verifications["verification"].classifier.bias

    for pairs, sign in ((torch.tensor([[0, 1], [4, 5]]), -1), (torch.tensor([[0, 2], [4, 1]]), 1)):
        loss = model.losses(IMAGES, PIDS, pairs)["verification"]
        different, same = torch.autograd.grad(loss, bias)[0].tolist()
        assert sign * same > 0 and sign * different < 0


# The whole network


@each(ALL)
def test_every_parameter_learns(options):
    model = slim_kpm(**options)

    losses = model(IMAGES, PIDS, PAIRS)
    sum(losses.values()).backward()

    scales = ("scale1", "scale2", "scale3")
    names = [f"verification_{s}" for s in scales] if options.get("combine") == "average" else ["verification"]
    assert list(losses) == names
    assert all(loss.shape == () and loss.isfinite() for loss in losses.values())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        # BN takes away what a bias before it adds, and what is left of its gradient are rounding errors.
        assert parameter.grad.any() or name.startswith("attention"), name


@pytest.mark.parametrize("options", [{}, FULL], ids=["baseline", "full"])
def test_losses_fall_when_trained(options):
    torch.manual_seed(0)
    model = KPM(KPMOptions(**{**SMALL, **options}), 3, "resnet18", "none", SLIM)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    totals = []
    for _ in range(20):
        total = sum(model.losses(IMAGES, PIDS, PAIRS).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())

    assert totals[0] == pytest.approx(math.log(2), abs=0.05)
    assert sum(totals[-5:]) < 0.5 * sum(totals[:5])


@each(ROWS)
def test_what_is_stored_of_an_image(options):
    model = slim_kpm(**options).eval()
    mapless = (
        options.get("matching", "none") == "none" and options.get("difference") != "square before pooling"
    )
    sizes = {"scale1": (3, 2, 32), "scale2": (6, 4, 24), "scale3": (12, 8, 16)}
    if options.get("scales") != "hourglass":
        sizes = {"scale1": sizes["scale1"]}

    with torch.inference_mode():
        described = model.describe(IMAGES)

    expected = {"pooled": ((6, 32), torch.float32)}
    for scale, (h, w, c) in sizes.items():
        size = (1, 1) if mapless else (h, w)
        expected[scale] = ((6, *size, c), torch.float32 if mapless else torch.bfloat16)
        expected[f"{scale}_weights"] = ((6, *size), torch.float32)
    assert {name: (tuple(t.shape), t.dtype) for name, t in described.items()} == expected
    torch.testing.assert_close(described["pooled"], model.backbone(IMAGES).mean((2, 3)))


@torch.inference_mode()
@each(ROWS)
def test_a_description_does_not_depend_on_the_batch(options):
    model = slim_kpm(**options).eval()

    together, alone = model.describe(IMAGES), model.describe(IMAGES[2:3])

    for name, tensor in alone.items():
        tolerance = 2**-7 if tensor.dtype == torch.bfloat16 else 1e-5  # the last place
        torch.testing.assert_close(together[name][2:3], tensor, rtol=tolerance, atol=tolerance)


@torch.inference_mode()
def test_a_block_is_scored_as_its_parts():
    """More queries than are taken at a time, and tiles that do not come out even."""
    model = slim_kpm(**FULL).eval()
    described = model.describe(torch.randn(39, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    queries, gallery = rows_of(described, slice(18)), rows_of(described, slice(18, 39))

    model.tile_bytes = 40_000
    tiled = model.distance(queries, gallery)

    model.tile_bytes = 2**30
    parts = [
        torch.cat(
            [model.distance(rows_of(queries, [q]), rows_of(gallery, g)) for g in (slice(4), slice(4, 21))], 1
        )
        for q in range(18)
    ]
    torch.testing.assert_close(tiled, torch.cat(parts), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
@each({**ROWS, "w/o warp+HG": BEYOND["w/o warp+HG"], "square before+HG": BEYOND["square before+HG"]})
def test_scoring_stays_within_its_memory(options):
    """A few tiles, of products, of vectors and of maps in float32, however many images there are."""
    model = slim_kpm(**{**options, "map_size": (2, 2)}).eval()
    model.tile_bytes = 2**18
    described = model.describe(torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1)))
    images = 200 if described["scale1"].dtype == torch.bfloat16 else 2000  # the baseline's means are small
    queries, gallery = (rows_of(described, torch.arange(count) % 4) for count in (8, images))

    with PeakMemory() as memory:
        distances = model.distance(queries, gallery)
    with PeakMemory() as of_pairs:
        model.pair_distance(gallery, gallery)

    assert memory.peak < distances.nbytes + 5 * model.tile_bytes
    assert of_pairs.peak < 2 * model.tile_bytes


@pytest.mark.parametrize(
    "options", [{}, FULL, {"matching": "confidence"}], ids=["baseline", "full", "w/o warp"]
)
def test_bfloat16_autocast_and_channels_last(options):
    model = slim_kpm(**options).to(memory_format=torch.channels_last)
    images = IMAGES.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.losses(images, PIDS, PAIRS)
        sum(losses.values()).backward()
        described = model.eval().describe(images)

    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    assert all(p.grad.isfinite().all() for p in model.parameters())
    for name, tensor in model.describe(images).items():
        assert described[name].dtype == tensor.dtype
        assert (described[name] - tensor).float().norm() < 0.05 * tensor.float().norm()


@pytest.mark.gpu
@pytest.mark.parametrize("options", [ROWS["Baseline+KPM"], FULL], ids=["layer4", "hourglass"])
def test_cuda_gives_the_losses_and_distances_of_a_cpu(options):
    """The warp is a fused kernel there, in bfloat16 under autocast."""
    model = exact_in_bfloat16(slim_kpm(**options).eval())
    losses = model.losses(IMAGES, PIDS, PAIRS)
    described = model.describe(IMAGES)
    distances = model.distance(described, described)

    model, images, pids, pairs = model.cuda(), IMAGES.cuda(), PIDS.cuda(), PAIRS.cuda()
    with torch.autocast("cuda", torch.bfloat16):
        found = model.losses(images, pids, pairs)
    found["verification"].backward()
    kept = {name: tensor.cuda() for name, tensor in described.items()}

    torch.testing.assert_close(found["verification"].cpu(), losses["verification"], rtol=0.1, atol=0.05)
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    torch.testing.assert_close(model.distance(kept, kept).cpu(), distances, rtol=2e-2, atol=2e-2)


# Options


def test_kpm_is_registered():
    assert METHODS.get("kpm") is KPM


@pytest.mark.parametrize(
    ("given_options", "message"),
    [
        ({"attention": True}, "needs matching 'warp', not 'none'"),
        ({"attention": True, "matching": "confidence"}, "needs matching 'warp', not 'confidence'"),
        ({"difference": "square before pooling", "matching": "warp"}, "is a setting of the baseline"),
        ({"difference": "square before pooling", "matching": "confidence"}, "is a setting of the baseline"),
        ({"difference": "concatenated", "matching": "warp"}, "is a setting of the baseline"),
        ({"difference": "square"}, "difference = 'square'"),
        ({"tau_kmp": 0.1}, "did you mean .*'tau_kpm'"),
        ({"tau_kpm": 0}, "tau_kpm = 0"),
        ({"tau_rsa": -1}, "tau_rsa = -1"),
        ({"map_size": [8, 0]}, "map_size.1 = 0"),
        ({"dropout": 1}, "dropout = 1"),
        ({"direction": "left"}, "direction = 'left'"),
    ],
)
def test_wrong_options_are_spec_errors(given_options, message):
    with pytest.raises(SpecError, match=message):
        KPM.parse_options(given_options)


def outcome(options: KPMOptions) -> dict[str, Tensor]:
    """All that options could change: parameters at the start, the loss, distances."""
    torch.manual_seed(0)
    model = KPM(options, 3, "resnet18", "none", {**SLIM, "zero_init_last": False})
    found = {f"start {name}": value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(1)
    found |= model.losses(IMAGES, PIDS, PAIRS)
    with torch.inference_mode():
        described = model.eval().describe(IMAGES)
        return found | {"distance": model.distance(described, described)}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(
    "choice", UNSTATED, ids=lambda choice: f"{choice.option} of {choice.when.get('matching', 'all')}"
)
def test_every_alternative_of_an_unstated_choice_runs_and_matters(choice):
    default = KPM.parse_options({"map_size": (3, 2), **choice.when}).model_dump()
    reference = outcome(KPMOptions(**default))

    assert choice.reason and choice.alternatives
    assert same(reference, outcome(KPMOptions(**default)))
    for alternative in choice.alternatives:
        assert not same(reference, outcome(KPM.parse_options({**default, choice.option: alternative})))


def test_options_that_the_paper_does_not_state_are_all_listed():
    stated = {
        "matching",
        "attention",
        "scales",
        "combine",
        "difference",
        "tau_kpm",
        "tau_rsa",
        "map_size",  # of 256x128 images
    }

    assert {choice.option for choice in UNSTATED} == set(KPMOptions.model_fields) - stated


def test_defaults_are_the_papers_temperatures_and_map():
    options = KPMOptions()

    assert (options.tau_kpm, options.tau_rsa, options.map_size) == (0.05, 1.0, (8, 4))


def test_a_version_keeps_its_defaults():
    """Fails when a default has changed: records hold the version, so raise it, then pin what holds now."""
    defaults = sha256(KPMOptions().model_dump_json().encode()).hexdigest()[:12]

    assert (METHODS.version("kpm"), defaults) == ("1", "ece4488a4a35")
