"""Networks of human poses: the part of OpenPose that PABR uses, and a smaller one in its place.

Cao, Simon, Wei and Sheikh, "Realtime Multi-Person 2D Pose Estimation using Part Affinity Fields", CVPR 2017.
Layers are those of the published COCO model (CMU-Perceptual-Computing-Lab/openpose, pose_iter_440000), under
their names there. Of its six stages only the first two are built: PABR reads what stage 3 would get.
Shapes: B images of H x W make maps of h = ceil(H / 8) by w = ceil(W / 8), with pools that round up as PABR's.
"""

from collections import OrderedDict
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from methods.input_conventions import CaffeInput

JOINTS, LIMBS = 19, 38
"""Channels of joint maps (18 joints in OpenPose's order for COCO, then background), and of limb maps (19
limbs, each the x and the y of a unit vector along it)."""

PartMaps = Literal["all", "joints", "limbs", "internal"]

_BRANCH = {"limbs": "L1", "joints": "L2"}


class OpenPose(nn.Module):
    """A trunk, and two stages of two branches each: limb maps (L1) and joint maps (L2).

    Weights start as He et al. (ICCV 2015) draw them, since nothing here normalises.

    Args:
        width: factor on the channels of all maps but the joint and limb maps.

    Attributes:
        internal: channels of the trunk's map, 128 at width 1.
        channels: channels that ``part_maps`` has of each kind.
    """

    trunk_width: ClassVar[float] = 1.0
    refinements: ClassVar[int] = 5
    """Wide layers of a stage 2 branch; ``refinement_kernel`` is their size."""
    refinement_kernel: ClassVar[int] = 7

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        w64, w128, w256, w512 = (
            max(1, round(channels * width * self.trunk_width)) for channels in (64, 128, 256, 512)
        )
        self.internal = w128
        self.channels: dict[PartMaps, int] = {
            "all": LIMBS + JOINTS + w128,
            "joints": JOINTS,
            "limbs": LIMBS,
            "internal": w128,
        }
        self.input = CaffeInput(0.0039)
        layers = _Layers(3)
        for block, (channels, convolutions) in enumerate(((w64, 2), (w128, 2), (w256, 4)), start=1):
            for convolution in range(1, convolutions + 1):
                layers.add(f"conv{block}_{convolution}", channels)
            layers.modules[f"pool{block}_stage1"] = nn.MaxPool2d(2, ceil_mode=True)
        for name, channels in (("1", w512), ("2", w512), ("3_CPM", w256), ("4_CPM", w128)):
            layers.add(f"conv4_{name}", channels)
        self.trunk = layers.sequential()
        outputs = {"L1": LIMBS, "L2": JOINTS}
        self.stage1 = nn.ModuleDict()
        self.stage2 = nn.ModuleDict()
        for branch, channels in outputs.items():
            layers = _Layers(w128)
            for n in (1, 2, 3):
                layers.add(f"conv5_{n}_CPM_{branch}", w128)
            layers.add(f"conv5_4_CPM_{branch}", w512, kernel=1)
            layers.add(f"conv5_5_CPM_{branch}", channels, kernel=1, relu=False)
            self.stage1[branch] = layers.sequential()
            layers = _Layers(self.channels["all"])
            for n in range(1, self.refinements + 1):
                layers.add(f"Mconv{n}_stage2_{branch}", w128, kernel=self.refinement_kernel)
            layers.add(f"Mconv{self.refinements + 1}_stage2_{branch}", w128, kernel=1)
            layers.add(f"Mconv{self.refinements + 2}_stage2_{branch}", channels, kernel=1, relu=False)
            self.stage2[branch] = layers.sequential()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Internal (B, C, h, w), limb (B, 38, h, w) and joint maps (B, 19, h, w) after the last stage.

        Args:
            images: (B, 3, H, W), normalised by ImageNet's moments.
        """
        internal = self.trunk(self.input(images))
        stage2 = self._stage2_input(internal)
        return internal, self.stage2["L1"](stage2), self.stage2["L2"](stage2)

    def stages(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Limb (B, 38, h, w) and joint maps (B, 19, h, w) after each stage, all of which are trained."""
        stage2 = self._stage2_input(self.trunk(self.input(images)))
        limbs, joints = stage2[:, :LIMBS], stage2[:, LIMBS : LIMBS + JOINTS]
        return [(limbs, joints), (self.stage2["L1"](stage2), self.stage2["L2"](stage2))]

    def part_maps(self, images: Tensor, kind: PartMaps = "all") -> Tensor:
        """Limb, joint and internal maps in this order, or one kind of them, (B, ``channels[kind]``, h, w).

        Computes only what these need.
        """
        internal: Tensor = self.trunk(self.input(images))
        if kind == "internal":
            return internal
        stage2 = self._stage2_input(internal)
        if kind != "all":
            maps: Tensor = self.stage2[_BRANCH[kind]](stage2)
            return maps
        return torch.cat((self.stage2["L1"](stage2), self.stage2["L2"](stage2), internal), 1)

    def needed(self, kind: PartMaps) -> nn.ModuleList:
        """The layers that ``part_maps`` of this kind runs."""
        match kind:
            case "all":
                return nn.ModuleList((self.trunk, self.stage1, self.stage2))
            case "internal":
                return nn.ModuleList((self.trunk,))
            case "limbs" | "joints":
                return nn.ModuleList((self.trunk, self.stage1, self.stage2[_BRANCH[kind]]))

    def _stage2_input(self, internal: Tensor) -> Tensor:
        return torch.cat((self.stage1["L1"](internal), self.stage1["L2"](internal), internal), 1)


class RCPM(OpenPose):
    """A network of about 3 M parameters in the place of the reduced CPM of Zhao et al. (CVPR 2017).

    Of that network, which PABR calls R-CPM, nothing but its size is known. This is OpenPose with half as many
    channels everywhere and with stage 2 of three 5x5 layers instead of five 7x7 ones: 2.9 M. What is measured
    with it cannot be compared with what was printed.
    """

    trunk_width = 0.5
    refinements = 3
    refinement_kernel = 5


POSE_NETWORKS: dict[str, type[OpenPose]] = {"openpose": OpenPose, "r-cpm": RCPM}
"""By the names that options and recipes have for them."""


class _Layers:
    """Convolutions that keep the size, each followed by a ReLU unless it is an output, by name."""

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self.modules: OrderedDict[str, nn.Module] = OrderedDict()

    def add(self, name: str, channels: int, *, kernel: int = 3, relu: bool = True) -> None:
        convolution = nn.Conv2d(self.channels, channels, kernel, padding=kernel // 2)
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu" if relu else "linear")
        assert convolution.bias is not None
        nn.init.zeros_(convolution.bias)
        self.modules[name] = convolution
        if relu:
            self.modules[f"relu_{name}"] = nn.ReLU(inplace=True)
        self.channels = channels

    def sequential(self) -> nn.Sequential:
        return nn.Sequential(self.modules)
