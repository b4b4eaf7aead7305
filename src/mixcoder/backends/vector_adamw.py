"""AdamW without the grouping of many parameters, which native steps also compute by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mixcoder.backends.lean_optimizer import LeanOptimizer
from mixcoder.backends.native.codes import AdamWScalars
from mixcoder.backends.threads import for_each_slice
from mixcoder.torch_private import fused_adamw_


class LeanAdamW(LeanOptimizer, torch.optim.AdamW):
    """torch's own fused AdamW, without the grouping of parameters.

    For a small model that grouping takes longer than the arithmetic. State and results are AdamW's.

    Args:
        parameters: to be trained.
        learning_rate: of the first step.
        settings: others of AdamW, such as `weight_decay`.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], learning_rate: float, **settings: Any) -> None:
        has_elements = not parameters[0].is_meta  # the fused implementation insists on them
        super().__init__(parameters, learning_rate, fused=has_elements, **settings)
        self.parameters: list[nn.Parameter] = self.param_groups[0]["params"]

    def moments(self, parameter: nn.Parameter) -> tuple[Tensor, Tensor]:
        """Returns the moving averages of a gradient and of its square; steps update them in place."""
        state = self.state[parameter]
        if not state:
            state["step"] = self._common_count(parameter)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        return state["exp_avg"], state["exp_avg_sq"]

    @torch.no_grad()
    def step(self, closure: object = None) -> None:  # type: ignore[override]
        """Updates the parameters by their gradients."""
        updated = [(p.detach(), _gradient(p), *self.moments(p)) for p in self.parameters]
        self.count_step()
        fused_adamw_(list(zip(*updated, strict=True)), self._counts(), self.param_groups[0])

    def scalars_of_next_step(self) -> AdamWScalars:
        """Returns the scalars of the next step, which is computed elsewhere and then counted."""
        settings, count = self.param_groups[0], self._counts()[0].item() + 1
        beta1, beta2 = settings["betas"]
        learning_rate = settings["lr"]
        bias_correction1, bias_correction2 = 1 - beta1**count, 1 - beta2**count
        return AdamWScalars(
            weight_decay_factor=1 - learning_rate * settings["weight_decay"],
            one_minus_beta1=1 - beta1,
            one_minus_beta2=1 - beta2,
            step_size=learning_rate / bias_correction1,
            bias_correction2_factor=bias_correction2**-0.5,
            eps=settings["eps"],
        )

    def count_step(self) -> None:
        """Counts a step, in the optimizer's state."""
        for count in {*self._counts()}:
            count += 1

    def _counts(self) -> list[Tensor]:
        """Returns the steps () of each parameter: mostly one tensor for all."""
        return [self.state[parameter]["step"] for parameter in self.parameters]

    def _common_count(self, parameter: nn.Parameter) -> Tensor:
        """Returns the steps () of the parameters that have a state; zeros where none has."""
        for state in self.state.values():
            if "step" in state:
                count: Tensor = state["step"]
                return count
        return torch.zeros((), dtype=torch.float32, device=parameter.device)


class VectorAdamW(LeanAdamW):
    """AdamW of one vector of parameters, in slices where threads are free.

    Args:
        vector: (N,) of all parameters.
        learning_rate: of the first step.
        settings: others of AdamW, such as `weight_decay`.
    """

    def __init__(self, vector: nn.Parameter, learning_rate: float, **settings: Any) -> None:
        super().__init__([vector], learning_rate, **settings)
        self.vector = vector

    @torch.no_grad()
    def step(self, closure: object = None) -> None:  # type: ignore[override]
        """Updates the vector by its gradient."""
        vectors = self.vector.detach(), _gradient(self.vector), *self.moments(self.vector)
        self.count_step()
        counts, settings = self._counts(), self.param_groups[0]

        def update(place: slice) -> None:
            fused_adamw_([[vector[place]] for vector in vectors], counts, settings)

        for_each_slice(len(self.vector), update)


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
