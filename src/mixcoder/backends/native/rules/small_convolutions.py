"""Rules of convolutions.

Each has one of five forms:

blocks   a kernel as large as its stride, such as of patches: one product, and nothing is moved
line     a line keeps its size: products as in a mixing layer over patches
field    windows of a field are matrices (field_convolutions.py)
own      each channel has its own kernel: sums of products with vectors of channels
matrix   all else: one product with the matrix (places of the result, places of x) of each pair of channels
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from mixcoder.backends.native import graph
from mixcoder.backends.native.graph import ConvolutionKind, Node, Shape
from mixcoder.backends.native.kinds import Depthwise, OverPatches
from mixcoder.backends.native.rules.arithmetic import add
from mixcoder.backends.native.rules.matrix_products import product
from mixcoder.backends.native.rules.rule_table import check, rule, settings_of
from mixcoder.backends.native.rules.shapes import each
from mixcoder.backends.native.rules.strided_convolutions import Window, convolve, convolve_back

_FORWARD = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
_TRANSPOSED = {"stride": 1, "padding": 0, "output_padding": 0, "groups": 1, "dilation": 1}
"""Settings of torch's functions and their defaults, in the order of their arguments."""
_MOST_WEIGHTS = 2**21
"""Weights of a convolution, above which ordering them takes too long: 8 MiB."""
_LEAST_CHANNELS = 8
"""Channels with a kernel each, below which most of a vector of channels is empty."""
_MOST_TERMS = 2**16
"""Places times taps that are listed for such kernels: 512 KiB."""
_MOST_PLACES = 10
"""Places of a field for each tap, above which a matrix holds mostly zeros."""
_MOST_ELEMENTS = 2**19
"""Elements of a convolution's matrices, above which they take longer to make than to use."""


