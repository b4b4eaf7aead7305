"""Mixing layers of linear maps over all patches, against plain formulas."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mixcoder.errors import ArgumentError
from mixcoder.models import GroupedMixing, TokenMlpMixing, create_model
from mixcoder.models.mixing import Residual, create_mixing_layer
from mixcoder.models.patches import Grid, patch_major

GRIDS: list[Grid] = [(4, 4), (1, 5), (6, 1), (3, 2), (1, 1)]


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)


def count(layer: nn.Module) -> int:
    return sum(parameter.numel() for parameter in layer.parameters())


def random_input(grid: Grid, channels: int) -> Tensor:
    return patch_major(torch.randn(3, math.prod(grid), channels))


@pytest.mark.parametrize("grid", GRIDS)
def test_the_mlp_over_patches(grid: Grid) -> None:
    """Each channel goes through the same two layers; the activation is between them, and not behind."""
    layer = create_mixing_layer({"name": "token_mlp", "hidden": 7}, grid, 5, 1, Residual("gelu", scale=0.5))
    assert isinstance(layer, TokenMlpMixing)
    x = random_input(grid, 5)
    (w, a), (v, b) = ((linear.weight, linear.bias) for linear in (layer.linear1, layer.linear2))
    hidden = F.gelu(torch.einsum("hp,bpc->bhc", w, x) + a[:, None])
    mixed = torch.einsum("ph,bhc->bpc", v, hidden) + b[:, None]
    torch.testing.assert_close(layer.mix(x), mixed, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer(x), x + 0.5 * mixed, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("groups", [1, 3, 6])
def test_a_matrix_for_each_group(grid: Grid, groups: int) -> None:
    layer, x = GroupedMixing(grid, 6, 1, groups), random_input(grid, 6)
    assert layer.bias is not None
    nn.init.normal_(layer.bias)
    expected = torch.empty_like(x)
    for channel in range(6):
        expected[:, :, channel] = x[:, :, channel] @ layer.weight[channel // (6 // groups)].t()
    torch.testing.assert_close(layer.mix(x), expected + layer.bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("grid", GRIDS)
def test_parameters(grid: Grid) -> None:
    patches, channels = math.prod(grid), 6
    assert count(TokenMlpMixing(grid, channels, 1)) == 2 * patches * 2 * patches + 2 * patches + patches
    assert count(TokenMlpMixing(grid, channels, 1, hidden=3)) == 2 * patches * 3 + 3 + patches
    for bias, of_bias in (("position", patches * channels), ("channel", channels), ("none", 0)):
        assert count(GroupedMixing(grid, channels, 1, 3, bias)) == 3 * patches**2 + of_bias  # type: ignore[arg-type]


def test_groups_that_no_channels_fill() -> None:
    sentence = "mixer.groups: must divide the 6 channels, got 4"
    for part in ("grouped", {"name": "grouped", "groups": 4}):
        with pytest.raises(ArgumentError, match=re.escape(sentence)):
            create_mixing_layer(part, (2, 2), 6, 1, Residual("none"))


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ({"name": "grouped", "groups": 0}, "mixer.groups: must be a whole number from 1 to 1,000,000, got 0"),
        ({"name": "grouped", "groups": "2"}, "mixer.groups: must be a whole number, not the text '2'"),
        ({"name": "grouped", "group": 2}, "mixer.group: unknown key 'group'; did you mean 'groups'?"),
        (
            {"name": "groupd", "groups": 2},
            "mixer.name: unknown mixing layer 'groupd'; did you mean 'grouped'?",
        ),
        ({"name": "token_mlp", "hidden": -1}, "mixer.hidden: must be a whole number from 1 to 1,000,000"),
        ({"name": "token_mlp", "hidden": 10**7}, "mixer.hidden: must be a whole number from 1 to 1,000,000"),
        ({"name": "cnn", "hidden": 3}, "mixer.hidden: unknown key; the mixing layer 'cnn' has no arguments"),
        ({"groups": 2}, "mixer: is missing the key 'name'"),
        ({"name": 3}, "mixer.name: must be a text, not 3"),
        (3, "mixer: must be a name, or a map of a `name` and its arguments, not 3"),
    ],
)
def test_clear_errors(part: Any, sentence: str) -> None:
    """The same ones with a layer alone and in a model."""
    with pytest.raises(ArgumentError, match=re.escape(sentence)):
        create_mixing_layer(part, (2, 2), 8, 1, Residual("none"))
    sizes = {"image_shape": (1, 4, 4), "patch_size": 2, "hidden_channels": [8], "latent_dim": 2}
    for mixer_at in ([], [1]) if "from 1 to" not in sentence else ([1],):
        with pytest.raises(ArgumentError, match=re.escape(sentence)):
            create_model("mixer", **sizes, mixer_at=mixer_at, mixer=part)
