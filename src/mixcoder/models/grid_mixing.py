"""Mixing layers that know the grid of patches, and treat each channel alone.

kronecker   x (B, P, C) as (B, rows, columns, C)
│ along the columns, A_c (rows, rows)          (B, rows, columns, C)
│ along the rows, B_c (columns, columns)       (B, rows, columns, C)
▼ + bias                                        (B, P, C)

depthwise   x (B, P, C) as (B, C, rows, columns) ── k x k convolution of each channel ──▶ (B, P, C)
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mixcoder.models.mixing import Bias, MixingLayer, create_bias, register_mixer
from mixcoder.models.patch_convolutions import same_padding
from mixcoder.models.patches import Grid, patch_major

_MOST_WORK_AS_ONE = 4
"""Multiply-adds of a channel's matmul with A ⊗ B for one of two steps, above which it takes the two."""


@register_mixer("kronecker")
class KroneckerMixing(MixingLayer):
    """For each channel the matrix A ⊗ B over the grid: C·(rows² + columns²) parameters, and P·C of the bias.

    A mixes within each column of the grid, B within each row: every position reaches every other one, for a
    grid of any size.

    Source: Kronecker products as layers, "Exploiting Local Structures with the Kronecker Layer in
    Convolutional Networks", arXiv 1512.09194; the axes one after the other, "Axial Attention in
    Multidimensional Transformers", arXiv 1912.12180.

    Args:
        grid: (rows, columns) of patches.
        channels: of a patch's vector.
        kernel_size: without effect.
        bias: of each `position` of each channel, of each `channel`, or `none`.
    """

    optimized_as: ClassVar = {"rows": "matrices", "columns": "matrices"}

    def __init__(self, grid: Grid, channels: int, kernel_size: int, bias: Bias = "position") -> None:
        super().__init__()
        self.grid = grid
        rows, columns = grid
        self.rows = nn.Parameter(torch.randn(channels, rows, rows) / math.sqrt(rows))
        self.columns = nn.Parameter(torch.randn(channels, columns, columns) / math.sqrt(columns))
        self.bias = create_bias(bias, rows * columns, channels)

    def mix(self, x: Tensor) -> Tensor:
        rows, columns = self.grid
        is_small = rows * columns <= _MOST_WORK_AS_ONE * (rows + columns)
        mixed = self._in_one(x) if is_small else self._by_axes(x)  # (B, P, C)
        return mixed if self.bias is None else mixed + self.bias

    def _in_one(self, x: Tensor) -> Tensor:
        """Returns A ⊗ B times each channel of x, as one matmul of each channel: (B, P, C)."""
        patches = x.shape[1]
        kronecker = torch.einsum("crs,cij->crisj", self.rows, self.columns)
        matrices = kronecker.reshape(-1, patches, patches)  # (C, P, P)
        return torch.einsum("cpq,bqc->bpc", matrices, x)

    def _by_axes(self, x: Tensor) -> Tensor:
        """Returns the same, computed along the columns and then along the rows of the grid: (B, P, C)."""
        field = x.reshape(x.shape[0], *self.grid, x.shape[2])  # (B, rows, columns, C)
        along_columns = torch.einsum("crs,bsjc->brjc", self.rows, field)
        along_rows = torch.einsum("cij,brjc->bric", self.columns, along_columns)
        return along_rows.reshape(x.shape)  # (B, P, C)

    def extra_repr(self) -> str:
        return f"grid={self.grid}"


@register_mixer("depthwise")
class DepthwiseMixing(MixingLayer):
    """A k x k convolution over the grid, one for each channel: C·k² parameters, and the bias.

    Source: depthwise convolutions as token mixing, "Patches Are All You Need?", arXiv 2201.09792.

    Args:
        grid: (rows, columns) of patches.
        channels: of a patch's vector.
        kernel_size: k, odd.
        bias: of each `position` of each channel, of each `channel`, or `none`.
    """

    optimized_as: ClassVar = {"weight": "vector"}

    def __init__(self, grid: Grid, channels: int, kernel_size: int, bias: Bias = "channel") -> None:
        super().__init__()
        self.grid = grid
        self.padding = same_padding(kernel_size)
        self.weight = nn.Parameter(torch.randn(channels, 1, kernel_size, kernel_size) / kernel_size)
        self.bias = create_bias(bias, math.prod(grid), channels)

    def mix(self, x: Tensor) -> Tensor:
        batch, _, channels = x.shape
        field = x.transpose(1, 2).reshape(batch, channels, *self.grid)  # (B, C, rows, columns)
        mixed = F.conv2d(field, self.weight, padding=self.padding, groups=channels)
        mixed = patch_major(mixed.flatten(2).transpose(1, 2))  # (B, P, C)
        return mixed if self.bias is None else mixed + self.bias

    def extra_repr(self) -> str:
        return f"grid={self.grid}, kernel_size={self.weight.shape[-1]}"
