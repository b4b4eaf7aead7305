"""Arranges a contraction of two arrays as products of matrices: c (m, n) = a (m, k) · b (k, n).

    labels "bpc,oc->bpo", places ─▶ rows (p, b), columns (o), inner (c) ─▶ a gemm, or one for each of a batch

Labels are joined to one axis of a matrix where steps in memory allow it; labels that both operands and the
result have, or that cannot be joined, count through a batch of products.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from mixcoder.backends.native.graph import split_labels, steps_of
from mixcoder.backends.native.placing import Place, UnsuitedResultError

Steps = Mapping[str, int]
"""Elements to go in memory for one step along each label, but those of size 1 and repeated ones."""


class UnsuitedError(Exception):
    """An operand does not lie as a product takes it.

    Attributes:
        operand: 0 or 1, which is to be copied.
        labels: the order in which its copy should lie.
    """

    def __init__(self, operand: int, labels: str) -> None:
        super().__init__(operand, labels)
        self.operand = operand
        self.labels = labels


class Matrix(NamedTuple):
    """How a matrix lies in memory.

    Attributes:
        is_transposed: whether its columns lie side by side, not its rows.
        stride: elements from a row, or column, to the next.
    """

    is_transposed: bool
    stride: int


class Loop(NamedTuple):
    """An axis of a batch of products.

    Attributes:
        size: of the axis.
        a: elements of the row operand from one product to the next.
        b: of the column operand.
        c: of the result.
    """

    size: int
    a: int
    b: int
    c: int


@dataclass(frozen=True)
class Arrangement:
    """A contraction as products of matrices.

    Attributes:
        row_operand: 0 or 1, the operand with the rows of the result; the other has the columns.
        sizes: (m, n, k).
        a: how the row operand's matrix lies.
        b: how the column operand's matrix lies.
        c_stride: elements from a row of the result to the next.
        loops: axes of the batch.
        order: labels of the result in the order of memory, but those of size 1.
    """

    row_operand: int
    sizes: tuple[int, int, int]
    a: Matrix
    b: Matrix
    c_stride: int
    loops: tuple[Loop, ...]
    order: str


def arrange(labels: str, operands: tuple[Place, Place], leading: int, result: Place | None) -> Arrangement:
    """Returns the products that compute a contraction.

    Args:
        labels: as einsum has them.
        operands: where they lie.
        leading: 0 or 1, the operand whose order a result without a place follows.
        result: where it is wanted; None where it may lie as suits.

    Raises:
        UnsuitedError: an operand is to be copied first.
        UnsuitedResultError: it cannot be written there.
    """
    of_a, of_b, of_result = split_labels(labels)
    a, b = operands
    sizes = dict(zip(of_a + of_b, a.shape + b.shape, strict=True))
    steps = _steps(of_a, a), _steps(of_b, b)
    target = None if result is None else _steps(of_result, result)
    inner = [label for label in of_a if label not in of_result and sizes[label] > 1]
    outer = [label for label in of_result if sizes[label] > 1]
    _check_repeated(of_a, inner, outer, steps)
    if target is not None:
        if len(target) < len(outer):
            raise UnsuitedResultError
        outer = _by(target, outer)
    row_operand = _columns_last(outer, steps) if target else _row_operand(outer, inner, steps, leading)
    groups = _groups(outer, inner, (steps[row_operand], steps[1 - row_operand]), sizes, target)
    return _products(row_operand, groups, sizes, target)


def result_order(labels: str, order: str) -> list[int]:
    """Returns the axes of a result in the order of memory that an arrangement has given its labels."""
    _, _, of_result = split_labels(labels)
    single = [axis for axis, label in enumerate(of_result) if label not in order]
    return [*single, *(of_result.index(label) for label in order)]


@dataclass(frozen=True)
class _Groups:
    """The labels of a contraction by their part in it, each group in the order of memory.

    Attributes:
        steps: of the row operand and of the column operand.
        loops: labels to count through.
        rows: of the result.
        columns: of the result.
        inner: labels that are summed over.
    """

    steps: tuple[Steps, Steps]
    loops: Sequence[str]
    rows: Sequence[str]
    columns: Sequence[str]
    inner: Sequence[str]


def _groups(
    outer: Sequence[str],
    inner: Sequence[str],
    steps: tuple[Steps, Steps],
    sizes: Mapping[str, int],
    target: Steps | None,
) -> _Groups:
    of_rows, of_columns = steps
    batch = [label for label in outer if label in of_rows and label in of_columns]
    rows = [label for label in outer if label in of_rows and label not in batch]
    columns = [label for label in outer if label in of_columns and label not in batch]
    if target is None:
        batch, rows, columns = _by(of_rows, batch), _by(of_rows, rows), _by(of_columns, columns)
    row_loops, rows = _split(rows, [of_rows, target], sizes)
    column_loops, columns = _split(columns, [of_columns, target], sizes)
    loops = [*batch, *row_loops, *column_loops]
    return _Groups(steps, loops, rows, columns, _by(of_rows, inner))


def _columns_last(outer: Sequence[str], steps: tuple[Steps, Steps]) -> int:
    """Returns the operand with the rows, where what is last in the result is its columns."""
    free = [label for label in outer if (label in steps[0]) != (label in steps[1])]
    return 0 if not free or free[-1] in steps[1] else 1


def _row_operand(outer: Sequence[str], inner: Sequence[str], steps: tuple[Steps, Steps], leading: int) -> int:
    """Returns the operand with the rows, so that the result lies like the leading operand.

    Where that has what is summed over in its rows, the labels that come instead are rows too: a network's
    arrays keep their order, whichever its layers began with.
    """
    leads, other = steps[leading], steps[1 - leading]
    own = [leads[label] for label in outer if label in leads and label not in other]
    is_summed_over_rows = bool(inner and own) and min(leads[label] for label in inner) > max(own)
    return 1 - leading if is_summed_over_rows else leading


def _products(
    row_operand: int, groups: _Groups, sizes: Mapping[str, int], target: Steps | None
) -> Arrangement:
    rows, columns, inner = groups.rows, groups.columns, groups.inner
    of_rows, of_columns = groups.steps
    a = _matrix(rows, inner, of_rows, sizes)
    b = _matrix(inner, columns, of_columns, sizes)
    if a is None:
        loops = [label for label in groups.loops if label in of_rows]
        raise UnsuitedError(row_operand, "".join((*loops, *rows, *inner)))
    if b is None:
        loops = [label for label in groups.loops if label in of_columns]
        raise UnsuitedError(1 - row_operand, "".join((*loops, *inner, *columns)))
    order = [*groups.loops, *rows, *columns]
    steps = _dense(order, sizes) if target is None else target
    m, n, k = (math.prod(sizes[label] for label in group) for group in (rows, columns, inner))
    c_stride = steps[rows[-1]] if rows else n
    if c_stride < n or (columns and steps[columns[-1]] != 1):
        raise UnsuitedResultError
    loops_of = [Loop(sizes[x], of_rows.get(x, 0), of_columns.get(x, 0), steps[x]) for x in groups.loops]
    joined = tuple(_joined_loops(loops_of))
    return Arrangement(row_operand, (m, n, k), a, b, c_stride, joined, "".join(order))


def _check_repeated(
    of_a: str, inner: Sequence[str], outer: Sequence[str], steps: tuple[Steps, Steps]
) -> None:
    """Checks that no label is repeated in memory where a product needs its elements.

    Raises:
        UnsuitedError: the operand is to be copied, with that label.
    """
    for label in inner:
        for operand, of_operand in enumerate(steps):
            if label not in of_operand:
                raise UnsuitedError(operand, label)
    for label in outer:
        if label not in steps[0] and label not in steps[1]:
            raise UnsuitedError(int(label not in of_a), label)


def _split(
    labels: Sequence[str], steps: Sequence[Steps | None], sizes: Mapping[str, int]
) -> tuple[list[str], list[str]]:
    """Returns the labels to count through, and the last ones, which are one axis of a matrix."""
    for count in range(len(labels)):
        last = labels[count:]
        if all(_is_joined(last, known, sizes) for known in steps if known is not None):
            return list(labels[:count]), list(last)
    return [], []


def _dense(order: Sequence[str], sizes: Mapping[str, int]) -> Steps:
    return dict(zip(order, steps_of([sizes[label] for label in order]), strict=True))


def _steps(labels: str, place: Place) -> dict[str, int]:
    axes = zip(labels, place.shape, place.strides, strict=True)
    return {label: step for label, size, step in axes if size > 1 and step != 0}


def _by(steps: Steps, labels: Sequence[str]) -> list[str]:
    """Returns labels from the largest step to the smallest."""
    return sorted(labels, key=steps.__getitem__, reverse=True)


def _is_joined(labels: Sequence[str], steps: Steps, sizes: Mapping[str, int]) -> bool:
    return all(steps[outer] == steps[inner] * sizes[inner] for outer, inner in pairwise(labels))


def _matrix(
    rows: Sequence[str], columns: Sequence[str], steps: Steps, sizes: Mapping[str, int]
) -> Matrix | None:
    """Returns how a matrix lies; None where neither its rows nor its columns are side by side."""
    if not (_is_joined(rows, steps, sizes) and _is_joined(columns, steps, sizes)):
        return None
    height, width = (math.prod(sizes[label] for label in labels) for labels in (rows, columns))
    row_step = steps[rows[-1]] if rows else width
    column_step = steps[columns[-1]] if columns else height
    if (not columns or column_step == 1) and row_step >= width:
        return Matrix(False, row_step)
    if (not rows or row_step == 1) and column_step >= height:
        return Matrix(True, column_step)
    return None


def _joined_loops(loops: Sequence[Loop]) -> Iterator[Loop]:
    """Yields loops, two of them as one where the outer goes on where the inner ends."""
    for i, loop in enumerate(loops):
        if i + 1 < len(loops) and loop[1:] == tuple(step * loops[i + 1].size for step in loops[i + 1][1:]):
            inner = loops[i + 1]
            yield from _joined_loops([Loop(loop.size * inner.size, *inner[1:]), *loops[i + 2 :]])
            return
        yield loop
