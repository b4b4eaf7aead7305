"""Rules of functions that move elements: other shapes, parts, repetitions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixcoder.backends.native import graph
from mixcoder.backends.native.graph import Node
from mixcoder.backends.native.rules.rule_table import check, rule


def listed(values: Sequence[Any]) -> list[int]:
    """Returns sizes or axes that were given one by one, or as one sequence."""
    if len(values) == 1 and isinstance(values[0], list | tuple):
        values = values[0]
    return [int(value) for value in values]


def each(value: Any, axes: int) -> tuple[Any, ...]:
    """Returns a setting for each axis of a field: one for all, or one for each."""
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    return values * axes if len(values) == 1 else values


def axis_of(rank: int, dim: int) -> int:
    """Returns an axis counted from the front.

    Raises:
        IndexError: there is no such axis.
    """
    if not -max(rank, 1) <= dim < max(rank, 1):
        raise IndexError(f"there is no axis {dim} among {rank}")
    return dim % max(rank, 1)


def axes_of(rank: int, dim: int | Sequence[int] | None) -> list[int]:
    """Returns the axes of a function's `dim`, from the front; all where it is None or empty."""
    if dim is None or (isinstance(dim, list | tuple) and not dim):
        return list(range(rank))
    dims = [dim] if isinstance(dim, int) else list(dim)
    return [axis_of(rank, axis) for axis in dims] if rank else []


# ── the same elements ────────────────────────────────────────────────────────────────────────────────


@rule("clone", "float", "cpu", "type_as", "positive", "conj", "resolve_conj", "resolve_neg")
def same(x: Node, *_: object) -> Node:
    """Returns x: nodes have one type and one device."""
    return x


@rule("to", "type")
def converted(x: Node, *kinds: object) -> Node:
    """Returns x, where it is to be what it is."""
    for kind in kinds:
        is_same = isinstance(kind, Node | bool) or kind in (torch.float32, torch.device("cpu"), "cpu")
        check(is_same, f"a tensor converted to {kind}")
    return x


@rule("contiguous")
def contiguous(x: Node) -> Node:
    """Returns x in the order of its axes."""
    return graph.contiguous(x)


@rule("detach", "data", "detach_copy")
def detach(x: Node) -> Node:
    """Returns x without a gradient."""
    return graph.stop(x)


@rule("requires_grad_")
def with_gradient(x: Node, requires_grad: bool = True) -> Node:
    """Returns x."""
    check(requires_grad, "requires_grad_(False) within the forward pass")
    return x


# ── other shapes ─────────────────────────────────────────────────────────────────────────────────────


@rule("reshape", "Tensor.view")
def reshape(x: Node, *sizes: Any, shape: Sequence[int] | None = None) -> Node:
    """Returns x in another shape; one size may be -1."""
    check(not (sizes and isinstance(sizes[0], torch.dtype)), "another type of elements")
    wanted = listed(sizes) if shape is None else list(shape)
    if -1 in wanted:
        place = wanted.index(-1)
        rest = math.prod(wanted[:place] + wanted[place + 1 :])
        wanted[place] = x.size // rest
    return graph.reshape(x, wanted)


@rule("reshape_as", "view_as")
def reshape_as(x: Node, other: Node) -> Node:
    """Returns x in the shape of another tensor."""
    return graph.reshape(x, other.shape)


@rule("flatten")
def flatten(x: Node, start_dim: int = 0, end_dim: int = -1) -> Node:
    """Returns x with several axes as one."""
    first, last = axis_of(x.rank, start_dim), axis_of(x.rank, end_dim)
    joined = math.prod(x.shape[first : last + 1])
    return graph.reshape(x, (*x.shape[:first], joined, *x.shape[last + 1 :]))


@rule("ravel")
def ravel(x: Node) -> Node:
    """Returns x with one axis."""
    return graph.reshape(x, (x.size,))


