"""Emits the operations of a Mixer's step up to its gradients: a program for each shard of the batch.

convert this thread's slice of the weights to bfloat16, where gemms take it
  ├─ barrier: all weights are converted
layers forward ─▶ loss ─▶ layers backward
  ├─ barrier: all shards have activations and gradients
this thread's slice of the parameters: reduction.py
"""

from __future__ import annotations

from itertools import chain

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from mixcoder.backends.fingerprint import has_hooks
from mixcoder.backends.native.codes import LOSSES
from mixcoder.backends.native.layers import create_layer
from mixcoder.backends.native.program import FLOAT_BYTES, Program
from mixcoder.backends.native.shards import Network, Shard, Vectors
from mixcoder.backends.native.slices import blocks, intersection
from mixcoder.backends.native.step_memory import StepMemory
from mixcoder.backends.step import UnsupportedError
from mixcoder.models.mixer_mlp import MixerMLP


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
        for block in blocks(intersection(slice(start, start + weight.numel()), own), weight.numel()):
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
