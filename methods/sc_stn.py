"""SC-STN and VCN: a map warped by a transform that it chooses itself, and described from top to bottom.

Peng, Tian, Huang, Wang and An, "Discriminative Spatial Feature Learning for Person Re-Identification",
ACM MM 2020: a self-constrained spatial transformer network (SC-STN) and a vertical convolution network
(VCN). No code was published; what the paper leaves open follows the code of the baseline that it names for
its training ("strong baseline": michuanhaohao/reid-strong-baseline).
Shapes: B images, C channels and H x W positions of the backbone's map, D columns of a description.

Also open, and settled without an option:

* The transformer's gradient reaches the backbone through f_stn as well.
* The rows of the original STN keep BN2 and drop the tanh of eq. 4.
* epsilon "fixed" drops the output of FC2 that epsilon is read off, so four are left.
* eps in (0, 1) has 1.0 in the place of 0.4 in eq. 5.
* FC1 and FC2 have a bias and kernels have none, as Table 4's sum for ResNet-50 (O) says.
* Classifiers have no bias, as in the strong baseline; Table 4 leaves them out.
* The layer of "+FC" has a bias, and no ReLU after it.
* The stripes of "+MGN" share one BN, one classifier and one ranked list loss; MGN has a reduction and losses
  for each.
* A branch without the other keeps its terms and weights of eq. 8.
* The ranked list loss adds its two parts, averages over anchors and moves both images of a pair. Its authors'
  code differs in all three (see ``methods.losses``); halving both parts, as it does, would rescale alpha and
  gamma of eq. 8.
* Scores of Table 3 are those of Fusion where both branches are there.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from methods import METHODS
from methods.backbones import build_backbone
from methods.base import EmbeddingMethod, Options, Unstated, squared_euclidean
from methods.losses import ranked_list, smoothed_cross_entropy
from methods.spatial_transformer import (
    OriginalTransformer,
    Outside,
    SelfConstrainedTransformer,
    Settings,
    SpatialTransformer,
    Start,
    identity,
)
from methods.vertical_convolution import (
    Columns,
    ColumnwiseVerticalConvolution,
    GlobalPooling,
    LengthenedPooling,
    Stripes,
    VerticalConvolution,
    mean_and_max,
)
from retable.errors import SpecError

Norm = Literal["after BN", "before BN"]
Size = Annotated[int, Field(ge=1)]
Spatial = Literal["vcn", "vcn without horizontal pooling", "shared vcn", "gp", "fc", "stripes"]

Needs = dict[str, tuple[object, ...]]
"""Other options, and the values of each under which an option matters."""

_STNS = ("stn", "stn without rotation")
_VCNS = ("vcn", "vcn without horizontal pooling", "shared vcn")
_RANKED: Needs = {"ranked": (True,)}
_GLOBAL: Needs = {"branches": ("both", "global")}
_SPATIAL: Needs = {"branches": ("both", "spatial")}
_WARPED: Needs = _SPATIAL | {"transformer": ("self-constrained", *_STNS)}

NEEDS: dict[str, Needs] = {
    "transformer": _SPATIAL,
    "epsilon": _SPATIAL | {"transformer": ("self-constrained",)},
    "epsilon_max": _SPATIAL | {"transformer": ("self-constrained",)},
    "spatial": _SPATIAL,
    "kernels": _SPATIAL | {"spatial": (*_VCNS, "fc")},
    "alpha": _SPATIAL | _RANKED,
    "beta": _GLOBAL,
    "gamma": _GLOBAL | _RANKED,
    "start": _WARPED,
    "outside": _WARPED,
    "align_corners": _WARPED,
    "columns": _SPATIAL | {"spatial": ("vcn without horizontal pooling",)},
    "kernel_height": _SPATIAL | {"spatial": _VCNS},
    "spatial_feature": _SPATIAL,
    "spatial_ranked": _SPATIAL | _RANKED,
    "ranked_alpha": _RANKED,
    "ranked_margin": _RANKED,
    "ranked_temperature": _RANKED,
}
"""What options need that not every network uses. Without it they must stay at their defaults, or one network
would have several sets of records. ``image_size`` and ``hidden`` are free: recipes give them to all rows."""


class SCSTNOptions(Options):
    """Settings of SC-STN and VCN. Those from ``start`` on are not in the paper, see ``SCSTN.UNSTATED``.

    Those that a network does not use stay at their defaults, see ``NEEDS``.

    Attributes:
        branches: which of the two branches the network has.
        dilated: the backbone: ResNet-50 (M), whose last two stages dilate instead of subsampling (stride 8),
            or else ResNet-50 (O), whose last stage only loses its stride (stride 16).
        transformer: what warps the map of the spatial branch.
        epsilon: whether SC-STN reads its detection error off each image, or has the same for all.
        epsilon_max: the largest error, or the only one.
        spatial: what makes a vector of the warped map: the VCN, or one of the five put in its place (4.4).
        kernels: K, kernels for each channel; "fc" widens as many times.
        hidden: outputs of FC1 in the transformer.
        image_size: height and width of the images, on which FC1 and the kernels depend.
        alpha: weight of the spatial branch's ranked list loss (eq. 8).
        beta: weight of the global branch's cross entropy.
        gamma: weight of the global branch's ranked list loss.
        ranked: whether there are ranked list losses.
        start: what the transformer does at first: what torch's initialisation gives, or nothing; "anywhere"
            is the former without the identity that an original STN otherwise adds.
        outside: what is sampled beyond the map's edge.
        align_corners: whether -1 and 1 are the centres of the map's outermost positions, or their edges.
        columns: what "vcn without horizontal pooling" does with its columns in the end.
        kernel_height: of kernels that are less high than the map, whose rows are averaged to it.
        spatial_feature: what the spatial branch describes an image by.
        spatial_ranked: what the spatial branch's ranked list loss is of.
        ranked_alpha: distance that the ranked list loss pushes negatives beyond.
        ranked_margin: how much less positives may be apart.
        ranked_temperature: of the weights of negatives.
        label_smoothing: epsilon of the cross entropy.
        bn_shift: whether the BN of the features learns a shift.
        classifier_deviation: of the classifiers' initial weights.
    """

    branches: Literal["both", "global", "spatial"] = "both"
    dilated: bool = False
    transformer: Literal["self-constrained", "stn", "stn without rotation", "none"] = "self-constrained"
    epsilon: Literal["learned", "fixed"] = "learned"
    epsilon_max: float = Field(0.4, gt=0, le=1)
    spatial: Spatial = "vcn"
    kernels: int = Field(6, ge=1)
    hidden: int = Field(128, ge=1)
    image_size: tuple[Size, Size] = (384, 128)
    alpha: float = Field(0.5, ge=0)
    beta: float = Field(0.5, ge=0)
    gamma: float = Field(1e-7, ge=0)
    ranked: bool = True

    start: Start = "random"
    outside: Outside = "zeros"
    align_corners: bool = False
    columns: Columns = "pooled"
    kernel_height: Size | None = None
    spatial_feature: Norm = "after BN"
    spatial_ranked: Norm = "after BN"
    ranked_alpha: float = Field(1.2, gt=0, le=2)
    ranked_margin: float = Field(0.4, ge=0)
    ranked_temperature: float = Field(10.0, ge=0)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    bn_shift: bool = True
    classifier_deviation: float = Field(0.001, gt=0)

    @property
    def map_size(self) -> tuple[int, int]:
        """H and W of the backbone's map of an image."""
        stride = 8 if self.dilated else 16
        height, width = self.image_size
        return -(-height // stride), -(-width // stride)

    @model_validator(mode="after")
    def _fit_together(self) -> "SCSTNOptions":
        for name, needs in NEEDS.items():
            if getattr(self, name) != type(self).model_fields[name].default:
                self._require(name, needs)
        if self.start == "anywhere":
            self._require("start", {"transformer": _STNS})
        height, _ = self.map_size
        if self.kernel_height and self.kernel_height >= height:
            raise ValueError(
                f"kernel_height {self.kernel_height} must be below the height of the map, {height}; "
                "leave it out for kernels as high as the map"
            )
        return self

    def _require(self, name: str, needs: Needs) -> None:
        """Raise ``ValueError`` unless the options have one of the values that ``name`` needs of each."""
        for needed, values in needs.items():
            found = getattr(self, needed)
            if found not in values:
                expected = " or ".join(map(repr, values))
                raise ValueError(f"{name} {getattr(self, name)!r} needs {needed} {expected}, not {found!r}")


UNSTATED = (
    Unstated(
        "start",
        ("identity",),
        "section 4.2: all but the backbone is 'initialized randomly', so BN2 warps every map by some part of "
        "epsilon from the first step; starting as the identity is usual (Jaderberg et al., 2015)",
    ),
    Unstated(
        "start",
        ("identity", "anywhere"),
        "section 4.2: all but the backbone is 'initialized randomly'; Figure 3: the original STN learns the "
        "factors directly, around what is not said; the default adds the identity, as eq. 5 does",
        when={"transformer": "stn"},
    ),
    Unstated(
        "start",
        ("identity", "anywhere"),
        "as for the STN with rotation",
        when={"transformer": "stn without rotation"},
    ),
    Unstated("outside", ("border",), "torch's default (grid_sample)"),
    Unstated("align_corners", (True,), "torch's default since version 1.3 (grid_sample)"),
    Unstated(
        "columns",
        ("side by side",),
        "the VCN is 'performed on M^r directly'; pooled afterwards, its width stays 12,288",
        when={"spatial": "vcn without horizontal pooling"},
    ),
    Unstated(
        "kernel_height",
        (24,),
        "sections 3.2 and 4.2: as high as the map, 48; Table 4's +0.42 M would be kernels of 24 on such maps",
        when={"dilated": True},
    ),
    Unstated(
        "spatial_feature",
        ("before BN",),
        "section 3.1 calls the global feature f^g after its BN, section 3.2 the spatial one f^s before it; "
        "cosines are taken after BN in the strong baseline",
    ),
    Unstated("spatial_ranked", ("before BN",), "as on the global branch, section 3.1"),
    Unstated(
        "ranked_alpha",
        (2.0,),
        "1.2 in the code of the loss's authors (1 + margin / 2); 2.0, with ranked_margin 1.3, in "
        "Qidian213/Ranked_Person_ReID",
    ),
    Unstated(
        "ranked_margin",
        (1.3,),
        "0.4 in the code of the loss's authors; 1.3, with ranked_alpha 2.0, in that of Qidian213",
    ),
    Unstated("ranked_temperature", (1.0,), "10 in the code of the loss's authors; 1 in that of Qidian213"),
    Unstated("label_smoothing", (0.05, 0.2), "strong baseline, and Szegedy et al., CVPR 2016, section 7"),
    Unstated("bn_shift", (False,), "Table 4 counts it; the strong baseline freezes it at 0"),
    Unstated("classifier_deviation", (0.01,), "strong baseline, whose classifiers have no bias either"),
    Unstated(
        "beta",
        (1.0,),
        "eq. 8 without the spatial branch; Adam takes the factor away but for weight decay",
        when={"branches": "global"},
    ),
)


@METHODS.register("sc_stn", version=1)
class SCSTN(EmbeddingMethod):
    """The network of Figure 2 and its ablations: backbone, global branch, spatial branch."""

    Options = SCSTNOptions
    UNSTATED = UNSTATED
    options: SCSTNOptions

    def __init__(
        self,
        options: SCSTNOptions,
        num_pids: int,
        backbone: str,
        weights: str,
        network: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.options = options
        self.backbone = build_backbone(
            backbone,
            weights,
            output_stride=8 if options.dilated else 16,
            dilated=options.dilated,
            **(network or {}),
        )
        *_, channels = self.backbone.channels.values()
        self.widths: dict[str, int] = {}
        if options.branches != "spatial":
            self.widths["global"] = channels
        self.transformer: SpatialTransformer | None = None
        if options.branches != "global":
            self.transformer = _transformer(options)
            self.head = _spatial_head(channels, options)
            self.widths["spatial"] = self.head.width
        self.norms = nn.ModuleDict({b: nn.BatchNorm1d(width) for b, width in self.widths.items()})
        self.classifiers = nn.ModuleDict(
            {b: nn.Linear(width, num_pids, bias=False) for b, width in self.widths.items()}
        )
        for norm in self.norms.values():
            norm.bias.requires_grad_(options.bn_shift)
        for weight in self.classifiers.parameters():
            nn.init.normal_(weight, std=options.classifier_deviation)

    @property
    def parts(self) -> Mapping[str, slice]:
        """f^g and f^s inside the description that "Fusion" ranks by; a single branch has no parts."""
        if len(self.widths) == 1:
            return {}
        middle = self.widths["global"]
        return {"global": slice(0, middle), "spatial": slice(middle, middle + self.widths["spatial"])}

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """Each branch's feature before its BN: "global" (B, C), "spatial" (B, 6 C for the VCN)."""
        m = self._map(images)
        features = {}
        if "global" in self.widths:
            features["global"] = mean_and_max(m, (2, 3))
        if "spatial" in self.widths:
            features["spatial"] = self.head(self.transformer(m) if self.transformer else m)
        return features

    def losses(self, images: Tensor, pids: Tensor) -> dict[str, Tensor]:
        """The weighted terms of eq. 8, L = L_c^s + alpha L_r^s + beta L_c^g + gamma L_r^g."""
        options = self.options
        weights = {"global": (options.beta, options.gamma), "spatial": (1.0, options.alpha)}
        losses = {}
        for branch, feature in self.features(images).items():
            classified, ranked = weights[branch]
            normed = self.norms[branch](feature)
            logits = self.classifiers[branch](normed)
            smoothed = smoothed_cross_entropy(logits, pids, options.label_smoothing)
            losses[f"{branch}_ce"] = classified * smoothed
            if options.ranked:
                before = branch == "spatial" and options.spatial_ranked == "before BN"
                losses[f"{branch}_ranked"] = ranked * ranked_list(
                    feature if before else normed,
                    pids,
                    options.ranked_alpha,
                    options.ranked_margin,
                    options.ranked_temperature,
                )
        return losses

    def describe(self, images: Tensor) -> Tensor:
        """Global and spatial feature side by side, each of length 1, float32, (B, D); see ``parts``."""
        described = []
        for branch, feature in self.features(images).items():
            if branch == "global" or self.options.spatial_feature == "after BN":
                feature = self.norms[branch](feature)
            described.append(F.normalize(feature.float()))
        return torch.cat(described, 1)

    def distance(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """Sum of the branches' cosine distances ("Fusion"), or the one of a part, (Q, D) x (G, D) -> (Q, G).

        Parts have length 1, so each adds 1 - cosine to half the squared Euclidean distance.
        """
        return squared_euclidean(queries, gallery).div_(2)

    @torch.no_grad()
    def transforms(self, images: Tensor) -> Tensor:
        """A of eq. 1 for each image, (B, 2, 3); the identity without a transformer.

        It takes places of the warped map or image to where they are sampled, in coordinates from -1 to 1.
        Call it in evaluation mode.
        """
        return self.transformer.matrices(self._map(images)) if self.transformer else identity(images)

    @torch.no_grad()
    def feature_maps(self, images: Tensor) -> Tensor:
        """The backbone's map M, (B, C, H, W); call it in evaluation mode."""
        return self._map(images)

    def _map(self, images: Tensor) -> Tensor:
        """M; raises ``SpecError`` when the spatial branch was made for images of another size."""
        m: Tensor = self.backbone(images)
        if "spatial" in self.widths and m.shape[2:] != self.options.map_size:
            sizes = images.shape[2:], m.shape[2:], self.options.image_size, self.options.map_size
            found, found_map, expected, expected_map = ("x".join(map(str, size)) for size in sizes)
            raise SpecError(
                f"images of {found} make maps of {found_map}, but the spatial branch is made for images of "
                f"{expected} and maps of {expected_map}; set image_size = {list(images.shape[2:])}"
            )
        return m


def _transformer(options: SCSTNOptions) -> SpatialTransformer | None:
    size, hidden = options.map_size, options.hidden
    settings: Settings = {
        "start": options.start,
        "outside": options.outside,
        "align_corners": options.align_corners,
    }
    match options.transformer:
        case "none":
            return None
        case "self-constrained":
            return SelfConstrainedTransformer(size, hidden, options.epsilon, options.epsilon_max, **settings)
        case "stn" | "stn without rotation" as kind:
            return OriginalTransformer(size, hidden, rotation=kind == "stn", **settings)


def _spatial_head(
    channels: int, options: SCSTNOptions
) -> VerticalConvolution | ColumnwiseVerticalConvolution | GlobalPooling | LengthenedPooling | Stripes:
    kernels, (height, columns) = options.kernels, options.map_size
    height = options.kernel_height or height
    match options.spatial:
        case "vcn" | "shared vcn" as kind:
            return VerticalConvolution(channels, height, kernels, shared=kind == "shared vcn")
        case "vcn without horizontal pooling":
            return ColumnwiseVerticalConvolution(channels, height, kernels, columns, options.columns)
        case "gp":
            return GlobalPooling(channels)
        case "fc":
            return LengthenedPooling(channels, kernels)
        case "stripes":
            return Stripes(channels)
