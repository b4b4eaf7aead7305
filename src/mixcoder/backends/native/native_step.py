"""Runs the programs of a training step: one thread for each shard, without Python's interpreter lock.

images (B, C, H, W) uint8 ─▶ equal shards ─▶ mixcoder_run ─▶ gradients (N,), or updated parameters; loss ()
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from mixcoder.backends.native.build import load_kernels
from mixcoder.backends.native.codes import ABANDONED, LOSSES, OPERATIONS
from mixcoder.backends.native.network_program import as_mixer, emit_conversion, emit_network
from mixcoder.backends.native.program import Program
from mixcoder.backends.native.reduction import emit_reduction
from mixcoder.backends.native.shards import Shard, Vectors
from mixcoder.backends.native.step_memory import StepMemory
from mixcoder.backends.native.updates import CopyGradients, create_update
from mixcoder.backends.step import StepSpec, UnsupportedError
from mixcoder.backends.threads import run_in_parallel


class NativeStep:
    """Loss and gradients of a batch by `kernels.cpp`.

    Takes images (B, C, H, W) uint8 on the CPU; returns gradients (N,), valid until the next call, and the
    loss ().

    Args:
        spec: of the step; all layers of its model have operations, its shards divide its batch.
        optimizers: of `threads_can_update`, that use the gradients within the step; then the gradients
            returned are meaningless.

    Raises:
        UnsupportedError: the model is another.
        Exception: the kernels cannot be compiled here.
    """

    def __init__(self, spec: StepSpec, optimizers: Sequence[torch.optim.Optimizer] = ()) -> None:
        model = as_mixer(spec.model)
        self._shape = spec.images.shape
        self._memory = StepMemory(spec.parameters.vector.detach(), spec.precision, spec.shards)
        self._update = (
            create_update(replace(spec, optimizers=optimizers), self._memory) if optimizers else None
        )
        self._programs = [Program(spec.precision) for _ in range(spec.shards)]
        networks = []
        for index, program in enumerate(self._programs):
            emit_conversion(program, model, self._memory, index)
            shard, vectors = Shard(index, spec.shards, self._memory.side_by_side), self._memory.vectors(index)
            networks.append(emit_network(program, model, spec.loss, spec.batch_size, shard, vectors))
        use = self._update or CopyGradients(self._memory)
        for index, program in enumerate(self._programs):
            self._memory.emit_barrier(program)
            own, gemms = self._memory.own_slice(index), networks[0].weight_gemms
            emit_reduction(program, [net.vectors for net in networks], gemms, own, use)
            if self._update:
                self._update.emit_rest(program, index)
        self._operations = [program.operations() for program in self._programs]
        self._kernels = load_kernels()

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        assert images.shape == self._shape
        shards = images.contiguous().chunk(len(self._operations))
        jobs = [partial(self._run, *job) for job in zip(self._operations, shards, strict=True)]
        try:
            run_in_parallel(jobs, on_error=self._abandon)
        except BaseException:  # such as Ctrl-C, before this thread's shard began; all threads have returned
            self._memory.barrier.zero_()
            raise
        result = self._memory.results[0]
        return result[:-1], result[-1].clone()

    def update(self, images: Tensor) -> Tensor:
        """Takes the whole training step of the same images; returns the loss () before the update.

        An interrupted step is not counted; it updates nothing, or everything.
        """
        assert self._update is not None
        self._update.begin_step()
        _, loss = self(images)
        self._update.count_step()
        return loss

    def time_operations(self, images: Tensor) -> Iterator[tuple[str, float]]:
        """Runs a step of one shard operation by operation; yields the name and the seconds of each."""
        [operations] = self._operations
        for i, operation in enumerate(operations):
            start = time.perf_counter()
            self._run(operations[i : i + 1], images)
            yield OPERATIONS[operation["code"]], time.perf_counter() - start

    def _run(self, operations: np.ndarray, images: Tensor) -> None:
        self._kernels.mixcoder_run(
            ctypes.c_void_p(operations.ctypes.data), len(operations), ctypes.c_void_p(images.data_ptr())
        )

    def _abandon(self) -> None:
        """Lets the other threads return from their barriers, where this one will not arrive."""
        self._memory.barrier.fill_(ABANDONED)


def missing_operation(model: nn.Module) -> str | None:
    """Returns which part of a model has no operations; None where `NativeStep` can compute all of it."""
    program, shard = Program(torch.float32), Shard(0, 1, {})
    try:
        emit_network(program, as_mixer(model), LOSSES[0], 1, shard, Vectors(0, 0, 0, 0))
    except UnsupportedError as error:
        return str(error)
    return None
