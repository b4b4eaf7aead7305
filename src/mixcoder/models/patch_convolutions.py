"""The convolutions of the mixing layers, as the fastest of several equal computations.

    x (B, P, C) ─┬─ TokenMixingConv: channels are patches, field a patch, (C,) or (√C, √C) ─▶ (B, P, C)
                 └─ ConvOverPatches: channels are channels, field the patches, (P,) or grid ─▶ (B, P, C)

They hold the parameters of torch's Conv1d and Conv2d and give their results, but for rounding:

* a kernel of one tap is one matmul over all images; x is not moved in memory where it is `patch_major`;
* a Conv1d of a few taps over the patches is one matmul with shifted copies of x side by side, one for a tap;
* in training, a convolution over no more patches than it has taps is one matmul with its Toeplitz matrix
  (P·C, P·C): a convolution would multiply by padding for most of its time. In evaluation, the few images of a
  batch would not pay for building that matrix;
* taps that only ever reach padding are left out: of 13 x 13 taps over a grid of 4 x 4 patches, 7 x 7 stay.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function

from mixcoder.errors import ArgumentError
from mixcoder.models.patches import patch_major

_MOST_TAPS_AS_MATMUL = 7
"""Taps over the patches; with more, copying x for each takes longer than it saves. In 2-D it always does."""

_MOST_TOEPLITZ_ELEMENTS = 2**22
"""Elements (16 MiB in float32); a larger Toeplitz matrix takes too much memory."""

Size1d = tuple[int]
Size2d = tuple[int, int]


class _Conv1d(nn.Conv1d):
    """A Conv1d that keeps the number of channels, and the size of its field."""

    def __init__(self, size: Size1d, channels: int, kernel_size: int) -> None:
        super().__init__(channels, channels, kernel_size, padding=same_padding(kernel_size))
        self.size = size


class _Conv2d(nn.Conv2d):
    """A Conv2d that keeps the number of channels, and the size of its field."""

    def __init__(self, size: Size2d, channels: int, kernel_size: int) -> None:
        super().__init__(channels, channels, kernel_size, padding=same_padding(kernel_size))
        self.size = size


_Conv = _Conv1d | _Conv2d


class TokenMixingConv1d(_Conv1d):
    """A Conv1d along each patch's vector, the P patches as channels: (B, P, C) → (B, P, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return mix_tokens(self, x, self.weight, self.bias)


