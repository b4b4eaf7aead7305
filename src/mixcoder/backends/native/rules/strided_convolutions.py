"""Convolutions over fields as those of stride 1, for which there are kernels.

stride s: x (B, C, H, W) ─blocks of s x s─▶ (B, C·s·s, H/s, W/s) ─taps in blocks, too─▶ stride 1
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mixcoder.backends.native import graph
from mixcoder.backends.native.graph import Node
from mixcoder.backends.native.kinds import OverField
from mixcoder.backends.native.rules.matrix_products import product


@dataclass(frozen=True)
class Window:
    """How a kernel goes over a field of two axes.

    Attributes:
        stride: down and to the right.
        before: zeros above and to the left.
        after: zeros below and to the right; -1 leaves out a row or a column.
        groups: of channels.
    """

    stride: tuple[int, int]
    before: tuple[int, int]
    after: tuple[int, int]
    groups: int


def convolve(x: Node, weight: Node, window: Window) -> Node:
    """Returns the convolution of x (B, C, H, W) by weights (O, C / groups, *kernel)."""
    if window.stride == (1, 1):
        return _convolved(x, weight, window)
    kernel = weight.shape[2:]
    for axis, step in enumerate(window.stride):
        before, after, size = window.before[axis], window.after[axis], x.shape[2 + axis]
        places = (size + before + after - kernel[axis]) // step + 1
        blocks = places - 1 + -(-kernel[axis] // step)
        x = _resized(x, 2 + axis, before, blocks * step - size - before)
    return _convolved(_in_blocks(x, window.stride), _kernels_in_blocks(weight, window), _over_all(window))


def convolve_back(z: Node, weight: Node, window: Window, field: Sequence[int]) -> Node:
    """Returns x (B, C, *field), the transposed convolution of z (B, O, H, W)."""
    channels = weight.shape[1] * window.groups
    if window.stride == (1, 1):
        return _convolved_back(z, weight, window, (z.shape[0], channels, *field))
    taps = _kernels_in_blocks(weight, window)
    blocks = [size + count - 1 for size, count in zip(z.shape[2:], taps.shape[2:], strict=True)]
    shape = (z.shape[0], channels * math.prod(window.stride), *blocks)
    x = _out_of_blocks(_convolved_back(z, taps, _over_all(window), shape), window.stride)
    for axis, (before, size) in enumerate(zip(window.before, field, strict=True), start=2):
        x = _resized(x, axis, -before, size + before - x.shape[axis])
    return x


def _over_all(window: Window) -> Window:
    """Returns the window of a kernel in blocks over a field in blocks, which has its zeros already."""
    return Window((1, 1), (0, 0), (0, 0), window.groups)


def _convolved(x: Node, weight: Node, window: Window) -> Node:
    if _is_pointwise(weight, window):
        batch, channels, height, width = x.shape
        columns = graph.reshape(x, (batch, window.groups, channels // window.groups, height * width))
        rows = graph.reshape(weight, (window.groups, weight.shape[0] // window.groups, weight.shape[1]))
        return graph.reshape(
            product(columns, rows, "bgip,goi->bgop"), (batch, weight.shape[0], height, width)
        )
    return graph.convolve(x, weight, _kind(weight, window))


def _convolved_back(z: Node, weight: Node, window: Window, shape: tuple[int, ...]) -> Node:
    if _is_pointwise(weight, window):
        batch, outputs, height, width = z.shape
        columns = graph.reshape(z, (batch, window.groups, outputs // window.groups, height * width))
        rows = graph.reshape(weight, (window.groups, outputs // window.groups, weight.shape[1]))
        return graph.reshape(product(columns, rows, "bgop,goi->bgip"), shape)
    return graph.adjoint(z, weight, shape, _kind(weight, window))


def _is_pointwise(weight: Node, window: Window) -> bool:
    return math.prod(weight.shape[2:]) == 1 and not any((*window.before, *window.after))


def _kind(weight: Node, window: Window) -> OverField:
    return OverField(window.before, window.after, window.groups)


def _in_blocks(x: Node, stride: Sequence[int]) -> Node:
    """Returns x (B, C, h·s, w·s) as (B, C·s·s, h, w)."""
    batch, channels, height, width = x.shape
    down, right = stride
    rows, columns = height // down, width // right
    blocks = graph.reshape(x, (batch, channels, rows, down, columns, right))
    joined = graph.permute(blocks, (0, 1, 3, 5, 2, 4))
    return graph.reshape(joined, (batch, channels * down * right, rows, columns))


def _out_of_blocks(x: Node, stride: Sequence[int]) -> Node:
    """Returns x (B, C·s·s, h, w) as (B, C, h·s, w·s)."""
    batch, channels, rows, columns = x.shape
    down, right = stride
    apart = graph.reshape(x, (batch, channels // (down * right), down, right, rows, columns))
    blocks = graph.permute(apart, (0, 1, 4, 2, 5, 3))
    return graph.reshape(blocks, (batch, channels // (down * right), rows * down, columns * right))


def _kernels_in_blocks(weight: Node, window: Window) -> Node:
    """Returns weights (O, C, *kernel) as (O, C·s·s, *blocks), zeros where a kernel fills no whole block."""
    for axis, step in enumerate(window.stride, start=2):
        weight = graph.pad(weight, axis, 0, -weight.shape[axis] % step)
    return _in_blocks(weight, window.stride)


def _resized(x: Node, axis: int, before: int, after: int) -> Node:
    """Returns x with zeros at both ends of an axis, or with elements left out where these are below 0."""
    x = graph.part(x, axis, max(0, -before), x.shape[axis] - max(0, -after))
    return graph.pad(x, axis, max(0, before), max(0, after))
