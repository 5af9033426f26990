"""SONA-Net: second-order non-local attention and variable DropBlock in a two-branch network.

Xia, Gong, Zhang and Poellabauer, ICCV 2019, arXiv:1909.00295. The authors published no code; what the
paper leaves open follows the network it builds on, "base code": daizuozhuo/batch-dropblock-network.
Shapes: B images, C channels, h x w positions, N = h w, D = C / r channels inside the attention.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from methods import METHODS
from methods.backbones import bottleneck, build_backbone
from methods.base import EmbeddingMethod, Options, Unstated
from methods.losses import triplet_and_cross_entropy
from retable.errors import SpecError

Place = Literal["layer2", "layer3", "layer4", "global", "local"]
Ratio = Annotated[float, Field(gt=0, le=1)]
Scope = Literal["channel", "image", "batch"]


class SONAOptions(Options):
    """Settings of SONA-Net. Those from ``slope`` on are not in the paper, see ``SONA.UNSTATED``.

    Attributes:
        after: where attention stands: after a stage of the trunk, or at the start of a branch.
        drop: what the local branch drops in training; "dropblock" is square, "bfe" one strip a batch.
        reduction: r, how many times fewer channels the attention has inside.
        global_dim: width of the global feature.
        local_dim: width of the local feature.
        gamma: how much DropBlock drops, see ``gamma_is``.
        block_height: height of DropBlock+'s blocks, in cells of the last map.
        block_width: width of DropBlock+'s blocks.
        flip: describe an image by the mean over itself and its mirror image.
        slope: theta's LeakyReLU, slope below 0.
        p_init: "zero" starts each attention as the identity.
        conv_bias: whether theta's, g's and p's convolutions have a bias.
        gamma_is: the share of cells to drop, or the probability that a block starts at a cell.
        block_sizes: "random" draws height and width anew, from 1 to those given, for each batch.
        drop_scope: what shares one DropBlock mask.
        rescale: whether DropBlock scales up what it keeps.
        dropblock_size: side of the square blocks of ``drop="dropblock"``.
        bfe_height: share of the map's rows that BFE drops.
        bfe_width: share of the map's columns that BFE drops.
        dilated: whether stages 3 and 4 dilate by 2 and 4, or only lose their stride.
        head_init: the base code's initialisation of the reductions and classifiers, or torch's.
        margin: of the triplet loss.
        label_smoothing: epsilon of the cross entropy.
        normalise: whether descriptions are scaled to length 1.
    """

    after: tuple[Place, ...] = ("layer2",)
    drop: Literal["none", "dropblock", "dropblock+", "bfe"] = "dropblock+"
    reduction: int = Field(2, ge=1)
    global_dim: int = Field(512, ge=1)
    local_dim: int = Field(1024, ge=1)
    gamma: float = Field(0.1, gt=0, lt=1)
    block_height: int = Field(5, ge=1)
    block_width: int = Field(8, ge=1)
    flip: bool = True

    slope: float = Field(0.1, ge=0, lt=1)
    p_init: Literal["zero", "torch"] = "zero"
    conv_bias: bool = True
    gamma_is: Literal["drop probability", "seed rate"] = "drop probability"
    block_sizes: Literal["fixed", "random"] = "fixed"
    drop_scope: Scope = "image"
    rescale: bool = True
    dropblock_size: int = Field(7, ge=1)
    bfe_height: Ratio = 0.33
    bfe_width: Ratio = 1.0
    dilated: bool = True
    head_init: Literal["base code", "torch"] = "base code"
    margin: Literal["soft"] | Annotated[float, Field(ge=0)] = "soft"
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    normalise: bool = False

    @field_validator("after")
    @classmethod
    def _each_once_in_network_order(cls, after: tuple[Place, ...]) -> tuple[Place, ...]:
        if len(set(after)) < len(after):
            raise ValueError("names a place twice")
        return tuple(sorted(after, key=get_args(Place).index))


UNSTATED = (
    Unstated("slope", (0.01,), "0.1 is the slope in the base code's other head; 0.01 is torch's default"),
    Unstated("p_init", ("torch",), "non-local blocks start as the identity (Wang et al., CVPR 2018, 3.3)"),
    Unstated("conv_bias", (False,), "torch's default; the paper names plain 1x1 convolutions"),
    Unstated(
        "gamma_is",
        ("seed rate",),
        "DropBlock's gamma is a seed rate (Ghiasi et al., 2018, eq. 1), but 0.1 with blocks of 5x8 would "
        "keep 0.9^40 = 1.5 % of the cells, so 0.1 is read as the drop probability",
    ),
    Unstated("block_sizes", ("random",), "section 3.2 gives one height and one width"),
    Unstated(
        "drop_scope",
        ("channel", "batch"),
        "public DropBlock code masks per image; its paper prefers a mask per channel, BFE has one per batch",
    ),
    Unstated("rescale", (False,), "DropBlock rescales (Ghiasi et al., 2018, algorithm 1); BFE does not"),
    Unstated("dropblock_size", (5,), "Ghiasi et al., 2018 use 7", when={"drop": "dropblock"}),
    Unstated(
        "bfe_height", (0.5,), "0.33 in the base code, 0.5 in its earlier versions", when={"drop": "bfe"}
    ),
    Unstated("bfe_width", (0.5,), "1.0 in the base code for person data", when={"drop": "bfe"}),
    Unstated("dilated", (False,), "'some dilated convolutions': the usual 2 and 4 (Yu et al., CVPR 2017)"),
    Unstated("head_init", ("torch",), "base code: Kaiming weights, BN scales from N(1, 0.02), biases 0"),
    Unstated("margin", (0.3,), "base code; the paper cites Hermans et al., who prefer the soft margin"),
    Unstated("label_smoothing", (0.05, 0.2), "base code, and Szegedy et al., CVPR 2016, section 7"),
    Unstated("normalise", (True,), "base code: Euclidean distance between features as they are"),
    Unstated(
        "after",
        (("layer4",),),
        "section 3.4, stage 4 on both branches: a module for each branch, or one that both share",
        when={"after": ("global", "local")},
    ),
)


def position_covariance(theta: Tensor) -> Tensor:
    """Sigma = theta I_bar theta^T (eq. 1), covariance of positions over channels, (B, N, D) -> (B, N, N).

    I_bar = (I - 11^T / D) / D takes each position's mean over the channels away and divides by D.
    """
    theta = _centred(theta)
    return theta @ theta.mT / theta.shape[2]


def attend(theta: Tensor, g: Tensor) -> Tensor:
    """Eq. 2, z = softmax(Sigma / sqrt(D)) g, from (B, N, D) and (B, N, D) to (B, N, D).

    With Sigma = theta_c theta_c^T / D this is dot-product attention of the centred theta with itself,
    scaled by D^-1.5, so the (B, N, N) attention never has to exist.
    """
    theta = _centred(theta)[:, None]  # (B, 1, N, D): one head
    z = F.scaled_dot_product_attention(theta, theta, g[:, None], scale=theta.shape[3] ** -1.5)
    return z[:, 0]


def _centred(theta: Tensor) -> Tensor:
    return theta - theta.mean(dim=2, keepdim=True)


class SecondOrderNonLocal(nn.Module):
    """SONA(x) = x + p(z), equations 1 to 3; keeps the shape (B, C, h, w)."""

    def __init__(self, channels: int, options: SONAOptions) -> None:
        super().__init__()
        inner, bias = channels // options.reduction, options.conv_bias
        self.theta = nn.Sequential(
            nn.Conv2d(channels, inner, 1, bias=bias), nn.BatchNorm2d(inner), nn.LeakyReLU(options.slope)
        )
        self.g = nn.Conv2d(channels, inner, 1, bias=bias)
        self.p = nn.Conv2d(inner, channels, 1, bias=bias)
        if options.p_init == "zero":
            for parameter in self.p.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        z = attend(_positions(self.theta(x)), _positions(self.g(x)))  # (B, N, D)
        out: Tensor = x + self.p(z.mT.reshape(z.shape[0], -1, *x.shape[2:]))
        return out

    def attention(self, x: Tensor) -> Tensor:
        """The weights inside ``forward``, (B, C, h, w) -> (B, N, N).

        Row i w + j holds how much position (i, j) takes from each other position; it sums to 1.
        """
        theta = _positions(self.theta(x))  # (B, N, D)
        return (position_covariance(theta) / math.sqrt(theta.shape[2])).softmax(dim=2)


def _positions(x: Tensor) -> Tensor:
    """(B, D, h, w) -> (B, N, D), with D last in memory too, as the fused attention kernels ask for."""
    return x.flatten(2).mT.contiguous()


class DropBlock(nn.Module):
    """Sets blocks of positions to 0 in training (Ghiasi et al., NeurIPS 2018, algorithm 1).

    DropBlock+ (section 2.1) is the same with blocks that need not be square.
    """

    def __init__(
        self, height: int, width: int, sizes: Literal["fixed", "random"], options: SONAOptions
    ) -> None:
        super().__init__()
        self.height, self.width, self.sizes = height, width, sizes
        self.gamma, self.gamma_is = options.gamma, options.gamma_is
        self.scope, self.rescale = options.drop_scope, options.rescale

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w); the identity in evaluation.

        Raises ``SpecError`` when a block does not fit the map.
        """
        if not self.training:
            return x
        kept = self.kept(x)
        if self.rescale:
            kept = kept * kept.numel() / kept.sum().clamp_min(1)
        return x * kept.to(x.dtype)

    def kept(self, x: Tensor) -> Tensor:
        """A new mask, 0 inside blocks and 1 elsewhere; (B, C, h, w) with 1 for what shares the mask."""
        b, c, h, w = x.shape
        if self.height > h or self.width > w:
            raise SpecError(
                f"a drop block of {self.height}x{self.width} does not fit the feature map of {h}x{w}; "
                "set block_height and block_width (dropblock_size for square blocks)"
            )
        height, width = self._block_size()
        starts = h - height + 1, w - width + 1
        shares = {"channel": (b, c), "image": (b, 1), "batch": (1, 1)}[self.scope]
        seeds = torch.rand(*shares, *starts, device=x.device) < self._seed_rate(height * width, h * w, starts)
        around = (width - 1, width - 1, height - 1, height - 1)
        return 1 - F.max_pool2d(F.pad(seeds.float(), around), (height, width), stride=1)

    def _block_size(self) -> tuple[int, int]:
        if self.sizes == "fixed":
            return self.height, self.width
        return int(torch.randint(self.height, ())) + 1, int(torch.randint(self.width, ())) + 1

    def _seed_rate(self, block: int, cells: int, starts: tuple[int, int]) -> float:
        """Probability that a block starts at a place where it fits (Ghiasi et al., equation 1)."""
        if self.gamma_is == "seed rate":
            return self.gamma
        return self.gamma / block * cells / (starts[0] * starts[1])


