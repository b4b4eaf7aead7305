"""Emits copies of arrays from one place to another, by the fastest operation that can do each.

source, target ─▶ axes in the order of the target, joined where both allow it ─▶ transpose, permute, move
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from mixcoder.backends.native.codes import AXES
from mixcoder.backends.native.placing import Place
from mixcoder.backends.native.program import Program
from mixcoder.backends.step import UnsupportedError


class _Axis(NamedTuple):
    """An axis of a copy, with the elements to go for one step along it in the source and in the target."""

    size: int
    source: int
    target: int


def emit_move(program: Program, source: Place, target: Place, *, is_added: bool = False) -> None:
    """Emits a copy.

    Args:
        program: to which an operation is appended.
        source: of the copy; may repeat elements.
        target: of the copy, of the same shape.
        is_added: to what is in the target, in place of overwriting it.

    Raises:
        UnsupportedError: the two lie so differently that no operation can do it.
    """
    assert source.shape == target.shape
    axes = _axes_of_move(source, target)
    addresses = [source.address, target.address]
    if [axis[1:] for axis in axes] == [(1, 1)] and is_added:
        program.emit("add", [axes[0].size], addresses)
    elif not is_added and (shape := _transposed_shape(axes)):
        program.emit("transpose", shape, addresses)
    elif sizes := _permuted_sizes(axes):
        program.emit("permute", [*sizes, is_added], addresses)
    else:
        _emit_any_move(program, axes, addresses, is_added=is_added)


def _axes_of_move(source: Place, target: Place) -> list[_Axis]:
    """Returns the axes in the order of the target, those joined that lie side by side in both."""
    axes: list[_Axis] = []
    for axis in target.order:
        size, inner = target.shape[axis], (source.strides[axis], target.strides[axis])
        if size == 1:
            continue
        if axes and axes[-1][1:] == (inner[0] * size, inner[1] * size):
            axes[-1] = _Axis(axes[-1].size * size, *inner)
        else:
            axes.append(_Axis(size, *inner))
    return axes or [_Axis(1, 1, 1)]


def _transposed_shape(axes: Sequence[_Axis]) -> list[int]:
    """Returns the sizes of `transpose` where it can do the copy: two axes exchanged, the last one stays."""
    if len(axes) > 4 or axes[-1].source != 1:
        return []
    blocks, inner, outer, columns = [_Axis(1, 0, 0)] * (4 - len(axes)) + [*axes]
    expected = [
        _Axis(blocks.size, outer.size * inner.size * columns.size, outer.size * inner.size * columns.size),
        _Axis(inner.size, columns.size, outer.size * columns.size),
        _Axis(outer.size, inner.size * columns.size, columns.size),
        _Axis(columns.size, 1, 1),
    ]
    is_exact = all(axis == other for axis, other in zip(axes, expected[-len(axes) :], strict=True))
    return [blocks.size, outer.size, inner.size, columns.size] if is_exact else []


def _permuted_sizes(axes: Sequence[_Axis]) -> list[int]:
    """Returns the sizes of `permute` where it can do the copy: its last axis is another one in the source."""
    columns = [axis for axis in axes[:-1] if axis.source == 1]
    if len(axes) > 4 or axes[-1].target != 1 or not columns:
        return []
    rows, [column, *_] = axes[-1], columns
    outer = [_Axis(1, 0, 0), _Axis(1, 0, 0), *(axis for axis in axes[:-1] if axis != column)][-2:]
    steps = [*(axis.source for axis in (*outer, rows)), *(axis.target for axis in (*outer, column))]
    return [outer[0].size, outer[1].size, rows.size, column.size, *steps]


def _emit_any_move(
    program: Program, axes: Sequence[_Axis], addresses: Sequence[int], *, is_added: bool
) -> None:
    """Emits `move`, for at most six axes; the one before the last is that of the source's smallest step."""
    *others, last = axes
    if len(axes) > AXES:
        raise UnsupportedError("a copy between arrays that lie in memory in too different orders")
    others.sort(key=_is_dense_in_source)
    filled = [_Axis(1, 0, 0)] * (AXES - len(axes)) + [*others, last]
    plan = torch.tensor([*zip(*filled, strict=True)], dtype=torch.int32)
    program.emit("move", [is_added], [program.keep(plan), *addresses])


def _is_dense_in_source(axis: _Axis) -> bool:
    return axis.source == 1
