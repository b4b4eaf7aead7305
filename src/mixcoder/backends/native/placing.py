"""Where arrays lie in memory: an address, and how many elements to go for one step along each axis.

Place ─permute, reshape, expand, slice─▶ Place of the same elements     (None where they would have to move)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mixcoder.backends.native.graph import Node, Shape, steps_of
from mixcoder.backends.native.program import FLOAT_BYTES


class UnsuitedResultError(Exception):
    """The result cannot be written where it is wanted."""


@dataclass(frozen=True)
class Place:
    """An array of float32 in memory.

    Attributes:
        address: of its first element.
        shape: of the array.
        strides: elements from one to the next along each axis; 0 where an axis is repeated.
    """

    address: int
    shape: Shape
    strides: Shape

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def is_contiguous(self) -> bool:
        """Whether the elements lie side by side in the order of the axes."""
        return all(
            size == 1 or step == wanted
            for size, step, wanted in zip(self.shape, self.strides, steps_of(self.shape), strict=True)
        )

    @property
    def is_dense(self) -> bool:
        """Whether the elements lie side by side in the order of some permutation of the axes."""
        return self.permuted(self.order).is_contiguous

    @property
    def order(self) -> Shape:
        """The axes from the largest steps to the smallest."""
        return tuple(sorted(range(len(self.shape)), key=self._rank_of_axis))

    def _rank_of_axis(self, axis: int) -> tuple[int, int]:
        return (-self.strides[axis], axis)

    def permuted(self, axes: Sequence[int]) -> Place:
        """Returns the same elements with the axes in another order."""
        return Place(
            self.address, tuple(self.shape[axis] for axis in axes), tuple(self.strides[axis] for axis in axes)
        )

    def expanded(self, shape: Shape) -> Place:
        """Returns the same elements with axes of size 1 repeated."""
        steps = [
            step if before == after else 0
            for before, after, step in zip(self.shape, shape, self.strides, strict=True)
        ]
        return Place(self.address, shape, tuple(steps))

    def part(self, axis: int, start: int, stop: int) -> Place:
        """Returns the elements from start to stop along one axis."""
        shape = (*self.shape[:axis], stop - start, *self.shape[axis + 1 :])
        return Place(self.address + FLOAT_BYTES * self.strides[axis] * start, shape, self.strides)

    def reshaped(self, shape: Shape) -> Place | None:
        """Returns the same elements in another shape; None where steps along an axis would differ."""
        steps = _steps_after_reshape(self.shape, self.strides, shape)
        return None if steps is None else Place(self.address, shape, steps)


def dense_place(address: int, shape: Sequence[int], order: Sequence[int]) -> Place:
    """Returns the place of an array whose elements lie side by side in an order of its axes."""
    steps = dict(zip(order, steps_of([shape[axis] for axis in order]), strict=True))
    return Place(address, tuple(shape), tuple(steps[axis] for axis in range(len(shape))))


def view(node: Node, x: Place) -> Place | None:
    """Returns the place of a movement of x; None where elements have to move for it, or it is no movement."""
    match node.operation, node.attributes:
        case "permute", (axes,):
            return x.permuted(axes)
        case "reshape", _:
            return x.reshaped(node.shape)
        case "expand", _:
            return x.expanded(node.shape)
        case "slice", (int(axis), int(start), int(stop)):
            return x.part(axis, start, stop)
        case "contiguous", _:
            return x if x.is_contiguous else None
        case "stop", _:
            return x
    return None


def order_for_reshape(x: Place, shape: Shape) -> tuple[int, ...]:
    """Returns the order of axes for a copy of x that can be reshaped as it lies: nearly that of x.

    Axes that are joined follow each other, where the first of them is in x. Those that end with x's innermost
    axis come last, so that runs of elements stay together.
    """
    rank = {axis: index for index, axis in enumerate(x.order)}
    innermost = x.order[-1] if x.order else 0
    groups = sorted((axes[-1] == innermost, rank[axes[0]], axes) for axes in _axes_to_reshape(x.shape, shape))
    return tuple(axis for _, _, axes in groups for axis in axes)


def _axes_to_reshape(before: Shape, after: Shape) -> list[list[int]]:
    """Returns the axes of an array, those together that a reshape to another shape joins or cuts anew."""
    groups: list[list[int]] = []
    sizes = iter(after)
    left, right, axes = 1, 1, list[int]()
    for axis, size in enumerate(before):
        axes.append(axis)
        left *= size
        while right < left:
            right *= next(sizes)
        if left == right:
            groups.append(axes)
            left, right, axes = 1, 1, []
    return [*groups, axes] if axes else groups


def _steps_after_reshape(before: Shape, steps: Shape, after: Shape) -> Shape | None:
    """Returns the strides after a reshape without a copy, which may join the axes that lie side by side."""
    if math.prod(before) == 0:
        return steps_of(after)
    blocks = _joined_steps(before, steps)  # [(size, step)] from the last axis on
    result: list[int] = []
    left, step = blocks.pop(0) if blocks else (1, 1)
    for size in reversed(after):
        if size == 1:
            result.append(step)
            continue
        if left == 1 and blocks:
            left, step = blocks.pop(0)
        if left % size:
            return None
        result.append(step)
        left, step = left // size, step * size
    return tuple(reversed(result))


def _joined_steps(shape: Shape, steps: Shape) -> list[tuple[int, int]]:
    """Returns sizes and strides from the last axis on, axes joined that lie side by side."""
    blocks: list[tuple[int, int]] = []
    for size, step in zip(reversed(shape), reversed(steps), strict=True):
        if size == 1:
            continue
        if blocks and step == blocks[-1][0] * blocks[-1][1]:
            blocks[-1] = (blocks[-1][0] * size, blocks[-1][1])
        else:
            blocks.append((size, step))
    return blocks