@rule("unflatten")
def unflatten(x: Node, dim: int, sizes: Sequence[int]) -> Node:
    """Returns x with one axis as several."""
    axis, sizes = axis_of(x.rank, dim), list(sizes)
    if -1 in sizes:
        place = sizes.index(-1)
        sizes[place] = x.shape[axis] // math.prod(sizes[:place] + sizes[place + 1 :])
    return graph.reshape(x, (*x.shape[:axis], *sizes, *x.shape[axis + 1 :]))


@rule("squeeze")
def squeeze(x: Node, dim: int | Sequence[int] | None = None) -> Node:
    """Returns x without axes of size 1."""
    axes = axes_of(x.rank, dim) if dim != () else []
    return graph.reshape(x, [n for axis, n in enumerate(x.shape) if n != 1 or axis not in axes])


@rule("unsqueeze")
def unsqueeze(x: Node, dim: int) -> Node:
    """Returns x with one more axis of size 1."""
    axis = axis_of(x.rank + 1, dim)
    return graph.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))


# ── other orders ─────────────────────────────────────────────────────────────────────────────────────


@rule("permute")
def permute(x: Node, *axes: Any, dims: Sequence[int] | None = None) -> Node:
    """Returns x with its axes in another order."""
    order = listed(axes) if dims is None else list(dims)
    return graph.permute(x, [axis_of(x.rank, axis) for axis in order])


@rule("transpose", "swapaxes", "swapdims")
def transpose(x: Node, dim0: int, dim1: int) -> Node:
    """Returns x with two axes exchanged."""
    order = list(range(x.rank))
    first, last = axis_of(x.rank, dim0), axis_of(x.rank, dim1)
    order[first], order[last] = order[last], order[first]
    return graph.permute(x, order)


@rule("mT")
def last_two_exchanged(x: Node) -> Node:
    """Returns x with its last two axes exchanged."""
    return transpose(x, -2, -1)


@rule("T", "t", "H")
def reversed_axes(x: Node) -> Node:
    """Returns a matrix transposed, or x with its axes in reverse."""
    return graph.permute(x, range(x.rank)[::-1])


@rule("movedim", "moveaxis")
def movedim(x: Node, source: int | Sequence[int], destination: int | Sequence[int]) -> Node:
    """Returns x with some axes at other positions, the rest in their order."""
    sources = [source] if isinstance(source, int) else list(source)
    targets = [destination] if isinstance(destination, int) else list(destination)
    moved = {axis_of(x.rank, to): axis_of(x.rank, axis) for axis, to in zip(sources, targets, strict=True)}
    rest = iter(axis for axis in range(x.rank) if axis not in moved.values())
    return graph.permute(x, [moved[i] if i in moved else next(rest) for i in range(x.rank)])


@rule("flip")
def flip(x: Node, *axes: Any, dims: int | Sequence[int] | None = None) -> Node:
    """Returns x with the order of elements reversed along some axes."""
    given = listed(axes) if dims is None else dims
    for axis in axes_of(x.rank, given) if given != [] else []:
        rows = [graph.part(x, axis, i, i + 1) for i in range(x.shape[axis])]
        x = graph.cat(rows[::-1], axis)
    return x


@rule("fliplr")
def fliplr(x: Node) -> Node:
    """Returns x with its second axis reversed."""
    return flip(x, 1)


@rule("flipud")
def flipud(x: Node) -> Node:
    """Returns x with its first axis reversed."""
    return flip(x, 0)


@rule("roll")
def roll(x: Node, shifts: int | Sequence[int], dims: int | Sequence[int] | None = None) -> Node:
    """Returns x with the elements moved on along some axes, the last ones first."""
    if dims is None or dims == ():
        return graph.reshape(roll(ravel(x), shifts, 0), x.shape)
    steps = [shifts] if isinstance(shifts, int) else list(shifts)
    axes = [dims] if isinstance(dims, int) else list(dims)
    for step, dim in zip(steps, axes, strict=True):
        axis = axis_of(x.rank, dim)
        length = x.shape[axis]
        cut = -step % length
        if cut:
            x = graph.cat([graph.part(x, axis, cut, length), graph.part(x, axis, 0, cut)], axis)
    return x


