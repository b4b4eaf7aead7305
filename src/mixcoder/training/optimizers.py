"""The optimizers by name, and the learning rate they share."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mixcoder.backends.parameters import FlatParameters
from mixcoder.backends.threads import over_parts
from mixcoder.training.recipe import Recipe


def create_optimizers(parameters: FlatParameters, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """The optimizers that together train all `parameters`; mostly one, which sees them as one vector.

    `muon` (K. Jordan 2024; here torch's own, with the update scaled to AdamW's as in arXiv 2502.16982,
    so that both take one learning rate) trains the matrices, and AdamW whatever is none.
    """
    decay: dict[str, Any] = {} if recipe.weight_decay is None else {"weight_decay": recipe.weight_decay}
    if recipe.optimizer == "sgd":
        return [
            torch.optim.SGD([parameters.vector], recipe.learning_rate, momentum=0.9, nesterov=True, **decay)
        ]
    if recipe.optimizer == "adamw":
        return [VectorAdamW(parameters.vector, recipe.learning_rate, decay)]
    matrices = [p for p in parameters.parameters if p.ndim == 2]
    others = [p for p in parameters.parameters if p.ndim != 2]
    optimizers: list[torch.optim.Optimizer] = []
    if matrices:
        optimizers.append(
            torch.optim.Muon(matrices, recipe.learning_rate, adjust_lr_fn="match_rms_adamw", **decay)
        )
    if others:
        has_numbers = not others[0].is_meta  # which the fused one insists on
        optimizers.append(torch.optim.AdamW(others, recipe.learning_rate, fused=has_numbers, **decay))
    return optimizers


def set_learning_rate(optimizers: Sequence[torch.optim.Optimizer], learning_rate: float) -> None:
    """Gives every parameter of every optimizer this learning rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate


class VectorAdamW(torch.optim.AdamW):
    """torch's own fused AdamW for one vector of parameters, without the sorting of many.

    For a small model that sorting takes longer than the arithmetic. State and results are AdamW's.
    """

    # As torch wrote them, without the wrapper that imports its compiler at the first call: 2 s of a start.
    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.AdamW.zero_grad)
    state_dict = inspect.unwrap(torch.optim.AdamW.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.AdamW.load_state_dict)

    def __init__(self, vector: nn.Parameter, learning_rate: float, decay: dict[str, Any]) -> None:
        super().__init__([vector], learning_rate, fused=True, **decay)
        self.vector = vector

    def moments(self) -> tuple[Tensor, Tensor]:
        """The means (N,) of gradients and of their squares so far, which every step updates in place."""
        state = self.state[self.vector]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=self.vector.device)
            state["exp_avg"] = torch.zeros_like(self.vector)
            state["exp_avg_sq"] = torch.zeros_like(self.vector)
        return state["exp_avg"], state["exp_avg_sq"]

    @torch.no_grad()
    def step(self, closure: object = None) -> None:  # type: ignore[override]
        """Updates the vector by its gradient."""
        means, squares = self.moments()
        settings, state, gradient = self.param_groups[0], self.state[self.vector], self.vector.grad
        assert gradient is not None
        state["step"] += 1
        vector = self.vector.detach()

        def update(part: slice) -> None:
            torch._fused_adamw_(
                [vector[part]],
                [gradient[part]],
                [means[part]],
                [squares[part]],
                [],
                [state["step"]],
                lr=settings["lr"],
                beta1=settings["betas"][0],
                beta2=settings["betas"][1],
                weight_decay=settings["weight_decay"],
                eps=settings["eps"],
                amsgrad=False,
                maximize=False,
            )

        over_parts(len(gradient), update)

    def rates_of_next_step(self) -> tuple[float, ...]:
        """Counts a step that is done elsewhere; its numbers, in the order of `Rates` in `kernels.cpp`."""
        settings, count = self.param_groups[0], self.state[self.vector]["step"]
        count += 1
        first, second = settings["betas"]
        corrections = [1 - beta ** count.item() for beta in (first, second)]
        decay, step = 1 - settings["lr"] * settings["weight_decay"], settings["lr"] / corrections[0]
        return decay, 1 - first, 1 - second, step, corrections[1] ** -0.5, settings["eps"]
