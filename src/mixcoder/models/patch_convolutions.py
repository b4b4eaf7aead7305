"""The convolutions of the mixing layers, as the fastest of several equal computations.

    x (B, P, C) ─┬─ across: each patch is a channel, its vector the field, (C,) or (√C, √C) ─▶ (B, P, C)
                 └─ over: each breadth is a channel, the patches the field, (P,) or the grid ─▶ (B, P, C)

They hold the parameters of torch's Conv1d and Conv2d and give their results, but for rounding:

* a kernel of one tap is one matrix product over all images, for which x need not be moved where it is
  `patch_major`;
* a Conv1d of a few taps over the patches is one product with copies of x side by side, shifted by a tap
  each;
* in training, a convolution over no more patches than it has taps is one product with the matrix that leads
  from all patches to all patches: it holds each tap once for every pair of patches that the tap connects, and
  a convolution would multiply by padding for most of its time. Outside of training, that matrix would have to
  be made for too few images;
* taps so far from a kernel's middle that they only ever meet padding are left out: of 13 x 13 taps over a
  grid of 4 x 4 patches, 7 x 7 are used.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixcoder.errors import ArgumentError
from mixcoder.models.patches import patch_major

_MOST_TAPS_AS_PRODUCT = 7
"""Taps over the patches, above which copying x for each takes more than it saves; in 2-D it always does."""

_MOST_CONNECTIONS = 2**22
"""Numbers in a matrix from all patches to all patches, above which it takes too much memory."""

Size1d = tuple[int]
Size2d = tuple[int, int]


class _Conv1d(nn.Conv1d):
    """Conv1d with as many channels after it as before, and the size of the field that it works on."""

    def __init__(self, size: Size1d, channels: int, kernel_size: int) -> None:
        super().__init__(channels, channels, kernel_size, padding=same_padding(kernel_size))
        self.size = size


class _Conv2d(nn.Conv2d):
    """Conv2d with as many channels after it as before, and the size of the field that it works on."""

    def __init__(self, size: Size2d, channels: int, kernel_size: int) -> None:
        super().__init__(channels, channels, kernel_size, padding=same_padding(kernel_size))
        self.size = size


_Conv = _Conv1d | _Conv2d


class ConvAcrossPatches(_Conv1d):
    """Conv1d along each patch's vector of breadth C, the P patches as channels: (B, P, C) → (B, P, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return _across_patches(self, x)