# ── parts ────────────────────────────────────────────────────────────────────────────────────────────


def part(x: Node, axis: int, start: int, stop: int) -> Node:
    """Returns the elements from start to stop of an axis.

    Raises:
        IndexError: there are no such elements.
    """
    if not 0 <= start < stop <= x.shape[axis]:
        raise IndexError(f"elements {start} to {stop} of an axis of {x.shape[axis]}")
    return graph.part(x, axis, start, stop)


@rule("narrow")
def narrow(x: Node, dim: int, start: int, length: int) -> Node:
    """Returns `length` elements of an axis."""
    axis = axis_of(x.rank, dim)
    first = start % x.shape[axis] if start < 0 else start
    return part(x, axis, first, first + length)


@rule("select")
def select(x: Node, dim: int, index: int) -> Node:
    """Returns one element of an axis, which is then gone."""
    axis = axis_of(x.rank, dim)
    place = axis_of(x.shape[axis], index)
    shape = (*x.shape[:axis], *x.shape[axis + 1 :])
    return graph.reshape(graph.part(x, axis, place, place + 1), shape)


@rule("unbind", "Tensor.__iter__")
def unbind(x: Node, dim: int = 0) -> tuple[Node, ...]:
    """Returns the elements of an axis one by one."""
    return tuple(select(x, dim, index) for index in range(x.shape[axis_of(x.rank, dim)]))


@rule("split", "split_with_sizes")
def split(
    x: Node,
    split_size_or_sections: int | Sequence[int] | None = None,
    dim: int = 0,
    *,
    split_size: int | Sequence[int] | None = None,
    split_sizes: Sequence[int] | None = None,
) -> tuple[Node, ...]:
    """Returns the parts of an axis, of one size or of these sizes."""
    axis = axis_of(x.rank, dim)
    sizes = next(s for s in (split_size_or_sections, split_size, split_sizes) if s is not None)
    length = x.shape[axis]
    if isinstance(sizes, int):
        sizes = [min(sizes, length - start) for start in range(0, length, sizes)]
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    if ends[-1] != length:
        raise ValueError(f"parts of {list(sizes)} of an axis of {length}")
    return tuple(part(x, axis, end - n, end) for end, n in zip(ends, sizes, strict=True))


