"""Mixing layers of linear maps over all patches: of all channels alike, or of each group of channels.

token_mlp   x (B, P, C) ──norm──▶ Linear P → hidden ──▶ activation ──▶ Linear hidden → P ──▶ + x
grouped     x (B, P, C) ──norm──▶ for each group of C/groups channels a matrix (P, P) ──▶ activation ──▶ + x
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from mixcoder.errors import ArgumentError
from mixcoder.models.factory import check_positive
from mixcoder.models.mixing import Bias, MixingLayer, add_scaled, create_bias, register_mixer
from mixcoder.models.patches import Grid, patch_major


@register_mixer("token_mlp")
class TokenMlpMixing(MixingLayer):
    """The MLP over patches of the MLP-Mixer, the same for all channels: 2·P·hidden + hidden + P parameters.

    Its activation stands between its two linear layers, not behind them.

    Source: "MLP-Mixer: An all-MLP Architecture for Vision", Tolstikhin et al. 2021, arXiv 2105.01601.

    Args:
        grid: (rows, columns) of patches.
        channels: of a patch's vector.
        kernel_size: without effect.
        hidden: numbers between the two linear layers; by default twice as many as patches.
    """

    def __init__(self, grid: Grid, channels: int, kernel_size: int, hidden: int | None = None) -> None:
        super().__init__()
        patches = math.prod(grid)
        hidden = 2 * patches if hidden is None else hidden
        check_positive("hidden", hidden)
        self.linear1 = nn.Linear(patches, hidden)
        self.linear2 = nn.Linear(hidden, patches)

    def mix(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.linear2(self.act(self.linear1(x.transpose(1, 2))))  # (B, C, P)
        return patch_major(mixed.transpose(1, 2))  # (B, P, C)

    def forward(self, x: Tensor) -> Tensor:
        """Returns x + scale · mix(norm(x)): the activation is within `mix`."""
        return add_scaled(x, self.mix(self.norm(x)), self.residual_scale)


@register_mixer("grouped")
class GroupedMixing(MixingLayer):
    """A matrix over the patches for each group of channels: groups·P² parameters, and P·C of the bias.

    With one group it is one linear layer over the patches, with C groups each channel has its own.

    Source: groups of channels as in "Aggregated Residual Transformations for Deep Neural Networks",
    arXiv 1611.05431.

    Args:
        grid: (rows, columns) of patches.
        channels: of a patch's vector.
        kernel_size: without effect.
        groups: of channels; must divide their number.
        bias: of each `position` of each channel, of each `channel`, or `none`.
    """

    optimized_as: ClassVar = {"weight": "matrices"}

    def __init__(
        self, grid: Grid, channels: int, kernel_size: int, groups: int = 4, bias: Bias = "position"
    ) -> None:
        super().__init__()
        check_positive("groups", groups)
        if channels % groups:
            raise ArgumentError("groups", f"must divide the {channels} channels, got {groups}")
        patches = math.prod(grid)
        self.groups = groups
        self.weight = nn.Parameter(torch.randn(groups, patches, patches) / math.sqrt(patches))
        self.bias = create_bias(bias, patches, channels)

    def mix(self, x: Tensor) -> Tensor:
        batch, patches, channels = x.shape
        grouped = x.reshape(batch, patches, self.groups, channels // self.groups)  # (B, P, G, C/G)
        mixed = torch.einsum("gpq,bqgc->bpgc", self.weight, grouped).reshape(x.shape)  # (B, P, C)
        return mixed if self.bias is None else mixed + self.bias

    def extra_repr(self) -> str:
        return f"groups={self.groups}"
