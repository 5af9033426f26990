"""GoogLeNet from the image to inception4e, as torchvision has it or as it was published.

Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, Table 1. torchvision's has BN instead of biases
and local response normalisation, and 3x3 kernels where the paper has 5x5 (a known slip of the weights that it
took over). timm, from which the other backbones come, has no GoogLeNet.
"""

from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from methods.backbones import load_state, read_state
from methods.input_conventions import CaffeInput, InceptionInput
from retable.errors import SpecError, WeightsError

Form = Literal["torchvision", "2014"]
INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
}
"""Channels of Table 1: of 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5 and pool projection."""

_BEYOND = ("inception5a.", "inception5b.", "aux1.", "aux2.")


class GoogLeNet(nn.Module):
    """The layers up to inception4e, with torchvision's names.

    Args:
        dilated: whether 4a to 4e look twice as far instead of having a pool before them, so that the map has
            stride 8 and not 16.
        width: factor on all channels.
        form: "torchvision", or "2014": the published layers.

    Attributes:
        channels: of the map, 832 at width 1.
    """

    def __init__(self, *, dilated: bool = False, width: float = 1.0, form: Form = "torchvision") -> None:
        super().__init__()
        block = partial(_convolution, form)
        w64, w192 = _scaled((64, 192), width)
        self.input = InceptionInput() if form == "torchvision" else CaffeInput()
        self.conv1 = block(3, w64, 7, stride=2)
        self.maxpool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        if form == "2014":
            self.norm1 = nn.LocalResponseNorm(5)
        self.conv2 = block(w64, w64, 1)
        self.conv3 = block(w64, w192, 3)
        if form == "2014":
            self.norm2 = nn.LocalResponseNorm(5)
        self.maxpool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        channels = w192
        for name, widths in INCEPTION.items():
            if name == "4a" and not dilated:
                self.maxpool3 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
            dilation = 2 if dilated and name.startswith("4") else 1
            inception = Inception(channels, _scaled(widths, width), form, dilation)
            self.add_module(f"inception{name}", inception)
            channels = inception.channels
        self.channels = channels

    def forward(self, images: Tensor) -> Tensor:
        """The map of inception4e, (B, 3, H, W) -> (B, C, about H / 16, W / 16), or / 8 when dilated.

        Images are normalised by ImageNet's moments.
        """
        x = images
        for layer in self.children():
            x = layer(x)
        return x


class Inception(nn.Module):
    """Four branches side by side: 1x1; 1x1 and 3x3; 1x1 and 5x5; a max pool and 1x1."""

    def __init__(self, inputs: int, widths: list[int], form: Form, dilation: int) -> None:
        super().__init__()
        one, three_reduce, three, five_reduce, five, pool = widths
        block = partial(_convolution, form)
        self.channels = one + three + five + pool
        self.branch1 = block(inputs, one, 1)
        self.branch2 = nn.Sequential(
            block(inputs, three_reduce, 1), block(three_reduce, three, 3, dilation=dilation)
        )
        self.branch3 = nn.Sequential(
            block(inputs, five_reduce, 1),
            block(five_reduce, five, 3 if form == "torchvision" else 5, dilation=dilation),
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(2 * dilation + 1, stride=1, padding=dilation), block(inputs, pool, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, channels, H, W)."""
        return torch.cat((self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)), 1)


def build_googlenet(weights: str, *, dilated: bool = False, **network: Any) -> GoogLeNet:
    """GoogLeNet with initial weights.

    Args:
        weights: ``"imagenet"`` (torchvision's, from its cache or the network), ``"none"`` (random, as Glorot
            and Bengio draw them) or a ``.safetensors`` or torch file with torchvision's key names, of which
            what is beyond inception4e is left out.
        dilated: whether the map has stride 8 instead of 16.
        network: ``width`` and ``form`` of ``GoogLeNet``.

    Raises:
        SpecError: there is no such option.
        WeightsError: the weights are missing, unreadable or another network's; never random instead.
    """
    if unknown := network.keys() - {"width", "form"}:
        raise SpecError(f"googlenet has no option {sorted(unknown)}; expected width or form")
    if (form := network.get("form", "torchvision")) not in get_args(Form):
        raise SpecError(f"googlenet has no form {form!r}; expected one of {get_args(Form)}")
    model = GoogLeNet(dilated=dilated, **network)
    if weights == "none":
        return model
    found = _imagenet(form) if weights == "imagenet" else read_state(Path(weights))
    source = "torchvision's GoogLeNet_Weights.IMAGENET1K_V1" if weights == "imagenet" else weights
    load_state(model, {key: tensor for key, tensor in found.items() if not key.startswith(_BEYOND)}, source)
    return model


def _imagenet(form: Form) -> dict[str, Tensor]:
    """What torchvision offers; raises ``WeightsError`` where there are none, or none can be had."""
    from torchvision.models import GoogLeNet_Weights

    if form != "torchvision":
        raise WeightsError(f"no ImageNet weights for form {form!r}; give a weights file, or 'none'")
    try:
        state: dict[str, Tensor] = GoogLeNet_Weights.IMAGENET1K_V1.get_state_dict(
            progress=False, check_hash=True
        )
    except Exception as error:  # URL, file and hash errors have no common base class
        raise WeightsError(
            f"no ImageNet weights for googlenet: {error} -- run once with network access (they are kept "
            "under TORCH_HOME, which can be copied here), give a weights file, or ask for random weights "
            "with 'none'"
        ) from error
    return state


def _convolution(
    form: Form, inputs: int, outputs: int, kernel: int, *, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    """A convolution that keeps the size up to its stride, and its ReLU; with BN, or else a bias."""
    normalised = form == "torchvision"
    padding = kernel // 2 * dilation
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=not normalised)
    nn.init.xavier_uniform_(convolution.weight)
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv=convolution)
    if normalised:
        layers["bn"] = nn.BatchNorm2d(outputs, eps=0.001)
    elif convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    layers["relu"] = nn.ReLU(inplace=True)
    return nn.Sequential(layers)


def _scaled(widths: tuple[int, ...], factor: float) -> list[int]:
    return [max(1, round(channels * factor)) for channels in widths]
