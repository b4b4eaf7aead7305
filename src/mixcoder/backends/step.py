"""One optimizer step: the specification, from which a backend builds the step.

images (B, C, H, W) uint8 ─▶ gradients (N,), loss () ─▶ optimizers ─▶ parameters (N,)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mixcoder.backends.parameters import FlatParameters
from mixcoder.backends.weight_average import WeightAverage
from mixcoder.models.autoencoder import Autoencoder

TrainingStep = Callable[[Tensor], Tensor]
"""Takes images (B, C, H, W) uint8, updates the model, returns the loss () before the update."""
Gradients = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Takes images (B, C, H, W) uint8; returns gradients (N,) and loss ()."""
Reduction = Callable[[Tensor], None]
"""Replaces the gradients (N,) of a process's shard by those of the batch, in place."""

ADDED_TO_NORM = 1e-6
"""What torch adds to the norm of gradients before it divides by it."""


class UnsupportedError(Exception):
    """A backend cannot compute a step; says why."""


@dataclass(frozen=True)
class StepSpec:
    """What a backend must know to build a training step.

    Attributes:
        model: in training mode.
        parameters: of the model.
        loss: "mse", "l1" or "huber".
        images: an example batch (B, C, H, W) uint8, on the device of the model.
        optimizers: that together train all parameters.
        precision: of matrix products and convolutions: torch.float32 or torch.bfloat16.
        shards: equal ones of a batch that are computed side by side; they divide B.
        reduction: of gradients, where other processes compute the rest of each batch.
        clip_norm: the largest norm of all gradients together; None for any.
        average: of the weights, updated after each step.
    """

    model: Autoencoder
    parameters: FlatParameters
    loss: str
    images: Tensor
    optimizers: Sequence[torch.optim.Optimizer] = ()
    precision: torch.dtype = torch.float32
    shards: int = 1
    reduction: Reduction | None = None
    clip_norm: float | None = None
    average: WeightAverage | None = None

    @property
    def batch_size(self) -> int:
        """B, images of a batch."""
        return len(self.images)


def apply_optimizers(gradients_of: Gradients, spec: StepSpec) -> TrainingStep:
    """Returns the training step that computes gradients and lets the optimizers use them."""
    parameters, optimizers = spec.parameters, spec.optimizers
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    is_whole = all(p is parameters.vector for group in groups for p in group["params"])
    if spec.reduction:
        gradients_of = _reduced(gradients_of, spec.reduction)
    if spec.clip_norm is not None:
        gradients_of = _clipped(gradients_of, spec.clip_norm)

    def step(images: Tensor) -> Tensor:
        gradients, loss = gradients_of(images)
        if is_whole:  # one tensor in place of dozens of views a step
            parameters.vector.grad = gradients
        else:
            parameters.set_gradients(gradients)
        for optimizer in optimizers:
            optimizer.step()
        parameters.drop_gradients()  # before the next come
        if spec.average:
            spec.average.update()
        return loss

    return step


def _reduced(gradients_of: Gradients, reduction: Reduction) -> Gradients:
    """Returns the function that computes the gradients of a batch, and the loss of this process's shard."""

    def reduced(images: Tensor) -> tuple[Tensor, Tensor]:
        gradients, loss = gradients_of(images)
        reduction(gradients)
        return gradients, loss

    return reduced


def _clipped(gradients_of: Gradients, clip_norm: float) -> Gradients:
    """Returns the function that scales gradients down to a norm, as `torch.nn.utils.clip_grad_norm_` does."""

    def clipped(images: Tensor) -> tuple[Tensor, Tensor]:
        gradients, loss = gradients_of(images)
        factor = clip_norm / (torch.linalg.vector_norm(gradients) + ADDED_TO_NORM)
        return gradients * factor.clamp(max=1), loss

    return clipped