class ConvAcrossPatches2d(_Conv2d):
    """Conv2d in each patch's vector seen as a picture, the P patches as channels: (B, P, C) → (B, P, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return _across_patches(self, x)


class ConvOverPatches(_Conv1d):
    """Conv1d along the P patches, the C breadths as channels: (B, P, C) → (B, P, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return _over_patches(self, x)


class ConvOverPatches2d(_Conv2d):
    """Conv2d over the grid of patches, the C breadths as channels: (B, P, C) → (B, P, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return _over_patches(self, x)


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


def linear_in_patches(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Each vector of x (B, P, in) multiplied by `weight` (out, in), plus `bias` (out,): (B, P, out).

    The bias is added apart from the product, so that a compiler makes one pass of it and the activation.
    """
    y = x.transpose(0, 1) @ weight.t()  # (P, B, out)
    return _plus(y, bias).transpose(0, 1)  # (B, P, out)


def _across_patches(conv: _Conv, x: Tensor) -> Tensor:
    """`conv` with the patches of x (B, P, C) as channels."""
    if _has_one_tap(conv):
        batch, patches, breadth = x.shape
        columns = x.transpose(0, 1).reshape(patches, batch * breadth)  # (P, B·C)
        mixed = (conv.weight.flatten(1) @ columns).view(patches, batch, breadth)  # (P, B, C)
        bias = None if conv.bias is None else conv.bias.view(patches, 1, 1)
        return _plus(mixed, bias).transpose(0, 1)  # (B, P, C)
    return patch_major(_convolved(conv, x))  # (B, P, C)


def _over_patches(conv: _Conv, x: Tensor) -> Tensor:
    """`conv` with the breadths of x (B, P, C) as channels."""
    if _has_one_tap(conv):
        return linear_in_patches(x, conv.weight.flatten(1), conv.bias)
    if len(conv.size) == 1 and conv.kernel_size[0] <= _MOST_TAPS_AS_PRODUCT:
        weight = conv.weight.transpose(1, 2).flatten(1)  # (C, taps·C)
        return linear_in_patches(_shifted(x, conv.kernel_size[0]), weight, conv.bias)
    if conv.training and _has_few_places(conv):
        return _plus(_connected(conv, x), conv.bias)
    return patch_major(_convolved(conv, x.transpose(1, 2)).transpose(1, 2))  # (B, P, C)


def _has_few_places(conv: _Conv) -> bool:
    """Whether a matrix from all places of the field to all is less work than the taps, and small enough."""
    places = math.prod(conv.size)
    return places <= math.prod(conv.kernel_size) and (places * conv.in_channels) ** 2 <= _MOST_CONNECTIONS


def _connected(conv: _Conv, x: Tensor) -> Tensor:
    """`conv` without its bias over the patches of x (B, P, C), as one matrix: (B, P, C)."""
    mixed = x.flatten(1) @ _connections(conv.weight, conv.size).t()  # (B, P·C)
    return patch_major(mixed.view(x.shape))  # (B, P, C)


def _connections(weight: Tensor, size: tuple[int, ...]) -> Tensor:
    """The matrix (F·out, F·in) of a convolution over a field of F = prod(size) places.

    Between places y' and y stands tap y - y' from the middle, or zeros where the kernel has no such tap.
    """
    axes = tuple(range(len(size)))
    taps = _taps_for_all(weight, size).movedim((0, 1), (-2, -1)).contiguous()  # (*2·size-1, out, in)
    for axis in axes:
        taps = taps.unfold(axis, size[axis], 1)  # from (…, 2·size-1, …) to (…, size, …, size)
    taps = taps.flip(axes).movedim(len(axes) + 1, -1)  # (*size, out, *size, in)
    places = math.prod(size)
    return taps.reshape(places * weight.shape[0], places * weight.shape[1])  # (F·out, F·in)


def _shifted(x: Tensor, taps: int) -> Tensor:
    """For each of `taps`, the patch of x (B, P, C) that it meets, or zeros: (B, P, taps·C)."""
    patches, margin = x.shape[1], taps // 2
    padded = F.pad(x.transpose(0, 1), (0, 0, 0, 0, margin, margin))  # (P + taps - 1, B, C)
    copies = [padded.narrow(0, tap, patches) for tap in range(taps)]  # each (P, B, C)
    return torch.cat(copies, dim=2).transpose(0, 1)  # (B, P, taps·C)


def _has_one_tap(conv: _Conv) -> bool:
    return all(taps == 1 for taps in conv.kernel_size)


def _convolved(conv: _Conv, x: Tensor) -> Tensor:
    """`conv` of x (B, channels, N), the N numbers of a channel seen as its field; the same shape."""
    convolve: Callable[..., Tensor] = F.conv1d if len(conv.size) == 1 else F.conv2d
    field = x.reshape(*x.shape[:2], *conv.size)  # (B, channels, *size)
    return convolve(field, _reached_taps(conv.weight, conv.size), conv.bias, padding="same").flatten(2)


def _plus(x: Tensor, bias: Tensor | None) -> Tensor:
    return x if bias is None else x + bias


def _taps_for_all(weight: Tensor, size: tuple[int, ...]) -> Tensor:
    """`weight` (out, in, *kernel) with just the taps that some two places of a field of `size` need."""
    taps = _reached_taps(weight, size)
    missing = [(2 * length - 1 - taps.shape[axis]) // 2 for axis, length in enumerate(size, start=2)]
    return F.pad(taps, [each for margin in reversed(missing) for each in (margin, margin)])


def _reached_taps(weight: Tensor, size: tuple[int, ...]) -> Tensor:
    """The part of `weight` (out, in, *kernel) that ever meets a field of `size`."""
    for axis, length in enumerate(size, start=2):
        unreached = weight.shape[axis] // 2 - (length - 1)
        if unreached > 0:
            weight = weight.narrow(axis, unreached, 2 * length - 1)
    return weight
