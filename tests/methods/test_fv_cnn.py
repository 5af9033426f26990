import pytest
import torch

from methods.fc_cnn import FCCNN
from methods.fisher_vectors import sample
from methods.fv_cnn import FVCNN
from retable.errors import SpecError

SLIM = {"width": 0.05, "batch_norm": True}
IMAGES = torch.randn(5, 3, 64, 32, generator=torch.Generator().manual_seed(0))


def build(seed=0, **options):
    torch.manual_seed(seed)
    return FVCNN(FVCNN.parse_options({"gaussians": 3} | options), 2, "vgg11", "none", SLIM)


def fit(model, seed=0):
    torch.manual_seed(seed)
    counts = []
    model.fit(lambda: IMAGES.split(2), counts.append)
    return counts


def test_descriptions_are_fisher_vectors_of_all_positions():
    model = build()
    assert fit(model) == [2, 2, 1]
    maps = model.backbone(IMAGES)
    assert maps.shape == (5, 26, 4, 2)

    local = torch.stack([maps[..., i, j] for i in range(4) for j in range(2)], 1)

    assert torch.equal(model.local_descriptors(IMAGES), local)
    assert torch.equal(model.describe(IMAGES), model.fisher(local))
    assert model.describe(IMAGES).shape == (5, 2 * 3 * 26)
    assert torch.equal(model.feature_maps(IMAGES), maps)


@pytest.mark.parametrize(("samples_per_gaussian", "taken"), [(1000, 40), (5, 15)])
def test_the_mixture_is_of_a_sample_of_the_positions_of_all_images(samples_per_gaussian, taken):
    model, by_hand = build(samples_per_gaussian=samples_per_gaussian), build()
    fit(model)
    by_hand.eval()

    torch.manual_seed(0)
    batches = [by_hand.local_descriptors(x).flatten(0, 1).detach().numpy() for x in IMAGES.split(2)]
    some = sample(batches, 3 * samples_per_gaussian)
    by_hand.fisher.fit(some)

    assert sum(map(len, batches)) == 5 * 8
    assert len(some) == taken
    assert torch.equal(model.fisher.means, by_hand.fisher.means)


def test_fitting_leaves_the_convolutions_alone():
    model = build()
    before = {key: t.clone() for key, t in model.backbone.state_dict().items()}

    fit(model.train())

    assert all(torch.equal(before[key], t) for key, t in model.backbone.state_dict().items())
    assert not torch.equal(model.fisher.variances, torch.ones_like(model.fisher.variances))


def test_it_starts_from_fc_cnn():
    torch.manual_seed(1)
    fc_cnn = FCCNN(FCCNN.parse_options({"hidden": 4, "map_size": [2, 1]}), 2, "vgg11", "none", SLIM)
    model = build()
    assert not torch.equal(fc_cnn.backbone.eval()(IMAGES), model.eval().backbone(IMAGES))

    model.start_from([fc_cnn.state_dict()])

    assert torch.equal(fc_cnn.backbone(IMAGES), model.backbone(IMAGES))
    with pytest.raises(SpecError, match="found 0 networks to start from; expected 1"):
        model.start_from([])


def test_a_state_dict_holds_all_of_it():
    first, second = build(0), build(1)
    fit(first)

    second.load_state_dict(first.state_dict())

    assert torch.equal(first.describe(IMAGES), second.eval().describe(IMAGES))


def test_sizes_of_the_paper():
    with torch.device("meta"):
        model = FVCNN(FVCNN.parse_options({}), 2, "vgg16.tv_in1k", "none")

    assert 2 * model.fisher.means.numel() == 65_536
