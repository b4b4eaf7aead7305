"""AdamW for one vector of parameters, which native steps also compute by themselves."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from mixcoder.backends.native.codes import AdamWScalars
from mixcoder.backends.threads import for_each_slice
from mixcoder.torch_private import fused_adamw_


class VectorAdamW(torch.optim.AdamW):
    """torch's own fused AdamW for one vector of parameters, without the grouping of many.

    For a small model that grouping takes longer than the arithmetic. State and results are AdamW's.

    Args:
        vector: (N,) of all parameters.
        learning_rate: of the first step.
        settings: others of AdamW, such as `weight_decay`.
    """

    # Unwrapped: torch's wrappers import its compiler at the first call, 2 s of a start.
    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.AdamW.zero_grad)
    state_dict = inspect.unwrap(torch.optim.AdamW.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.AdamW.load_state_dict)

    def __init__(self, vector: nn.Parameter, learning_rate: float, **settings: Any) -> None:
        super().__init__([vector], learning_rate, fused=True, **settings)
        self.vector = vector

    def moments(self) -> tuple[Tensor, Tensor]:
        """Returns the moving averages (N,) of gradients and of their squares; steps update them in place."""
        state = self.state[self.vector]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=self.vector.device)
            state["exp_avg"] = torch.zeros_like(self.vector)
            state["exp_avg_sq"] = torch.zeros_like(self.vector)
        return state["exp_avg"], state["exp_avg_sq"]

    @torch.no_grad()
    def step(self, closure: object = None) -> None:  # type: ignore[override]
        """Updates the vector by its gradient."""
        gradient = self.vector.grad
        assert gradient is not None
        vectors = self.vector.detach(), gradient, *self.moments()
        self.count_step()
        settings, count = self.param_groups[0], self.state[self.vector]["step"]

        def update(place: slice) -> None:
            fused_adamw_([vector[place] for vector in vectors], count, settings)

        for_each_slice(len(gradient), update)

    def scalars_of_next_step(self) -> AdamWScalars:
        """Returns the scalars of the next step, which is computed elsewhere and then counted."""
        settings, count = self.param_groups[0], self.state[self.vector]["step"].item() + 1
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
        count: Tensor = self.state[self.vector]["step"]
        count += 1
