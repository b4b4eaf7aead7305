"""Each rule in kernels: a small network that calls a function has the gradients of an eager step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mixcoder.backends.eager import eager_gradients
from mixcoder.backends.native.native_step import NativeStep
from mixcoder.backends.parameters import FlatParameters
from mixcoder.backends.step import StepSpec, UnsupportedError
from tests.backends.native.rules import test_rules as rules
from tests.backends.native.test_tracing import GOOD, IMAGES, Network
from tests.conftest import needs_compiler, slow_but

Function = Callable[..., Any]


class OfRule(Network):
    """A linear layer, plus a number that a function makes of weights of its own."""

    def __init__(self, function: Function, shapes: Sequence[Sequence[int]]) -> None:
        super().__init__(None)  # type: ignore[arg-type]
        self.of_weights = function
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(tuple(shape))) for shape in shapes])

    def forward(self, x: Tensor) -> Tensor:
        made = self.of_weights(*self.weights)
        parts = [made] if isinstance(made, Tensor) else made
        return self.layer(x) + sum(torch.sin(part * 0.1).sum() for part in parts)  # type: ignore[no-any-return]


def _cases() -> Mapping[str, tuple[Function, Sequence[Sequence[int]]]]:
    groups = {
        "shape": rules.SHAPES,
        "index": rules.INDICES,
        "arithmetic": rules.ARITHMETIC,
        "condition": rules.CONDITIONS,
        "element": rules.ELEMENTWISE,
        "sum": rules.SUMS,
    }
    of_one = {f"{kind}, {name}": (f, [rules.A]) for kind, of in groups.items() for name, f in of.items()}
    norms = {f"norm, {name}": (function, [rules.A, (3, 4), (3, 4)]) for name, function in rules.NORMS.items()}
    return {**of_one, **norms, **rules.PRODUCTS, **rules.CONVOLUTIONS}


CASES = _cases()


def check_step(network: Network, shards: int) -> None:
    """The gradients of a native step are those of an eager one."""
    network.image_shape, network.latent_shape = IMAGES[1:], (1,)  # type: ignore[assignment]
    batch = torch.randint(0, 256, (4, *IMAGES[1:]), dtype=torch.uint8)
    of = StepSpec(network, FlatParameters(network), "mse", batch, shards=shards)  # type: ignore[arg-type]
    try:
        step = NativeStep(of)
    except UnsupportedError as error:
        pytest.skip(str(error))
    found, loss = step(batch)
    expected, right_loss = eager_gradients(of)(batch)
    torch.testing.assert_close(loss, right_loss, rtol=1e-4, atol=1e-5)
    assert (found - expected).norm() <= 3e-4 * expected.norm()


@needs_compiler
@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("name", GOOD)
def test_networks(name: str, shards: int) -> None:
    torch.manual_seed(0)
    check_step(Network(GOOD[name]), shards)


@needs_compiler
@pytest.mark.filterwarnings(rules.EVEN_KERNEL)
@pytest.mark.parametrize("name", slow_but(60, CASES))
def test_rules(name: str) -> None:
    torch.manual_seed(0)
    function, shapes = CASES[name]
    check_step(OfRule(function, shapes), 1)
