"""Muon (K. Jordan 2024): momentum, orthogonalized by Newton-Schulz steps, for matrices.

gradient ─▶ momentum ─▶ matrices (batch, rows, columns) of equal shape, stacked ─▶ nearest with all singular
values near 1 ─▶ parameters
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mixcoder.backends.lean_optimizer import LeanOptimizer
from mixcoder.backends.matrices import MatrixShape

MOMENTUM = 0.95
COEFFICIENTS = (3.4445, -4.775, 2.0315)
"""a, b, c of the polynomial a·s + b·s³ + c·s⁵ that each Newton-Schulz step applies to singular values s."""
STEPS = 5
SMALLEST_NORM = 1e-7


class Muon(LeanOptimizer):
    """Muon for parameters that are matrices, with Nesterov momentum, batched over equal shapes.

    Updates have the root mean square of AdamW's (arXiv 2502.16982), so that both take one learning rate.

    Args:
        matrices: the parameters, and the matrices that each is made of.
        learning_rate: of the first step.
        weight_decay: per step, times the learning rate.
    """

    def __init__(
        self,
        matrices: Mapping[nn.Parameter, MatrixShape],
        learning_rate: float,
        weight_decay: float = 0.1,
    ) -> None:
        settings: dict[str, Any] = {"lr": learning_rate, "weight_decay": weight_decay}
        super().__init__(list(matrices), settings)
        self.matrices = dict(matrices)
        self._equal: defaultdict[tuple[int, int], list[nn.Parameter]] = defaultdict(list)
        for parameter, (_, rows, columns) in matrices.items():
            self._equal[rows, columns].append(parameter)

    def momentum_buffer(self, parameter: nn.Parameter) -> Tensor:
        """Returns the moving average of a parameter's gradient; steps update it in place."""
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer: Tensor = state["momentum_buffer"]
        return buffer

    @torch.no_grad()
    def step(self, closure: object = None) -> None:  # type: ignore[override]
        """Updates the parameters by their gradients."""
        for (rows, columns), parameters in self._equal.items():
            updates = [
                self._momentum_update(parameter).reshape(-1, rows, columns) for parameter in parameters
            ]
            orthogonal = orthogonalize(torch.cat(updates))
            self._apply(parameters, orthogonal)

    def _momentum_update(self, parameter: nn.Parameter) -> Tensor:
        """Returns the gradient after Nesterov momentum."""
        gradient = parameter.grad
        assert gradient is not None
        return gradient.lerp(self.momentum_buffer(parameter).lerp_(gradient, 1 - MOMENTUM), MOMENTUM)

    def _apply(self, parameters: list[nn.Parameter], orthogonal: Tensor) -> None:
        """Updates parameters of one shape by orthogonalized matrices (batch, rows, columns)."""
        group = self.param_groups[0]
        rate = group["lr"] * rms_factor(*orthogonal.shape[1:])
        updates = torch.split(orthogonal, [self.matrices[parameter].batch for parameter in parameters])
        for parameter, update in zip(parameters, updates, strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.sub_(update.reshape(parameter.shape), alpha=rate)


def rms_factor(rows: int, columns: int) -> float:
    """Returns the factor by which an orthogonal matrix has the root mean square of AdamW's updates, 0.2."""
    return 0.2 * math.sqrt(max(rows, columns))


def orthogonalize(matrices: Tensor) -> Tensor:
    """Returns matrices (batch, rows, columns) with their singular values brought near 1: to 0.7 … 1.2.

    Products are float32 on the CPU, bfloat16 on a GPU.
    """
    is_high = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if is_high else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=SMALLEST_NORM)
    x = x.bfloat16() if x.is_cuda else x
    a, b, c = COEFFICIENTS
    for _ in range(STEPS):
        gram = x @ x.mT  # (batch, m, m), m the shorter side
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if is_high else x).to(matrices.dtype)
