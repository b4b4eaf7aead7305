"""One optimizer step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mixcoder.models.autoencoder import Autoencoder
from mixcoder.training.losses import LOSSES

TrainingStep = Callable[[Tensor], Tensor]
"""Takes images (B, C, H, W) in [0, 1], updates the model, returns the loss () before the update."""


def create_step(model: Autoencoder, optimizers: Sequence[torch.optim.Optimizer], loss: str) -> TrainingStep:
    """The training step of `model`: forward, loss, backward, update."""
    loss_function = LOSSES[loss]

    def step(images: Tensor) -> Tensor:
        value = loss_function(model(images), images)
        value.backward()  # type: ignore[no-untyped-call]
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return value.detach()

    return step