class BatchFeatureErasing(nn.Module):
    """Sets one rectangle, the same for the whole batch, to 0 in training (Dai et al., arXiv:1811.07130)."""

    def __init__(self, height: float, width: float) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w); the identity in evaluation. Nothing is rescaled."""
        if not self.training:
            return x
        rows = _random_span(x.shape[2], self.height, x.device)  # (h,)
        columns = _random_span(x.shape[3], self.width, x.device)  # (w,)
        return x.masked_fill(rows[:, None] & columns, 0)


def _random_span(size: int, share: float, device: torch.device) -> Tensor:
    """True on round(share size) neighbours at a random place, (size,)."""
    length = round(share * size)
    start = torch.randint(size - length + 1, (1,), device=device)
    place = torch.arange(size, device=device)
    return (place >= start) & (place < start + length)


def _drop_layer(options: SONAOptions) -> nn.Module:
    match options.drop:
        case "dropblock":
            return DropBlock(options.dropblock_size, options.dropblock_size, "fixed", options)
        case "dropblock+":
            return DropBlock(options.block_height, options.block_width, options.block_sizes, options)
        case "bfe":
            return BatchFeatureErasing(options.bfe_height, options.bfe_width)
        case "none":
            return nn.Identity()


def reduction(channels: int, width: int) -> nn.Sequential:
    """The feature reduction module of section 2.1, (B, C, 1, 1) -> (B, width)."""
    return nn.Sequential(nn.Conv2d(channels, width, 1), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten())


def initialise(module: nn.Module, mode: Literal["fan_in", "fan_out"]) -> None:
    """The base code's start of new layers: Kaiming weights, BN scales from N(1, 0.02), biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, mode=mode)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
        else:
            continue
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)


