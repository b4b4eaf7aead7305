"""What a program knows of its shard: parameters, the place in the batch, and what all layers share."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mixcoder.backends.native.program import FLOAT_BYTES, GemmSizes, Program
from mixcoder.backends.step import UnsupportedError


class Vectors(NamedTuple):
    """Addresses of vectors in which every parameter has the same place.

    Attributes:
        values: of the parameters.
        operands: the same in the precision of gemms; only weights of Linear layers are filled in.
        gradients: of the parameters.
        loss: address of the loss.
    """

    values: int
    operands: int
    gradients: int
    loss: int


class Weights(NamedTuple):
    """Addresses of a layer's parameters, of its weight as an operand, and of its gradients."""

    weight: int
    bias: int
    operand: int
    weight_gradient: int
    bias_gradient: int


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


@dataclass
class Network:
    """What the layers of a network share while their operations are emitted.

    Attributes:
        program: that they are emitted to.
        batch: B, images of the shard.
        patches: P.
        channels: C, of the next layer's input.
        images: address of the network's input.
        vectors: of the parameters.
        shard: of the batch.
        weight_gemms: of all shards, left to the end of the step: what a thread computes there it uses
            while it is in the thread's cache.
    """

    program: Program
    batch: int
    patches: int
    channels: int
    images: int
    vectors: Vectors
    shard: Shard
    weight_gemms: list[WeightGemm] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """P·B: vectors of all patches of all images."""
        return self.patches * self.batch

    @property
    def patch_elements(self) -> int:
        """B·C: elements of one patch in all images."""
        return self.batch * self.channels

    def weights(self, module: Any) -> Weights:
        """Returns the addresses of a Linear layer's or a convolution's parameters.

        Raises:
            UnsupportedError: it has no bias.
        """
        if module.bias is None:
            raise UnsupportedError("a layer without a bias")
        weight, bias = module.weight.data_ptr(), module.bias.data_ptr()
        values, operands, gradients, _ = self.vectors
        operand = operands + self.program.operand_bytes * ((weight - values) // FLOAT_BYTES)
        return Weights(weight, bias, operand, gradients + weight - values, gradients + bias - values)
