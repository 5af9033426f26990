"""PABR: part-aligned bilinear representations, an appearance map and a part map pooled together.

Suh, Wang, Tang, Mei and Lee, "Part-Aligned Bilinear Representations for Person Re-identification", ECCV 2018.
What the paper leaves open follows the authors' PyTorch code (yuminsuh/part_bilinear_reid) and that of the
paper whose training it takes over (zlmzju/part_reid).
Shapes: B images, h x w positions, c_A and c_P channels of the appearance and the part map, D columns.

Also open, and settled without an option:

* "BN" of Figure 2 has no scale or shift, on both streams, and no ReLU follows it (code).
* Without dilation the pose maps, twice as fine as the appearance map, are max-pooled by 2x2 (code).
* "Baseline" is the appearance map with its BN, and a layer with bias behind its mean; so is "concat + average
  pool + linear", on both maps. The code's own baseline goes on to inception5b, without BN.
* A ResNet-50 has last stride 1, or dilates from layer3 on, so that its map is as large as GoogLeNet's.
* R-CPM is known by name and size only, see ``methods.openpose.RCPM``.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from methods import METHODS
from methods.backbones import build_backbone, load_state
from methods.base import EmbeddingMethod, Options, Unstated
from methods.bilinear import CompactBilinear, bilinear
from methods.googlenet import build_googlenet
from methods.losses import MeanOver, Similarity, all_triplets
from methods.openpose import POSE_NETWORKS, OpenPose, PartMaps
from methods.precision import at_least_float32, without_autocast
from retable.errors import SpecError


class PABROptions(Options):
    """Settings of PABR. ``similarity``, ``margin`` and ``mean_over`` are open, see ``PABR.UNSTATED``.

    Options of the part stream stay at their defaults without one (aggregation "none"), or one network would
    have several sets of records; numbers of channels are free: recipes give them to all rows.

    Attributes:
        aggregation: what makes a vector of the maps: bilinear pooling, compact or exact; a linear layer on
            both maps' means; or ("none", the baseline) a linear layer on the appearance map's mean.
        part_maps: which maps of the pose network the part map is made of.
        pose: the pose network P_pose.
        train_pose: whether it is trained, or fixed.
        dilated: whether both maps have stride 8 instead of 16.
        non_negative: whether part descriptors go through a ReLU.
        similarity: what the loss is of.
        margin: m of eq. 6.
        mean_over: what the sum of eq. 7 is divided by.
        appearance_channels: c_A.
        part_channels: c_P.
        dimension: D; exact bilinear pooling has c_A c_P instead.
        pose_width: factor on the channels of the pose network.
    """

    aggregation: Literal["bilinear", "exact bilinear", "concat", "none"] = "bilinear"
    part_maps: PartMaps = "all"
    pose: Literal["openpose", "r-cpm"] = "openpose"
    train_pose: bool = True
    dilated: bool = False
    non_negative: bool = False

    similarity: Similarity = "squared distance"
    margin: float = Field(0.2, ge=0)
    mean_over: MeanOver = "violating"

    appearance_channels: int = Field(512, ge=1)
    part_channels: int = Field(128, ge=1)
    dimension: int = Field(512, ge=1)
    pose_width: float = Field(1.0, gt=0)

    @model_validator(mode="after")
    def _fit_together(self) -> "PABROptions":
        if self.aggregation == "none":
            names = ("part_maps", "pose", "train_pose", "non_negative")
            self._refuse("a part stream", "aggregation is 'none'", names)
        return self


UNSTATED = (
    Unstated(
        "similarity",
        ("inner product",),
        "eq. 6 is of inner products, both code bases take squared distances, which makes the margin half as "
        "large on inner products",
    ),
    Unstated(
        "margin",
        (0.4,),
        "section 3.3, on whatever the loss is of; 0.4 on squared distances are 0.2 on inner products",
        when={"similarity": "squared distance"},
    ),
    Unstated(
        "mean_over",
        ("all",),
        "eq. 7 divides by all triplets, both code bases by those that violate the margin",
    ),
)


@METHODS.register("pabr", version=1)
class PABR(EmbeddingMethod):
    """The two streams of Figure 2 and their aggregation.

    Attributes:
        pose: the pose network; none in the baseline.
    """

    Options = PABROptions
    UNSTATED = UNSTATED
    options: PABROptions

    def __init__(
        self,
        options: PABROptions,
        num_pids: int,  # noqa: ARG002 - nothing classifies
        backbone: str,
        weights: str,
        network: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.options = options
        c_a, c_p = options.appearance_channels, options.part_channels
        self.backbone, channels = _backbone(backbone, weights, options.dilated, network or {})
        self.appearance = nn.Sequential(
            _xavier(nn.Conv2d(channels, c_a, 1)), nn.BatchNorm2d(c_a, affine=False)
        )
        self.pose: OpenPose | None = None
        if options.aggregation != "none":
            self.pose = POSE_NETWORKS[options.pose](options.pose_width)
            self.pose.requires_grad_(False)
            if options.train_pose:
                self.pose.needed(options.part_maps).requires_grad_(True)
            self.part = _part_layers(self.pose.channels[options.part_maps], options)
        match options.aggregation:
            case "bilinear":
                self.compact = CompactBilinear((c_a, c_p), options.dimension)
            case "concat":
                self.linear = _xavier(nn.Linear(c_a + c_p, options.dimension))
            case "none":
                self.linear = _xavier(nn.Linear(c_a, options.dimension))

    def load_pose(self, state: Mapping[str, Tensor]) -> None:
        """Start the pose network from weights that were trained for poses, under its own names.

        Raises ``WeightsError`` for weights of another network, ``SpecError`` when there is no pose network.
        """
        if self.pose is None:
            raise SpecError("aggregation 'none' has no pose network that weights could be for")
        load_state(self.pose, state, "the file of pose weights")

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """A and P (eq. 1 and 2), (B, c_A, h, w) and (B, c_P, h, w); the baseline has no P."""
        a: Tensor = self.appearance(self.backbone(images))
        if self.pose is None:
            return a, None
        p: Tensor = self.part(self.pose.part_maps(images, self.options.part_maps))
        if a.shape[2:] != p.shape[2:]:
            found, appearance, part = ("x".join(map(str, x.shape[2:])) for x in (images, a, p))
            raise SpecError(
                f"images of {found} make appearance maps of {appearance} and part maps of {part}; expected "
                "maps of one size, which heights and widths that are multiples of 16 have"
            )
        return a, p

    def aggregate(self, a: Tensor, p: Tensor | None) -> Tensor:
        """Vector f of eq. 3, or of what stands in its place, before it is scaled to length 1.

        Returns:
            (B, D), float32 or better: rounded to bfloat16, it loses a tenth of what tells images apart.
        """
        if p is not None and self.options.aggregation == "bilinear":
            f: Tensor = self.compact(a, p)
        elif p is not None and self.options.aggregation == "exact bilinear":
            f = bilinear(a, p).flatten(1)
        else:
            maps = at_least_float32(a if p is None else torch.cat((a, p), 1))
            with without_autocast(a.device):
                f = self.linear(maps.mean((2, 3)))
        return f

    def losses(self, images: Tensor, pids: Tensor) -> dict[str, Tensor]:
        """The triplet loss of eq. 6 and 7 over all triplets of the batch."""
        options = self.options
        f = self.aggregate(*self.maps(images))
        return {"triplet": all_triplets(f, pids, options.margin, options.similarity, options.mean_over)}

    def describe(self, images: Tensor) -> Tensor:
        """Vector f at length 1 (eq. 4), float32, (B, D)."""
        return F.normalize(self.aggregate(*self.maps(images)).float())

    @torch.no_grad()
    def feature_maps(self, images: Tensor) -> Tensor:
        """The appearance map, (B, c_A, h, w); call it in evaluation mode."""
        return self.maps(images)[0]

    @torch.no_grad()
    def local_maps(self, images: Tensor) -> dict[str, Tensor]:
        """The normalised local descriptors of section 3.2; call it in evaluation mode.

        The similarity of two images is the mean, over all pairs of their positions, of the product of both
        inner products (eq. 8 and 9); of the compact form this holds in expectation.

        Returns:
            "appearance" (B, c_A, h, w) and "part" (B, c_P, h, w), both divided by the root of f's length, and
            "joints" (B, 19, h', w'), the pose network's maps at stride 8.

        Raises:
            SpecError: there is no bilinear pooling, which the definition is of.
        """
        a, p = self.maps(images)
        if p is None or self.pose is None or "bilinear" not in self.options.aggregation:
            raise SpecError(
                "local descriptors are defined for bilinear pooling, not aggregation "
                f"{self.options.aggregation!r}"
            )
        root = self.aggregate(a, p).norm(dim=1)[:, None, None, None].sqrt()
        *_, joints = self.pose(images)
        return {"appearance": a / root, "part": p / root, "joints": joints}


def _backbone(name: str, weights: str, dilated: bool, network: Mapping[str, Any]) -> tuple[nn.Module, int]:
    """The appearance network, and the channels of its map."""
    if name == "googlenet":
        googlenet = build_googlenet(weights, dilated=dilated, **network)
        return googlenet, googlenet.channels
    stride: Literal[8, 16] = 8 if dilated else 16
    backbone = build_backbone(name, weights, output_stride=stride, dilated=dilated, **network)
    *_, channels = backbone.channels.values()
    return backbone, channels


def _part_layers(channels: int, options: PABROptions) -> nn.Sequential:
    """What makes the part map of the pose maps."""
    layers: list[nn.Module] = [] if options.dilated else [nn.MaxPool2d(2, ceil_mode=True)]
    layers.append(_xavier(nn.Conv2d(channels, options.part_channels, 3, padding=1)))
    layers.append(nn.BatchNorm2d(options.part_channels, affine=False))
    if options.non_negative:
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def _xavier(layer: nn.Conv2d | nn.Linear) -> nn.Module:
    """Weights as Glorot and Bengio draw them (reference [66] of the paper), no bias at first."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
