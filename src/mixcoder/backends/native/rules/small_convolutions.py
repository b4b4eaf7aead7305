"""Rules of convolutions over small fields: by rows, or shifted copies of x and one product, or a sum.

x (B, C, *field) ─pad, a slice for each tap─┬─▶ (B, groups, taps · C/groups, places) ─contract─▶ (B, O, *out)
└─▶ Σ slice · weight, where each channel has its own kernel
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product as each_with_each
from typing import Any

from mixcoder.backends.native import graph
from mixcoder.backends.native.graph import ConvolutionKind, Node
from mixcoder.backends.native.kinds import OverPatches
from mixcoder.backends.native.rules.arithmetic import add, mul
from mixcoder.backends.native.rules.matrix_products import product
from mixcoder.backends.native.rules.rule_table import check, rule
from mixcoder.backends.native.rules.shapes import repeat_interleave, with_step

_FORWARD = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
_TRANSPOSED = {"stride": 1, "padding": 0, "output_padding": 0, "groups": 1, "dilation": 1}
"""Settings of torch's functions and their defaults, in the order of their arguments."""


_LONGEST_ROW = 8
"""Places in a row of a field, above which products of whole rows multiply mostly by zeros."""
_MOST_COLUMNS = 2**12
"""Elements of an image's shifted copies, above which a compiled graph is faster."""


Form = Callable[[Node, Node, ConvolutionKind], Node]
"""A convolution of x by a weight, or its adjoint."""


@dataclass(frozen=True)
class _Taps:
    """Where the taps of a kernel begin on each axis of a padded field.

    Attributes:
        offsets: for each axis, for each tap.
        sizes: of the result.
        stride: on each axis.
    """

    offsets: Sequence[Sequence[int]]
    sizes: Sequence[int]
    stride: Sequence[int]


@rule("conv1d")
def conv1d(input: Node, weight: Node, bias: Node | None = None, *given: Any, **named: Any) -> Node:
    """Returns a convolution over one axis."""
    return _convolution(input, weight, bias, _settings(_FORWARD, given, named))


@rule("conv2d")
def conv2d(input: Node, weight: Node, bias: Node | None = None, *given: Any, **named: Any) -> Node:
    """Returns a convolution over two axes."""
    return _convolution(input, weight, bias, _settings(_FORWARD, given, named))


@rule("conv_transpose1d")
def conv_transpose1d(input: Node, weight: Node, bias: Node | None = None, *given: Any, **named: Any) -> Node:
    """Returns a transposed convolution over one axis."""
    return _transposed_convolution(input, weight, bias, _settings(_TRANSPOSED, given, named))


@rule("conv_transpose2d")
def conv_transpose2d(input: Node, weight: Node, bias: Node | None = None, *given: Any, **named: Any) -> Node:
    """Returns a transposed convolution over two axes."""
    return _transposed_convolution(input, weight, bias, _settings(_TRANSPOSED, given, named))


