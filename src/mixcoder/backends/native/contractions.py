"""Arranges a contraction of two arrays as products of matrices: c (m, n) = a (m, k) · b (k, n).

    labels "bpc,oc->bpo", places ─▶ rows (p, b), columns (o), inner (c) ─▶ one gemm, or one for each of a batch

Labels are joined to one axis of a matrix where steps in memory allow it; labels that both operands and the
result have, or that cannot be joined, count through a batch of products.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mixcoder.backends.native.graph import split_labels
from mixcoder.backends.native.placing import Place, steps_of

Steps = Mapping[str, int]
"""Elements to go in memory for one step along each label; labels of size 1, and repeated ones, are left out."""


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


class UnsuitedResultError(Exception):
    """The result cannot be written where it is wanted."""


@dataclass(frozen=True)
class Matrix:
    """An axis order of an operand or result in memory.

    Attributes:
        is_transposed: whether columns lie side by side, not rows.
        stride: elements from a row, or column, to the next.
    """

    is_transposed: bool
    stride: int


@dataclass(frozen=True)
class Arrangement:
    """A contraction as products of matrices.

    Attributes:
        row_operand: 0 or 1, the operand with the rows of the result.
        sizes: (m, n, k).
        a: how the row operand's matrix lies.
        b: how the column operand's matrix lies.
        c_stride: elements from a row of the result to the next.
        loops: size, and steps of a, b and c, of each axis of the batch, from the outermost.
        order: labels of the result in the order of memory.
    """

    row_operand: int
    sizes: tuple[int, int, int]
    a: Matrix
    b: Matrix
    c_stride: int
    loops: tuple[tuple[int, int, int, int], ...]
    order: str


def arrange(labels: str, a: Place, b: Place, result: Place | None) -> Arrangement:
    """Returns the products that compute a contraction.

    Args:
        labels: as einsum has them.
        a: the first operand.
        b: the second operand.
        result: where it is wanted; None where it may lie as suits.

    Raises:
        UnsuitedError: an operand is to be copied first.
        UnsuitedResultError: it cannot be written there.
    """
    return _Arranger(labels, (a, b), result).arrange()


def free_place(labels: str, order: str, sizes: Mapping[str, int], address: int) -> Place:
    """Returns the place of a result whose labels lie in an order of memory."""
    _, _, of_result = split_labels(labels)
    full = [label for label in of_result if label not in order] + list(order)
    steps = dict(zip(full, steps_of([sizes[label] for label in full]), strict=True))
    shape = tuple(sizes[label] for label in of_result)
    return Place(address, shape, tuple(steps[label] for label in of_result))


def sizes_of(labels: str, a: Place, b: Place) -> dict[str, int]:
    """Returns the size of each label."""
    of_a, of_b, _ = split_labels(labels)
    return dict(zip(of_a + of_b, a.shape + b.shape, strict=True))


class _Arranger:
    """The labels of a contraction, sorted by their part in it."""

    def __init__(self, labels: str, operands: tuple[Place, Place], result: Place | None) -> None:
        of_a, of_b, of_result = split_labels(labels)
        self.sizes = sizes_of(labels, *operands)
        self.steps = [_steps(of, place) for of, place in zip((of_a, of_b), operands, strict=True)]
        self.of_result = [label for label in of_result if self.sizes[label] > 1]
        self.inner = [label for label in of_a if label not in of_result and self.sizes[label] > 1]
        self.target = None if result is None else _steps(of_result, result)
        if self.target is not None and len(self.target) < len(self.of_result):
            raise UnsuitedResultError
        self._check_repeated()

    def _check_repeated(self) -> None:
        """Checks that no label is repeated where only its elements would do."""
        for label in self.inner:
            for operand, steps in enumerate(self.steps):
                if label not in steps:
                    raise UnsuitedError(operand, label)
        for label in self.of_result:
            if not any(label in steps for steps in self.steps):
                raise UnsuitedError(0, label)

    def arrange(self) -> Arrangement:
        batch = [x for x in self.of_result if all(x in steps for steps in self.steps)]
        order = self._by_target(self.of_result)
        free = [label for label in order if label not in batch]
        row_operand = 0 if not free or free[-1] in self.steps[1] else 1
        rows_of, columns_of = self.steps[row_operand], self.steps[1 - row_operand]
        rows = [label for label in free if label in rows_of]
        columns = [label for label in free if label in columns_of]
        if self.target is None:
            batch, rows, columns = _by(rows_of, batch), _by(rows_of, rows), _by(columns_of, columns)
        elif columns and self.target[columns[-1]] != 1:
            raise UnsuitedResultError
        inner = _by(rows_of, self.inner)
        row_loops, rows = self._split(rows, rows_of)
        column_loops, columns = self._split(columns, columns_of)
        labels = (
            "".join((*batch, *row_loops, *rows, *inner)),
            "".join((*batch, *column_loops, *inner, *columns)),
        )
        for steps, operand in ((rows_of, row_operand), (columns_of, 1 - row_operand)):
            if not _is_joined(inner, steps, self.sizes):
                raise UnsuitedError(operand, labels[operand != row_operand])
        a = _matrix(rows, inner, rows_of, self.sizes)
        b = _matrix(inner, columns, columns_of, self.sizes)
        if a is None:
            raise UnsuitedError(row_operand, labels[0])
        if b is None:
            raise UnsuitedError(1 - row_operand, labels[1])
        in_memory = [*batch, *row_loops, *column_loops, *rows, *columns]
        result = self.target if self.target is not None else self._dense(in_memory)
        loops = [
            (self.sizes[x], rows_of.get(x, 0), columns_of.get(x, 0), result[x])
            for x in (*batch, *row_loops, *column_loops)
        ]
        m, n, k = (math.prod(self.sizes[x] for x in group) for group in (rows, columns, inner))
        c_stride = result[rows[-1]] if rows else n
        if c_stride < n:
            raise UnsuitedResultError
        return Arrangement(
            row_operand, (m, n, k), a, b, c_stride, tuple(_joined_loops(loops)), "".join(in_memory)
        )

    def _by_target(self, labels: list[str]) -> list[str]:
        return labels if self.target is None else _by(self.target, labels)

    def _split(self, labels: list[str], steps: Steps) -> tuple[list[str], list[str]]:
        """Returns the labels to count through, and the last ones, which are one axis of a matrix."""
        for count in range(len(labels)):
            last = labels[count:]
            if _is_joined(last, steps, self.sizes) and (
                self.target is None or _is_joined(last, self.target, self.sizes)
            ):
                return labels[:count], last
        return labels, []

    def _dense(self, order: Sequence[str]) -> dict[str, int]:
        return dict(zip(order, steps_of([self.sizes[label] for label in order]), strict=True))


def _steps(labels: str, place: Place) -> dict[str, int]:
    axes = zip(labels, place.shape, place.strides, strict=True)
    return {label: step for label, size, step in axes if size > 1 and step != 0}


def _by(steps: Steps, labels: Sequence[str]) -> list[str]:
    """Returns labels from the largest step to the smallest."""
    return sorted(labels, key=lambda label: -steps[label])


def _is_joined(labels: Sequence[str], steps: Steps, sizes: Mapping[str, int]) -> bool:
    return all(steps[outer] == steps[inner] * sizes[inner] for outer, inner in itertools.pairwise(labels))


def _matrix(
    rows: Sequence[str], columns: Sequence[str], steps: Steps, sizes: Mapping[str, int]
) -> Matrix | None:
    """Returns how a matrix lies; None where neither its rows nor its columns are side by side."""
    width, height = (math.prod(sizes[x] for x in labels) for labels in (columns, rows))
    row_step = steps[rows[-1]] if rows else width
    column_step = steps[columns[-1]] if columns else 1
    if column_step == 1 and row_step >= width:
        return Matrix(False, row_step)
    if not rows and columns:
        return Matrix(True, column_step)  # one row, as one column
    if row_step == 1:
        return (
            Matrix(True, column_step if columns else height) if column_step >= height or not columns else None
        )
    return None


def _joined_loops(loops: Sequence[tuple[int, int, int, int]]) -> Iterator[tuple[int, int, int, int]]:
    """Yields loops, those joined to one that go on where the inner one ends."""
    before: tuple[int, int, int, int] | None = None
    for loop in loops:
        if before and all(outer == step * loop[0] for outer, step in zip(before[1:], loop[1:], strict=True)):
            before = (before[0] * loop[0], *loop[1:])
        else:
            if before:
                yield before
            before = loop
    if before:
        yield before
