"""Muon within a step: momentum slice by slice, then whole matrices, each by one thread.

gradients of a slice ─▶ momentum ─▶ result of the first shard
  ├─ barrier
this thread's matrices ─▶ Newton-Schulz steps ─▶ parameters
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from mixcoder.backends.matrices import MatrixShape
from mixcoder.backends.muon import MOMENTUM, Muon, rms_factor
from mixcoder.backends.native.codes import MuonScalars
from mixcoder.backends.native.element_updates import segment_of, segments_within
from mixcoder.backends.native.program import FLOAT_BYTES, Program
from mixcoder.backends.native.step_memory import StepMemory

_BFLOAT16_LEAST_SIDE = 64
"""The shorter side of matrices, below which converting to bfloat16 takes more time than it saves."""


class Task(NamedTuple):
    """Consecutive equal matrices, from a place in the vector of all parameters on."""

    start: int
    shape: MatrixShape

    @property
    def cost(self) -> int:
        """Multiply-adds, but for a common factor."""
        batch, rows, columns = self.shape
        return batch * rows * columns * min(rows, columns)


class MuonUpdate:
    """The update of Muon's parameters.

    Args:
        memory: of the step.
        optimizer: whose update it is.
    """

    def __init__(self, memory: StepMemory, optimizer: Muon) -> None:
        self._optimizer = optimizer
        self._vectors = memory.vectors(0)
        self._is_bf16 = memory.precision == torch.bfloat16
        self._segments = [
            segment_of(memory, parameter, [optimizer.momentum_buffer(parameter)])
            for parameter in optimizer.matrices
        ]
        self._tasks = _share(_tasks(self._vectors.values, optimizer, memory.threads), memory.threads)
        self._scalars = np.zeros(len(MuonScalars._fields), dtype=np.float32)

    def begin_step(self) -> None:
        """Writes the scalars of the step that comes."""
        self._scalars[:] = self._optimizer.scalars()

    def count_step(self) -> None:
        """Counts nothing: Muon's steps are all alike."""

    def emit(self, program: Program, place: slice, gradients: int) -> list[slice]:
        """Emits the momentum of a slice of all parameters; returns an empty list, as none has new values."""
        for within, state in segments_within(self._segments, place):
            gradient = gradients + FLOAT_BYTES * (within.start - place.start)
            out = self._vectors.gradients + FLOAT_BYTES * within.start
            program.emit("momentum", [within.stop - within.start], [gradient, *state, out], MOMENTUM)
        return []

    def emit_matrices(self, program: Program, index: int) -> list[slice]:
        """Emits the update of this thread's matrices; returns their places."""
        for start, (batch, rows, columns) in self._tasks[index]:
            value, update = (
                vector + FLOAT_BYTES * start for vector in (self._vectors.values, self._vectors.gradients)
            )
            is_bf16 = self._is_bf16 and min(rows, columns) >= _BFLOAT16_LEAST_SIDE
            workspace = program.buffer(_workspace_elements(rows, columns))
            addresses = [value, update, self._scalars.ctypes.data, workspace]
            sizes = [batch, rows, columns, is_bf16]
            program.emit("orthogonal_update", sizes, addresses, rms_factor(rows, columns))
        return [slice(start, start + shape.elements) for start, shape in self._tasks[index]]


def _workspace_elements(rows: int, columns: int) -> int:
    """Returns the elements of a `Workspace` of newton_schulz.h, in float32."""
    size, square = rows * columns, min(rows, columns) ** 2
    return 2 * (size + square) + max(2 * square, (size + square + 1) // 2)


def _tasks(values: int, optimizer: Muon, threads: int) -> list[Task]:
    """Returns all matrices of an optimizer, the batches in as many pieces as there are threads."""
    tasks = []
    for parameter, shape in optimizer.matrices.items():
        start = (parameter.data_ptr() - values) // FLOAT_BYTES
        size = -(-shape.batch // threads)
        for first in range(0, shape.batch, size):
            piece = shape._replace(batch=min(size, shape.batch - first))
            tasks.append(Task(start + first * shape.rows * shape.columns, piece))
    return tasks


def _share(tasks: list[Task], threads: int) -> list[list[Task]]:
    """Returns the tasks of each thread: the costliest first, each to the thread with the least to do."""
    shares: list[list[Task]] = [[] for _ in range(threads)]
    costs = [0] * threads
    for task in sorted(tasks, key=lambda task: -task.cost):
        thread = costs.index(min(costs))
        shares[thread].append(task)
        costs[thread] += task.cost
    return shares
