"""Uses of gradients within a step: a copy to the caller, or the optimizers' update.

    gradients of a slice ─┬▶ element by element: AdamW, SGD ─▶ parameters ─▶ their moving average
                          └▶ Muon's momentum ─▶ barrier ─▶ whole matrices (matrix_updates.py) ─▶ the same

Where gradients are clipped, all of them and their norm come first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch

from mixcoder.backends.muon import Muon
from mixcoder.backends.native.element_updates import AdamWUpdate, SgdUpdate
from mixcoder.backends.native.matrix_updates import MuonUpdate
from mixcoder.backends.native.program import FLOAT_BYTES, Program
from mixcoder.backends.native.slices import blocks
from mixcoder.backends.native.step_memory import StepMemory
from mixcoder.backends.step import StepSpec
from mixcoder.backends.vector_adamw import LeanAdamW, VectorAdamW
from mixcoder.backends.vector_sgd import VectorSGD
from mixcoder.backends.weight_average import WeightAverage

_BLOCK = 2**15
"""Elements that stay in the second-level cache while they are scaled, then used (128 KiB)."""


class GradientUse(Protocol):
    """A use of gradients, emitted as soon as they are computed."""

    def emit(self, program: Program, place: slice, gradients: int) -> None:
        """Emits the use of the gradients of a slice of all parameters, which lie at an address."""


class CopyGradients:
    """A use of gradients: copies them to the result of the first shard."""

    def __init__(self, memory: StepMemory) -> None:
        self._gradients = memory.vectors(0).gradients

    def emit(self, program: Program, place: slice, gradients: int) -> None:
        """Emits the copy, where the gradients are not there already."""
        out = self._gradients + FLOAT_BYTES * place.start
        if gradients != out:
            program.copy(gradients, place.stop - place.start, out)


class OptimizerUpdate(Protocol):
    """The part of a step of one optimizer."""

    def begin_step(self) -> None:
        """Writes the scalars of the step that comes."""

    def count_step(self) -> None:
        """Counts the step in the optimizer's state."""

    def emit(self, program: Program, place: slice, gradients: int) -> list[slice]:
        """Emits the update of a slice of all parameters; returns what of it has its new values then."""

    def emit_matrices(self, program: Program, index: int) -> list[slice]:
        """Emits this thread's part of what takes whole matrices; returns what has its new values then."""


class UpdateParameters:
    """A use of gradients: updates the parameters. Gradients of large weights never leave the cache.

    Args:
        memory: of the step.
        optimizers: the update of each.
        average: of the parameters, or None.
    """

    def __init__(
        self, memory: StepMemory, optimizers: Sequence[OptimizerUpdate], average: WeightAverage | None
    ) -> None:
        self._memory = memory
        self._optimizers = optimizers
        self._average = average
        self._factor = np.zeros(1, dtype=np.float32)

    def begin_step(self) -> None:
        """Writes the scalars of the step that comes."""
        for optimizer in self._optimizers:
            optimizer.begin_step()
        if self._average:
            self._factor[0] = self._average.factor_of_next_step()

    def count_step(self) -> None:
        """Counts the step in the state of the optimizers and the average."""
        for optimizer in self._optimizers:
            optimizer.count_step()
        if self._average:
            self._average.steps += 1

    def emit(self, program: Program, place: slice, gradients: int) -> None:
        """Emits the update, as far as it needs these gradients alone."""
        for optimizer in self._optimizers:
            self._emit_average(program, optimizer.emit(program, place, gradients))

    def emit_rest(self, program: Program, index: int) -> None:
        """Emits a thread's part of what needs the gradients of all threads."""
        if not any(isinstance(optimizer, MuonUpdate) for optimizer in self._optimizers):
            return
        self._memory.emit_barrier(program)
        for optimizer in self._optimizers:
            self._emit_average(program, optimizer.emit_matrices(program, index))

    def _emit_average(self, program: Program, places: Sequence[slice]) -> None:
        if self._average is None:
            return
        values, average = self._memory.vectors(0).values, self._average.vector.data_ptr()
        for place in places:
            start = FLOAT_BYTES * place.start
            addresses = [values + start, average + start, self._factor.ctypes.data]
            program.emit("average", [place.stop - place.start], addresses)


class ClippedUpdate:
    """A use of gradients: scales them down to a norm of all, then updates the parameters.

    Args:
        memory: of the step.
        update: of the parameters.
        clip_norm: the largest norm.
    """

    def __init__(self, memory: StepMemory, update: UpdateParameters, clip_norm: float) -> None:
        self._memory = memory
        self._copy = CopyGradients(memory)
        self._update = update
        self._clip_norm = clip_norm
        self._sums = torch.zeros(len(memory.results), dtype=torch.float64)
        self.begin_step, self.count_step = update.begin_step, update.count_step

    def emit(self, program: Program, place: slice, gradients: int) -> None:
        """Emits that the gradients are kept for later."""
        self._copy.emit(program, place, gradients)

    def emit_rest(self, program: Program, index: int) -> None:
        """Emits the norm of all gradients, their scaling and the update of a thread's slice."""
        own, gradients, sums = self._memory.own_slice(index), self._memory.vectors(0).gradients, self._sums
        self._memory.emit_barrier(program)  # the last rows of a slice are another thread's
        at = gradients + FLOAT_BYTES * own.start
        program.emit("sum_squares", [own.stop - own.start], [at, sums[index:].data_ptr()])
        self._memory.emit_barrier(program)
        factor = program.buffer(1)
        program.emit("clip_factor", [len(sums)], [sums.data_ptr(), factor], self._clip_norm)
        for block in blocks(own, _BLOCK):
            at = gradients + FLOAT_BYTES * block.start
            program.emit("scale", [block.stop - block.start], [at, factor])
            self._update.emit(program, block, at)
        self._update.emit_rest(program, index)


_UPDATES: dict[type[torch.optim.Optimizer], Callable[..., OptimizerUpdate]] = {
    VectorAdamW: AdamWUpdate,
    LeanAdamW: AdamWUpdate,
    VectorSGD: SgdUpdate,
    Muon: MuonUpdate,
}
"""The update of each optimizer that threads can compute; a subclass of one may compute something else."""


def threads_can_update(spec: StepSpec) -> bool:
    """Returns whether threads can compute the whole of a step.

    They cannot with an optimizer of a plugin, or where gradients are reduced over several processes.
    """
    are_known = all(type(optimizer) in _UPDATES for optimizer in spec.optimizers)
    return are_known and bool(spec.optimizers) and spec.reduction is None


def create_update(spec: StepSpec, memory: StepMemory) -> UpdateParameters | ClippedUpdate:
    """Returns the update by the optimizers of a step that threads can compute."""
    updates = [_UPDATES[type(optimizer)](memory, optimizer) for optimizer in spec.optimizers]
    update = UpdateParameters(memory, updates, spec.average)
    return update if spec.clip_norm is None else ClippedUpdate(memory, update, spec.clip_norm)
