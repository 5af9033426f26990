import re
from unittest.mock import patch

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import GoogLeNet_Weights

from methods.googlenet import GoogLeNet, build_googlenet
from methods.input_conventions import CaffeInput
from retable.errors import SpecError, WeightsError

IMAGES = torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def net():
    """torchvision's whole network with BN statistics that are not the initial ones."""
    torch.manual_seed(1)
    net = torchvision.models.GoogLeNet(aux_logits=True, init_weights=False, transform_input=True)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    net.train()(IMAGES)
    return net.eval()


@pytest.fixture(scope="module")
def file(net, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "googlenet.pth"
    torch.save(net.state_dict(), path)
    return str(path)


def torchvision_map(net):
    kept = {}
    with net.inception4e.register_forward_hook(lambda _m, _i, output: kept.update(map=output)):
        net(IMAGES)
    return kept["map"]


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("dilated", "map_size"), [(False, (10, 5)), (True, (20, 10))])
@pytest.mark.parametrize(("form", "parameters"), [("2014", 3_486_016), ("torchvision", 3_273_920)])
def test_sizes_at_160_by_80(dilated, map_size, form, parameters):
    with torch.device("meta"):
        network = GoogLeNet(dilated=dilated, form=form)
        shape = network(torch.empty(2, 3, 160, 80)).shape

    assert shape == (2, 832, *map_size)
    assert network.channels == 832
    assert size(network) == parameters


def test_a_file_of_torchvision_gives_its_map(net, file):
    found = build_googlenet(file).eval()(IMAGES)

    expected = torchvision_map(net)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_dilation_takes_the_same_weights_and_looks_as_far(file):
    plain, dilated = (build_googlenet(file, dilated=d).eval() for d in (False, True))
    plain.maxpool3 = nn.Identity()
    step = torch.zeros(1, 480, 9, 9)
    step[..., 4, 4] = 1

    assert plain.state_dict().keys() == dilated.state_dict().keys()
    assert (dilated(IMAGES) - plain(IMAGES)).abs().max() > 0.01
    for branch, reach in (("branch2", 2), ("branch3", 2), ("branch4", 2), ("branch1", 0)):
        layers = dilated.inception4a.get_submodule(branch)
        touched = (layers(step) - layers(torch.zeros_like(step))).abs().amax((0, 1)) > 0
        places = touched.nonzero()
        assert (places.min().item(), places.max().item()) == (4 - reach, 4 + reach)


def test_weights_of_imagenet_are_torchvisions(net):
    with patch.object(GoogLeNet_Weights, "get_state_dict", return_value=net.state_dict()) as asked:
        found = build_googlenet("imagenet").eval()(IMAGES)

    assert asked.call_args.kwargs == {"progress": False, "check_hash": True}
    torch.testing.assert_close(found, torchvision_map(net), rtol=1e-3, atol=1e-3)


def test_without_network_access_the_error_says_what_to_do():
    offline = patch.object(GoogLeNet_Weights, "get_state_dict", side_effect=OSError("no route to host"))

    with offline, pytest.raises(WeightsError, match=r"googlenet: no route to host -- .*TORCH_HOME.*'none'"):
        build_googlenet("imagenet")
    with pytest.raises(WeightsError, match="no ImageNet weights for form '2014'"):
        build_googlenet("imagenet", form="2014")


@pytest.mark.parametrize(
    ("network", "message"),
    [({"channels": 3}, "no option ['channels']; expected width or form"), ({"form": "v2"}, "no form 'v2'")],
)
def test_wrong_options_are_errors(network, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        build_googlenet("none", **network)


def test_a_slim_networks_weights_are_refused_by_another(tmp_path):
    path = tmp_path / "slim.pth"
    torch.save(build_googlenet("none", width=0.125).state_dict(), path)

    with pytest.raises(
        WeightsError, match=r"slim\.pth .*another network.*conv1\.conv\.weight is \(8, 3, 7, 7\)"
    ):
        build_googlenet(str(path))
    assert build_googlenet(str(path), width=0.125).eval()(IMAGES).shape == (2, 104, 4, 2)


def caffe_lrn(x: Tensor) -> Tensor:
    """Each value over (1 + 1e-4 / 5 times the sum of squares of 5 channels around it) to the 0.75."""
    squares = F.pad(x.square(), (0, 0, 0, 0, 2, 2))
    around = torch.stack([squares[:, c : c + 5].sum(1) for c in range(x.shape[1])], 1)
    return x / (1 + 1e-4 / 5 * around) ** 0.75


def test_the_published_layers_normalise_responses_and_nothing_else():
    torch.manual_seed(0)
    network = GoogLeNet(width=0.125, form="2014")

    assert sum(isinstance(m, nn.LocalResponseNorm) for m in network.modules()) == 2
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    assert network.inception4e.branch3[1].conv.kernel_size == (5, 5)
    assert isinstance(network.input, CaffeInput)
    first = network.maxpool1(F.relu(network.conv1.conv(network.input(IMAGES))))
    torch.testing.assert_close(network.norm1(first), caffe_lrn(first))
    assert vars(network.norm2).items() >= {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 1.0}.items()
    network(IMAGES).square().sum().backward()
    assert all(p.grad.any() for n, p in network.named_parameters() if n.endswith("weight"))
