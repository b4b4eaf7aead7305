"""Uses of gradients within a step: a copy to the caller, or the optimizer's update."""

from __future__ import annotations

from typing import Protocol

from mixcoder.backends.native.program import FLOAT_BYTES, Program
from mixcoder.backends.native.step_memory import StepMemory
from mixcoder.backends.vector_adamw import VectorAdamW


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


class UpdateByAdamW:
    """A use of gradients: updates the parameters. Gradients of large weights never leave the cache."""

    def __init__(self, memory: StepMemory, optimizer: VectorAdamW) -> None:
        self._vectors = (
            memory.vectors(0).values,
            *(moment.data_ptr() for moment in optimizer.moments(optimizer.vector)),
        )
        self._scalars = memory.scalars.ctypes.data

    def emit(self, program: Program, place: slice, gradients: int) -> None:
        """Emits the update."""
        values, exp_avg, exp_avg_sq = (vector + FLOAT_BYTES * place.start for vector in self._vectors)
        addresses = [values, gradients, exp_avg, exp_avg_sq, self._scalars]
        program.emit("adamw", [place.stop - place.start], addresses)
