"""Chooses in which order a group goes over its arrays in memory, and in blocks of which size.

axes of the group ─▶ in the order of memory, joined where all arrays allow it ─▶ at most six:
outer axes, the rows of a block, and its columns
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mixcoder.backends.native.codes import AXES, VECTOR
from mixcoder.backends.native.graph import Shape
from mixcoder.backends.step import UnsupportedError

_MOST_COLUMN_AXES = 3
_CACHE_ELEMENTS = 8192
"""Of all values of a block: 32 KiB, the first-level data cache of most processors."""
_TRANSPOSED_ROWS = 16
"""Least rows of a block, where an array is transposed on its way: a cache line."""
_SUMMED_ROWS = 8
"""Least rows of a block, where columns are summed over blocks: in double precision, which takes longer."""
_LEAST_COLUMNS = 64
"""Of a block whose rows are summed: with fewer, rows that lie far apart displace each other in the cache."""


@dataclass(frozen=True)
class Nest:
    """Loops over arrays of one shape.

    Attributes:
        joined: axes of the shape that are one loop each, from the outermost loop to the innermost.
        sizes: of the loops: six, of which those that come first may be of one pass.
        column_axes: how many of the last loops are a block's columns; the one before them is its rows.
        summed: what sums within a block go over; None where there are none.
    """

    joined: tuple[Shape, ...]
    sizes: Shape
    column_axes: int
    summed: Literal["rows", "columns"] | None

    @property
    def count_columns(self) -> int:
        """Number of columns of all blocks side by side."""
        return math.prod(self.sizes[-self.column_axes :])

    def steps(self, steps: Shape) -> Shape:
        """Returns the steps of an array along the loops, from those along the axes of the shape."""
        inner = [steps[axes[-1]] for axes in self.joined]
        return (*[0] * (AXES - len(inner)), *inner)

    def row_step(self, steps: Shape) -> int:
        """Returns the step from a row to the next, from those along the loops."""
        return steps[-1 - self.column_axes]

    def column_step(self, steps: Shape) -> int:
        """Returns the step from a column to the next, from those along the loops; -1 where it varies."""
        sizes, inner = self.sizes[-self.column_axes :], steps[-self.column_axes :]
        follows = [inner[i] == inner[i + 1] * sizes[i + 1] for i in range(len(inner) - 1)]
        return inner[-1] if all(follows) else -1

    def block(self, values: int, least_rows: int) -> tuple[int, int]:
        """Returns the rows and columns of a block.

        Args:
            values: that are to fit into the cache together.
            least_rows: of a block, where there are as many.
        """
        elements = max(_CACHE_ELEMENTS // values // VECTOR, 1) * VECTOR
        rows, columns = self.sizes[-1 - self.column_axes], self.count_columns
        least_rows = min(rows, least_rows)
        if self.summed == "rows":
            return rows, min(columns, max(elements // rows // VECTOR * VECTOR, _LEAST_COLUMNS))
        if self.summed is None and columns * least_rows > elements:
            return least_rows, min(columns, max(elements // least_rows // VECTOR, 1) * VECTOR)
        return max(min(rows, elements // columns), least_rows), columns

    def least_rows(self, arrays: Sequence[Shape], sums: Sequence[Shape]) -> int:
        """Returns how many rows a block has at least, from the steps of arrays and sums along the loops."""
        if any(self.column_step(steps) not in (0, 1) for steps in arrays):
            return _TRANSPOSED_ROWS
        is_summed = any(self.row_step(steps) == 0 and self.column_step(steps) != 0 for steps in sums)
        return _SUMMED_ROWS if is_summed else 1


def arrange(shape: Shape, arrays: Sequence[Shape], sums: Sequence[Shape], rows: Shape) -> Nest:
    """Returns the loops over arrays.

    Args:
        shape: of the arrays.
        arrays: steps of each in memory along the axes of the shape, 0 where it repeats elements.
        sums: steps of sums over all blocks, 0 along the axes that are summed.
        rows: axes whose sums are used within a block.

    Raises:
        UnsupportedError: the arrays lie so differently that there would be more than six loops.
    """
    order = memory_order(shape, arrays)
    transposed, arrays = _rows_of_transposed(order, arrays), [*arrays, *sums]
    others, inner = [axis for axis in order if axis not in rows], [axis for axis in order if axis in rows]
    summed = _joined_axes(inner, shape, arrays)
    if len(summed) == 1 and others and order[-1] not in rows:
        before = _joined_axes(others[:-1], shape, arrays)
        return _nest(shape, [*before, *summed, (others[-1],)], 1, "rows")
    if rows:
        outer = _with_rows(others, transposed)
        return _nest(shape, [*_joined_axes(outer, shape, arrays), *summed], len(summed), "columns")
    loops = [*_with_rows(order[:-1], transposed), *order[-1:]]
    return _nest(shape, _joined_axes(loops, shape, arrays), 1, None)


def _rows_of_transposed(order: Sequence[int], arrays: Sequence[Shape]) -> int | None:
    """Returns the axis that lies side by side in most arrays in which the innermost loop's does not."""
    found: Counter[int] = Counter()
    for steps in arrays:
        if order and steps[order[-1]] not in (0, 1):
            found.update(axis for axis in order if steps[axis] == 1)
    return found.most_common(1)[0][0] if found else None


def _with_rows(loops: Sequence[int], rows: int | None) -> list[int]:
    """Returns loops with that over the rows of a block as the last one."""
    if rows is None or rows not in loops:
        return [*loops]
    return [*(axis for axis in loops if axis != rows), rows]


def _nest(
    shape: Shape, joined: Sequence[Shape], column_axes: int, summed: Literal["rows", "columns"] | None
) -> Nest:
    if len(joined) > AXES or column_axes > _MOST_COLUMN_AXES:
        raise UnsupportedError("arithmetic of arrays that lie in memory in too many different orders")
    sizes = [math.prod(shape[axis] for axis in axes) for axes in joined]
    return Nest(tuple(joined), (*[1] * (AXES - len(sizes)), *sizes), column_axes, summed)


def memory_order(shape: Shape, arrays: Sequence[Shape]) -> list[int]:
    """Returns the axes from the outermost loop to the innermost: an order in which most arrays lie."""
    axes = [axis for axis, size in enumerate(shape) if size > 1]
    touched = [math.prod(shape[axis] for axis in axes if steps[axis]) for steps in arrays]
    orders = [
        sorted(axes, key=[-step for step in steps].__getitem__)
        for steps, elements in zip(arrays, touched, strict=True)
        if elements == max(touched)
    ]
    fitting = [sum(order[-1:] == other[-1:] for other in orders) for order in orders]
    return orders[fitting.index(max(fitting))]


def _joined_axes(order: Sequence[int], shape: Shape, arrays: Sequence[Shape]) -> list[Shape]:
    """Returns axes in this order, those joined that lie side by side in all arrays."""
    joined: list[Shape] = []
    for axis in order:
        before = joined[-1][-1] if joined else None
        if before is not None and all(steps[before] == steps[axis] * shape[axis] for steps in arrays):
            joined[-1] = (*joined[-1], axis)
        else:
            joined.append((axis,))
    return joined
