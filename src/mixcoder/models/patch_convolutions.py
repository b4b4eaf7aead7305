"""The convolutions of the mixing layers, as the fastest of several equal computations.

    x (B, P, C) ─┬─ across: each patch is a channel, its vector the field, (C,) or (√C, √C) ─▶ (B, P, C)
                 └─ over: each breadth is a channel, the patches the field, (P,) or the grid ─▶ (B, P, C)

They hold the parameters of torch's Conv1d and Conv2d and give their results, but for rounding:

* a kernel of one tap is one matrix product over all images, for which x need not be moved where it is
  `patch_major`;
* taps so far from a kernel's middle that they only ever meet padding are left out: of 13 x 13 taps over a
  grid of 4 x 4 patches, 7 x 7 are used.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mixcoder.errors import ArgumentError
from mixcoder.models.patches import patch_major

Size1d = tuple[int]
Size2d = tuple[int, int]


class ConvAcrossPatches(nn.Conv1d):
    """Conv1d along each patch's vector of breadth C, the P patches as channels: (B, P, C) → (B, P, C)."""

    def __init__(self, size: Size1d, patches: int, kernel_size: int) -> None:
        super().__init__(patches, patches, kernel_size, padding=same_padding(kernel_size))
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel_size == (1,):
            return _products_across_patches(x, self.weight, self.bias)
        weight = _reached_taps(self.weight, self.size)
        return patch_major(F.conv1d(x, weight, self.bias, padding="same"))  # (B, P, C)


class ConvAcrossPatches2d(nn.Conv2d):
    """Conv2d in each patch's vector seen as a picture, the P patches as channels: (B, P, C) → (B, P, C)."""

    def __init__(self, size: Size2d, patches: int, kernel_size: int) -> None:
        super().__init__(patches, patches, kernel_size, padding=same_padding(kernel_size))
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel_size == (1, 1):
            return _products_across_patches(x, self.weight, self.bias)
        x = x.reshape(*x.shape[:2], *self.size)  # (B, P, √C, √C)
        x = F.conv2d(x, _reached_taps(self.weight, self.size), self.bias, padding="same")
        return patch_major(x.flatten(2))  # (B, P, C)


class ConvOverPatches(nn.Conv1d):
    """Conv1d along the P patches, the C breadths as channels: (B, P, C) → (B, P, C)."""

    def __init__(self, size: Size1d, breadths: int, kernel_size: int) -> None:
        super().__init__(breadths, breadths, kernel_size, padding=same_padding(kernel_size))
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel_size == (1,):
            return _products_in_patches(x, self.weight, self.bias)
        weight = _reached_taps(self.weight, self.size)
        x = F.conv1d(x.transpose(1, 2), weight, self.bias, padding="same")  # (B, C, P)
        return patch_major(x.transpose(1, 2))  # (B, P, C)


class ConvOverPatches2d(nn.Conv2d):
    """Conv2d over the grid of patches, the C breadths as channels: (B, P, C) → (B, P, C)."""

    def __init__(self, size: Size2d, breadths: int, kernel_size: int) -> None:
        super().__init__(breadths, breadths, kernel_size, padding=same_padding(kernel_size))
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel_size == (1, 1):
            return _products_in_patches(x, self.weight, self.bias)
        x = x.transpose(1, 2).reshape(len(x), -1, *self.size)  # (B, C, rows, columns)
        x = F.conv2d(x, _reached_taps(self.weight, self.size), self.bias, padding="same")
        return patch_major(x.flatten(2).transpose(1, 2))  # (B, P, C)


def same_padding(kernel_size: int) -> int:
    """The padding that keeps a convolution's size.

    Raises:
        ArgumentError: the kernel is even, so that no padding does.
    """
    if kernel_size < 1 or kernel_size % 2 == 0:
        fitting = "1, 3 or 5" if kernel_size < 1 else f"{kernel_size - 1} or {kernel_size + 1}"
        raise ArgumentError(
            "kernel_size",
            f"must be odd so that padding keeps the size, got {kernel_size}; {fitting} would fit",
        )
    return (kernel_size - 1) // 2


def _products_across_patches(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The patches of x (B, P, C) mixed by `weight` (P, P, 1…)."""
    batch, patches, breadth = x.shape
    columns = x.transpose(0, 1).reshape(patches, batch * breadth)  # (P, B·C)
    mixed = (weight.view(patches, patches) @ columns).view(patches, batch, breadth)  # (P, B, C)
    if bias is not None:
        mixed = mixed + bias.view(patches, 1, 1)
    return mixed.transpose(0, 1)  # (B, P, C)


def _products_in_patches(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Each vector of x (B, P, C) multiplied by `weight` (C, C, 1…)."""
    return F.linear(x.transpose(0, 1), weight.flatten(1), bias).transpose(0, 1)  # (B, P, C)


def _reached_taps(weight: Tensor, size: tuple[int, ...]) -> Tensor:
    """The part of `weight` (out, in, *kernel) that ever meets a field of `size`."""
    for axis, length in enumerate(size, start=2):
        unreached = weight.shape[axis] // 2 - (length - 1)
        if unreached > 0:
            weight = weight.narrow(axis, unreached, 2 * length - 1)
    return weight
