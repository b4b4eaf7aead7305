"""Mixing layers over the grid, against plain formulas, for any grid."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mixcoder.errors import ArgumentError
from mixcoder.models import DepthwiseMixing, KroneckerMixing
from mixcoder.models.mixing import Residual, create_mixing_layer
from mixcoder.models.patches import Grid, patch_major

GRIDS: list[Grid] = [(4, 4), (1, 5), (6, 1), (3, 2), (12, 12), (1, 1)]
"""The fifth is computed along one axis after the other."""


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)


def count(layer: nn.Module) -> int:
    return sum(parameter.numel() for parameter in layer.parameters())


def random_input(grid: Grid, channels: int) -> Tensor:
    return patch_major(torch.randn(3, math.prod(grid), channels))


@pytest.mark.parametrize("grid", GRIDS)
def test_kronecker_is_a_kronecker_product_for_each_channel(grid: Grid) -> None:
    layer, x = KroneckerMixing(grid, 5, 1), random_input(grid, 5)
    assert layer.bias is not None
    nn.init.normal_(layer.bias)
    expected = torch.stack(
        [x[:, :, c] @ torch.kron(layer.rows[c], layer.columns[c]).t() for c in range(5)], dim=2
    )
    torch.testing.assert_close(layer.mix(x), expected + layer.bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("grid", GRIDS)
def test_both_computations_of_kronecker_are_equal(grid: Grid) -> None:
    layer, x = KroneckerMixing(grid, 5, 1), random_input(grid, 5).requires_grad_()
    in_one, by_axes = layer._in_one(x), layer._by_axes(x)
    torch.testing.assert_close(in_one, by_axes, rtol=1e-4, atol=1e-5)
    wanted = (x, layer.rows, layer.columns)
    of_one, of_axes = (torch.autograd.grad(y.square().sum(), wanted) for y in (in_one, by_axes))
    torch.testing.assert_close(of_one, of_axes, rtol=1e-4, atol=1e-4)


def test_kronecker_takes_the_cheaper_computation() -> None:
    chosen = []
    for grid in ((4, 4), (8, 8), (9, 9), (1, 100)):
        layer = KroneckerMixing(grid, 1, 1)
        layer._in_one = lambda x: chosen.append("one") or x  # type: ignore[method-assign, func-returns-value]
        layer._by_axes = lambda x: chosen.append("axes") or x  # type: ignore[method-assign, func-returns-value]
        layer.mix(random_input(grid, 1))
    assert chosen == ["one", "one", "axes", "one"]


@pytest.mark.parametrize("grid", GRIDS)
def test_depthwise_is_a_convolution_of_each_channel(grid: Grid) -> None:
    layer, x = DepthwiseMixing(grid, 4, 3), random_input(grid, 4)
    assert layer.bias is not None
    nn.init.normal_(layer.bias)
    field = x.transpose(1, 2).reshape(3, 4, *grid)
    padded = F.pad(field, (1, 1, 1, 1))
    expected = torch.zeros_like(field)
    for i in range(3):
        for j in range(3):
            shifted = padded[:, :, i : i + grid[0], j : j + grid[1]]
            expected += layer.weight[:, 0, i, j][None, :, None, None] * shifted
    expected = expected.flatten(2).transpose(1, 2) + layer.bias
    torch.testing.assert_close(layer.mix(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("bias", ["position", "channel", "none"])
def test_parameters(grid: Grid, bias: str) -> None:
    (rows, columns), channels = grid, 6
    of_bias = {"position": rows * columns * channels, "channel": channels, "none": 0}[bias]
    kronecker = KroneckerMixing(grid, channels, 1, bias)  # type: ignore[arg-type]
    depthwise = DepthwiseMixing(grid, channels, 5, bias)  # type: ignore[arg-type]
    assert count(kronecker) == channels * (rows**2 + columns**2) + of_bias
    assert count(depthwise) == channels * 25 + of_bias


@pytest.mark.parametrize("name", ["kronecker", "depthwise"])
def test_a_bias_belongs_to_what_it_says(name: str) -> None:
    x = random_input((2, 3), 4)
    layers = {
        bias: create_mixing_layer({"name": name, "bias": bias}, (2, 3), 4, 3, Residual("none"))
        for bias in ("position", "channel", "none")
    }
    shapes = {bias: None if layer.bias is None else layer.bias.shape for bias, layer in layers.items()}
    assert shapes == {"position": (6, 4), "channel": (4,), "none": None}
    without = layers["none"]
    for bias in ("position", "channel"):
        layers[bias].load_state_dict(without.state_dict(), strict=False)
        added = nn.init.normal_(layers[bias].get_parameter("bias"))
        torch.testing.assert_close(layers[bias].mix(x), without.mix(x) + added)


@pytest.mark.parametrize("name", ["kronecker", "depthwise"])
def test_a_residual_layer_with_its_scale(name: str) -> None:
    layer = create_mixing_layer(name, (2, 3), 4, 3, Residual("tanh", "rms", 0.5))
    x = random_input((2, 3), 4)
    assert layer.residual_scale is not None
    assert layer.residual_scale.tolist() == [0.5] * 4
    torch.testing.assert_close(layer(x), x + 0.5 * torch.tanh(layer.mix(layer.norm(x))))


@pytest.mark.parametrize(
    ("part", "kernel_size", "sentence"),
    [
        ({"name": "depthwise"}, 4, "kernel_size: must be odd so that padding keeps the size, got 4"),
        (
            {"name": "kronecker", "bias": "positions"},
            1,
            "mixer.bias: unknown name 'positions'; did you mean 'position'?",
        ),
        ({"name": "kronecker", "groups": 2}, 1, "mixer.groups: unknown key 'groups'; known: bias"),
        ({"name": "depthwise", "grid": [2, 2]}, 1, "mixer.grid: comes from the model; remove it here"),
        (
            {"name": "depthwise", "kernel_size": 3},
            1,
            "mixer.kernel_size: is a key beside `mixer`; move it there",
        ),
    ],
)
def test_clear_errors(part: Any, kernel_size: int, sentence: str) -> None:
    with pytest.raises(ArgumentError, match=re.escape(sentence)):
        create_mixing_layer(part, (2, 2), 4, kernel_size, Residual("none"))
