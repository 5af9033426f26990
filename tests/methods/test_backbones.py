import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet

from methods.backbones import bottleneck, build_backbone
from retable.errors import SpecError, WeightsError

SLIM = {"channels": [8, 16, 24, 32]}
IMAGES = torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))


def torchvision_net(**options):
    """A short Bottleneck ResNet of torchvision with BN statistics that are not the initial ones."""
    torch.manual_seed(1)
    net = ResNet(Bottleneck, [1, 2, 1, 1], num_classes=5, **options)
    net.train()(torch.randn(4, 3, 64, 64))
    return net.eval()


def torchvision_features(net, x):
    x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
    return net.layer4(net.layer3(net.layer2(net.layer1(x))))


@pytest.fixture(scope="module")
def net():
    return torchvision_net()


def build(weights, name="resnet50", **options):
    return build_backbone(name, str(weights), **{"layers": (1, 2, 1, 1), **options}).eval()


def slim(**options):
    return build_backbone("resnet18", "none", **SLIM, **options)


def save(tmp_path, content, name="net.pth"):
    torch.save(content, tmp_path / name)
    return tmp_path / name


# Structure


@pytest.mark.parametrize(
    "network", [("resnet18", {}), ("resnet26", {}), ("resnet50", SLIM), ("resnet34d", SLIM)]
)
@pytest.mark.parametrize("dilated", [True, False])
@pytest.mark.parametrize(("stride", "sizes"), [(8, (8, 8, 8)), (16, (8, 4, 4)), (32, (8, 4, 2))])
def test_stages_have_the_sizes_and_channels_they_state(network, dilated, stride, sizes):
    with torch.device("meta"):
        name, options = network
        backbone = build_backbone(name, "none", output_stride=stride, dilated=dilated, **options)
        x, shapes = torch.empty(2, 3, 64, 32), {}
        for stage, module in backbone.stages.items():
            x = module(x)
            shapes[stage] = x.shape[1:]

    heights = dict(zip(["stem", "layer1", "layer2", "layer3", "layer4"], (16, 16, *sizes), strict=True))
    assert shapes == {s: (backbone.channels[s], h, h // 2) for s, h in heights.items()}


def test_slim_channels_are_taken():
    assert slim().channels == {"stem": 64, "layer1": 8, "layer2": 16, "layer3": 24, "layer4": 32}


def test_forward_runs_all_stages():
    backbone = slim().eval()

    expected = nn.Sequential(*backbone.stages.values())(IMAGES)

    torch.testing.assert_close(backbone(IMAGES), expected)
    assert expected.shape == (2, 32, 2, 1)


def test_without_dilation_only_the_stride_goes():
    """The last-stride-1 network and its dilated twin see different pixels with the same parameters."""
    plain, twin = (slim(output_stride=16, dilated=d, zero_init_last=False) for d in (False, True))
    twin.load_state_dict(plain.state_dict())

    assert {m.dilation for m in plain.modules() if isinstance(m, nn.Conv2d)} == {(1, 1)}
    assert not torch.allclose(plain.train()(IMAGES), twin.train()(IMAGES))


@pytest.mark.parametrize(("stride", "last", "height"), [(16, "conv5", 4), (32, "pool5", 2)])
def test_vgg_stages_begin_with_their_pooling(stride, last, height):
    with torch.device("meta"):
        backbone = build_backbone("vgg16", "none", output_stride=stride)
        x = backbone(torch.empty(1, 3, 64, 64))

    names = ["conv1", "conv2", "conv3", "conv4", "conv5", "pool5"]
    assert list(backbone.stages) == names[: names.index(last) + 1]
    assert list(backbone.channels.values())[:5] == [64, 128, 256, 512, 512]
    assert backbone.channels[last] == 512 and x.shape == (1, 512, height, height)


def test_bottleneck_keeps_shape_and_starts_as_torch_does():
    block = bottleneck(64)

    assert block(torch.randn(2, 64, 3, 2)).shape == (2, 64, 3, 2)
    assert block.conv2.weight.shape == (16, 16, 3, 3)
    assert block.conv1.weight.abs().max() <= 1 / 64**0.5  # torch: uniform within 1 / sqrt(fan in)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet5O"}, r"no model 'resnet5O'; near: .*resnet50"),
        ({"name": "mobilenetv2_050"}, "no stages are known for EfficientNet"),
        ({"name": "vit_tiny_patch16_224"}, r"does not take \{'output_stride': 32\}"),
        ({"name": "resnet18", "chanels": (8, 8, 8, 8)}, r"does not take \{.*'chanels'"),
        ({"name": "vgg11", "output_stride": 8}, "a VGG has output stride 32, or 16"),
    ],
)
def test_a_network_that_cannot_be_built_says_why(arguments, message):
    with torch.device("meta"), pytest.raises(SpecError, match=message):
        build_backbone(weights="none", **arguments)