@METHODS.register("sona", version=1)
class SONA(EmbeddingMethod):
    """The network of Figure 2: a dilated trunk with attention, a global and a local branch."""

    Options = SONAOptions
    UNSTATED = UNSTATED
    options: SONAOptions

    def __init__(
        self,
        options: SONAOptions,
        num_pids: int,
        backbone: str,
        weights: str,
        network: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.options = options
        self.backbone = build_backbone(
            backbone, weights, output_stride=8, dilated=options.dilated, **(network or {})
        )
        channels = self.backbone.channels | dict.fromkeys(
            ("global", "local"), self.backbone.channels["layer4"]
        )
        self.attention = nn.ModuleDict(
            {place: SecondOrderNonLocal(channels[place], options) for place in options.after}
        )
        self.bottleneck = bottleneck(channels["local"])
        self.drop = _drop_layer(options)
        dims = {"global": options.global_dim, "local": options.local_dim}
        self.reductions = nn.ModuleDict({b: reduction(channels[b], dim) for b, dim in dims.items()})
        self.classifiers = nn.ModuleDict({b: nn.Linear(dim, num_pids) for b, dim in dims.items()})
        if options.head_init == "base code":
            initialise(self.reductions["global"], "fan_in")
            initialise(self.reductions["local"], "fan_out")  # a linear layer there, hence the other mode
            initialise(self.classifiers, "fan_out")

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """What losses and descriptions are made of: "global" (B, global_dim), "local" (B, local_dim)."""
        x = self._trunk(images)
        local = self.drop(self.bottleneck(self._attend("local", x)))
        return {
            "global": self.reductions["global"](self._attend("global", x).mean((2, 3), keepdim=True)),
            "local": self.reductions["local"](local.amax((2, 3), keepdim=True)),
        }

    def losses(self, images: Tensor, pids: Tensor) -> dict[str, Tensor]:
        """Batch-hard triplet and label-smoothed cross entropy of each branch (section 2.1)."""
        options = self.options
        return triplet_and_cross_entropy(
            self.features(images), self.classifiers, pids, options.margin, options.label_smoothing
        )

    def describe(self, images: Tensor) -> Tensor:
        """Global and local feature side by side, float32, (B, 3, H, W) -> (B, global_dim + local_dim)."""
        views = [images, images.flip(3)] if self.options.flip else [images]
        embeddings = [torch.cat(list(self.features(view).values()), dim=1).float() for view in views]
        mean = torch.stack(embeddings).mean(0)
        return F.normalize(mean) if self.options.normalise else mean

    @torch.no_grad()
    def feature_maps(self, images: Tensor) -> Tensor:
        """The trunk's last map, which both branches get, (B, C, h, w); call it in evaluation mode."""
        return self._trunk(images)

    @torch.no_grad()
    def attention_maps(self, images: Tensor) -> dict[str, Tensor]:
        """Attention as in Figure 3, {place of ``options.after``: (B, N, N)}; call it in evaluation mode."""
        maps: dict[str, Tensor] = {}
        hooks = [
            module.register_forward_pre_hook(lambda m, x, place=place: maps.update({place: m.attention(*x)}))
            for place, module in self.attention.items()
        ]
        try:
            self.features(images)
        finally:
            for hook in hooks:
                hook.remove()
        return maps

    def _trunk(self, images: Tensor) -> Tensor:
        x = images
        for name, stage in self.backbone.stages.items():
            x = self._attend(name, stage(x))
        return x

    def _attend(self, place: str, x: Tensor) -> Tensor:
        return self.attention[place](x) if place in self.attention else x
