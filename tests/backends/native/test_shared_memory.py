"""Arrays that share memory, or gradients: nothing is overwritten that is still read, at any step."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from mixcoder.backends.losses import LOSSES
from mixcoder.backends.native.native_step import NativeStep, missing_operation
from mixcoder.backends.parameters import FlatParameters
from mixcoder.backends.step import StepSpec
from mixcoder.models import Autoencoder
from mixcoder.models.patch_convolutions import TokenMixingConv2d, mix_tokens
from mixcoder.models.patches import patch_major
from tests.conftest import needs_compiler

pytestmark = needs_compiler
Mix = Callable[["Patches", Tensor], Tensor]


class Patches(Autoencoder):
    """Images (B, 1, 4, 4) as 4 patches of 4 pixels, mixed, and put together again."""

    def __init__(self, mix: Mix) -> None:
        super().__init__()
        self.image_shape, self.latent_shape = (1, 4, 4), (4, 4)
        self.a, self.b = (nn.Parameter(torch.randn(4, 4)) for _ in range(2))
        self.bias = nn.Parameter(torch.randn(4))
        self.conv = TokenMixingConv2d((2, 2), 4, 5)  # most of its taps reach nothing
        self.wide, self.large = (nn.Parameter(torch.randn(256, 256) / 16) for _ in range(2))
        self.embed = nn.Linear(4, 256)
        self.mix = mix

    def _encode(self, images: Tensor) -> Tensor:
        return self.mix(self, patch_major(images.reshape(-1, 4, 4)))

    def _decode(self, latents: Tensor) -> Tensor:
        return latents.reshape(-1, 1, 4, 4)


def convolved(model: Patches, x: Tensor) -> Tensor:
    return mix_tokens(model.conv, x, model.conv.weight, model.conv.bias)


def summed_large(model: Patches, x: Tensor) -> Tensor:
    return F.linear(F.linear(model.embed(x), model.wide + model.large), model.embed.weight.t())


def read_beside(model: Patches, x: Tensor) -> Tensor:
    """The product is bias and residual too, moved."""
    h = x.transpose(0, 1) @ model.a.t()  # (P, B, C)
    return (F.gelu(h + h[:1]) + F.gelu(h.roll(1, 0) + model.bias) + h).transpose(0, 1)


MIXES: dict[str, Mix] = {
    "a convolution used twice": lambda model, x: convolved(model, torch.tanh(convolved(model, x))),
    "a sum of two weights": lambda model, x: F.linear(x, model.a + model.b),
    "a sum of two large weights": summed_large,
    "a weight as bias": lambda model, x: F.gelu(F.linear(x, model.a, model.a[0])),
    "a product read beside its activation": read_beside,
    "a weight and a part of it": lambda model, x: F.linear(x, F.gelu(model.a + model.a[:1])),
}


@pytest.mark.parametrize("name", list(MIXES))
@pytest.mark.parametrize("shards", [1, 2])
def test_gradients_are_exact_at_every_step(name: str, shards: int) -> None:
    torch.manual_seed(0)
    assert_exact_at_every_step(Patches(MIXES[name]), shards)


def test_a_convolution_of_a_computed_weight() -> None:
    torch.manual_seed(0)
    model = Patches(convolved)
    register_parametrization(model.conv, "weight", nn.Softsign())
    assert_exact_at_every_step(model, 1)


def assert_exact_at_every_step(model: Patches, shards: int) -> None:
    """The gradients of three batches are those in double precision but for rounding."""
    flat = FlatParameters(model)
    batches = [torch.randint(0, 256, (6, *model.image_shape), dtype=torch.uint8) for _ in range(3)]
    step = NativeStep(StepSpec(model, flat, "mse", batches[0], shards=shards))
    exact = copy.deepcopy(model).double()
    for images in batches:
        gradients, _ = step(images)
        inputs = images.double() / 255
        loss = LOSSES["mse"](exact(inputs), inputs)
        expected = torch.autograd.grad(loss, list(exact.parameters()), materialize_grads=True)
        for parameter, found, right in zip(flat.names, flat.split(gradients), expected, strict=True):
            error = (found.double() - right).abs().max() / (right.abs().max() + 1e-6)
            assert error < 1e-4, parameter


def test_an_empty_array_is_refused() -> None:
    model = Patches(lambda own, x: x + own.nothing.sum())  # type: ignore[operator]
    model.nothing = nn.Parameter(torch.zeros(0))
    assert missing_operation(model) == "an array without elements"
