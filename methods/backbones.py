"""Backbones: timm networks without their classifier, as named stages, with weights that are checked.

timm takes seconds to import, so it is imported inside the functions; listing methods stays fast.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeGuard

import torch
from torch import Tensor, nn

from retable.errors import SpecError, WeightsError

_HEADS = ("fc.", "classifier.", "head.", "pre_logits.")  # of timm and torchvision; never part of a backbone


class Backbone(nn.Module):
    """A network as stages to run one after the other, so that a method can put modules between them.

    Attributes:
        stages: ``stem``, ``layer1`` .. ``layer4`` of a ResNet, ``conv1`` .. ``conv5`` (each begins with the
            pooling before it) of a VGG, which has ``pool5`` too at output stride 32.
        channels: the output channels of each stage.
    """

    def __init__(self, stages: dict[str, nn.Module]) -> None:
        super().__init__()
        self.stages = nn.ModuleDict(stages)
        self.channels: dict[str, int] = {}
        width = 3
        for name, stage in stages.items():
            # A residual block registers its shortcut last, which is as wide as the block's output.
            width = next((m.out_channels for m in reversed(list(stage.modules())) if _is_conv(m)), width)
            self.channels[name] = width

    def forward(self, images: Tensor) -> Tensor:
        """The last stage's output, (B, 3, H, W) -> (B, C, ceil(H / stride), ceil(W / stride))."""
        x = images
        for stage in self.stages.values():
            x = stage(x)
        return x


def build_backbone(
    name: str,
    weights: str,
    *,
    output_stride: Literal[8, 16, 32] = 32,
    dilated: bool = True,
    **network: Any,
) -> Backbone:
    """The timm model ``name``, cut into stages, with initial weights.

    Args:
        name: a ResNet or VGG of timm. The tag says which ImageNet weights are meant:
            ``resnet50.tv_in1k`` are torchvision's first ones, which papers before 2021 started from.
        weights: ``"imagenet"`` (timm's, from its cache or the network), ``"none"`` (random) or a
            ``.safetensors`` or torch file with timm's or torchvision's key names, classifier optional.
        output_stride: how much smaller the last map is than the image. Below 32, the last stages of a
            ResNet have stride 1; a VGG has 32, or 16 without its last pooling.
        dilated: whether stages that lost their stride dilate their 3x3 convolutions instead, by 2 and 4.
            ``output_stride=16, dilated=False`` is what re-identification papers call "last stride 1".
        network: options of the timm model, such as ``channels=(32, 64, 128, 256)`` for a slim ResNet.

    Raises:
        SpecError: timm has no such model or option, or no stages are known for it.
        WeightsError: the weights are missing, unreadable or another network's; never random instead.
    """
    model = create_model(name, output_stride, weights == "imagenet", network)
    if weights not in ("imagenet", "none"):
        load_weights(model, Path(weights))
    if not dilated:
        _undo_dilation(model)
    return Backbone(_stages(model, output_stride))


