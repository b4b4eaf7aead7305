"""One optimizer step.

images (B, C, H, W) uint8 ─▶ gradients (N,), loss () ─▶ optimizers ─▶ parameters (N,)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mixcoder.backends.gradients import Gradients
from mixcoder.backends.native.native_step import NativeStep
from mixcoder.backends.parameters import FlatParameters
from mixcoder.device import factory_defaults
from mixcoder.training.optimizers import VectorAdamW

TrainingStep = Callable[[Tensor], Tensor]
"""Takes images (B, C, H, W) uint8, updates the model, returns the loss () before the update."""


def create_step(
    gradients_of: Gradients, parameters: FlatParameters, optimizers: Sequence[torch.optim.Optimizer]
) -> TrainingStep:
    """The training step that gives `parameters` the gradients of a batch and lets the optimizers use them."""
    match optimizers:
        case [VectorAdamW() as optimizer] if isinstance(gradients_of, NativeStep):
            with factory_defaults():
                return gradients_of.with_optimizer(optimizer)
    trained = [it for optimizer in optimizers for group in optimizer.param_groups for it in group["params"]]
    is_whole = all(it is parameters.vector for it in trained)

    def step(images: Tensor) -> Tensor:
        gradients, loss = gradients_of(images)
        if is_whole:  # one tensor in place of dozens of views a step
            parameters.vector.grad = gradients
        else:
            parameters.set_gradients(gradients)
        for optimizer in optimizers:
            optimizer.step()
        parameters.drop_gradients()  # before the next come
        return loss

    return step
