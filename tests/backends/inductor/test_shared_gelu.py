"""GELU and its derivative from one exponential: torch's values, over all inputs that a network meets."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.func import grad
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.functional import gelu

from mixcoder.backends.inductor.shared_gelu import SHARED_GELU

EXTREMES = torch.tensor([0.0, -0.0, 1e-30, -1e-30, 1e4, -1e4, 1e20])
RANGE = torch.cat([torch.linspace(-12, 12, 24_001), EXTREMES])


def traced(x: Tensor, approximate: Literal["none", "tanh"]) -> GraphModule:
    """The graph of a GELU's value and derivative."""

    def value_and_derivative(x: Tensor) -> tuple[Tensor, Tensor]:
        derivative = grad(lambda it: gelu(it, approximate=approximate).sum())(x)
        return gelu(x, approximate=approximate), derivative

    return make_fx(value_and_derivative, decomposition_table=SHARED_GELU)(x)


def test_value_and_derivative_are_torchs() -> None:
    x = RANGE.double().requires_grad_()
    expected = gelu(x)
    expected.sum().backward()  # type: ignore[no-untyped-call]
    value, derivative = traced(RANGE, "none")(RANGE)
    torch.testing.assert_close(value.double(), expected.detach(), rtol=3e-7, atol=1e-6)
    torch.testing.assert_close(derivative.double(), x.grad, rtol=3e-7, atol=1e-6)


@pytest.mark.parametrize(("approximate", "is_left"), [("none", False), ("tanh", True)])
def test_only_the_exact_gelu_is_taken_apart(approximate: Literal["none", "tanh"], is_left: bool) -> None:
    assert ("gelu" in traced(torch.ones(3), approximate).code) == is_left
