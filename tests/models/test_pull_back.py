"""A gradient within the forward: equal to autograd's, and trained through by every backend."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value
from torch.nn.attention import SDPBackend, sdpa_kernel

import mixcoder
from mixcoder.backends.backend import BackendChoice, build_step
from mixcoder.backends.eager import eager_gradients
from mixcoder.backends.inductor.inductor_backend import INDUCTOR
from mixcoder.backends.native.native_step import NativeStep, missing_operation
from mixcoder.backends.native.tracing import trace
from mixcoder.backends.parameters import FlatParameters
from mixcoder.backends.step import StepSpec
from mixcoder.models.cost import count_madds
from mixcoder.models.pull_back import pull_back
from mixcoder.torch_private import trace as trace_operations
from tests.backends.native.evaluate import check_function, gradients_of
from tests.conftest import needs_compiler, slow


class Refined(mixcoder.Autoencoder):
    """An auto-encoder whose latent takes steps against the gradient of the decoder's error."""

    def __init__(self, steps: int = 2) -> None:
        super().__init__()
        self.image_shape, self.latent_shape = (1, 4, 6), (3,)
        self.steps = steps
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(24, 7), nn.GELU(), nn.Linear(7, 3))
        self.decoder = nn.Sequential(nn.Linear(3, 8), nn.GELU(), nn.Linear(8, 24), nn.Unflatten(1, (1, 4, 6)))
        self.rates = nn.Parameter(torch.full((steps, 3, 3), 0.1))

    def _encode(self, images: Tensor) -> Tensor:
        latents: Tensor = self.encoder(images)
        for rates in self.rates:
            step = pull_back(self.decoder, latents, lambda decoded: torch.sigmoid(decoded) - images)
            latents = latents - step @ rates
        return latents

    def _decode(self, latents: Tensor) -> Tensor:
        return torch.sigmoid(self.decoder(latents))


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)


def curved(x: Tensor) -> Tensor:
    return torch.tanh(x[:, :2]) * x[:, 2:].exp()


def squared(y: Tensor) -> Tensor:
    return y * y + 1


def by_jacobian(
    function: Callable[[Tensor], Tensor], point: Tensor, cotangent: Callable[[Tensor], Tensor]
) -> Tensor:
    """The formula as it stands, row by row."""
    jacobian = torch.autograd.functional.jacobian(function, point, create_graph=True)  # type: ignore[no-untyped-call]
    gradient: Tensor = torch.einsum("abcd,ab->cd", jacobian, cotangent(function(point)))
    return gradient


def test_it_is_the_transposed_jacobian_times_the_cotangent() -> None:
    point = torch.randn(5, 4, requires_grad=True)
    found, expected = (made(curved, point, squared) for made in (pull_back, by_jacobian))
    torch.testing.assert_close(found, expected)
    of_found, of_expected = (torch.autograd.grad(x.square().sum(), point)[0] for x in (found, expected))
    torch.testing.assert_close(of_found, of_expected)


def test_other_uses_of_the_point_are_constant() -> None:
    point = torch.randn(5, 4, requires_grad=True)
    found = pull_back(lambda x: x * point, point, torch.ones_like)
    torch.testing.assert_close(found, point)


def test_a_function_that_does_not_use_its_argument() -> None:
    assert torch.equal(pull_back(lambda x: torch.ones(2), torch.ones(3), squared), torch.zeros(3))
    fixed = nn.Parameter(torch.ones(2))
    assert torch.equal(pull_back(lambda x: fixed * 2, torch.ones(3), squared), torch.zeros(3))


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_without_recorded_gradients(context: Callable[[], torch.no_grad]) -> None:
    model, images = Refined(), torch.rand(2, 1, 4, 6)
    expected = model(images).detach()
    with context():
        other = torch.rand(2, 1, 4, 6)
        found = model(images)
        assert not found.requires_grad
        model(other)
        factor = torch.rand(5, 4)
        pull_back(lambda x: curved(x * factor), torch.randn(5, 4), squared)
    torch.testing.assert_close(found, expected)


def test_a_point_made_in_inference_mode() -> None:
    with torch.inference_mode():
        point = torch.randn(5, 4)
    torch.testing.assert_close(pull_back(curved, point, squared), pull_back(curved, point.clone(), squared))