def _settings(defaults: Mapping[str, Any], given: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    unknown = set(named) - set(defaults)
    check(not unknown, f"a convolution with {', '.join(sorted(unknown))}")
    return {**defaults, **dict(zip(defaults, given, strict=False)), **named}


def _convolution(x: Node, weight: Node, bias: Node | None, settings: Mapping[str, Any]) -> Node:
    axes = weight.rank - 2
    stride, dilation = (_each(settings[name], axes) for name in ("stride", "dilation"))
    kernel, groups = weight.shape[2:], int(settings["groups"])
    reach = [step * (taps - 1) for step, taps in zip(dilation, kernel, strict=True)]
    sides = _padding(settings["padding"], reach)
    batch = x if x.rank == weight.rank else graph.reshape(x, (1, *x.shape))
    is_plain = groups == 1 and {*stride, *dilation} == {1} and _keeps_size(sides, kernel)
    if is_plain and _suits_rows(batch, weight):
        return _finished(_by_rows(batch, weight, weight.shape[0], graph.convolve), bias, x)
    padded = _padded(batch, sides)
    sizes = [(n - r - 1) // s + 1 for n, r, s in zip(padded.shape[2:], reach, stride, strict=True)]
    check(min(sizes) > 0, "a convolution whose kernel is larger than its field")
    offsets = [[d * tap for tap in range(k)] for d, k in zip(dilation, kernel, strict=True)]
    by_group = graph.reshape(weight, (groups, weight.shape[0] // groups, weight.shape[1], math.prod(kernel)))
    matrix = graph.permute(by_group, (0, 1, 3, 2))  # (groups, out, taps, in)
    return _finished(_correlated(padded, matrix, _Taps(offsets, sizes, stride)), bias, x)


def _transposed_convolution(x: Node, weight: Node, bias: Node | None, settings: Mapping[str, Any]) -> Node:
    axes = weight.rank - 2
    names = ("stride", "padding", "output_padding", "dilation")
    stride, padding, more, dilation = (_each(settings[name], axes) for name in names)
    kernel, groups = weight.shape[2:], int(settings["groups"])
    batch = x if x.rank == weight.rank else graph.reshape(x, (1, *x.shape))
    is_plain = groups == 1 and {*stride, *dilation} == {1} and not any(more)
    if is_plain and _keeps_size([(size, size) for size in padding], kernel) and _suits_rows(batch, weight):
        return _finished(_by_rows(batch, weight, weight.shape[1], _adjoint), bias, x)
    for axis, step in enumerate(stride, start=2):
        batch = _spread(batch, axis, step)
    reach = [step * (taps - 1) for step, taps in zip(dilation, kernel, strict=True)]
    padded = _padded(batch, [(r - p, r - p + m) for r, p, m in zip(reach, padding, more, strict=True)])
    sizes = [n - r for n, r in zip(padded.shape[2:], reach, strict=True)]
    check(min(sizes) > 0, "a transposed convolution that leaves nothing")
    offsets = [[r - d * tap for tap in range(k)] for r, d, k in zip(reach, dilation, kernel, strict=True)]
    by_group = graph.reshape(weight, (groups, weight.shape[0] // groups, weight.shape[1], math.prod(kernel)))
    matrix = graph.permute(by_group, (0, 2, 3, 1))  # (groups, out, taps, in)
    return _finished(_correlated(padded, matrix, _Taps(offsets, sizes, [1] * axes)), bias, x)


# ── rows of a small field ────────────────────────────────────────────────────────────────────────────


def _keeps_size(sides: Sequence[tuple[int, int]], kernel: Sequence[int]) -> bool:
    """Returns whether padding keeps the size of a field, with as much of it on both sides."""
    return all(k % 2 == 1 and side == (k // 2, k // 2) for side, k in zip(sides, kernel, strict=True))


def _suits_rows(x: Node, weight: Node) -> bool:
    """Returns whether products of whole rows of a field waste little: a line's waste nothing."""
    few, many = sorted(weight.shape[:2])
    width = 1 if x.rank == 3 else x.shape[3]
    return math.prod(weight.shape[2:]) > 1 and width <= _LONGEST_ROW and many <= 2 * few


def _by_rows(x: Node, weight: Node, made: int, form: Form) -> Node:
    """Returns a convolution of x (B, C, *field) as that of a mixing layer over patches: (B, made, *field).

    Such a one keeps the channels: missing ones are zeros.
    """
    batch, taken, *field = x.shape
    most, places = max(made, taken), math.prod(field)
    patches = graph.permute(graph.reshape(x, (batch, taken, places)), (0, 2, 1))
    for axis in (0, 1):
        weight = graph.pad(weight, axis, 0, most - weight.shape[axis])
    kind = OverPatches(weight.shape[2:], tuple(field))
    result = graph.part(form(graph.pad(patches, 2, 0, most - taken), weight, kind), 2, 0, made)
    return graph.reshape(graph.permute(result, (0, 2, 1)), (batch, made, *field))


def _adjoint(z: Node, weight: Node, kind: ConvolutionKind) -> Node:
    """Returns the transposed convolution of a kind that keeps the size."""
    return graph.adjoint(z, weight, z.shape, kind)


# ── shifted copies ───────────────────────────────────────────────────────────────────────────────────


def _correlated(x: Node, matrix: Node, taps: _Taps) -> Node:
    """Returns x (B, C, *field) by a matrix (groups, out, taps, in): (B, groups · out, *sizes)."""
    groups, made, count, taken = matrix.shape
    windows = [_window(x, offsets, taps) for offsets in each_with_each(*taps.offsets)]
    batch, places = x.shape[0], math.prod(taps.sizes)
    if taken == 1:
        apart = [graph.reshape(window, (batch, groups, 1, places)) for window in windows]
        weights = [graph.reshape(graph.part(matrix, 2, i, i + 1), (groups, made, 1)) for i in range(count)]
        result = mul(apart[0], weights[0])
        for window, weight in zip(apart[1:], weights[1:], strict=True):
            result = add(result, mul(window, weight))
    else:
        elements = count * taken * places
        check(count == 1 or elements <= _MOST_COLUMNS, "a convolution over so many places and channels")
        columns = graph.cat([graph.reshape(w, (batch, groups, 1, taken, places)) for w in windows], 2)
        columns = graph.reshape(columns, (batch, groups, count * taken, places))
        rows = graph.reshape(matrix, (groups, made, count * taken))
        result = product(columns, rows, "bgkp,gok->bgop")
    return graph.reshape(result, (batch, groups * made, *taps.sizes))


def _window(x: Node, offsets: Sequence[int], taps: _Taps) -> Node:
    """Returns the elements of x (B, C, *field) under one tap: (B, C, *sizes)."""
    for axis, (offset, size, step) in enumerate(zip(offsets, taps.sizes, taps.stride, strict=True), start=2):
        x = with_step(x, axis, offset, offset + (size - 1) * step + 1, step)
    return x


def _finished(result: Node, bias: Node | None, x: Node) -> Node:
    """Returns a result plus its bias, for an x without an axis of images without one."""
    if bias is not None:
        result = add(result, graph.reshape(bias, (*bias.shape, *(1,) * (result.rank - 2))))
    return result if x.rank == result.rank else graph.reshape(result, result.shape[1:])


def _spread(x: Node, axis: int, step: int) -> Node:
    """Returns x with step - 1 zeros between each two elements of an axis."""
    if step == 1:
        return x
    before, length, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
    apart = graph.pad(graph.reshape(x, (*before, length, 1, *after)), axis + 1, 0, step - 1)
    joined = graph.reshape(apart, (*before, length * step, *after))
    return graph.part(joined, axis, 0, (length - 1) * step + 1)


def _each(value: int | Sequence[int], axes: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * axes if len(values) == 1 else values


def _padding(padding: Any, reach: Sequence[int]) -> list[tuple[int, int]]:
    """Returns the zeros at both ends of each axis."""
    if padding == "same":
        return [(r // 2, r - r // 2) for r in reach]
    sizes = [0] * len(reach) if padding == "valid" else _each(padding, len(reach))
    return [(size, size) for size in sizes]


def _padded(x: Node, sides: Sequence[tuple[int, int]]) -> Node:
    for axis, (before, after) in enumerate(sides, start=2):
        x = graph.part(x, axis, max(0, -before), x.shape[axis] - max(0, -after))
        x = graph.pad(x, axis, max(0, before), max(0, after))
    return x


# ── pooling and scaling ──────────────────────────────────────────────────────────────────────────────


@rule("avg_pool1d", "avg_pool2d")
def avg_pool(x: Node, kernel_size: int | Sequence[int], stride: Any = None, padding: Any = 0) -> Node:
    """Returns the means of blocks, zeros beyond the edges included."""
    axes = x.rank - 2
    kernel = _each(kernel_size, axes)
    steps = kernel if stride is None else _each(stride, axes)
    x = _padded(x, [(size, size) for size in _each(padding, axes)])
    for axis, (size, step) in enumerate(zip(kernel, steps, strict=True), start=2):
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
    """Returns the means of equal blocks."""
    sizes = [output_size] * (x.rank - 2) if isinstance(output_size, int) else list(output_size)
    places = x.shape[2:]
    wanted = [n if size is None else size for n, size in zip(places, sizes, strict=True)]
    check(all(n % size == 0 for n, size in zip(places, wanted, strict=True)), "pooling to unequal blocks")
    return avg_pool(x, [n // size for n, size in zip(places, wanted, strict=True)])


@rule("interpolate", "upsample")
def upsample(
    x: Node, size: Any = None, scale_factor: Any = None, mode: str = "nearest", **others: Any
) -> Node:
    """Returns each element of the field several times in a row."""
    check(mode == "nearest" and not any(others.values()), f"interpolation in mode {mode}")
    axes = x.rank - 2
    if size is not None:
        sizes = _each(size, axes)
        factors = [n / before for n, before in zip(sizes, x.shape[2:], strict=True)]
    else:
        factors = [scale_factor] * axes if isinstance(scale_factor, int | float) else list(scale_factor)
    check(all(factor == int(factor) for factor in factors), "interpolation by a factor that is not whole")
    for axis, factor in enumerate(factors, start=2):
        x = repeat_interleave(x, int(factor), axis)
    return x
