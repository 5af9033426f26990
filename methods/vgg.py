"""VGG networks up to their last convolution: VGG-D and its like from timm, VGG-M layer by layer.

VGG-D is the 16-layer network of Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale
Image Recognition", ICLR 2015, Table 1 (13 of the 16 are convolutions). VGG-M is CNN-M of Chatfield et al.,
"Return of the Devil in the Details", BMVC 2014, Table 1. That its pooling rounds up, its padding and the
constants of its normalisation are as in its Caffe file (VGG_CNN_M). The mean that comes with that file is an
image; here it is one constant a channel (``CAFFE_MEAN``).
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from methods.backbones import create_model, load_state, read_state
from methods.input_conventions import CaffeInput
from retable.errors import SpecError, WeightsError

VGG_M = "vgg_m"
"""Name of VGG-M as a backbone, which timm does not have."""

VGG_M_FILE = "REID_VGG_M"
"""Environment variable with the path of VGG-M's ImageNet weights."""


class VGG(nn.Module):
    """Base class: a network from the image to its last convolution and ReLU.

    Attributes:
        channels: of the map.
        pool5: the pooling that follows; ``forward`` leaves it out.
    """

    channels: int
    pool5: nn.MaxPool2d

    def forward(self, images: Tensor) -> Tensor:
        """The map before pool5, (B, 3, H, W) -> (B, channels, h, w).

        h and w are 14 (VGG-M: 13) for images of 224. Images are normalised by ImageNet's moments.
        """
        raise NotImplementedError


class TimmVGG(VGG):
    """A VGG of timm, with timm's names. Pooling halves the map, rounding down.

    Args:
        architecture: ``"vgg11"``, ``"vgg13"``, ``"vgg16"`` (VGG-D) or ``"vgg19"``.
        width: factor on all channels.
        batch_norm: whether BN comes between convolution and ReLU.
    """

    def __init__(self, architecture: str, *, width: float = 1.0, batch_norm: bool = False) -> None:
        from timm.models import vgg

        super().__init__()
        layers = [v if v == "M" else _scaled(v, width) for v in vgg.cfgs[architecture]]
        # Its fully connected layers are not used; with one hidden unit they cost nothing to make.
        model = vgg.VGG(layers, mlp_ratio=1 / 4096, norm_layer=nn.BatchNorm2d if batch_norm else None)
        *features, self.pool5 = model.features
        self.features = nn.Sequential(*features)
        self.channels = model.num_features

    def forward(self, images: Tensor) -> Tensor:
        """See ``VGG``."""
        x: Tensor = self.features(images)
        return x


class VGGM(VGG):
    """VGG-M, with Caffe's names. A convolution is followed by a ReLU, or by BN and a ReLU.

    conv1 96 @ 7x7, stride 2, no padding; LRN; max pool 3x3, stride 2
    conv2 256 @ 5x5, stride 2, padding 1; LRN; max pool 3x3, stride 2
    conv3, conv4, conv5 512 @ 3x3, padding 1; then pool5, 3x3, stride 2

    Args:
        width: factor on all channels.
        batch_norm: BN after each convolution, instead of LRN after two ReLUs.
    """

    def __init__(self, *, width: float = 1.0, batch_norm: bool = False) -> None:
        super().__init__()
        c96, c256, c512 = (_scaled(channels, width) for channels in (96, 256, 512))
        self.input = CaffeInput()
        self._add_convolution(1, nn.Conv2d(3, c96, 7, stride=2), batch_norm)
        self._add_pool(1, batch_norm)
        self._add_convolution(2, nn.Conv2d(c96, c256, 5, stride=2, padding=1), batch_norm)
        self._add_pool(2, batch_norm)
        self._add_convolution(3, nn.Conv2d(c256, c512, 3, padding=1), batch_norm)
        self._add_convolution(4, nn.Conv2d(c512, c512, 3, padding=1), batch_norm)
        self._add_convolution(5, nn.Conv2d(c512, c512, 3, padding=1), batch_norm)
        self.pool5 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.channels = c512

    def _add_convolution(self, i: int, convolution: nn.Conv2d, batch_norm: bool) -> None:
        self.add_module(f"conv{i}", _initialised(convolution))
        if batch_norm:
            self.add_module(f"bn{i}", nn.BatchNorm2d(convolution.out_channels))
        self.add_module(f"relu{i}", nn.ReLU(inplace=True))

    def _add_pool(self, i: int, batch_norm: bool) -> None:
        if not batch_norm:
            self.add_module(f"norm{i}", nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0))
        self.add_module(f"pool{i}", nn.MaxPool2d(3, stride=2, ceil_mode=True))

    def forward(self, images: Tensor) -> Tensor:
        """See ``VGG``."""
        x = images
        *layers, _pool5 = self.children()
        for layer in layers:
            x = layer(x)
        return x