def test_the_graph_of_a_step_has_second_derivatives() -> None:
    """As the compiling backend traces it."""
    model, images = Refined(), torch.rand(2, 1, 4, 6)
    names, values = zip(*model.named_parameters(), strict=True)

    def loss_of(weights: list[Tensor], inputs: Tensor) -> Tensor:
        outputs: Tensor = functional_call(model, dict(zip(names, weights, strict=True)), (inputs,))
        return (outputs - inputs).square().mean()

    def step(*tensors: Tensor) -> tuple[list[Tensor], Tensor]:
        return grad_and_value(loss_of)(list(tensors[:-1]), tensors[-1])

    examples = [*(value.detach() for value in values), images]
    found, loss = trace_operations(step, examples, {})(*examples)
    expected = torch.autograd.grad((model(images) - images).square().mean(), values)
    torch.testing.assert_close(list(found), list(expected))
    assert loss > 0


@slow
@needs_compiler
@pytest.mark.xdist_group("compiling")
def test_a_compiled_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model, batch = Refined(1), torch.randint(0, 256, (4, 1, 4, 6), dtype=torch.uint8)
    of = StepSpec(model, FlatParameters(model), "mse", batch)
    expected, loss = eager_gradients(of)(batch)
    before = of.parameters.vector.detach().clone()
    optimizer = torch.optim.SGD([of.parameters.vector], 1.0)
    step, built = build_step(
        StepSpec(model, of.parameters, "mse", batch, [optimizer]), BackendChoice(INDUCTOR, torch.float32)
    )
    assert built.backend is INDUCTOR
    torch.testing.assert_close(step(batch), loss)
    torch.testing.assert_close(before - of.parameters.vector.detach(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("is_frozen", [False, True])
def test_a_graph_of_our_own(steps: int, is_frozen: bool) -> None:
    model, images = Refined(steps), torch.rand(3, 1, 4, 6)
    model.encoder.requires_grad_(not is_frozen)
    outputs, found = gradients_of(trace(model, images.shape), "mse", images, model)
    wanted = model.double()(images.double())
    torch.testing.assert_close(outputs, wanted)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    expected = torch.autograd.grad((wanted - images).square().mean(), trained)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-10)


def test_graphs_of_gradients_of_gradients() -> None:
    def nested(x: Tensor) -> Tensor:
        return pull_back(lambda point: pull_back(curved, point, squared), x, torch.sin)

    check_function(nested, torch.randn(2, 4))
    check_function(lambda x: pull_back(lambda point: x[:, :2] * point[:, 2:], x, squared), torch.randn(2, 4))
    check_function(lambda x: pull_back(lambda point: x * x, x, squared) + x.sin(), torch.randn(2, 4))


def test_graphs_without_recorded_gradients() -> None:
    def stopped(x: Tensor) -> Tensor:
        with torch.no_grad():
            step = pull_back(curved, x, squared)
        return x - step

    check_function(stopped, torch.randn(2, 4))


def test_attention_has_second_derivatives() -> None:
    def attend(x: Tensor) -> Tensor:
        return torch.nn.functional.scaled_dot_product_attention(x, x.sin(), x)

    point = torch.randn(1, 2, 3, 4, requires_grad=True)
    pull_back(attend, point, squared).sum().backward()  # type: ignore[no-untyped-call]
    assert point.grad is not None
    with sdpa_kernel(SDPBackend.MATH):
        check_function(lambda x: pull_back(attend, x, squared), point.detach())


def test_its_cost_is_counted() -> None:
    assert count_madds(Refined(2)) > count_madds(Refined(1)) > 0


@needs_compiler
@pytest.mark.parametrize("shards", [1, 2])
def test_a_native_step(shards: int) -> None:
    model, batch = Refined(2), torch.randint(0, 256, (6, 1, 4, 6), dtype=torch.uint8)
    assert missing_operation(model) is None
    of = StepSpec(model, FlatParameters(model), "mse", batch, shards=shards)
    found, loss = NativeStep(of)(batch)
    expected, right_loss = eager_gradients(of)(batch)
    torch.testing.assert_close(loss, right_loss)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
