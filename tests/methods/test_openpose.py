from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.input_conventions import MEAN, STD, CaffeInput, InceptionInput
from methods.openpose import RCPM, OpenPose
from methods.openpose_weights import read_openpose
from retable.errors import WeightsError


def images_of(size: tuple[int, int] = (32, 24)) -> Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))


IMAGES = images_of()


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def slim(network=OpenPose, width: float = 0.0625) -> OpenPose:
    torch.manual_seed(0)
    return network(width)


# Pixels


def pixels() -> tuple[Tensor, Tensor]:
    """RGB in 0..255, and the same as methods get it."""
    rgb = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5) * 2.0
    mean, std = (torch.tensor(moments).view(3, 1, 1) for moments in (MEAN, STD))
    return rgb, (rgb / 255 - mean) / std


def test_caffe_models_get_bgr_less_the_mean():
    rgb, normalised = pixels()

    found = CaffeInput(0.0039)(normalised)

    expected = (rgb[:, [2, 1, 0]] - torch.tensor([104.0, 117.0, 123.0]).view(3, 1, 1)) * 0.0039
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_inception_gets_minus_one_to_one():
    rgb, normalised = pixels()

    torch.testing.assert_close(InceptionInput()(normalised), rgb / 127.5 - 1, rtol=1e-5, atol=1e-5)


# Networks


def test_openpose_has_the_published_sizes():
    with torch.device("meta"):
        network = OpenPose()
        maps = network(torch.empty(2, 3, 160, 80))

    assert size(network.trunk) == 7_340_480
    assert size(network.stage1) == 1_046_841
    assert size(network.stage2) == 8_784_825
    assert size(network) == 17_172_146
    assert [tuple(m.shape) for m in maps] == [(2, 128, 20, 10), (2, 38, 20, 10), (2, 19, 20, 10)]


def test_r_cpm_has_about_3_million_parameters():
    with torch.device("meta"):
        assert size(RCPM()) == pytest.approx(3e6, rel=0.05)


@pytest.mark.parametrize("network", [OpenPose, RCPM])
def test_joint_and_limb_maps_keep_their_number_at_any_width(network):
    model = slim(network)

    internal, limbs, joints = model(images_of((36, 20)))

    assert (limbs.shape, joints.shape) == ((2, 38, 5, 3), (2, 19, 5, 3))  # pools round up
    assert internal.shape == (2, model.internal, 5, 3)
    assert model.internal == round(128 * 0.0625 * network.trunk_width)


def test_the_last_stage_is_what_the_network_says():
    model = slim()

    stages = model.stages(IMAGES)

    _, limbs, joints = model(IMAGES)
    assert len(stages) == 2
    assert torch.equal(stages[-1][0], limbs) and torch.equal(stages[-1][1], joints)
    assert not torch.equal(stages[0][0], limbs)


def test_part_maps_are_limbs_joints_and_internal_maps_in_this_order():
    model = slim()
    internal, limbs, joints = model(IMAGES)

    kinds = {"limbs": limbs, "joints": joints, "internal": internal}
    assert torch.equal(model.part_maps(IMAGES), torch.cat((limbs, joints, internal), 1))
    for kind, expected in kinds.items():
        assert torch.equal(model.part_maps(IMAGES, kind), expected)
    assert all(model.part_maps(IMAGES, kind).shape[1] == c for kind, c in model.channels.items())


@pytest.mark.parametrize("kind", ["all", "joints", "limbs", "internal"])
def test_part_maps_run_the_layers_that_they_need_and_no_others(kind):
    model = slim()

    model.part_maps(IMAGES, kind).square().sum().backward()

    needed = set(model.needed(kind).parameters())
    assert {p for p in model.parameters() if p.grad is not None} == needed


