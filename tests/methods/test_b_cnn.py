import math

import pytest
import torch
from torch.nn import functional as F

from methods.b_cnn import BCNN, pyramid_of_outer_products
from methods.bilinear import CompactBilinear, TensorSketch
from methods.fc_cnn import FCCNN
from retable.errors import SpecError

SLIM = {"width": 0.05, "batch_norm": True}
IMAGES = torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))
PIDS = torch.tensor([0, 0, 1, 1, 2, 2])


def build(seed=0, **options):
    torch.manual_seed(seed)
    small = {"dimension": 8, "hidden": 4} if options.get("pooling") == "irnn" else {}
    return BCNN(BCNN.parse_options(small | options), 3, "vgg11", "none", SLIM)


def literal_pyramid(maps, root):
    """All entries of the five matrices: loops over positions, 2 x 2 bins first, then the whole map."""
    b, c, h, w = maps.shape
    bins = [
        (range(h // 2 * i, h // 2 * (i + 1)), range(w // 2 * j, w // 2 * (j + 1)))
        for i in range(2)
        for j in range(2)
    ]
    bins.append((range(h), range(w)))
    pooled = torch.zeros(b, 5, c, c, dtype=maps.dtype)
    for k, (rows, columns) in enumerate(bins):
        for y in rows:
            for x in columns:
                pooled[:, k] += maps[:, :, y, x, None] * maps[:, None, :, y, x]
    return (pooled.sign() * pooled.abs().sqrt() if root else pooled).flatten(1)


@pytest.mark.parametrize("root", [True, False])
def test_inner_products_are_those_of_the_whole_outer_products(root):
    torch.manual_seed(0)
    maps = 10 * torch.rand(4, 5, 6, 4, dtype=torch.float64)
    maps[:, 2] = 0  # a channel that never fires

    found, expected = pyramid_of_outer_products(maps, root), literal_pyramid(maps, root)

    assert found.shape == (4, 5 * 15)
    torch.testing.assert_close(found @ found.mT, expected @ expected.mT, rtol=1e-6, atol=0)


def test_gradients_are_those_of_the_literal_form():
    torch.manual_seed(0)
    maps = (10 * torch.rand(2, 3, 4, 4, dtype=torch.float64) + 1).requires_grad_()

    def gradient(pool):
        first, second = F.normalize(pool(maps, True))
        return torch.autograd.grad(first @ second, maps)[0]

    found, expected = gradient(pyramid_of_outer_products), gradient(literal_pyramid)

    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-9)


def test_channels_that_never_fire_get_finite_gradients():
    maps = torch.zeros(2, 3, 4, 4, requires_grad=True)

    F.normalize(pyramid_of_outer_products(maps, True)).sum().backward()

    assert maps.grad.isfinite().all()


@pytest.mark.parametrize("dimension", [8, 7])
def test_a_sketch_of_a_position_is_that_of_its_outer_product(dimension):
    torch.manual_seed(0)
    a, p = torch.randn(2, 5, 3, 4, dtype=torch.float64), torch.randn(2, 6, 3, 4, dtype=torch.float64)
    sketch, pooled = (kind((5, 6), dimension) for kind in (TensorSketch, CompactBilinear))

    found = sketch(a, p)

    for y in range(3):
        for x in range(4):
            at = (..., slice(y, y + 1), slice(x, x + 1))
            torch.testing.assert_close(found[..., y, x], pooled(a[at], p[at]))
    torch.testing.assert_close(found.mean((2, 3)), pooled(a, p))


def test_a_sketch_is_the_sum_of_signed_products_in_their_bins():
    torch.manual_seed(0)
    a, p = torch.randn(1, 4, 1, 1), torch.randn(1, 3, 1, 1)
    sketch = TensorSketch((4, 3), 8)

    expected = torch.zeros(8)
    for i in range(4):
        for j in range(3):
            expected[(sketch.h_a[i] + sketch.h_p[j]) % 8] += (
                sketch.s_a[i] * sketch.s_p[j] * a[0, i, 0, 0] * p[0, j, 0, 0]
            )
    torch.testing.assert_close(sketch(a, p)[0, :, 0, 0], expected)


@pytest.mark.parametrize(("options", "columns"), [({}, 5 * 26 * 27 // 2), ({"pooling": "irnn"}, 8 * 4 * 4)])
def test_descriptions_have_length_1(options, columns):
    model = build(**options).eval()

    with torch.no_grad():
        x = model.describe(IMAGES)

    assert x.shape == (6, columns)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x.norm(dim=1), torch.ones(6))
    assert (x @ x.mT).min() < 0.999


def test_irnns_get_the_sketch_of_the_map_with_itself():
    model = build(pooling="irnn").eval()

    maps = model.backbone(IMAGES)

    expected = F.normalize(model.irnn(model.sketch(maps, maps)).flatten(1))
    assert torch.equal(model.describe(IMAGES), expected)
    assert torch.equal(model.feature_maps(IMAGES), maps)


def test_paper_size_of_the_pyramid():
    maps = torch.empty(1, 512, 14, 14, device="meta")

    assert pyramid_of_outer_products(maps, True).shape == (1, 656_640)


@pytest.mark.parametrize("pooling", ["spp", "irnn"])
def test_loss_is_eq_5_over_all_pairs_of_different_images(pooling):
    model = build(pooling=pooling, alpha=3.0, beta=0.25).eval()
    x = model.describe(IMAGES)
    terms = {True: [], False: []}
    for i in range(6):
        for j in range(i):
            same = bool(PIDS[i] == PIDS[j])
            s = (x[i] @ x[j]).item()
            terms[same].append(math.log(math.exp(-3.0 * (s - 0.25) * (1 if same else -1)) + 1))

    (found,) = model.losses(IMAGES, PIDS).values()

    assert (len(terms[True]), len(terms[False])) == (3, 12)
    assert found.item() == pytest.approx(sum(terms[True]) / 3 + sum(terms[False]) / 12, rel=1e-4)


@pytest.mark.parametrize("options", [{}, {"pooling": "irnn", "dropout": 0.0}], ids=["spp", "irnn"])
def test_it_learns_to_tell_identities_apart(options):
    model = build(**options)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.002)

    costs = []
    for _ in range(15):
        (cost,) = model.losses(IMAGES, PIDS).values()
        optimiser.zero_grad()
        cost.backward()
        optimiser.step()
        costs.append(cost.item())

    assert costs[-1] < costs[0] - 0.2


@pytest.mark.parametrize("pooling", ["spp", "irnn"])
def test_it_starts_from_fc_cnn(pooling):
    torch.manual_seed(1)
    fc_cnn = FCCNN(FCCNN.parse_options({"hidden": 4, "map_size": [2, 2]}), 2, "vgg11", "none", SLIM)
    model = build(pooling=pooling).eval()

    model.start_from([fc_cnn.state_dict()])

    assert torch.equal(model.backbone(IMAGES), fc_cnn.eval().backbone(IMAGES))


def test_dropout_is_on_the_irnns_in_training_only():
    def losses(model):
        return [model.losses(IMAGES, PIDS)["deviance"].item() for _ in range(2)]

    dropping, keeping = (build(pooling="irnn", dropout=share) for share in (0.5, 0.0))

    assert len(set(losses(dropping))) == 2
    assert len(set(losses(keeping))) == 1
    assert len(set(losses(dropping.eval()))) == 1


@pytest.mark.parametrize(
    ("given_options", "message"),
    [
        ({"poolling": "spp"}, "unknown option 'poolling'"),
        ({"dimension": 7}, "dimension 7 needs recurrent layers, but pooling is 'spp'"),
        ({"hidden": 7}, "hidden 7 needs recurrent layers"),
        ({"recurrence": "diagonal"}, "recurrence 'diagonal' needs recurrent layers"),
        ({"dropout": 0.0}, "dropout 0.0 needs recurrent layers"),
        ({"pooling": "irnn", "signed_sqrt": False}, "signed_sqrt False needs a pyramid"),
    ],
)
def test_wrong_options_are_named(given_options, message):
    with pytest.raises(SpecError, match=message):
        BCNN.parse_options(given_options)
