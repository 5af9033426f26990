from unittest.mock import patch

import pytest
import torch
from timm.models.vgg import VGG, ConvMlp
from torch import nn

from methods.fc_cnn import FCCNN, FullyConnected
from retable.errors import SpecError, WeightsError

SLIM = {"width": 0.125, "batch_norm": True}
CFG = [4, "M", 8, "M", 8, "M", 16, "M", 16, "M"]
IMAGES = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def slim(num_pids=3, map_size=(2, 1), **options):
    return FCCNN(
        FCCNN.parse_options({"hidden": 8, "map_size": map_size} | options), num_pids, "vgg11", "none", SLIM
    )


@pytest.fixture
def whole():
    """A VGG of timm with few channels and fc layers of 32."""
    torch.manual_seed(0)
    model = VGG(CFG, num_classes=5, mlp_ratio=1 / 4096)
    model.pre_logits = ConvMlp(16, 32, 7, drop_rate=0.0)  # narrower than VGG can have them
    return model.eval()


def of_timm(weights, hidden=32):
    """FC-CNN with as many channels as the whole network."""
    with patch.dict("timm.models.vgg.cfgs", vgg11=CFG):
        return FCCNN(FCCNN.parse_options({"hidden": hidden}), 3, "vgg11", weights).eval()


@pytest.mark.parametrize("names", ["timm", "torchvision"])
def test_a_files_layers_give_timms_output(whole, names, tmp_path):
    state = whole.state_dict()
    if names == "torchvision":
        places = {
            "pre_logits.fc1": "classifier.0",
            "pre_logits.fc2": "classifier.3",
            "head.fc": "classifier.6",
        }
        state = {
            f"{places.get(layer, layer)}.{kind}": t.flatten(1) if layer in places and kind == "weight" else t
            for (layer, _, kind), t in ((key.rpartition("."), t) for key, t in state.items())
        }
    torch.save(state, tmp_path / "w.pth")
    model = of_timm(str(tmp_path / "w.pth"))

    with torch.no_grad():
        found, described = model.fc7(IMAGES), model.describe(IMAGES)
        expected = whole.pre_logits(whole.features(IMAGES)).flatten(1)

    assert expected.std() > 1e-4
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(described, nn.functional.normalize(expected), rtol=1e-4, atol=1e-5)


def test_imagenet_weights_are_timms_fully_connected_layers_too(whole):
    with patch("methods.vgg.create_model", return_value=whole):
        model = of_timm("imagenet")

    assert torch.equal(model.fc.fc6.weight, whole.pre_logits.fc1.weight.flatten(1))
    assert torch.equal(model.fc.fc7.bias, whole.pre_logits.fc2.bias)
    assert torch.equal(model.backbone.features[0].weight, whole.features[0].weight)


def test_a_file_without_fully_connected_layers_is_refused(whole, tmp_path):
    state = {k: v for k, v in whole.state_dict().items() if k.startswith("features.")}
    torch.save(state, tmp_path / "w.pth")

    with pytest.raises(WeightsError, match="4 missing"):
        of_timm(str(tmp_path / "w.pth"))


def test_other_widths_than_the_files_are_refused(whole, tmp_path):
    torch.save(whole.state_dict(), tmp_path / "w.pth")

    with pytest.raises(WeightsError, match="of another shape"):
        of_timm(str(tmp_path / "w.pth"), hidden=16)


def test_sizes_of_the_paper():
    with torch.device("meta"):
        fc = FullyConnected(512 * 7 * 7, 4096, 0.5)

    assert [sum(p.numel() for p in layer.parameters()) for layer in (fc.fc6, fc.fc7)] == [
        102_764_544,
        16_781_312,
    ]


def test_images_of_another_size_are_named():
    with pytest.raises(
        SpecError, match="images of 96x32 make maps of 3x1 after pool5, but option map_size is 2x1"
    ):
        slim().eval().describe(torch.zeros(1, 3, 96, 32))


def test_fully_connected_layers_keep_the_scale_from_random_weights():
    torch.manual_seed(0)
    fc = FullyConnected(16 * 4, 256, 0.0)
    maps = torch.randn(64, 16, 2, 2)

    power = fc(maps).square().mean() / maps.square().mean()

    assert 0.5 < power < 2


def test_description_has_length_1_or_comes_as_it_is():
    images = torch.randn(4, 3, 64, 32)
    model = slim().eval()

    with torch.no_grad():
        assert torch.allclose(model.describe(images).norm(dim=1), torch.ones(4))
        raw = slim(description="as it comes").eval()
        assert torch.equal(raw.describe(images), raw.fc7(images))


def test_dropout_is_on_fc6_and_fc7_in_training_only():
    images = torch.randn(4, 3, 64, 32)

    def losses(model):
        return [model.losses(images, torch.arange(4) % 3)["softmax"].item() for _ in range(2)]

    dropping, keeping = (slim(hidden=64, dropout=share) for share in (0.5, 0.0))

    assert len(set(losses(dropping))) == 2
    assert len(set(losses(keeping))) == 1
    assert len(set(losses(dropping.eval()))) == 1


def test_maps_have_at_least_one_position():
    with pytest.raises(SpecError, match=r"map_size\.0 = 0: .*\n?map_size\.1 = 0"):
        FCCNN.parse_options({"map_size": [0, 0]})


def test_it_learns_to_tell_identities_apart():
    torch.manual_seed(0)
    model = slim(num_pids=4, hidden=32, dropout=0.1)
    images, pids = torch.randn(8, 3, 64, 32), torch.arange(8) // 2
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    costs = []
    for _ in range(25):
        (cost,) = model.losses(images, pids).values()
        optimiser.zero_grad()
        cost.backward()
        optimiser.step()
        costs.append(cost.item())

    assert costs[0] == pytest.approx(1.386, abs=0.3)  # ln 4
    assert costs[-1] < 0.3
