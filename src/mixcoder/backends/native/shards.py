"""What a program knows of its shard: parameters, the place in the batch, and what all shards share."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mixcoder.backends.native.program import GemmSizes


class Vectors(NamedTuple):
    """Addresses of vectors in which every parameter has the same place.

    Attributes:
        values: of the parameters.
        operands: the same in the precision of gemms; only parameters that products read are filled in.
        gradients: of the parameters.
        loss: address of the loss.
    """

    values: int
    operands: int
    gradients: int
    loss: int


class WeightGemm(NamedTuple):
    """Weight gradients (out, in) as a gemm that is left to the end of a step: gradientsᵀ · inputs.

    Attributes:
        gradients: address of the outputs' gradients (rows, out) of all shards.
        inputs: address of the inputs (rows, in) of all shards.
        weight: address of the weight.
        sizes: (out, in, rows).
    """

    gradients: int
    inputs: int
    weight: int
    sizes: GemmSizes


@dataclass(frozen=True)
class Shard:
    """One of the equal shards of a batch, which a thread of its own computes.

    Attributes:
        index: of the shard.
        count: of the shards.
        memory: what all shards store side by side, by name.
    """

    index: int
    count: int
    memory: dict[Hashable, Tensor]

    def own_slot(self, name: Hashable, size: int) -> int:
        """Returns the address of this shard's `size` bytes beside those of the others."""
        if name not in self.memory:
            self.memory[name] = torch.zeros(size * self.count, dtype=torch.uint8)
        return self.all_slots(name) + size * self.index

    def all_slots(self, name: Hashable) -> int:
        """Returns the address where the bytes of all shards begin."""
        return self.memory[name].data_ptr()