def test_maps_are_those_of_the_published_layers_one_by_one():
    """The prototxt of pose_iter_440000 as far as stage 2, as a list of layers; P is a 2x2 max pool."""
    network, rgb = slim().double(), 255 * torch.rand(2, 3, 40, 24, dtype=torch.float64)
    with torch.no_grad():  # else the maps of stage 2 are next to nothing
        for name, parameter in network.named_parameters():
            parameter.mul_(1.5) if name.endswith("weight") else parameter.normal_(0, 0.2)
    weights = {".".join(name.split(".")[-2:]): p for name, p in network.named_parameters()}

    def run(x: Tensor, *names: str) -> Tensor:
        for name in names:
            if name == "P":
                x = F.max_pool2d(x, 2, ceil_mode=True)
                continue
            kernel = weights[f"{name}.weight"]
            x = F.conv2d(x, kernel, weights[f"{name}.bias"], padding=kernel.shape[-1] // 2)
            if not name.startswith(("conv5_5", "Mconv7")):
                x = F.relu(x)
        return x

    trunk = "conv1_1 conv1_2 P conv2_1 conv2_2 P conv3_1 conv3_2 conv3_3 conv3_4 P conv4_1 conv4_2"
    bgr = (rgb[:, [2, 1, 0]] - torch.tensor([104.0, 117.0, 123.0]).view(3, 1, 1)) * 0.0039
    internal = run(bgr, *trunk.split(), "conv4_3_CPM", "conv4_4_CPM")
    first = [run(internal, *(f"conv5_{n}_CPM_{branch}" for n in range(1, 6))) for branch in ("L1", "L2")]
    joined = torch.cat((*first, internal), 1)
    limbs, joints = (
        run(joined, *(f"Mconv{n}_stage2_{branch}" for n in range(1, 8))) for branch in ("L1", "L2")
    )
    assert min(maps.std() for maps in (*first, limbs, joints)) > 1e-2
    assert min(maps.min() for maps in (*first, limbs, joints)) < -1e-2

    mean, std = (torch.tensor(moments, dtype=torch.float64).view(3, 1, 1) for moments in (MEAN, STD))
    images = (rgb / 255 - mean) / std
    close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-6)  # the input's factors were float32
    close(network(images), (internal, limbs, joints))
    close(network.stages(images), [tuple(first), (limbs, joints)])
    close(network.part_maps(images), torch.cat((limbs, joints, internal), 1))
    close(network.part_maps(images, "limbs"), limbs)
    close(network.part_maps(images, "joints"), joints)
    close(network.part_maps(images, "internal"), internal)


def test_each_stage_sees_the_one_before_and_the_trunk():
    model = slim()
    for branch in model.stage1.values():
        for parameter in branch.parameters():
            nn.init.zeros_(parameter)
    before = model(IMAGES)

    nn.init.ones_(model.stage1["L2"][-1].bias)

    internal, limbs, joints = model(IMAGES)
    assert torch.equal(internal, before[0])
    assert not torch.equal(limbs, before[1]) and not torch.equal(joints, before[2])


# Files


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    """Arrays under the blobs' names, two of later stages among them, each of one number of its own."""
    with torch.device("meta"):
        state = OpenPose().state_dict()
    blobs = {".".join(key.split(".")[-2:]): tensor.shape for key, tensor in state.items()}
    blobs |= {"Mconv1_stage3_L1.weight": (128, 185, 7, 7), "Mconv7_stage6_L2.bias": (19,)}
    return {name: torch.full((), float(n)).expand(shape) for n, (name, shape) in enumerate(blobs.items())}


def module_of(blob: str) -> str:
    """The part of the port's module that a blob belongs to."""
    if "_L" not in blob:
        return "model0"
    stage = blob.split("stage")[1][0] if "stage" in blob else "1"
    return f"model{stage}_{blob.split('_L')[1][0]}"


@pytest.mark.parametrize("form", ["blobs", "modules", "npz"])
def test_both_public_namings_are_read(form, published, tmp_path):
    path = tmp_path / {"npz": "pose.npz"}.get(form, "pose.pth")
    if form == "npz":
        np.savez(path, **{k: v.numpy() for k, v in published.items()})
    else:
        torch.save({f"{module_of(k)}.{k}" if form == "modules" else k: v for k, v in published.items()}, path)

    state = read_openpose(path)

    with torch.device("meta"):
        network = OpenPose()
    network.load_state_dict(state, strict=True, assign=True)
    for key, tensor in state.items():
        assert tensor.flatten()[0] == published[".".join(key.split(".")[-2:])].flatten()[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv1_1.weight": None, "conv1_2.bias": None}, r"lacks conv1_1\.weight \(and 1 more\)"),
        ({"conv6_1.weight": torch.zeros(1)}, r"has the unknown conv6_1\.weight;"),
        ({"Mconv1_stage7_L1.bias": torch.zeros(1)}, r"has the unknown Mconv1_stage7_L1\.bias"),
        (
            {"conv1_1.bias": torch.zeros(1, 1, 1, 64)},
            r"has conv1_1\.bias of shape \(1, 1, 1, 64\) instead of \(64,\)",
        ),
    ],
)
def test_other_files_are_refused_by_their_first_fault(change, message, published, tmp_path):
    path = tmp_path / "pose.pth"
    torch.save({k: v for k, v in {**published, **change}.items() if v is not None}, path)

    with pytest.raises(WeightsError, match=rf"pose\.pth {message}.*pose_iter_440000"):
        read_openpose(path)


def test_a_caffe_model_is_refused_with_a_way_to_convert_it(tmp_path):
    with pytest.raises(WeightsError, match=r"pose_iter\.caffemodel: a Caffe model.*\.npz"):
        read_openpose(tmp_path / "pose_iter.caffemodel")


def test_a_damaged_archive_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "pose.npz"
    path.write_bytes(b"PK\x03\x04 and no more")

    with pytest.raises(WeightsError, match=r"cannot read weights file .*pose\.npz"):
        read_openpose(path)
    with pytest.raises(WeightsError, match="not found"):
        read_openpose(tmp_path / "missing.npz")
