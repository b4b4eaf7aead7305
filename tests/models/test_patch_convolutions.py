"""The mixing layers' convolutions are torch's, however they are computed."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixcoder.models import patch_convolutions
from mixcoder.models.patch_convolutions import (
    ConvOverPatches1d,
    ConvOverPatches2d,
    TokenMixingConv1d,
    TokenMixingConv2d,
)
from mixcoder.models.patches import patch_major

BATCH, GRID, SIDE = 3, (3, 4), 4
PATCHES, CHANNELS = 12, 16


def across(conv: nn.Conv1d, x: Tensor) -> Tensor:
    return F.conv1d(x, conv.weight, conv.bias, padding=conv.padding)


def across_2d(conv: nn.Conv2d, x: Tensor) -> Tensor:
    pictures = x.reshape(BATCH, PATCHES, SIDE, SIDE)
    return F.conv2d(pictures, conv.weight, conv.bias, padding=conv.padding).flatten(2)


def over(conv: nn.Conv1d, x: Tensor) -> Tensor:
    return F.conv1d(x.transpose(1, 2), conv.weight, conv.bias, padding=conv.padding).transpose(1, 2)


def over_2d(conv: nn.Conv2d, x: Tensor) -> Tensor:
    grid = x.transpose(1, 2).reshape(BATCH, CHANNELS, *GRID)
    return F.conv2d(grid, conv.weight, conv.bias, padding=conv.padding).flatten(2).transpose(1, 2)


@pytest.mark.parametrize("kernel", [1, 3, 7, 13, 35])
@pytest.mark.parametrize(
    ("layer", "reference"),
    [
        (lambda k: TokenMixingConv1d((CHANNELS,), PATCHES, k), across),
        (lambda k: TokenMixingConv2d((SIDE, SIDE), PATCHES, k), across_2d),
        (lambda k: ConvOverPatches1d((PATCHES,), CHANNELS, k), over),
        (lambda k: ConvOverPatches2d(GRID, CHANNELS, k), over_2d),
    ],
)
@pytest.mark.parametrize("layout", [torch.Tensor.contiguous, patch_major])
@pytest.mark.parametrize("connections", [0, patch_convolutions._MOST_TOEPLITZ_ELEMENTS])
def test_values_and_gradients_are_those_of_torch(  # type: ignore[no-untyped-def]
    kernel: int, layer, reference, layout, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patch_convolutions, "_MOST_TOEPLITZ_ELEMENTS", connections)
    torch.manual_seed(kernel)
    conv = layer(kernel).double()
    x = torch.randn(BATCH, PATCHES, CHANNELS, dtype=torch.float64)
    ours, theirs = layout(x).detach().requires_grad_(), x.clone().requires_grad_()
    weights = torch.randn(BATCH, PATCHES, CHANNELS, dtype=torch.float64)

    def gradients(y: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad((y * weights).sum(), (x, *conv.parameters()))

    expected = reference(conv, theirs)
    actual = conv(ours)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(gradients(actual, ours), gradients(expected, theirs))


def test_patch_major_changes_the_memory_alone() -> None:
    x = torch.randn(2, 3, 5)
    moved = patch_major(x)
    assert torch.equal(moved, x)
    assert moved.transpose(0, 1).is_contiguous()
    assert patch_major(moved).data_ptr() == moved.data_ptr()