def build_vgg(backbone: str, weights: str, **network: Any) -> VGG:
    """The network with initial weights; ``backbone`` and ``weights`` as ``read_vgg`` has them, or "none".

    Args:
        backbone: which network.
        weights: ``"none"`` is random, as He et al. (ICCV 2015) draw them.
        network: ``width`` and ``batch_norm``.

    Raises:
        SpecError: there is no such network or option.
        WeightsError: the weights are missing, unreadable or another network's; never random instead.
    """
    if unknown := network.keys() - {"width", "batch_norm"}:
        raise SpecError(f"{backbone} has no option {sorted(unknown)}; expected width or batch_norm")
    if (width := network.get("width", 1.0)) <= 0:
        raise SpecError(
            f"{backbone} cannot have width {width}; expected a factor above 0, 1 for all channels"
        )
    model: VGG
    if backbone == VGG_M:
        model = VGGM(**network)
    else:
        architecture, has_norm = _architecture(backbone)
        model = TimmVGG(architecture, **{"batch_norm": has_norm} | network)
    if weights != "none":
        load_state(model, read_vgg(backbone, weights)[0], f"{weights} ({backbone})")
    return model


def read_vgg(backbone: str, weights: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights of a whole network but its classifier.

    Args:
        backbone: a VGG of timm, for example ``"vgg16.tv_in1k"`` (VGG-D), or ``"vgg_m"``.
        weights: ``"imagenet"`` (timm's, from its cache or the network; of VGG-M the file that ``REID_VGG_M``
            names) or a ``.safetensors`` or torch file with timm's or torchvision's names, for VGG-M with
            Caffe's.

    Returns:
        State dicts of the ``VGG``, and of linear layers ``fc6`` and ``fc7``, which a file need not have.

    Raises:
        SpecError: there is no such network.
        WeightsError: the weights are missing or unreadable.
    """
    if backbone == VGG_M:
        fc_names = {"fc6": "fc6", "fc7": "fc7"}
        state = dict(read_state(_vgg_m_file() if weights == "imagenet" else Path(weights)))
        dropped: tuple[str, ...] = ("fc8.",)
    else:
        _architecture(backbone)
        fc_names = {
            "pre_logits.fc1": "fc6",
            "pre_logits.fc2": "fc7",
            "classifier.0": "fc6",
            "classifier.3": "fc7",
        }
        dropped = ("head.", "classifier.6.")
        if weights == "imagenet":
            state = create_model(backbone, 32, True, {}).state_dict()
        else:
            state = dict(read_state(Path(weights)))
    convolutions, fc = {}, {}
    for key, tensor in state.items():
        layer, _, parameter = key.rpartition(".")
        if layer in fc_names:
            # As a convolution over the whole map or as a matrix, the inputs come in the same order.
            fc[f"{fc_names[layer]}.{parameter}"] = tensor.flatten(1) if tensor.ndim > 1 else tensor
        elif not key.startswith(dropped):
            convolutions[key] = tensor
    return convolutions, fc


def refuse_missing_weights(backbone: str, weights: str) -> None:
    """Raise ``WeightsError`` for ImageNet weights of VGG-M that the environment does not name."""
    if (backbone, weights) == (VGG_M, "imagenet"):
        _vgg_m_file()


def _vgg_m_file() -> Path:
    """VGG-M's ImageNet weights. Raises ``WeightsError`` where the environment does not name their file."""
    if file := os.environ.get(VGG_M_FILE):
        return Path(file)
    raise WeightsError(
        f"timm has no ImageNet weights of VGG-M; let {VGG_M_FILE} name a file of the published VGG_CNN_M as "
        "a state dict with Caffe's names, conv1.weight, conv1.bias, ... conv1 takes BGR, as in Caffe: of a "
        "file for RGB, such as MatConvNet's imagenet-vgg-m, reverse the input channels, conv1.weight.flip(1)"
    )


def start_streams(streams: Sequence[nn.Module], trained: Sequence[Mapping[str, Tensor]]) -> None:
    """Give each stream the convolutions of one trained FC-CNN: what its state dict has under ``"backbone."``.

    Raises ``SpecError`` for another number of networks, ``WeightsError`` where convolutions are others.
    """
    if len(trained) != len(streams):
        raise SpecError(f"found {len(trained)} networks to start from; expected {len(streams)}, one a stream")
    for stream, state in zip(streams, trained, strict=True):
        convolutions = {
            key.removeprefix("backbone."): tensor
            for key, tensor in state.items()
            if key.startswith("backbone.")
        }
        load_state(stream, convolutions, "the network that this one starts from")


def _architecture(backbone: str) -> tuple[str, bool]:
    """``"vgg16_bn.tv_in1k"`` -> ``("vgg16", True)``; raises ``SpecError`` for what is no VGG of timm."""
    from timm.models import vgg

    name, _, norm = backbone.partition(".")[0].partition("_")
    if name not in vgg.cfgs or norm not in ("", "bn"):
        raise SpecError(
            f"{backbone!r} is no VGG; expected {VGG_M} or timm's {', '.join(vgg.cfgs)}, with _bn or not"
        )
    return name, norm == "bn"


def _scaled(channels: int, factor: float) -> int:
    return max(1, round(channels * factor))


def _initialised(layer: nn.Conv2d) -> nn.Conv2d:
    """As timm draws its VGGs."""
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
