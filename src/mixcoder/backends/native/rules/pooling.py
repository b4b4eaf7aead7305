"""Rules of functions of blocks and windows of a field (B, C, *field): means, maxima, other sizes, patches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from itertools import product as each_with_each
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mixcoder.backends.native import graph
from mixcoder.backends.native.graph import Node
from mixcoder.backends.native.rules import shapes
from mixcoder.backends.native.rules.arithmetic import add, is_above, mul
from mixcoder.backends.native.rules.matrix_products import product
from mixcoder.backends.native.rules.rule_table import check, rule, settings_of
from mixcoder.backends.native.rules.shapes import each, repeat_interleave, with_step

_MEANS = {
    "stride": None,
    "padding": 0,
    "ceil_mode": False,
    "count_include_pad": True,
    "divisor_override": None,
}
_MAXIMA = {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False, "return_indices": False}
_WINDOWS = {"dilation": 1, "padding": 0, "stride": 1}
"""Settings of torch's functions and their defaults, in the order of their arguments."""
_FAR_BELOW = -1e30
"""Stands beyond the edges where the largest element is looked for; finite, so that 0 times it is 0."""
_ALONG_AXES = {
    "nearest": "nearest",
    "nearest-exact": "nearest-exact",
    "linear": "linear",
    "bilinear": "linear",
}
"""Ways to interpolate that go along one axis after the other, and their name for one."""


@rule("avg_pool1d", "avg_pool2d")
def avg_pool(x: Node, kernel_size: Any, *given: Any, **named: Any) -> Node:
    """Returns the means of windows, zeros beyond the edges included."""
    settings = settings_of(_MEANS, given, named)
    kernel = each(kernel_size, x.rank - 2)
    padding = each(settings["padding"], x.rank - 2)
    stride = each(settings["stride"] or kernel, x.rank - 2)
    check(not settings["ceil_mode"] and settings["divisor_override"] is None, "windows beyond the edges")
    check(settings["count_include_pad"] or not any(padding), "means without the zeros beyond the edges")
    for axis, size in enumerate(padding, start=2):
        x = graph.pad(x, axis, size, size)
    for axis, (size, step) in enumerate(zip(kernel, stride, strict=True), start=2):
        x = _block_sums(x, axis, size, step)
    return graph.affine(x, 1 / math.prod(kernel))


def _block_sums(x: Node, axis: int, size: int, step: int) -> Node:
    """Returns the sums of `size` elements of an axis, a step from one to the next."""
    count = (x.shape[axis] - size) // step + 1
    if step == size:
        whole = graph.part(x, axis, 0, count * size)
        apart = graph.reshape(whole, (*x.shape[:axis], count, size, *x.shape[axis + 1 :]))
        return graph.reshape(graph.total(apart, [axis + 1]), (*x.shape[:axis], count, *x.shape[axis + 1 :]))
    windows = [with_step(x, axis, tap, tap + (count - 1) * step + 1, step) for tap in range(size)]
    return reduce(graph.add, windows)


@rule("adaptive_avg_pool1d", "adaptive_avg_pool2d")
def adaptive_avg_pool(x: Node, output_size: Any) -> Node:
    """Returns the means of blocks, which may overlap where their number does not divide the field."""
    for axis, size in enumerate(each(output_size, x.rank - 2), start=2):
        if size is not None and size != x.shape[axis]:
            x = _along(x, axis, F.adaptive_avg_pool1d(torch.eye(x.shape[axis])[None], size)[0])
    return x


@rule("max_pool1d", "max_pool2d")
def max_pool(x: Node, kernel_size: Any, *given: Any, **named: Any) -> Node:
    """Returns the largest elements of windows; of equal ones, the first has the gradient."""
    settings = settings_of(_MAXIMA, given, named)
    axes = x.rank - 2
    check(
        not settings["ceil_mode"] and not settings["return_indices"], "windows beyond the edges, or indices"
    )
    check({*each(settings["dilation"], axes)} == {1}, "maxima of windows with dilation")
    kernel, padding = each(kernel_size, axes), each(settings["padding"], axes)
    sides = [side for size in reversed(padding) for side in (size, size)]
    padded = shapes.pad(x, sides, value=_FAR_BELOW)
    first, *others = _windows(padded, kernel, each(settings["stride"] or kernel, axes))
    for window in others:
        is_larger = is_above(window, first)
        first = add(mul(window, is_larger), mul(first, graph.affine(is_larger, -1, 1)))
    return first


