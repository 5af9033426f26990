"""What methods.base gives every method: options from plain data, and distances."""

import pytest
import torch
from pydantic import Field

from methods.base import EmbeddingMethod, Options, squared_euclidean
from retable.errors import SpecError


class Settings(Options):
    after: tuple[int, ...] = ()
    margin: float = Field(0.3, ge=0)


class Example(EmbeddingMethod):
    Options = Settings


def test_options_are_parsed_from_plain_data():
    assert Example.parse_options({"after": [1, 2]}) == Settings(after=(1, 2), margin=0.3)


def test_an_unknown_option_names_its_near_matches():
    with pytest.raises(SpecError, match=r"options of Example: unknown option 'margn': did you mean 'margin'"):
        Example.parse_options({"margn": 0.3})


def test_every_wrong_value_is_named_with_what_was_found():
    with pytest.raises(SpecError) as caught:
        Example.parse_options({"margin": -1, "after": ["x"]})

    assert "margin = -1: " in str(caught.value)
    assert "after.0 = 'x': " in str(caught.value)


def test_options_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Settings().margin = 1.0  # type: ignore[misc]


def test_distance_is_squared_euclidean():
    a, b = torch.randn(4, 6, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)

    torch.testing.assert_close(squared_euclidean(a, b), torch.cdist(a, b).square())
    torch.testing.assert_close(Example().distance(a, b), squared_euclidean(a, b))
    assert squared_euclidean(a, a).min() >= 0