@dataclass(frozen=True)
class _Convolution:
    """A convolution, or a transposed one, of x (B, C, *field) by a weight, without its bias.

    Attributes:
        x: (B, C, *field).
        weight: (O, C/groups, *kernel); (C, O/groups, *kernel) of a transposed one.
        groups: of channels.
        stride: along each axis of the field.
        dilation: along each axis.
        sides: zeros before and after the field along each axis.
    """

    x: Node
    weight: Node
    groups: int
    stride: Shape
    dilation: Shape
    sides: tuple[tuple[int, int], ...]

    @property
    def kernel(self) -> Shape:
        """Taps along each axis."""
        return self.weight.shape[2:]

    @property
    def field(self) -> Shape:
        """Places along each axis."""
        return self.x.shape[2:]

    @property
    def has_blocks(self) -> bool:
        """Whether each place of the field is under one tap."""
        is_plain = {*self.dilation} == {1} and not any(map(any, self.sides))
        return is_plain and self.stride == self.kernel

    @property
    def keeps_line(self) -> bool:
        """Whether a field of one axis keeps its size, and nearly its channels."""
        same = tuple((size // 2, size // 2) for size in self.kernel)
        is_plain = {*self.dilation, *self.stride, self.groups} == {1} and all(n % 2 for n in self.kernel)
        few, many = sorted(self.weight.shape[:2])
        return is_plain and self.sides == same and len(self.field) == 1 and many <= 2 * few

    @property
    def window(self) -> Window | None:
        """How a kernel goes over a plane, of which a line is a row; None where windows are no matrices."""
        if {*self.dilation} != {1} or self.weight.size > _MOST_WEIGHTS:
            return None
        (down, right), (rows, columns) = (1, *self.stride)[-2:], ((0, 0), *self.sides)[-2:]
        return Window((down, right), (rows[0], columns[0]), (rows[1], columns[1]), self.groups)

    def has_own_kernels(self, sizes: Sequence[int]) -> bool:
        """Returns whether each channel has its own kernel, with channels enough to fill a vector."""
        channels, terms = self.x.shape[1], math.prod(sizes) * math.prod(self.kernel)
        is_own = self.weight.shape[:2] == (channels, 1) and self.groups == channels
        return is_own and channels >= _LEAST_CHANNELS and terms <= _MOST_TERMS

    def by_group(self) -> Node:
        """Returns x as (B, groups, C/groups, places)."""
        batch, channels, *field = self.x.shape
        return graph.reshape(self.x, (batch, self.groups, channels // self.groups, math.prod(field)))

    def weight_by_group(self) -> Node:
        """Returns the weight as (groups, its first channels/groups, its second channels, taps)."""
        first, second = self.weight.shape[:2]
        taps = math.prod(self.kernel)
        return graph.reshape(self.weight, (self.groups, first // self.groups, second, taps))


@rule("conv1d", "conv2d")
def convolution(input: Node, weight: Node, bias: Node | None = None, *given: Any, **named: Any) -> Node:
    """Returns a convolution over one axis or two."""
    settings = settings_of(_FORWARD, given, named)
    axes = weight.rank - 2
    stride, dilation = (each(settings[name], axes) for name in ("stride", "dilation"))
    reach = [step * (taps - 1) for step, taps in zip(dilation, weight.shape[2:], strict=True)]
    batch = _with_images(input, weight)
    sides = _padding(settings["padding"], reach)
    of = _Convolution(batch, weight, int(settings["groups"]), stride, dilation, sides)
    if of.has_blocks:
        return _finished(_of_blocks(of), bias, input)
    if of.keeps_line:
        return _finished(_by_line(of, weight.shape[0], graph.convolve), bias, input)
    sizes = [
        (n + sum(side) - r - 1) // s + 1 for n, side, r, s in zip(of.field, sides, reach, stride, strict=True)
    ]
    check(min(sizes) > 0, "a convolution whose kernel is larger than its field")
    before = tuple(side[0] for side in sides)
    if of.has_own_kernels(sizes):
        kind = Depthwise(of.kernel, of.field, tuple(sizes), stride, before, dilation)
        return _finished(graph.convolve(batch, weight, kind), bias, input)
    if of.window:
        result = convolve(_plane(batch), _plane(weight), of.window)
        return _finished(graph.reshape(result, (*result.shape[:2], *sizes)), bias, input)
    steps = zip(sizes, of.field, of.kernel, stride, dilation, before, strict=True)
    reached = [_reached(step) for step in steps]
    return _finished(_by_matrix(of, reached, "goct"), bias, input)


@rule("conv_transpose1d", "conv_transpose2d")
def transposed_convolution(
    input: Node, weight: Node, bias: Node | None = None, *given: Any, **named: Any
) -> Node:
    """Returns a transposed convolution over one axis or two."""
    settings = settings_of(_TRANSPOSED, given, named)
    axes = weight.rank - 2
    stride, more = (each(settings[name], axes) for name in ("stride", "output_padding"))
    padding, dilation = (each(settings[name], axes) for name in ("padding", "dilation"))
    batch = _with_images(input, weight)
    sides = tuple((before, before - after) for before, after in zip(padding, more, strict=True))
    of = _Convolution(batch, weight, int(settings["groups"]), stride, dilation, sides)
    if of.has_blocks:
        return _finished(_to_blocks(of), bias, input)
    if of.keeps_line:
        return _finished(_by_line(of, weight.shape[1], _adjoint), bias, input)
    sizes = [
        (n - 1) * s - sum(side) + d * (k - 1) + 1
        for n, s, side, d, k in zip(of.field, stride, sides, dilation, of.kernel, strict=True)
    ]
    check(min(sizes) > 0, "a transposed convolution that leaves nothing")
    if of.has_own_kernels(sizes):
        kind = Depthwise(of.kernel, tuple(sizes), of.field, stride, padding, dilation)
        made = graph.adjoint(batch, weight, (*batch.shape[:2], *sizes), kind)
        return _finished(made, bias, input)
    if of.window:
        result = convolve_back(_plane(batch), _plane(weight), of.window, (1, *sizes)[-2:])
        return _finished(graph.reshape(result, (*result.shape[:2], *sizes)), bias, input)
    steps = zip(of.field, sizes, of.kernel, stride, dilation, padding, strict=True)
    reached = [_reached(step).transpose(1, 2) for step in steps]
    return _finished(_by_matrix(of, reached, "gcot"), bias, input)


def _with_images(x: Node, weight: Node) -> Node:
    """Returns x with an axis of images, which torch lets one image do without."""
    return x if x.rank == weight.rank else graph.reshape(x, (1, *x.shape))


def _plane(x: Node) -> Node:
    """Returns x with a field of two axes, of which a line is a row."""
    return x if x.rank == 4 else graph.reshape(x, (*x.shape[:2], 1, x.shape[2]))


def _finished(result: Node, bias: Node | None, x: Node) -> Node:
    """Returns a result plus its bias, for an x without an axis of images without one."""
    if bias is not None:
        result = add(result, graph.reshape(bias, (*bias.shape, *(1,) * (result.rank - 2))))
    return result if x.rank == result.rank else graph.reshape(result, result.shape[1:])


def _padding(padding: Any, reach: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Returns the zeros at both ends of each axis."""
    if padding == "same":
        return tuple((r // 2, r - r // 2) for r in reach)
    sizes = (0,) * len(reach) if padding == "valid" else each(padding, len(reach))
    return tuple((size, size) for size in sizes)


# ── blocks ───────────────────────────────────────────────────────────────────────────────────────────


def _of_blocks(of: _Convolution) -> Node:
    """Returns a convolution whose kernel is as large as its stride."""
    counts = [n // k for n, k in zip(of.field, of.kernel, strict=True)]
    x = of.x
    for axis, (count, k) in enumerate(zip(counts, of.kernel, strict=True), start=2):
        x = graph.part(x, axis, 0, count * k)
    split = [n for pair in zip(counts, of.kernel, strict=True) for n in pair]
    x = graph.reshape(x, (x.shape[0], of.groups, x.shape[1] // of.groups, *split))
    weight = of.weight_by_group()
    weight = graph.reshape(weight, (*weight.shape[:3], *of.kernel))
    places, taps = "hw"[: len(counts)], "ij"[: len(counts)]
    both = "".join(place + tap for place, tap in zip(places, taps, strict=True))
    made = product(x, weight, f"bgc{both},goc{taps}->bgo{places}")
    return graph.reshape(made, (made.shape[0], of.weight.shape[0], *counts))


def _to_blocks(of: _Convolution) -> Node:
    """Returns a transposed convolution whose kernel is as large as its stride."""
    x = graph.reshape(of.by_group(), (*of.by_group().shape[:3], *of.field))
    weight = of.weight_by_group()
    weight = graph.reshape(weight, (*weight.shape[:3], *of.kernel))
    places, taps = "hw"[: len(of.field)], "ij"[: len(of.field)]
    both = "".join(place + tap for place, tap in zip(places, taps, strict=True))
    made = product(x, weight, f"bgc{places},gco{taps}->bgo{both}")
    sizes = [n * k for n, k in zip(of.field, of.kernel, strict=True)]
    return graph.reshape(made, (made.shape[0], of.groups * of.weight.shape[1], *sizes))


# ── line ─────────────────────────────────────────────────────────────────────────────────────────────

Form = Callable[[Node, Node, ConvolutionKind], Node]
"""A convolution of x by a weight, or its adjoint."""


def _by_line(of: _Convolution, made: int, form: Form) -> Node:
    """Returns a convolution as that of a mixing layer over patches: (B, made, *field).

    Such a one keeps the channels: missing ones are zeros.
    """
    batch, taken, *field = of.x.shape
    most, weight = max(made, taken), of.weight
    patches = graph.permute(graph.reshape(of.x, (batch, taken, math.prod(field))), (0, 2, 1))
    for axis in (0, 1):
        weight = graph.pad(weight, axis, 0, most - weight.shape[axis])
    kind = OverPatches(of.kernel, of.field)
    result = graph.part(form(graph.pad(patches, 2, 0, most - taken), weight, kind), 2, 0, made)
    return graph.reshape(graph.permute(result, (0, 2, 1)), (batch, made, *field))


def _adjoint(z: Node, weight: Node, kind: ConvolutionKind) -> Node:
    """Returns the transposed convolution of a kind that keeps the size."""
    return graph.adjoint(z, weight, z.shape, kind)


# ── matrix ───────────────────────────────────────────────────────────────────────────────────────────


@cache
def _reached(step: tuple[int, int, int, int, int, int]) -> Tensor:
    """Returns which place of x is under which tap (taps, places of the result, places of x), along one axis.

    Args:
        step: places of the result, places of x, taps, stride, dilation, zeros before x.
    """
    made, taken, taps, stride, dilation, before = step
    tap, z, x = torch.arange(taps), torch.arange(made), torch.arange(taken)
    under = stride * z[:, None] + dilation * tap[:, None, None] - before  # (taps, made, 1)
    return (under == x).float()


def _by_matrix(of: _Convolution, reached: Sequence[Tensor], labels: str) -> Node:
    """Returns a convolution by a matrix (out · places, in · places) for each group of channels.

    Args:
        of: the convolution.
        reached: for each axis, which place of x is under which tap for a place of the result.
        labels: of the weight by groups: g groups, o channels of the result, c of x, t taps.
    """
    all_axes = reached[0] if len(reached) == 1 else torch.einsum("tpq,uvw->tupvqw", *reached)
    sizes = [x.shape[1] for x in reached]
    taps, places, taken = (math.prod(x.shape[i] for x in reached) for i in range(3))
    weight = of.weight_by_group()
    elements = weight.size // taps * places * taken
    is_small = max(places, taken) <= _MOST_PLACES * taps and elements <= _MOST_ELEMENTS
    check(is_small, f"a convolution over a field of {' x '.join(map(str, of.field))}")
    selection = graph.constant(all_axes.reshape(taps, places, taken))
    matrix = product(weight, selection, f"{labels},tpq->gopcq")
    made = product(of.by_group(), matrix, "bgcq,gopcq->bgop")
    return graph.reshape(made, (made.shape[0], made.shape[1] * made.shape[2], *sizes))
