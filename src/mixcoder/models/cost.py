"""What a model costs to compute, counted on tensors without data: nothing is computed but shapes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from mixcoder.models.autoencoder import Autoencoder


def count_madds(model: Autoencoder) -> int:
    """Multiply-adds of one image through encoder and decoder: those of matrix products and convolutions.

    Args:
        model: on any device; its weights are neither read nor copied. How it is computed in training, where
            that is otherwise, does not count.
    """
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    with _only_shapes(device), FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.zeros(1, *model.image_shape, device=device))
    model.train(was_training)
    return int(counter.get_total_flops()) // 2  # a multiply-add is two operations


def _only_shapes(device: torch.device) -> AbstractContextManager[object]:
    """Within it, tensors on `device` have no numbers; those on the meta device have none anyway."""
    return nullcontext() if device.type == "meta" else FakeTensorMode(allow_non_fake_inputs=True)
