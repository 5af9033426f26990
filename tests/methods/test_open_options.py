"""Options of MI-IRNN and of its comparisons: what the paper leaves open is listed, matters, and is pinned."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import pytest
import torch
from torch import Tensor

from methods import METHODS
from methods.base import EmbeddingMethod, FittedMethod, Options, PairMethod

SLIM = {"width": 0.0625, "batch_norm": True}
IMAGES = torch.randn(6, 3, 32, 48, generator=torch.Generator().manual_seed(0))
LARGE = torch.randn(6, 3, 128, 128, generator=torch.Generator().manual_seed(1))
PIDS = torch.tensor([0, 0, 1, 1, 2, 2])
PAIRS = torch.tensor([[0, 1], [3, 2], [0, 2], [3, 5], [4, 5], [5, 1], [1, 0]])


@dataclass(frozen=True)
class Case:
    """A method, and how it is made small.

    Attributes:
        stated: options that the paper does state.
        version: of the method, with a hash of its defaults.
        small: options, except those that a choice depends on.
        images: what it is trained or fitted on, and describes.
    """

    stated: set[str]
    version: tuple[str, str]
    small: Mapping[str, Any] = field(default_factory=dict)
    images: Tensor = IMAGES


# 6 images of 128 x 128 have 6 x 64 positions for FV-CNN and 6 x 49 regions for FV-SIFT: fewer than 2
# Gaussians take by default, more than they take by the alternative.
CASES = {
    "fc-cnn": Case(
        {"hidden", "map_size", "dropout"}, ("1", "45e4a6a6c860"), {"hidden": 16, "map_size": [1, 1]}
    ),
    "b-cnn": Case({"pooling", "hidden", "dropout", "alpha", "beta"}, ("1", "dc5aac6cffc9")),
    "fv-cnn": Case({"gaussians"}, ("1", "4e983be43b17"), {"gaussians": 2}, LARGE),
    "fv-sift": Case(
        {"components", "gaussians"}, ("1", "408d633e63d4"), {"gaussians": 2, "components": 3}, LARGE
    ),
    "mi-irnn": Case(
        {"integration", "pooling", "second_backbone", "shared", "hidden", "activation"}
        | {"dropout", "alpha", "beta", "map_size"},
        ("1", "c621725f54e9"),
        {"map_size": [2, 3]},
    ),
}


def outcome(name: str, options: Mapping[str, Any]) -> dict[str, Tensor]:
    """All that options could change: parameters at the start, the loss, descriptions, distances."""
    torch.manual_seed(0)
    kind, images = METHODS.get(name), CASES[name].images
    model = kind(kind.parse_options(options), 3, "vgg11", "none", SLIM)
    found = {f"start {key}": value.clone() for key, value in model.state_dict().items()}
    if isinstance(model, FittedMethod):
        model.fit(lambda: images.split(4), lambda _: None)
    else:
        found |= model.losses(images, PIDS, *([PAIRS] if isinstance(model, PairMethod) else []))
    with torch.inference_mode():
        described = model.eval().describe(images)
        if isinstance(model, EmbeddingMethod):
            return found | {"description": described}
        return found | {"distance": model.distance(described, described)}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(
    ("name", "choice"),
    [(name, choice) for name in CASES for choice in METHODS.get(name).UNSTATED],
    ids=lambda x: x if isinstance(x, str) else x.option,
)
def test_every_alternative_of_an_unstated_choice_runs_and_matters(name, choice):
    kept = {**CASES[name].small, **choice.when}
    reference = outcome(name, kept)

    assert choice.reason and choice.alternatives
    default = METHODS.get(name).Options.model_fields[choice.option].default
    assert same(reference, outcome(name, {**kept, choice.option: default}))
    for alternative in choice.alternatives:
        assert not same(reference, outcome(name, {**kept, choice.option: alternative}))


@pytest.mark.parametrize("name", CASES)
def test_options_that_the_paper_does_not_state_are_all_listed(name):
    kind = METHODS.get(name)

    assert {choice.option for choice in kind.UNSTATED} == set(kind.Options.model_fields) - CASES[name].stated


@pytest.mark.parametrize("name", CASES)
def test_a_version_keeps_its_defaults(name):
    """Fails when a default has changed: records hold the version, so raise it, then pin what holds now."""
    options: Options = METHODS.get(name).Options()
    defaults = sha256(options.model_dump_json().encode()).hexdigest()[:12]

    assert (METHODS.version(name), defaults) == CASES[name].version
