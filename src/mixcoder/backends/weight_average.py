"""An exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class WeightAverage:
    """The average of the weights after each step so far, recent ones counted more.

    It has no trace of the weights before the first step: the factors of all steps so far add up to 1.

    Args:
        values: (N,) of all parameters.
        decay: of a step's factor with each later one.

    Attributes:
        vector: (N,) the average, zeros before the first step.
        steps: that it is an average of.
    """

    def __init__(self, values: Tensor, decay: float) -> None:
        self._values = values
        self._decay = decay
        self.vector = torch.zeros_like(values)
        self.steps = 0

    def factor_of_next_step(self) -> float:
        """Returns how much the weights after the next step count: 1 after the first, in the end 1 - decay."""
        return (1 - self._decay) / (1 - self._decay ** (self.steps + 1))

    @torch.no_grad()
    def update(self) -> None:
        """Takes the present weights into the average."""
        self.vector.lerp_(self._values, self.factor_of_next_step())
        self.steps += 1

    @torch.no_grad()
    def apply(self) -> None:
        """Gives the parameters the average, once there is one."""
        if self.steps:
            self._values.copy_(self.vector)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Context in which the parameters have the average."""
        trained = self._values.clone()
        self.apply()
        try:
            yield
        finally:
            self._values.copy_(trained)
