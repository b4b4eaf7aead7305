"""Muon (K. Jordan 2024): momentum, orthogonalized by Newton-Schulz steps, for matrices.

gradient ─▶ momentum ─▶ matrices (batch, rows, columns) of equal shape, stacked ─▶ nearest with all singular
values near 1 ─▶ parameters
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mixcoder.backends.lean_optimizer import LeanOptimizer
from mixcoder.backends.matrices import MatrixShape
from mixcoder.backends.native.codes import MuonScalars
from mixcoder.backends.newton_schulz import orthogonalize

MOMENTUM = 0.95
_LARGE = 2**17
"""Elements of a parameter, above which a batch of several takes more memory than it saves time."""


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
        self._batches = _batches(self.matrices)

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
        for parameter in self.matrices:  # in their order, as native steps make their states
            self.momentum_buffer(parameter)
        for parameters in self._batches:
            shape = self.matrices[parameters[0]]
            updates = [self._momentum_update(parameter).reshape(-1, *shape[1:]) for parameter in parameters]
            self._apply(parameters, orthogonalize(torch.cat(updates)))

    def scalars(self) -> MuonScalars:
        """Returns the scalars of the next step, which is computed elsewhere."""
        group = self.param_groups[0]
        return MuonScalars(1 - group["lr"] * group["weight_decay"], group["lr"])

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


def _batches(matrices: Mapping[nn.Parameter, MatrixShape]) -> list[list[nn.Parameter]]:
    """Returns parameters whose matrices are of one shape, together where they are not large."""
    batches: dict[tuple[int, ...], list[nn.Parameter]] = {}
    for parameter, (_, rows, columns) in matrices.items():
        own_key = [len(batches)] if parameter.numel() > _LARGE else []
        batches.setdefault((rows, columns, *own_key), []).append(parameter)
    return list(batches.values())


def rms_factor(rows: int, columns: int) -> float:
    """Returns the factor by which an orthogonal matrix has the root mean square of AdamW's updates, 0.2."""
    return 0.2 * math.sqrt(max(rows, columns))
