"""Emits a whole training step of a Mixer: a program for each shard of the batch.

    convert this thread's slice of the weights to bfloat16, where gemms take it
      ├─ barrier: all weights are converted
    layers forward ─▶ loss ─▶ layers backward
      ├─ barrier: all shards have activations and gradients
    this thread's slice of the parameters: gradients of large weights over all shards, the sums of the
    others over all shards, and the use of both: AdamW's update, or a copy to the caller

A slice is of the vector of all parameters: it stays in the cache of the thread's core.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import chain, pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from mixcoder.backends.fingerprint import has_hooks
from mixcoder.backends.native.codes import LOSSES, AdamWScalars
from mixcoder.backends.native.layers import create_layer
from mixcoder.backends.native.program import FLOAT_BYTES, Program
from mixcoder.backends.native.shards import Network, Shard, Vectors
from mixcoder.backends.step import UnsupportedError
from mixcoder.backends.threads import split_evenly
from mixcoder.backends.vector_adamw import VectorAdamW
from mixcoder.models.mixer_mlp import MixerMLP

_BLOCK = 2**17
"""Elements that stay in a core's second-level cache while they are used (512 KiB)."""


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
        scalars: (6,) float32 of the optimizer's step: `AdamWScalars`.
    """

    def __init__(self, values: Tensor, precision: torch.dtype, shards: int) -> None:
        self._values = values
        self._operands = values if precision == torch.float32 else torch.zeros_like(values, dtype=precision)
        self.results = [torch.zeros(len(values) + 1) for _ in range(shards)]
        self.barrier = torch.zeros((), dtype=torch.int64)
        self.side_by_side: dict[Hashable, Tensor] = {}
        self.scalars = np.zeros(len(AdamWScalars._fields), dtype=np.float32)

    def vectors(self, index: int) -> Vectors:
        """Returns the addresses of values, operands, and the gradients and loss of a shard."""
        result = self.results[index]
        return Vectors(*(t.data_ptr() for t in (self._values, self._operands, result, result[-1:])))

    def own_slice(self, index: int) -> slice:
        """Returns the slice of all parameters whose gradients a thread reduces."""
        return split_evenly(len(self._values), len(self.results))[index]

    def emit_barrier(self, program: Program) -> None:
        """Emits that a thread waits until all have come this far."""
        program.emit("barrier", [len(self.results)], [self.barrier.data_ptr()])


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
        self._vectors = memory.vectors(0).values, *(moment.data_ptr() for moment in optimizer.moments())
        self._scalars = memory.scalars.ctypes.data

    def emit(self, program: Program, place: slice, gradients: int) -> None:
        """Emits the update."""
        values, exp_avg, exp_avg_sq = (vector + FLOAT_BYTES * place.start for vector in self._vectors)
        addresses = [values, gradients, exp_avg, exp_avg_sq, self._scalars]
        program.emit("adamw", [place.stop - place.start], addresses)


def as_mixer(model: nn.Module) -> MixerMLP:
    """Returns the model where it is a Mixer of plain parameters; its layers are checked as they are emitted.

    Raises:
        UnsupportedError: it is another.
    """
    if type(model) is not MixerMLP:
        raise UnsupportedError(f"no operations for {type(model).__name__}")
    parameters = [parameter for _, parameter in model.named_parameters(remove_duplicate=False)]
    if len({*parameters}) < len(parameters) or not all(p.requires_grad for p in parameters):
        raise UnsupportedError("parameters are shared or frozen")
    if any(map(has_hooks, model.modules())):
        raise UnsupportedError("a layer has a hook")
    if any(map(is_parametrized, model.modules())):
        raise UnsupportedError("weights are computed from other parameters")
    return model


def emit_conversion(program: Program, model: MixerMLP, memory: StepMemory, index: int) -> None:
    """Emits this thread's slice of the Linear weights' conversion to bfloat16, and a barrier."""
    vectors, own = memory.vectors(index), memory.own_slice(index)
    if vectors.operands == vectors.values:
        return
    for weight in (layer.weight for layer in model.modules() if isinstance(layer, nn.Linear)):
        start = (weight.data_ptr() - vectors.values) // FLOAT_BYTES
        for block in _blocks(_intersection(slice(start, start + weight.numel()), own), weight.numel()):
            value = vectors.values + FLOAT_BYTES * block.start
            operand = vectors.operands + program.operand_bytes * block.start
            program.emit("to_bf16", [block.stop - block.start], [value, operand])
    memory.emit_barrier(program)


def emit_network(
    program: Program, model: MixerMLP, loss: str, batch_size: int, shard: Shard, vectors: Vectors
) -> Network:
    """Emits forward, loss and backward of a shard of a batch of `batch_size` images."""
    channels, height, width = model.image_shape
    pixels, images_of_shard = channels * height * width, batch_size // shard.count
    positions = torch.arange(pixels, dtype=torch.float64).view(1, channels, height, width)
    index = model.patchify(positions).to(torch.int32).contiguous()  # (1, P, C·p·p): positions of pixels
    _, patches, patch_channels = index.shape

    images = program.buffer(images_of_shard * pixels)
    sizes = [images_of_shard, pixels, patches, patch_channels]
    program.emit("load_patches", sizes, [program.keep(index), images])
    net = Network(program, images_of_shard, patches, patch_channels, images, vectors, shard)
    x, layers = images, []
    for module in chain(model.encoder.children(), model.decoder.children()):
        layers.append(create_layer(net, module))
        x = layers[-1].forward(x)
    sizes, mean = [images_of_shard * pixels, LOSSES.index(loss)], 1 / (batch_size * pixels)
    program.emit("loss", sizes, [x, images, vectors.loss], mean)
    gradient = x  # the loss overwrites the outputs by their gradients
    for layer in reversed(layers):
        gradient = layer.backward(gradient)
    return net


def emit_reduction(program: Program, networks: Sequence[Network], own: slice, use: GradientUse) -> None:
    """Emits the reduction of this thread's slice of the gradients over all shards, and their use.

    The thread with the first slice also reduces the loss.
    """
    first, *others = (net.vectors for net in networks)
    for other in others if own.start == 0 else []:
        program.emit("add", [1], [other.loss, first.loss])
    done = _emit_weight_gemms(program, networks[0], own, use)
    for before, after in pairwise([*done, slice(own.stop, own.stop)]):
        for block in _blocks(_intersection(slice(before.stop, after.start), own), _BLOCK):
            gradients = first.gradients + FLOAT_BYTES * block.start
            for other in others:
                addend = other.gradients + FLOAT_BYTES * block.start
                program.emit("add", [block.stop - block.start], [addend, gradients])
            use.emit(program, block, gradients)


def _emit_weight_gemms(program: Program, net: Network, own: slice, use: GradientUse) -> list[slice]:
    """Emits this thread's rows of the weight gradients that were left to the end; returns where all lie."""
    done = [slice(0, 0)]
    for gemm in net.weight_gemms:
        rows, columns, _ = gemm.sizes
        start = (gemm.weight - net.vectors.values) // FLOAT_BYTES
        first, end = (min(max(0, -(-(bound - start) // columns)), rows) for bound in (own.start, own.stop))
        for block in _blocks(slice(first, end), max(1, _BLOCK // columns)):
            gradients = program.buffer((block.stop - block.start) * columns)
            program.gemm_rows((gemm.gradients, gemm.inputs), gradients, gemm.sizes, "a", block)
            use.emit(program, slice(start + block.start * columns, start + block.stop * columns), gradients)
        done.append(slice(start, start + rows * columns))
    return sorted(done, key=lambda place: place.start)


def _blocks(whole: slice, size: int) -> list[slice]:
    """Returns consecutive slices of at most `size` elements."""
    return [slice(start, min(start + size, whole.stop)) for start in range(whole.start, whole.stop, size)]


def _intersection(one: slice, other: slice) -> slice:
    """Returns the elements in both slices; where there are none, its stop is before its start."""
    return slice(max(one.start, other.start), min(one.stop, other.stop))
