import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from methods.input_conventions import MEAN, STD
from methods.vgg import build_vgg, read_vgg, start_streams
from retable.errors import SpecError, WeightsError

SLIM = {"width": 0.125, "batch_norm": True}
SHAPES_OF_VGG_M = {
    "conv1": (96, 3, 7, 7),
    "conv2": (256, 96, 5, 5),
    "conv3": (512, 256, 3, 3),
    "conv4": (512, 512, 3, 3),
    "conv5": (512, 512, 3, 3),
}


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def caffe():
    """Convolutions of VGG-M under Caffe's names, at a scale that keeps the map in range."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in SHAPES_OF_VGG_M.items():
        fan_in = shape[1] * shape[2] * shape[3]
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) * (2 / fan_in) ** 0.5
        state[f"{name}.bias"] = torch.randn(shape[0], generator=generator) * 0.1
    return state


def saved(path, state):
    torch.save(state, path)
    return str(path)


@pytest.mark.parametrize(
    ("backbone", "parameters", "side", "pooled"),
    [("vgg16.tv_in1k", 14_714_688, 14, 7), ("vgg_m", 6_528_640, 13, 6)],
)
def test_sizes_at_224(backbone, parameters, side, pooled):
    with torch.device("meta"):
        model = build_vgg(backbone, "none")
        maps = model(torch.empty(2, 3, 224, 224))

    assert size(model) == parameters
    assert maps.shape == (2, model.channels, side, side) == (2, 512, side, side)
    assert model.pool5(maps).shape[2:] == (pooled, pooled)


@pytest.mark.parametrize("backbone", ["vgg16", "vgg_m"])
def test_slim_networks_have_fewer_channels_and_bn(backbone):
    model = build_vgg(backbone, "none", **SLIM)

    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert model.channels == 64
    assert [n.num_features for n in norms] == [c.out_channels for c in convolutions]
    assert not any(isinstance(m, nn.LocalResponseNorm) for m in model.modules())
    maps = model(torch.randn(4, 3, 64, 64))
    assert maps.min() == 0 < maps.std()


def test_bn_in_timms_name_is_bn():
    assert build_vgg("vgg11_bn", "none", width=0.1).state_dict().keys() == (
        build_vgg("vgg11", "none", width=0.1, batch_norm=True).state_dict().keys()
    )


def test_vgg_m_is_the_published_layers_on_bgr_less_its_mean(caffe, tmp_path):
    model = build_vgg("vgg_m", saved(tmp_path / "m.pth", caffe)).eval()
    rgb = torch.rand(1, 3, 95, 79, generator=torch.Generator().manual_seed(1))
    mean, std = (torch.tensor(m).view(3, 1, 1) for m in (MEAN, STD))

    with torch.no_grad():
        found = model((rgb - mean) / std)

    x = (255 * rgb - torch.tensor([123.0, 117.0, 104.0]).view(3, 1, 1))[:, [2, 1, 0]]

    def convolution(x, i, **kw):
        return F.conv2d(x, caffe[f"conv{i}.weight"], caffe[f"conv{i}.bias"], **kw).relu()

    def norm_and_pool(x):
        """Caffe's LRN: x / (2 + 5e-4 / 5 sum of squares over 5 channels)^0.75."""
        squares = F.pad(x.square(), (0, 0, 0, 0, 2, 2)).unfold(1, 5, 1).sum(-1)
        return F.max_pool2d(x / (2 + 1e-4 * squares) ** 0.75, 3, 2, ceil_mode=True)

    x = norm_and_pool(convolution(x, 1, stride=2))
    x = norm_and_pool(convolution(x, 2, stride=2, padding=1))
    for i in (3, 4, 5):
        x = convolution(x, i, padding=1)
    assert x.shape[2:] == (5, 4)
    assert x.std() > 0.01
    torch.testing.assert_close(found, x, rtol=1e-3, atol=1e-4)


def test_vgg_m_s_imagenet_weights_are_a_file_that_the_environment_names(tmp_path, monkeypatch):
    monkeypatch.delenv("REID_VGG_M", raising=False)
    with pytest.raises(WeightsError, match=r"let REID_VGG_M name a file .* conv1 takes BGR"):
        build_vgg("vgg_m", "imagenet")

    published = build_vgg("vgg_m", "none").state_dict()
    torch.save(published, tmp_path / "vgg_m.pth")
    monkeypatch.setenv("REID_VGG_M", str(tmp_path / "vgg_m.pth"))
    found = build_vgg("vgg_m", "imagenet").state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in published.items())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda s: s.pop("conv3.bias"), "1 missing (conv3.bias)"),
        (lambda s: s.update({"conv6.weight": torch.zeros(1)}), "1 unexpected (conv6.weight)"),
        (lambda s: s.update({"conv1.bias": torch.zeros(64)}), "conv1.bias is (64,), expected (96,)"),
    ],
)
def test_a_file_of_another_network_is_refused(caffe, tmp_path, change, complaint):
    state = dict(caffe)
    change(state)

    with pytest.raises(WeightsError, match=re.escape(complaint)):
        build_vgg("vgg_m", saved(tmp_path / "m.pth", state))


def test_the_file_may_hold_the_whole_network(caffe, tmp_path):
    whole = caffe | {
        "fc6.weight": torch.zeros(2, 3),
        "fc8.weight": torch.zeros(4),
        "fc8.bias": torch.zeros(4),
    }

    convolutions, fc = read_vgg("vgg_m", saved(tmp_path / "m.pth", whole))

    assert convolutions.keys() == caffe.keys()
    assert fc.keys() == {"fc6.weight"}


@pytest.mark.parametrize(
    ("backbone", "network", "complaint"),
    [
        ("resnet50", {}, "'resnet50' is no VGG; expected vgg_m or timm's vgg11"),
        ("vgg16_ibn", {}, "is no VGG"),
        ("vgg16", {"depth": 0.5}, "no option ['depth']; expected width or batch_norm"),
        ("vgg_m", {"width": 0}, "width 0; expected a factor above 0"),
    ],
)
def test_wrong_networks_are_named(backbone, network, complaint):
    with pytest.raises(SpecError, match=re.escape(complaint)):
        build_vgg(backbone, "none", **network)


def test_streams_start_from_trained_convolutions():
    trained = [build_vgg(name, "none", **SLIM) for name in ("vgg11", "vgg_m")]
    states = [
        {f"backbone.{k}": v for k, v in m.state_dict().items()} | {"fc.fc6.weight": torch.zeros(1)}
        for m in trained
    ]
    streams = [build_vgg(name, "none", **SLIM) for name in ("vgg11", "vgg_m")]

    start_streams(streams, states)

    for stream, model in zip(streams, trained, strict=True):
        expected = model.state_dict()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in stream.state_dict().items())
    with pytest.raises(
        WeightsError, match="the network that this one starts from holds the weights of another"
    ):
        start_streams(streams, states[::-1])
    with pytest.raises(SpecError, match="found 2 networks to start from; expected 1"):
        start_streams(streams[:1], states)