@rule("chunk")
def chunk(x: Node, chunks: int, dim: int = 0) -> tuple[Node, ...]:
    """Returns an axis in at most `chunks` parts."""
    return split(x, -(-x.shape[axis_of(x.rank, dim)] // chunks), dim)


@rule("tensor_split")
def tensor_split(x: Node, sections: int, dim: int = 0) -> tuple[Node, ...]:
    """Returns an axis in parts, whose sizes differ by one at most."""
    check(isinstance(sections, int), "tensor_split at given places")
    small, larger = divmod(x.shape[axis_of(x.rank, dim)], sections)
    return split(x, [small + (i < larger) for i in range(sections)], dim)


def with_step(x: Node, axis: int, start: int, stop: int, step: int) -> Node:
    """Returns every step-th element of an axis, from start on and before stop."""
    if step == 1:
        return part(x, axis, start, stop)
    count = -(-(stop - start) // step)
    end = start + count * step
    whole = graph.pad(x, axis, 0, max(0, end - x.shape[axis]))
    rows = graph.part(whole, axis, start, end)
    shape = (*x.shape[:axis], count, step, *x.shape[axis + 1 :])
    first = graph.part(graph.reshape(rows, shape), axis + 1, 0, 1)
    return graph.reshape(first, (*x.shape[:axis], count, *x.shape[axis + 1 :]))


@rule("Tensor.unfold")
def unfold(x: Node, dimension: int, size: int, step: int) -> Node:
    """Returns all windows of an axis; their elements are a new last axis."""
    axis = axis_of(x.rank, dimension)
    windows = (x.shape[axis] - size) // step + 1
    taps = [with_step(x, axis, tap, tap + (windows - 1) * step + 1, step) for tap in range(size)]
    return graph.cat([graph.reshape(tap, (*tap.shape, 1)) for tap in taps], x.rank)


# ── together, and repeated ───────────────────────────────────────────────────────────────────────────


@rule("cat", "concat", "concatenate")
def cat(tensors: Sequence[Node], dim: int = 0) -> Node:
    """Returns tensors one after the other."""
    axis = axis_of(tensors[0].rank, dim)
    others = {(*x.shape[:axis], *x.shape[axis + 1 :]) for x in tensors}
    if len(others) > 1:
        raise ValueError(f"tensors of {[x.shape for x in tensors]} one after the other along axis {axis}")
    return graph.cat(tensors, axis)


@rule("stack")
def stack(tensors: Sequence[Node], dim: int = 0) -> Node:
    """Returns tensors along a new axis."""
    return cat([unsqueeze(part, axis_of(part.rank + 1, dim)) for part in tensors], dim)


@rule("expand")
def expand(x: Node, *sizes: Any, size: Sequence[int] | None = None) -> Node:
    """Returns x with axes of size 1 repeated, and new axes before them."""
    wanted = listed(sizes) if size is None else list(size)
    new = len(wanted) - x.rank
    return _repeated(x, [x.shape[i - new] if n == -1 else n for i, n in enumerate(wanted)])


@rule("expand_as")
def expand_as(x: Node, other: Node) -> Node:
    """Returns x repeated to the shape of another tensor."""
    return _repeated(x, other.shape)


def _repeated(x: Node, shape: Sequence[int]) -> Node:
    if np.broadcast_shapes(x.shape, tuple(shape)) != tuple(shape):
        raise ValueError(f"a tensor {x.shape} repeated to {tuple(shape)}")
    return graph.broadcast(x, shape)


@rule("broadcast_to")
def broadcast_to(x: Node, size: Sequence[int]) -> Node:
    """Returns x repeated to a shape."""
    return expand(x, size)


@rule("Tensor.repeat", "tile")
def repeat(x: Node, *repeats: Any, dims: Sequence[int] | None = None) -> Node:
    """Returns x one after the other, some times along each axis."""
    times = listed(repeats) if dims is None else list(dims)
    times = [1] * (x.rank - len(times)) + times  # tile takes fewer
    shape = (1,) * (len(times) - x.rank) + x.shape
    apart = [n for size in shape for n in (1, size)]
    repeated = [n for size, count in zip(shape, times, strict=True) for n in (count, size)]
    joined = [size * count for size, count in zip(shape, times, strict=True)]
    return graph.reshape(graph.expand(graph.reshape(x, apart), repeated), joined)


@rule("repeat_interleave")
def repeat_interleave(x: Node, repeats: int, dim: int | None = None) -> Node:
    """Returns x with each element of an axis several times in a row."""
    check(isinstance(repeats, int), "repeat_interleave with a tensor of repeats")
    if dim is None:
        return repeat_interleave(ravel(x), repeats, 0)
    axis = axis_of(x.rank, dim)
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    apart = graph.reshape(x, (*before, x.shape[axis], 1, *after))
    repeated = graph.expand(apart, (*before, x.shape[axis], repeats, *after))
    return graph.reshape(repeated, (*before, x.shape[axis] * repeats, *after))


@rule("pad")
def pad(x: Node, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Node:
    """Returns x with more elements at both ends of its last axes; fewer, where a number is negative."""
    for i in range(len(pad) // 2):
        axis, before, after = x.rank - 1 - i, pad[2 * i], pad[2 * i + 1]
        x = graph.part(x, axis, max(0, -before), x.shape[axis] - max(0, -after))
        x = _padded(x, axis, (max(0, before), max(0, after)), mode, value or 0.0)
    return x


def _padded(x: Node, axis: int, sides: tuple[int, int], mode: str, value: float) -> Node:
    (before, after), length = sides, x.shape[axis]
    if mode == "constant":
        padded = graph.pad(x, axis, before, after)
        if value == 0.0 or padded is x:
            return padded
        shape = [before + length + after if i == axis else 1 for i in range(x.rank)]
        values = torch.full(shape, float(value))
        values.narrow(axis, before, length).zero_()
        return graph.add(padded, graph.expand(graph.constant(values), padded.shape))
    if mode == "circular":
        ends = graph.part(x, axis, length - before, length), graph.part(x, axis, 0, after)
    elif mode == "reflect":
        first = flip(graph.part(x, axis, 1, 1 + before), axis) if before else None
        last = flip(graph.part(x, axis, length - 1 - after, length - 1), axis) if after else None
        return graph.cat([part for part in (first, x, last) if part is not None], axis)
    else:
        check(mode == "replicate", f"padding in mode {mode}")
        shapes = [[n if i == axis else size for i, size in enumerate(x.shape)] for n in sides]
        edges = graph.part(x, axis, 0, 1), graph.part(x, axis, length - 1, length)
        ends = graph.expand(edges[0], shapes[0]), graph.expand(edges[1], shapes[1])
    parts = [part for part in (ends[0], x, ends[1]) if part.shape[axis]]
    return graph.cat(parts, axis)


# ── constants of a shape ─────────────────────────────────────────────────────────────────────────────


def filled(shape: Sequence[int], value: float) -> Node:
    """Returns a constant of one value."""
    return graph.broadcast(graph.constant(torch.tensor(float(value))), tuple(shape))


@rule("zeros_like")
def zeros_like(x: Node) -> Node:
    """Returns zeros in the shape of x."""
    return filled(x.shape, 0.0)


@rule("ones_like")
def ones_like(x: Node) -> Node:
    """Returns ones in the shape of x."""
    return filled(x.shape, 1.0)


@rule("full_like")
def full_like(x: Node, fill_value: float) -> Node:
    """Returns one value in the shape of x."""
    return filled(x.shape, fill_value)


@rule("new_zeros")
def new_zeros(x: Node, *sizes: Any, size: Sequence[int] | None = None) -> Node:
    """Returns zeros."""
    return filled(listed(sizes) if size is None else size, 0.0)


@rule("new_ones")
def new_ones(x: Node, *sizes: Any, size: Sequence[int] | None = None) -> Node:
    """Returns ones."""
    return filled(listed(sizes) if size is None else size, 1.0)


@rule("new_full")
def new_full(x: Node, size: Sequence[int], fill_value: float) -> Node:
    """Returns one value in a shape."""
    return filled(size, fill_value)


@rule("new_tensor")
def new_tensor(x: Node, data: Any) -> Tensor:
    """Returns numbers as a constant."""
    return torch.tensor(data, dtype=torch.float32)


# ── patches of pixels ────────────────────────────────────────────────────────────────────────────────


@rule("pixel_shuffle")
def pixel_shuffle(x: Node, upscale_factor: int) -> Node:
    """Returns (…, C·n·n, H, W) as (…, C, H·n, W·n)."""
    n, (*before, channels, height, width) = upscale_factor, x.shape
    k = len(before)
    apart = graph.reshape(x, (*before, channels // n**2, n, n, height, width))
    moved = graph.permute(apart, (*range(k), k, k + 3, k + 1, k + 4, k + 2))
    return graph.reshape(moved, (*before, channels // n**2, height * n, width * n))


@rule("pixel_unshuffle")
def pixel_unshuffle(x: Node, downscale_factor: int) -> Node:
    """Returns (…, C, H·n, W·n) as (…, C·n·n, H, W)."""
    n, (*before, channels, height, width) = downscale_factor, x.shape
    k = len(before)
    apart = graph.reshape(x, (*before, channels, height // n, n, width // n, n))
    moved = graph.permute(apart, (*range(k), k, k + 2, k + 4, k + 1, k + 3))
    return graph.reshape(moved, (*before, channels * n**2, height // n, width // n))


@rule("channel_shuffle")
def channel_shuffle(x: Node, groups: int) -> Node:
    """Returns x with its channels taken from the groups by turns."""
    batch, channels, *rest = x.shape
    apart = graph.reshape(x, (batch, groups, channels // groups, *rest))
    return graph.reshape(transpose(apart, 1, 2), x.shape)
