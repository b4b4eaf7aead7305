"""Convolutions with a kernel for each channel in native steps: gradients are those in double precision."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mixcoder.backends.native.codes import OPERATIONS
from mixcoder.backends.native.native_step import NativeStep
from mixcoder.models.mixing import MixingLayer, register_mixer
from tests.backends.native.test_native_step import assert_exact, mixer, spec
from tests.conftest import needs_compiler

pytestmark = needs_compiler

Grid = tuple[int, int]


def over_patches(grid: Grid, channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(2, grid),
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
        nn.Flatten(2),
    )


def down_and_up(grid: Grid, channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(channels, channels, 4, stride=2, padding=1, groups=channels),
        nn.Tanh(),
        nn.ConvTranspose1d(channels, channels, 4, stride=2, padding=1, groups=channels),
    )


def dilated(grid: Grid, channels: int) -> nn.Module:
    return nn.Conv1d(channels, channels, 3, padding=2, dilation=2, groups=channels, bias=False)


@pytest.mark.parametrize("create", [over_patches, down_and_up, dilated])
@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("is_over_patches", [True, False])
def test_gradients(create: Callable[[Grid, int], nn.Module], shards: int, is_over_patches: bool) -> None:
    """With channels that fill no vector, and with more than one; images that fill no block of them."""

    @register_mixer("own")
    class Own(MixingLayer):
        def __init__(self, grid: Grid, channels: int, kernel_size: int) -> None:
            super().__init__()
            patches = grid[0] * grid[1]
            of_channels = (5, channels // 5)
            self.module = create(grid, channels) if is_over_patches else create(of_channels, patches)

        def mix(self, x: Tensor) -> Tensor:
            made = self.module(x.transpose(1, 2)).transpose(1, 2) if is_over_patches else self.module(x)
            assert isinstance(made, Tensor)
            return made

    torch.manual_seed(0)
    model = mixer(mixer="own", patch_size=2, hidden_channels=[20, 20, 40], latent_dim=3, mixer_at=[1, 3])
    assert_exact(model, batch_size=22, shards=shards)
    operations = NativeStep(spec(model))._operations[0]
    assert OPERATIONS.index("depthwise") in operations["code"]