@rule("interpolate", "upsample")
def upsample(
    x: Node, size: Any = None, scale_factor: Any = None, mode: str = "nearest", **others: Any
) -> Node:
    """Returns a field in another size: the elements several times in a row, or interpolated linearly."""
    alignment = others.pop("align_corners", None)
    check(mode in _ALONG_AXES and not any(others.values()), f"interpolation in mode {mode}")
    sizes, factors = each(size, x.rank - 2), each(scale_factor, x.rank - 2)
    for axis, (wanted, factor) in enumerate(zip(sizes, factors, strict=True), start=2):
        length = x.shape[axis]
        lines = torch.eye(length)[None]
        matrix = F.interpolate(lines, wanted, factor, _ALONG_AXES[mode], align_corners=alignment)[0]
        times, rest = divmod(matrix.shape[1], length)
        is_repeated = mode == "nearest" and rest == 0
        x = repeat_interleave(x, times, axis) if is_repeated else _along(x, axis, matrix)
    return x


@rule("nn.functional.unfold")
def unfold(x: Node, kernel_size: Any, *given: Any, **named: Any) -> Node:
    """Returns all windows of a field: (B, C · taps, windows)."""
    settings = settings_of(_WINDOWS, given, named)
    check({*each(settings["dilation"], 2)} == {1}, "windows with dilation")
    for axis, size in enumerate(each(settings["padding"], 2), start=2):
        x = graph.pad(x, axis, size, size)
    kernel = each(kernel_size, 2)
    windows = _windows(x, kernel, each(settings["stride"], 2))
    batch, channels, *field = windows[0].shape
    apart = [graph.reshape(window, (batch, channels, 1, math.prod(field))) for window in windows]
    return graph.reshape(graph.cat(apart, 2), (batch, channels * math.prod(kernel), math.prod(field)))


@rule("nn.functional.fold")
def fold(x: Node, output_size: Any, kernel_size: Any, *given: Any, **named: Any) -> Node:
    """Returns patches (B, C · taps, patches), which lie side by side, as a field."""
    settings = settings_of(_WINDOWS, given, named)
    (height, width), (rows, columns) = each(kernel_size, 2), each(output_size, 2)
    is_plain = not any(each(settings["padding"], 2)) and {*each(settings["dilation"], 2)} == {1}
    has_patches = each(settings["stride"], 2) == (height, width) and not rows % height and not columns % width
    check(is_plain and has_patches, "windows that are no patches side by side")
    batch, channels = x.shape[0], x.shape[1] // (height * width)
    apart = graph.reshape(x, (batch, channels, height, width, rows // height, columns // width))
    return graph.reshape(graph.permute(apart, (0, 1, 4, 2, 5, 3)), (batch, channels, rows, columns))


def _windows(x: Node, kernel: Sequence[int], stride: Sequence[int]) -> list[Node]:
    """Returns, for each tap of a window, the elements under it (B, C, *windows)."""
    sizes = [(n - k) // step + 1 for n, k, step in zip(x.shape[2:], kernel, stride, strict=True)]
    check(min(sizes) > 0, "windows larger than their field")
    found = []
    for taps in each_with_each(*map(range, kernel)):
        window = x
        for axis, (tap, size, step) in enumerate(zip(taps, sizes, stride, strict=True), start=2):
            window = with_step(window, axis, tap, tap + (size - 1) * step + 1, step)
        found.append(window)
    return found


def _along(x: Node, axis: int, matrix: Tensor) -> Node:
    """Returns x with an axis multiplied by a constant matrix (its elements, those of the result)."""
    labels = "abcdef"[: x.rank]
    made = labels.replace(labels[axis], "z")
    return product(x, graph.constant(matrix.contiguous()), f"{labels},{labels[axis]}z->{made}")
