"""The maps that heat maps show are those that descriptions are made of."""

import pytest
import torch

from methods import METHODS

IMAGES = torch.rand(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))
SLIM = {"channels": (8, 8, 16, 16)}


def slim(name, **options):
    torch.manual_seed(0)
    method = METHODS.get(name)
    return method(method.parse_options(options), 3, "resnet18", "none", SLIM).eval()


@pytest.mark.parametrize("after", [["layer2"], ["layer4"], ["global"]])
def test_sona_shows_what_its_branches_get(after):
    model = slim("sona", after=after, p_init="torch", drop="none")

    maps = model.feature_maps(IMAGES)

    assert maps.shape == (2, 16, 8, 4)
    pooled = model._attend("global", maps).mean((2, 3), keepdim=True)
    assert torch.equal(model.reductions["global"](pooled), model.features(IMAGES)["global"])


def test_kpm_shows_the_map_that_is_matched():
    model = slim("kpm", matching="warp")

    maps = model.feature_maps(IMAGES)

    assert maps.shape == (2, 16, 2, 1)
    assert torch.equal(maps, model.maps(IMAGES)["scale1"].features.permute(0, 3, 1, 2))


def test_open_reid_shows_the_map_that_is_averaged():
    model = slim("open-reid", loss="triplet", features=4, hidden=4)

    maps = model.feature_maps(IMAGES)

    assert maps.shape == (2, 16, 2, 1)
    assert torch.equal(model.embedding(maps.mean((2, 3))).relu(), model.embed(IMAGES))


@pytest.mark.parametrize("name", ["sona", "kpm", "open-reid"])
def test_no_gradient_is_kept(name):
    assert not slim(name).feature_maps(IMAGES).requires_grad
