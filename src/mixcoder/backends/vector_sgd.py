"""SGD with Nesterov momentum for one vector of parameters, which native steps also compute by themselves."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mixcoder.backends.lean_optimizer import LeanOptimizer
from mixcoder.backends.native.codes import SgdScalars
from mixcoder.backends.threads import for_each_slice


class VectorSGD(LeanOptimizer, torch.optim.SGD):
    """torch's own SGD with Nesterov momentum 0.9, for one vector of parameters.

    Args:
        vector: (N,) of all parameters.
        learning_rate: of the first step.
        settings: others of SGD, such as `weight_decay`.
    """

    def __init__(self, vector: nn.Parameter, learning_rate: float, **settings: Any) -> None:
        super().__init__([vector], learning_rate, momentum=0.9, nesterov=True, **settings)
        self.vector = vector

    def momentum_buffer(self) -> Tensor:
        """Returns the decaying sum (N,) of gradients; steps update it in place."""
        state = self.state[self.vector]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(self.vector)
        buffer: Tensor = state["momentum_buffer"]
        return buffer

    def scalars(self) -> SgdScalars:
        """Returns the scalars of the next step, which is computed elsewhere."""
        group = self.param_groups[0]
        return SgdScalars(group["lr"], group["momentum"], group["weight_decay"])

    @torch.no_grad()
    def step(self, closure: object = None) -> None:  # type: ignore[override]
        """Updates the vector by its gradient."""
        assert self.vector.grad is not None
        vectors = self.vector.detach(), self.vector.grad, self.momentum_buffer()
        group = self.param_groups[0]

        def update(place: slice) -> None:
            values, gradient, momentum = (vector[place] for vector in vectors)
            if group["weight_decay"]:
                gradient = gradient.add(values, alpha=group["weight_decay"])
            momentum.mul_(group["momentum"]).add_(gradient)
            values.add_(gradient.add(momentum, alpha=group["momentum"]), alpha=-group["lr"])

        for_each_slice(len(vectors[0]), update)
