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
from torch import Tensor

from mixcoder.backends.native.build import load_kernels
from mixcoder.backends.native.codes import ABANDONED, LOSSES, OPERATIONS
from mixcoder.backends.native.network_graph import network_graph
from mixcoder.backends.native.network_program import emit_conversion, emit_network
from mixcoder.backends.native.placement import Leaves
from mixcoder.backends.native.program import Program
from mixcoder.backends.native.reduction import emit_reduction
from mixcoder.backends.native.shards import Shard, Vectors
from mixcoder.backends.native.step_memory import StepMemory
from mixcoder.backends.native.updates import CopyGradients, create_update
from mixcoder.backends.self_check import as_unsupported, check_no_hooks, check_pure
from mixcoder.backends.step import StepSpec, UnsupportedError
from mixcoder.backends.threads import run_in_parallel
from mixcoder.device import factory_defaults
from mixcoder.models.autoencoder import Autoencoder


class NativeStep:
    """Loss and gradients of a batch by `kernels/`.

    Takes images (B, C, H, W) uint8 on the CPU; returns gradients (N,), valid until the next call, and the
    loss ().

    Args:
        spec: of the step; all functions of its model have a rule, its shards divide its batch.
        optimizers: of `threads_can_update`, that use the gradients within the step; then the gradients
            returned are meaningless.

    Raises:
        UnsupportedError: the model is another.
        Exception: the kernels cannot be compiled here.
    """

    def __init__(self, spec: StepSpec, optimizers: Sequence[torch.optim.Optimizer] = ()) -> None:
        check_no_hooks(spec.model)
        self._shape = spec.images.shape
        self._memory = StepMemory(spec.parameters.vector.detach(), spec.precision, spec.shards)
        self._update = (
            create_update(replace(spec, optimizers=optimizers), self._memory) if optimizers else None
        )
        self._programs = [Program(spec.precision) for _ in range(spec.shards)]
        graph = network_graph(spec.model, spec.batch_size // spec.shards, spec.loss, spec.batch_size)
        addresses = [parameter.data_ptr() for parameter in spec.parameters.parameters]
        gemms = []
        for index, program in enumerate(self._programs):
            leaves = Leaves(self._memory.vectors(index), addresses)
            emit_conversion(program, leaves, graph.product_parameters(), self._memory, index)
            gemms.append(emit_network(program, graph, leaves, self._memory.shard(index)))
        use = self._update or CopyGradients(self._memory)
        for index, program in enumerate(self._programs):
            self._memory.emit_barrier(program)
            vectors = [self._memory.vectors(other) for other in range(spec.shards)]
            emit_reduction(program, vectors, gemms[0], self._memory.own_slice(index), use)
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


def missing_operation(model: Autoencoder) -> str | None:
    """Returns which function of a model has no rule; None where `NativeStep` can compute all of it."""
    try:
        with as_unsupported(), factory_defaults():
            check_pure(model)  # tracing would change running statistics
            graph = network_graph(model, 2, LOSSES[0], 2)  # of one image, axes would vanish
            leaves = Leaves(Vectors(0, 0, 0, 0), [0] * len(graph.parameters))
            emit_network(Program(torch.float32), graph, leaves, Shard(0, 1, {}))
    except UnsupportedError as error:
        return str(error)
    return None
