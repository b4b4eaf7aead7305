"""AdamW and SGD within a step: operations on each element by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from mixcoder.backends.native.codes import AdamWScalars, SgdScalars
from mixcoder.backends.native.program import FLOAT_BYTES, Program
from mixcoder.backends.native.slices import intersection
from mixcoder.backends.native.step_memory import StepMemory
from mixcoder.backends.vector_adamw import LeanAdamW
from mixcoder.backends.vector_sgd import VectorSGD


class Segment(NamedTuple):
    """A parameter's slice of the vector of all, and the addresses of its optimizer's state there."""

    place: slice
    state: tuple[int, ...]


def segment_of(memory: StepMemory, parameter: nn.Parameter, state: Sequence[Tensor]) -> Segment:
    """Returns the segment of a parameter, which lies in the vector of all."""
    start = (parameter.data_ptr() - memory.vectors(0).values) // FLOAT_BYTES
    return Segment(slice(start, start + parameter.numel()), tuple(tensor.data_ptr() for tensor in state))


def segments_within(segments: Sequence[Segment], place: slice) -> Iterator[Segment]:
    """Yields what a slice of all parameters has of each segment."""
    for segment in segments:
        within = intersection(segment.place, place)
        if within.start < within.stop:
            offset = FLOAT_BYTES * (within.start - segment.place.start)
            yield Segment(within, tuple(address + offset for address in segment.state))


class ElementUpdate:
    """The update of parameters element by element, as an operation on values, gradients, state and scalars.

    Args:
        name: of the operation.
        values: address of all parameters.
        segments: that it updates.
        scalars: how many the operation takes.

    Attributes:
        scalars: (scalars,) float32 of the step that comes.
    """

    def __init__(self, name: str, values: int, segments: Sequence[Segment], scalars: int) -> None:
        self._name = name
        self._values = values
        self._segments = segments
        self.scalars = np.zeros(scalars, dtype=np.float32)

    def emit(self, program: Program, place: slice, gradients: int) -> list[slice]:
        """Emits the update of a slice of all parameters; returns what of it has its new values then."""
        updated = []
        for within, state in segments_within(self._segments, place):
            value = self._values + FLOAT_BYTES * within.start
            gradient = gradients + FLOAT_BYTES * (within.start - place.start)
            addresses = [value, gradient, *state, self.scalars.ctypes.data]
            program.emit(self._name, [within.stop - within.start], addresses)
            updated.append(within)
        return updated

    def emit_matrices(self, program: Program, index: int) -> list[slice]:
        """Returns an empty list: nothing takes whole matrices."""
        return []


class AdamWUpdate(ElementUpdate):
    """The update of AdamW's parameters."""

    def __init__(self, memory: StepMemory, optimizer: LeanAdamW) -> None:
        segments = [segment_of(memory, p, optimizer.moments(p)) for p in optimizer.parameters]
        super().__init__("adamw", memory.vectors(0).values, segments, len(AdamWScalars._fields))
        self._optimizer = optimizer

    def begin_step(self) -> None:
        """Writes the scalars of the step that comes."""
        self.scalars[:] = self._optimizer.scalars_of_next_step()

    def count_step(self) -> None:
        """Counts the step in the optimizer's state."""
        self._optimizer.count_step()


class SgdUpdate(ElementUpdate):
    """The update of SGD's vector of parameters."""

    def __init__(self, memory: StepMemory, optimizer: VectorSGD) -> None:
        segments = [segment_of(memory, optimizer.vector, [optimizer.momentum_buffer()])]
        super().__init__("sgd", memory.vectors(0).values, segments, len(SgdScalars._fields))
        self._optimizer = optimizer

    def begin_step(self) -> None:
        """Writes the scalars of the step that comes."""
        self.scalars[:] = self._optimizer.scalars()

    def count_step(self) -> None:
        """Counts nothing: SGD's steps are all alike."""
