"""The memory of a training step that lies outside the buffers of its programs."""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import Tensor

from mixcoder.backends.native.program import Program
from mixcoder.backends.native.shards import Shard, Vectors
from mixcoder.backends.threads import split_evenly


class StepMemory:
    """Memory that the programs of all shards know by address, beside their own buffers.

    Args:
        values: (N,) of all parameters.
        precision: of the operands of gemms.
        shards: of a batch.

    Attributes:
        results: gradients and loss (N + 1,) of each shard; after a step, the first holds those of the batch.
        barrier: () int64, how often threads have arrived at barriers.
        side_by_side: what the shards store beside each other, by name.
        threads: one for each shard.
        precision: of the operands of gemms.
    """

    def __init__(self, values: Tensor, precision: torch.dtype, shards: int) -> None:
        self._values = values
        self._operands = values if precision == torch.float32 else torch.zeros_like(values, dtype=precision)
        self.results = [torch.zeros(len(values) + 1) for _ in range(shards)]
        self.barrier = torch.zeros((), dtype=torch.int64)
        self.side_by_side: dict[Hashable, Tensor] = {}
        self.threads = shards
        self.precision = precision

    def vectors(self, index: int) -> Vectors:
        """Returns the addresses of values, operands, and the gradients and loss of a shard."""
        result = self.results[index]
        return Vectors(*(t.data_ptr() for t in (self._values, self._operands, result, result[-1:])))

    def shard(self, index: int) -> Shard:
        """Returns a shard of the batch."""
        return Shard(index, len(self.results), self.side_by_side)

    def own_slice(self, index: int) -> slice:
        """Returns the slice of all parameters whose gradients a thread reduces."""
        return split_evenly(len(self._values), len(self.results))[index]

    def emit_barrier(self, program: Program) -> None:
        """Emits that a thread waits until all have come this far."""
        program.emit("barrier", [len(self.results)], [self.barrier.data_ptr()])