class TokenMixingConv2d(_Conv2d):
    """A Conv2d on each patch's vector as a √C x √C picture, patches as channels: (B, P, C) → (B, P, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return mix_tokens(self, x, self.weight, self.bias)


class ConvOverPatches1d(_Conv1d):
    """A Conv1d along the P patches, the C channels as channels: (B, P, C) → (B, P, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return mix_over_patches(self, x, self.weight, self.bias)


class ConvOverPatches2d(_Conv2d):
    """A Conv2d over the grid of patches, the C channels as channels: (B, P, C) → (B, P, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return mix_over_patches(self, x, self.weight, self.bias)


def same_padding(kernel_size: int) -> int:
    """Returns the padding that keeps a convolution's size.

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
    """Returns each vector of x (B, P, in) times `weight` (out, in), plus `bias` (out,): (B, P, out).

    The bias is added after the matmul, so that a compiler fuses it with the activation.
    """
    y = x.transpose(0, 1) @ weight.t()  # (P, B, out)
    return _plus(y, bias).transpose(0, 1)  # (B, P, out)


def mix_tokens(conv: _Conv, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Returns `conv` of x (B, P, C), its patches as channels: (B, P, C).

    A backend may have an operation of its own for it, which is given the weight and bias of `conv` apart.
    """
    if has_torch_function((x, weight)):
        return handle_torch_function(mix_tokens, (x, weight), conv, x, weight, bias)
    if _has_one_tap(conv):
        batch, patches, channels = x.shape
        columns = x.transpose(0, 1).reshape(patches, batch * channels)  # (P, B·C)
        mixed = (weight.flatten(1) @ columns).view(patches, batch, channels)  # (P, B, C)
        bias = None if bias is None else bias.view(patches, 1, 1)
        return _plus(mixed, bias).transpose(0, 1)  # (B, P, C)
    return patch_major(_convolved(conv, x))  # (B, P, C)


def mix_over_patches(conv: _Conv, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Returns `conv` of x (B, P, C), its channels as channels: (B, P, C); see `mix_tokens`."""
    if has_torch_function((x, weight)):
        return handle_torch_function(mix_over_patches, (x, weight), conv, x, weight, bias)
    if _has_one_tap(conv):
        return linear_in_patches(x, weight.flatten(1), bias)
    if len(conv.size) == 1 and conv.kernel_size[0] <= _MOST_TAPS_AS_MATMUL:
        weight = weight.transpose(1, 2).flatten(1)  # (C, taps·C)
        return linear_in_patches(_shifted(x, conv.kernel_size[0]), weight, bias)
    if conv.training and _prefers_toeplitz(conv):
        return _plus(_convolved_by_toeplitz(conv, x), bias)
    return patch_major(_convolved(conv, x.transpose(1, 2)).transpose(1, 2))  # (B, P, C)


def _prefers_toeplitz(conv: _Conv) -> bool:
    """Returns whether the Toeplitz matrix is less work than the taps, and small enough."""
    places = math.prod(conv.size)
    return (
        places <= math.prod(conv.kernel_size) and (places * conv.in_channels) ** 2 <= _MOST_TOEPLITZ_ELEMENTS
    )


def _convolved_by_toeplitz(conv: _Conv, x: Tensor) -> Tensor:
    """Returns `conv` over the patches of x (B, P, C), without its bias, as one matmul: (B, P, C)."""
    mixed = x.flatten(1) @ _toeplitz(conv.weight, conv.size).t()  # (B, P·C)
    return patch_major(mixed.view(x.shape))  # (B, P, C)


def _toeplitz(weight: Tensor, size: tuple[int, ...]) -> Tensor:
    """Returns the Toeplitz matrix (F·out, F·in) of a convolution over a field of F = prod(size) places.

    Its block at (y', y) is tap y - y' from the middle, or zeros where the kernel has no such tap.
    """
    axes = tuple(range(len(size)))
    taps = _taps_for_all(weight, size).movedim((0, 1), (-2, -1)).contiguous()  # (*2·size-1, out, in)
    for axis in axes:
        taps = taps.unfold(axis, size[axis], 1)  # from (…, 2·size-1, …) to (…, size, …, size)
    taps = taps.flip(axes).movedim(len(axes) + 1, -1)  # (*size, out, *size, in)
    places = math.prod(size)
    return taps.reshape(places * weight.shape[0], places * weight.shape[1])  # (F·out, F·in)


def _shifted(x: Tensor, taps: int) -> Tensor:
    """Returns, for each patch of x (B, P, C), the vector under each of `taps`, or zeros: (B, P, taps·C)."""
    patches, margin = x.shape[1], taps // 2
    padded = F.pad(x.transpose(0, 1), (0, 0, 0, 0, margin, margin))  # (P + taps - 1, B, C)
    shifted = [padded.narrow(0, tap, patches) for tap in range(taps)]  # each (P, B, C)
    return torch.cat(shifted, dim=2).transpose(0, 1)  # (B, P, taps·C)


def _has_one_tap(conv: _Conv) -> bool:
    return all(taps == 1 for taps in conv.kernel_size)


def _convolved(conv: _Conv, x: Tensor) -> Tensor:
    """Returns `conv` of x (B, channels, N), the N elements of a channel seen as its field; the same shape."""
    convolve: Callable[..., Tensor] = F.conv1d if len(conv.size) == 1 else F.conv2d
    field = x.reshape(*x.shape[:2], *conv.size)  # (B, channels, *size)
    return convolve(field, _reached_taps(conv.weight, conv.size), conv.bias, padding="same").flatten(2)


def _plus(x: Tensor, bias: Tensor | None) -> Tensor:
    return x if bias is None else x + bias


def _taps_for_all(weight: Tensor, size: tuple[int, ...]) -> Tensor:
    """Returns `weight` (out, in, *kernel) cut or padded to the 2·size - 1 taps of a field of `size`."""
    taps = _reached_taps(weight, size)
    missing = [(2 * length - 1 - taps.shape[axis]) // 2 for axis, length in enumerate(size, start=2)]
    return F.pad(taps, [side for margin in reversed(missing) for side in (margin, margin)])


def _reached_taps(weight: Tensor, size: tuple[int, ...]) -> Tensor:
    """Returns the taps of `weight` (out, in, *kernel) that reach more than padding in a field of `size`."""
    for axis, length in enumerate(size, start=2):
        unreached = weight.shape[axis] // 2 - (length - 1)
        if unreached > 0:
            weight = weight.narrow(axis, unreached, 2 * length - 1)
    return weight
