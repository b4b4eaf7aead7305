"""Windows and their gradients are torch's, whatever they are computed from."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.func import grad
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from mixcoder.backends.inductor.sliding_windows import SLIDING_WINDOWS


def traced(x: Tensor, dimension: int, size: int, step: int) -> GraphModule:
    """The graph of windows along `dimension`, and of the gradient of a sum that weighs their numbers."""

    def windows(x: Tensor) -> Tensor:
        return x.mul(1).transpose(0, 1).unfold(dimension, size, step)

    def values_and_gradient(x: Tensor) -> tuple[Tensor, Tensor]:
        weights = torch.arange(windows(x).numel(), dtype=x.dtype).view(windows(x).shape)
        return windows(x), grad(lambda it: (windows(it) * weights).sum())(x)

    return make_fx(values_and_gradient, decomposition_table=SLIDING_WINDOWS)(x)


@pytest.mark.parametrize(
    ("dimension", "size", "step"), [(0, 1, 1), (0, 3, 1), (1, 6, 1), (2, 2, 1), (1, 2, 2)]
)
def test_values_and_gradients_are_torchs(dimension: int, size: int, step: int) -> None:
    x = torch.randn(6, 5, 4, dtype=torch.float64, requires_grad=True)
    expected = x.transpose(0, 1).unfold(dimension, size, step)
    (expected * torch.arange(expected.numel()).view(expected.shape)).sum().backward()  # type: ignore[no-untyped-call]
    graph = traced(x.detach(), dimension, size, step)
    values, gradient = graph(x.detach())
    assert torch.equal(values, expected.detach())
    torch.testing.assert_close(gradient, x.grad)
    assert "as_strided" in graph.code
    assert ("unfold_backward" in graph.code) == (step != 1)
