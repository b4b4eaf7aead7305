"""Steps that torch computes operation by operation; every model has them.

images (B, C, H, W) uint8 ─▶ float in [0, 1] ─▶ model ─▶ loss () ─▶ gradients (N,)
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from mixcoder.backends.losses import LOSSES
from mixcoder.backends.step import Gradients, StepSpec, TrainingStep, apply_optimizers
from mixcoder.backends.workload import Workload, library_bfloat16_pays_from
from mixcoder.data.split import to_float


class Eager:
    """A backend that takes every model: torch computes a step operation by operation."""

    name = "eager"
    failure = ""

    def pays(self, workload: Workload) -> bool:
        """Returns True: there is nothing to compile."""
        return True

    def supports(self, workload: Workload) -> str | None:
        """Returns None: it takes every model."""
        return None

    def shards(self, workload: Workload) -> int:
        """Returns 1: torch's operations use all threads."""
        return 1

    def bfloat16_pays_from(self, device: torch.device) -> float:
        """Returns the multiply-adds of an image, from which torch's library computes faster in bfloat16."""
        return library_bfloat16_pays_from(device)

    def build(self, spec: StepSpec) -> TrainingStep:
        """Returns the step."""
        return apply_optimizers(eager_gradients(spec), spec)


EAGER = Eager()


def eager_gradients(spec: StepSpec) -> Gradients:
    """Returns a function from a batch to gradients and loss, operation by operation."""
    loss_of, parameters = LOSSES[spec.loss], spec.parameters

    def gradients_of(images: Tensor) -> tuple[Tensor, Tensor]:
        inputs = to_float(images)
        with matmuls_in(spec.precision, images.device):
            outputs = spec.model(inputs)
        loss = loss_of(outputs.float(), inputs)
        gradients = torch.autograd.grad(loss, parameters.parameters, materialize_grads=True)
        return parameters.join(gradients), loss.detach()

    return gradients_of


def matmuls_in(precision: torch.dtype, device: torch.device) -> AbstractContextManager[object]:
    """Context in which matrix products and convolutions are computed in `precision`."""
    if precision == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, precision)
