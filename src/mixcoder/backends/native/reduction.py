"""Emits the end of a training step: gradients over all shards, and their use, slice by slice.

    this thread's slice of the parameters: gradients of large weights over all shards, the sums of the
    others over all shards, and the use of both: an optimizer's update, or a copy to the caller

A slice is of the vector of all parameters: it stays in the cache of the thread's core.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from mixcoder.backends.native.program import FLOAT_BYTES, Program
from mixcoder.backends.native.shards import Vectors, WeightGemm
from mixcoder.backends.native.slices import blocks, intersection
from mixcoder.backends.native.updates import GradientUse

_BLOCK_OF_GRADIENTS = 2**17
"""Elements that stay in a core's second-level cache while they are used (512 KiB)."""


def emit_reduction(
    program: Program, vectors: Sequence[Vectors], gemms: Sequence[WeightGemm], own: slice, use: GradientUse
) -> None:
    """Emits the reduction of this thread's slice of the gradients over all shards, and their use.

    The thread with the first slice also reduces the loss.

    Args:
        program: of this thread.
        vectors: of each shard.
        gemms: weight gradients that were left to the end, over all shards.
        own: this thread's slice.
        use: of the gradients.
    """
    first, *others = vectors
    for other in others if own.start == 0 else []:
        program.emit("add", [1], [other.loss, first.loss])
    done = [
        _emit_weight_gemm(program, gemm, (gemm.weight - first.values) // FLOAT_BYTES, own, use)
        for gemm in gemms
    ]
    done.sort(key=lambda place: place.start)
    for before, after in pairwise([slice(0, 0), *done, slice(own.stop, own.stop)]):
        for block in blocks(intersection(slice(before.stop, after.start), own), _BLOCK_OF_GRADIENTS):
            gradients = first.gradients + FLOAT_BYTES * block.start
            for other in others:
                addend = other.gradients + FLOAT_BYTES * block.start
                program.emit("add", [block.stop - block.start], [addend, gradients])
            use.emit(program, block, gradients)


def _emit_weight_gemm(program: Program, gemm: WeightGemm, start: int, own: slice, use: GradientUse) -> slice:
    """Emits this thread's rows of weight gradients from place `start` on; returns where all rows lie."""
    rows, columns, _ = gemm.sizes
    first, end = (min(max(0, -(-(bound - start) // columns)), rows) for bound in (own.start, own.stop))
    for block in blocks(slice(first, end), max(1, _BLOCK_OF_GRADIENTS // columns)):
        gradients = program.buffer((block.stop - block.start) * columns)
        program.gemm_rows((gemm.gradients, gemm.inputs), gradients, gemm.sizes, "a", block)
        use.emit(program, slice(start + block.start * columns, start + block.stop * columns), gradients)
    return slice(start, start + rows * columns)
