"""What a model costs, counted on tensors without data: nothing is computed but shapes."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from mixcoder.models.autoencoder import Autoencoder
from mixcoder.models.summary import count_parameters

_BYTES_A_NUMBER = 4
BYTES_A_PARAMETER = 4 * _BYTES_A_NUMBER  # weight, gradient, two moments of AdamW in float32


def count_madds(model: Autoencoder) -> int:
    """Multiply-adds of one image through encoder and decoder: those of matrix products and convolutions.

    Args:
        model: on any device; its weights are neither read nor copied.
    """
    only_shapes = FakeTensorMode(allow_non_fake_inputs=True)
    with only_shapes, FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.zeros(1, *model.image_shape, device=next(model.parameters()).device))
    return int(counter.get_total_flops()) // 2  # a multiply-add is two operations


def training_bytes(model: Autoencoder, batch_size: int) -> int:
    """Bytes that training in float32 holds at once: parameters, their states, and what backward needs.

    Args:
        model: on the meta device.
        batch_size: images of one step.
    """
    parameters = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in parameters:
            kept[storage] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        images = torch.zeros(batch_size, *model.image_shape, device="meta")
        loss = torch.nn.functional.mse_loss(model(images), images)
        activations = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    del loss
    return (
        BYTES_A_PARAMETER * count_parameters(model)
        + activations
        + _BYTES_A_NUMBER * batch_size * math.prod(model.image_shape)
    )
