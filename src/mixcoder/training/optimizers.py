"""The optimizers by name, and the learning rate they share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from mixcoder.training.flat_parameters import FlatParameters
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
        return [_adamw([parameters.vector], recipe.learning_rate, decay)]
    matrices = [p for p in parameters.parameters if p.ndim == 2]
    others = [p for p in parameters.parameters if p.ndim != 2]
    optimizers: list[torch.optim.Optimizer] = []
    if matrices:
        optimizers.append(
            torch.optim.Muon(matrices, recipe.learning_rate, adjust_lr_fn="match_rms_adamw", **decay)
        )
    if others:
        optimizers.append(_adamw(others, recipe.learning_rate, decay))
    return optimizers


def set_learning_rate(optimizers: Sequence[torch.optim.Optimizer], learning_rate: float) -> None:
    """Gives every parameter of every optimizer this learning rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate


def _adamw(
    parameters: Iterable[nn.Parameter], learning_rate: float, decay: dict[str, Any]
) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, learning_rate, fused=True, **decay)