def bottleneck(channels: int) -> nn.Module:
    """A ResNet bottleneck block, channels -> channels / 4 -> channels, as torch initialises its layers."""
    from timm.models.resnet import Bottleneck

    block: nn.Module = Bottleneck(channels, channels // 4)
    return block


def load_weights(model: nn.Module, path: Path) -> None:
    """``load_state`` from a file."""
    load_state(model, read_state(path), str(path))


def load_state(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Give all of ``model`` but its classifier the weights ``state``, which come from ``source``.

    Raises ``WeightsError`` unless keys and shapes are the model's. Only BN's batch counters may be
    missing: files from before torch 0.4.1 lack them.
    """
    found = _without_head(state)
    expected = _without_head(model.state_dict())
    complaints = [
        *_first("missing", [k for k in expected if k not in found and "num_batches_tracked" not in k]),
        *_first("unexpected", [k for k in found if k not in expected]),
        *_first(
            "of another shape",
            [
                f"{k} is {tuple(t.shape)}, expected {tuple(expected[k].shape)}"
                for k, t in found.items()
                if k in expected and t.shape != expected[k].shape
            ],
        ),
    ]
    if complaints:
        raise WeightsError(f"{source} holds the weights of another network: {'; '.join(complaints)}")
    model.load_state_dict(found, strict=False)


def create_model(name: str, output_stride: int, pretrained: bool, network: Mapping[str, Any]) -> nn.Module:
    """The timm model with its classifier: without one, timm does not mind missing weights."""
    import timm

    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(["resnet*", "vgg*"]))
        raise SpecError(f"timm {timm.__version__} has no model {name!r}; near: {', '.join(near) or 'none'}")
    options = {**network} if name.startswith("vgg") else {"output_stride": output_stride, **network}
    try:
        model: nn.Module = timm.create_model(name, pretrained=pretrained, **options)
    except TypeError as error:
        raise SpecError(f"timm's {name} does not take {options}: {error}") from error
    except Exception as error:  # the hub, its HTTP client and torch raise without a common base class
        if not pretrained:
            raise
        raise WeightsError(
            f"no ImageNet weights for {name} with {options}: {error} -- "
            "run once with network access (they are kept under HF_HOME, which can be copied here), "
            "give a weights file, or ask for random weights with 'none'"
        ) from error
    return model


def _stages(model: nn.Module, output_stride: int) -> dict[str, nn.Module]:
    """The model's parts in the order they run; raises ``SpecError`` for other families and strides."""
    from timm.models.resnet import ResNet
    from timm.models.vgg import VGG

    if isinstance(model, ResNet):
        stem = nn.Sequential()
        for part in ("conv1", "bn1", "act1", "maxpool"):
            stem.add_module(part, getattr(model, part))
        return {"stem": stem} | {
            name: getattr(model, name) for name in ("layer1", "layer2", "layer3", "layer4")
        }
    if isinstance(model, VGG):
        return _vgg_stages(list(model.features), output_stride)
    raise SpecError(f"no stages are known for {type(model).__name__}; backbones are ResNets or VGGs")


def _vgg_stages(layers: list[nn.Module], output_stride: int) -> dict[str, nn.Module]:
    """Layers cut in front of each pooling; without the last pooling at output stride 16."""
    if output_stride not in (16, 32):
        raise SpecError(f"a VGG has output stride 32, or 16 without its last pooling, not {output_stride}")
    pools = [i for i, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    cuts = zip([0, *pools[:-1]], pools, strict=True)
    stages: dict[str, nn.Module] = {
        f"conv{i}": nn.Sequential(*layers[start:end]) for i, (start, end) in enumerate(cuts, start=1)
    }
    return stages if output_stride == 16 else stages | {f"pool{len(stages)}": layers[pools[-1]]}


def _undo_dilation(model: nn.Module) -> None:
    for conv in filter(_is_conv, model.modules()):
        if conv.dilation != (1, 1):
            conv.dilation = (1, 1)
            conv.padding = (conv.kernel_size[0] // 2, conv.kernel_size[1] // 2)


def _is_conv(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    return isinstance(module, nn.Conv2d)


def _without_head(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in state.items() if not key.startswith(_HEADS)}


def _first(what: str, keys: list[str]) -> list[str]:
    """``["5 missing (a, b, c, ...)"]``, or nothing when there are no keys."""
    return [f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' * (len(keys) > 3)})"] if keys else []


def read_state(path: Path) -> Mapping[str, Tensor]:
    """The state dict in a file, bare or under ``"state_dict"`` or ``"model"``; raises ``WeightsError``."""
    from safetensors.torch import load_file

    if not path.is_file():
        raise WeightsError(f"weights file {path} not found; expected a file, 'imagenet' or 'none'")
    try:
        safe = path.suffix == ".safetensors"
        content = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise WeightsError(
            f"cannot read weights file {path}: {str(error) or type(error).__name__}"
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError(
            f"{path} holds no state dict: expected names to tensors, found {type(content).__name__}"
        )
    return content