# Weights


def test_torchvision_weights_give_torchvision_features(net, tmp_path):
    backbone = build(save(tmp_path, net.state_dict()))

    torch.testing.assert_close(backbone(IMAGES), torchvision_features(net, IMAGES))


@pytest.mark.parametrize(("stride", "dilate"), [(8, [False, True, True]), (16, [False, False, True])])
def test_dilation_is_torchvisions(stride, dilate, tmp_path):
    dilated = torchvision_net(replace_stride_with_dilation=dilate)

    backbone = build(save(tmp_path, dilated.state_dict()), output_stride=stride)

    torch.testing.assert_close(backbone(IMAGES), torchvision_features(dilated, IMAGES))


def test_vgg_key_names_are_torchvisions():
    import timm

    with torch.device("meta"):
        theirs = {k for k in torchvision.models.vgg16().state_dict() if k.startswith("features.")}
        assert theirs == {k for k in timm.create_model("vgg16").state_dict() if k.startswith("features.")}


@pytest.mark.parametrize(
    "form", ["plain", "state_dict", "model", "safetensors", "no counters", "no classifier"]
)
def test_all_forms_of_a_file_are_read(form, net, tmp_path):
    state = net.state_dict()
    if form in ("state_dict", "model"):
        path = save(tmp_path, {form: state, "epoch": 3})
    elif form == "safetensors":
        path = tmp_path / "net.safetensors"
        save_file(state, path)
    else:
        dropped = {"no counters": "num_batches_tracked", "no classifier": "fc."}.get(form, "nothing")
        path = save(tmp_path, {k: v for k, v in state.items() if dropped not in k})

    torch.testing.assert_close(build(path)(IMAGES), torchvision_features(net, IMAGES))


def test_missing_and_unexpected_keys_are_counted_and_named(net, tmp_path):
    state = net.state_dict()
    del state["layer1.0.conv1.weight"], state["bn1.weight"]
    path = save(tmp_path, state)

    with pytest.raises(WeightsError, match=r"net.pth .*another network.*: 2 missing \(.*bn1.weight.*\)$"):
        build(path)
    with pytest.raises(WeightsError, match=r"18 unexpected \(layer2\.1\.conv1\.weight, .*, \.\.\.\)"):
        build(path, layers=(1, 1, 1, 1))


def test_other_shapes_are_shown(net, tmp_path):
    path = save(tmp_path, net.state_dict())

    with pytest.raises(WeightsError) as caught:
        build(path, channels=(64, 128, 256, 500))

    assert "of another shape (layer4.0.conv1.weight is (512, 1024, 1, 1), expected (500, 1024, 1, 1)" in str(
        caught.value
    )


def test_another_networks_file_is_refused(tmp_path):
    path = save(tmp_path, torchvision.models.squeezenet1_1().state_dict())

    with pytest.raises(
        WeightsError, match=r"another network: \d+ missing \(conv1.weight, .*unexpected \(features"
    ):
        build(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.pth", None, "absent.pth not found; expected a file, 'imagenet' or 'none'"),
        ("imagnet", None, "imagnet not found; expected a file, 'imagenet' or 'none'"),
        ("bad.pth", b"not a network", "cannot read weights file .*bad.pth: ."),
        ("empty.pth", b"", "cannot read weights file .*empty.pth: ."),
        ("bad.safetensors", b"not a network", "cannot read weights file .*bad.safetensors: ."),
    ],
)
def test_a_file_that_cannot_be_read_says_so(name, content, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(WeightsError, match=message):
        build(tmp_path / name)


def test_a_truncated_file_is_unreadable(net, tmp_path):
    path = save(tmp_path, net.state_dict())
    path.write_bytes(path.read_bytes()[:100_000])

    with pytest.raises(WeightsError, match="cannot read weights file"):
        build(path)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, torch.zeros(3)])
def test_a_file_without_a_state_dict_is_refused(content, tmp_path):
    with pytest.raises(WeightsError, match="holds no state dict"):
        build(save(tmp_path, content))


def test_imagenet_without_network_says_what_to_do(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))

    with pytest.raises(
        WeightsError, match=r"no ImageNet weights for resnet18.tv_in1k .*HF_HOME.*weights file"
    ):
        build_backbone("resnet18.tv_in1k", "imagenet")


def test_imagenet_for_a_model_that_has_none_is_an_error():
    with pytest.raises(WeightsError, match=r"no ImageNet weights for resnet50\.nobody"):
        build_backbone("resnet50.nobody", "imagenet")
