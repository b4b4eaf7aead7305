"""Emits a group of elementwise nodes, with the sums among them, as one operation.

    group, places of its inputs and results ─▶ loops (nests.py) and instructions (instructions.py)
        ─▶ a plan for the vector machine of `elementwise.h`

Sums over blocks are in double precision, those within a block in float32; their order is always the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from mixcoder.backends.native.codes import INSTRUCTIONS, VECTOR
from mixcoder.backends.native.fusion import REDUCTIONS, Frame, Fused, reads_of
from mixcoder.backends.native.graph import Node, Shape, steps_of
from mixcoder.backends.native.instructions import Access, Instruction, Operands, compile_group
from mixcoder.backends.native.movement import emit_move
from mixcoder.backends.native.nests import Nest, arrange, memory_order
from mixcoder.backends.native.placing import Place
from mixcoder.backends.native.program import FLOAT_BYTES, Program

_DOUBLE_BYTES = 8
_LEAST_REPEATS = 4
"""Times that a group reads each element of an array which is copied before."""
_MOST_OF_A_ROW = 512
"""Elements of a row that is summed within a block, where that is a choice: some rows fit into the cache."""


@dataclass(frozen=True)
class _Array:
    """An operand: a place, and its steps along the axes of the group."""

    place: Place
    steps: Shape

    @property
    def end(self) -> int:
        """The address behind its last element."""
        last = sum((size - 1) * step for size, step in zip(self.place.shape, self.place.strides, strict=True))
        return self.place.address + FLOAT_BYTES * (last + 1)

    def overlaps(self, other: _Array) -> bool:
        return self.place.address < other.end and other.place.address < self.end


def emit_fused(program: Program, fused: Fused, places: Mapping[Node, Place]) -> None:
    """Emits a group.

    Args:
        program: to which the operation is appended.
        fused: the group.
        places: of all its inputs and outputs. An output may lie exactly where an input lies.

    Raises:
        UnsupportedError: the places lie so differently that no loops over them are known.
    """
    reads = reads_of(fused)
    fused = replace(fused, rows=fused.rows or _sums_of_rows(fused, places))
    written = [node for node in fused.outputs if not _is_total(node, fused)]
    totals = [node for node in fused.outputs if _is_total(node, fused)]
    inputs = [_array(places[node], frame, fused) for node, frame in reads]
    outputs, sums = (
        [_array(places[x], fused.frames[x], fused) for x in nodes] for nodes in (written, totals)
    )
    order = memory_order(fused.shape, _steps(inputs + outputs))
    inputs = [_side_by_side(program, array, order, fused.shape) for array in inputs]
    arrays = inputs + outputs
    nest = arrange(fused.shape, _steps(arrays), _steps(sums), fused.rows)
    operands = Operands(
        [_access(array, inputs, nest) for array in arrays],
        {read: i for i, read in enumerate(reads)},
        {node: len(inputs) + i for i, node in enumerate(written)},
        {node: i for i, node in enumerate(totals)},
    )
    instructions, registers = compile_group(fused, operands)
    plan = _Plan(program, nest, fused.shape)
    plan.describe(arrays, registers, [*zip(totals, sums, strict=True)], instructions)
    descriptor = program.keep(plan.packed())
    program.emit("elementwise", [], [descriptor, *(array.place.address for array in [*arrays, *sums])])


def _sums_of_rows(fused: Fused, places: Mapping[Node, Place]) -> Shape:
    """Returns the axes of sums that are complete within a block, where they are the last in memory."""
    arrays = [_array(places[node], frame, fused) for node, frame in reads_of(fused)]
    inner = {i for array in arrays for i, step in enumerate(array.steps) if step == 1}
    for node in fused.outputs:
        reduced = fused.frames[node].reduced
        elements = math.prod(fused.shape[axis] for axis in reduced)
        if node.operation in REDUCTIONS and inner & {*reduced} and elements <= _MOST_OF_A_ROW:
            return reduced
    return ()


def _is_total(node: Node, fused: Fused) -> bool:
    """Says whether a result is a sum over all blocks, in place of one within each."""
    reduced = fused.frames[node].reduced
    return node.operation in REDUCTIONS and reduced != () and reduced != fused.rows


def _array(place: Place, frame: Frame, fused: Fused) -> _Array:
    steps = [0] * len(fused.shape)
    for axis, size, step in zip(frame.axes, place.shape, place.strides, strict=True):
        steps[axis] = step if size > 1 else 0
    return _Array(place, tuple(steps))


def _steps(arrays: Sequence[_Array]) -> list[Shape]:
    return [array.steps for array in arrays]


def _side_by_side(program: Program, array: _Array, order: Sequence[int], shape: Shape) -> _Array:
    """Returns a copy of a small array, such as a bias, whose elements lie in another order than others."""
    axes = [axis for axis in order if array.steps[axis]]
    elements = math.prod(shape[axis] for axis in axes)
    if not axes or array.steps[axes[-1]] == 1 or elements * _LEAST_REPEATS > math.prod(shape):
        return array
    sizes = tuple(shape[axis] for axis in axes)
    source = Place(array.place.address, sizes, tuple(array.steps[axis] for axis in axes))
    target = Place(program.buffer(elements), sizes, steps_of(sizes))
    emit_move(program, source, target)
    steps = dict(zip(axes, target.strides, strict=True))
    return _Array(target, tuple(steps.get(axis, 0) for axis in range(len(shape))))


def _access(array: _Array, inputs: Sequence[_Array], nest: Nest) -> Access:
    """Returns how instructions can use an operand, which inputs lie in the same memory."""
    steps = nest.steps(array.steps)
    column, row = nest.column_step(steps), nest.row_step(steps)
    uses = {
        "full": column in (0, 1),
        "columns": column == 1 or nest.count_columns == 1,
        "reduced": (column if nest.summed == "rows" else row) in (0, 1),
    }
    overlapping = frozenset(i for i, other in enumerate(inputs) if other.overlaps(array))
    return Access(frozenset(use for use, is_possible in uses.items() if is_possible), overlapping)


class _Plan:
    """The words that `elementwise.h` reads: a header, operands, registers, results and instructions."""

    def __init__(self, program: Program, nest: Nest, shape: Shape) -> None:
        self._program, self._nest, self._shape = program, nest, shape
        self._words: list[np.ndarray] = []

    def describe(
        self,
        arrays: Sequence[_Array],
        registers: Sequence[bool],
        totals: Sequence[tuple[Node, _Array]],
        instructions: Sequence[Instruction],
    ) -> None:
        """Appends all words."""
        nest = self._nest
        steps = [nest.steps(array.steps) for array in arrays]
        whole = sum(nest.column_step(inner) != 0 for inner in steps) + registers.count(False)
        least_rows = nest.least_rows(steps, [nest.steps(array.steps) for _, array in totals])
        rows, columns = nest.block(max(whole, 1), least_rows)
        pitch = -(-rows * columns // VECTOR) * VECTOR + VECTOR
        counts = len(arrays), len(arrays) + len(registers), len(totals), len(instructions)
        memory = self._program.scratch("registers", pitch * len(registers) * FLOAT_BYTES)
        results, sums = self._results(totals)
        self._append(np.array([memory, sums], np.int64))
        self._append([*nest.sizes, nest.column_axes, nest.summed == "rows", rows, columns, *counts, pitch, 0])
        for inner in steps:
            self._append([*inner, nest.column_step(inner) if nest.count_columns > 1 else 1])
        self._append(registers)
        for result in results:
            self._append(result)
        for instruction in instructions:
            self._instruction(instruction)

    def packed(self) -> torch.Tensor:
        """Returns all words as one tensor of int32."""
        return torch.from_numpy(np.concatenate(self._words))

    def _results(self, totals: Sequence[tuple[Node, _Array]]) -> tuple[list[list[int]], int]:
        """Returns the words of each sum over blocks, and the address of their memory."""
        results, offset = [], 0
        for node, array in totals:
            is_kept = [size > 1 for size in array.place.shape]
            elements = array.place.size
            dense = self._nest.steps(self._dense_steps(array))
            column = self._nest.column_step(dense)
            out = self._nest.steps(array.steps)
            results.append([node.operation == "maximum", offset, elements, *dense, column, *out])
            offset += elements + VECTOR
            assert any(is_kept) or elements == 1
        return results, self._program.scratch("sums", offset * _DOUBLE_BYTES)

    def _dense_steps(self, array: _Array) -> Shape:
        """Returns the steps along the group's axes of a copy that lies in the order of the loops."""
        order = [axis for axes in self._nest.joined for axis in axes if array.steps[axis]]
        steps = [0] * len(self._shape)
        for axis, step in zip(order, steps_of([self._shape[axis] for axis in order]), strict=True):
            steps[axis] = step
        return tuple(steps)

    def _instruction(self, now: Instruction) -> None:
        out, second_out = (*now.outs, 0, 0)[:2]
        a, b, c = (*now.inputs, *[now.inputs[0] if now.inputs else 0] * 3)[:3]
        if now.name in ("load", "store", "accumulate"):
            b = now.target
        code = INSTRUCTIONS.index(now.name)
        self._append([code, now.function, now.is_reduced, out, second_out, a, b, c])
        self._append(np.array([*now.arguments, 0.0, 0.0][:2], np.float32))

    def _append(self, words: Sequence[int] | np.ndarray) -> None:
        array = words if isinstance(words, np.ndarray) else np.array(words, np.int32)
        self._words.append(array.view(np.int32))
