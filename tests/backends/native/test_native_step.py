"""Native steps give the loss and gradients that torch gives in double precision, or refuse a model."""

from __future__ import annotations

import copy
import threading
import time
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from mixcoder.backends.eager import eager_gradients
from mixcoder.backends.losses import LOSSES
from mixcoder.backends.native.native_step import NativeStep, missing_operation
from mixcoder.backends.parameters import FlatParameters
from mixcoder.backends.step import StepSpec, UnsupportedError
from mixcoder.backends.vector_adamw import VectorAdamW
from mixcoder.models import Autoencoder, create_model
from mixcoder.models.activations import ACTIVATIONS, OUTPUT_ACTIVATIONS
from mixcoder.training.optimizers import set_learning_rate
from tests.conftest import needs_compiler

pytestmark = needs_compiler


def mixer(**arguments: Any) -> Autoencoder:
    """Residual layers and others, numbers of patches and channels that are no multiple of 16."""
    given = {"patch_size": 4, "hidden_channels": [9, 9, 25], "latent_dim": 5, "mixer_at": [1, 3], **arguments}
    return create_model("mixer", **{"image_shape": (3, 12, 8), **given})


def random_images(model: Autoencoder, count: int) -> Tensor:
    return torch.randint(0, 256, (count, *model.image_shape), dtype=torch.uint8)


def spec(model: Autoencoder, count: int = 4, **settings: Any) -> StepSpec:
    return StepSpec(
        model, FlatParameters(model), settings.pop("loss", "mse"), random_images(model, count), **settings
    )


def assert_exact(
    model: Autoencoder, loss: str = "mse", batch_size: int = 7, rounding: float = 1e-5, shards: int = 1
) -> None:
    """Loss and all gradients are those in double precision but for rounding, relative to the largest."""
    exact = copy.deepcopy(model).double()
    of = spec(model, batch_size, loss=loss, shards=shards)
    images = of.images
    inputs = images.double() / 255
    value = LOSSES[loss](exact(inputs), inputs)
    trained = [parameter for parameter in exact.parameters() if parameter.requires_grad]
    expected = torch.autograd.grad(value, trained)
    assert missing_operation(model) is None
    step, flat = NativeStep(of), of.parameters
    step(images.flip(0))  # what one call leaves behind must not show in the next
    gradients, total = step(images)
    torch.testing.assert_close(total.double(), value.detach(), rtol=2e-6, atol=1e-8)
    for name, gradient, right in zip(flat.names, flat.split(gradients), expected, strict=True):
        error = (gradient.double() - right).abs().max() / (right.abs().max() + rounding)
        assert error < rounding, name


@pytest.mark.parametrize("loss", list(LOSSES))
@pytest.mark.parametrize(
    ("name", "kernel_size"),
    [
        *[("cnn", 1), ("cnn", 3), ("cnn", 13), ("cnnf", 1), ("cnnf", 7)],
        *[("cnn2d", 1), ("cnn2d", 3), ("cnn2d", 13), ("cnn2df", 1), ("cnn2df", 3), ("cnn2df", 9), ("mlp", 1)],
    ],
)
def test_every_mixing_layer(name: str, kernel_size: int, loss: str) -> None:
    torch.manual_seed(0)
    assert_exact(mixer(mixer=name, kernel_size=kernel_size), loss)


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_every_activation(activation: str) -> None:
    """With weights so large that it is met in all its parts."""
    torch.manual_seed(0)
    model = mixer(activation=activation, mixer="cnnf", kernel_size=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    assert_exact(model)


@pytest.mark.parametrize("activation", list(OUTPUT_ACTIVATIONS))
@pytest.mark.parametrize("hidden", [[9, 25], [48, 9]], ids=["plain", "residual"])
def test_every_output_activation(activation: str, hidden: list[int]) -> None:
    """Also behind a last layer that is residual; with outputs below 0, between, and above 1."""
    torch.manual_seed(0)
    model = mixer(output_activation=activation, hidden_channels=hidden, mixer_at=[1])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    assert_exact(model, shards=7)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_nan_stays_nan(activation: str, precision: torch.dtype) -> None:
    """No activation hides a weight that has diverged: the loss shows it, as that of eager steps does."""
    torch.manual_seed(0)
    for name in ("encoder.0.module.bias", "encoder.1.module.weight", "decoder.3.module.weight"):
        model = mixer(activation=activation, hidden_channels=[9, 25], mixer_at=[1])
        with torch.no_grad():
            model.get_parameter(name).view(-1)[0].fill_(float("nan"))
        of = spec(model, precision=precision)
        assert eager_gradients(of)(of.images)[1].isnan()
        assert NativeStep(of)(of.images)[1].isnan(), name


@pytest.mark.parametrize("bits", [0x7FC00000, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0xFF800001])
def test_every_form_of_nan_stays_nan_in_bfloat16(bits: int) -> None:
    model = mixer(mixer_at=[])
    with torch.no_grad():
        bias = model.encoder[0].module.weight.view(-1)  # type: ignore[index, union-attr]
        bias.view(torch.int32)[0] = bits - 2**32 if bits >= 2**31 else bits
    images = torch.full((4, 3, 12, 8), 255, dtype=torch.uint8)
    assert NativeStep(spec(model, precision=torch.bfloat16))(images)[1].isnan()


def test_gelu_far_out() -> None:
    """Where its derivative and value are almost 0, almost 1, or almost z."""
    torch.manual_seed(0)
    model = mixer(hidden_channels=[16], mixer_at=[])
    with torch.no_grad():
        model.encoder[0].module.bias.copy_(torch.linspace(-40, 40, 16))  # type: ignore[union-attr, index]
    assert_exact(model)


@settings(max_examples=25)
@given(data=st.data())
def test_any_sizes(data: st.DataObject) -> None:
    def draw(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    rows, columns, patch_size, layers = draw(1, 4), draw(1, 5), draw(1, 4), draw(1, 3)
    mixer_name = data.draw(st.sampled_from(["cnn", "cnnf", "cnn2d", "cnn2df", "mlp"]))
    torch.manual_seed(0)
    model = create_model(
        "mixer",
        image_shape=(draw(1, 3), rows * patch_size, columns * patch_size),
        patch_size=patch_size,
        hidden_channels=[
            draw(1, 9) ** 2 if mixer_name.startswith("cnn2d") else draw(1, 70) for _ in range(layers)
        ],
        latent_dim=draw(1, 20),
        mixer_at=sorted(data.draw(st.sets(st.integers(1, layers)))),
        mixer=mixer_name,
        kernel_size=data.draw(st.sampled_from([1, 3, 5])),
    )
    shards = draw(1, 3)
    assert_exact(model, batch_size=shards * draw(1, 4), rounding=1e-3, shards=shards)


def test_a_residual_layer_without_activation_is_last() -> None:
    """What it was given and what it passes on must not lie in one place: small products show it."""
    torch.manual_seed(0)
    model = create_model("mixer", image_shape=(3, 1, 1), patch_size=1, hidden_channels=[3], latent_dim=1)
    assert_exact(model, batch_size=1)


def test_the_article_s_model() -> None:
    torch.manual_seed(0)
    article = {"patch_size": 7, "hidden_channels": [64, 64, 64, 16], "latent_dim": 16, "mixer_at": [2, 3, 4]}
    assert_exact(create_model("mixer", image_shape=(1, 28, 28), mixer="cnn", **article), batch_size=32)


@pytest.mark.parametrize("mixer_name", ["cnn", "cnnf", "cnn2df", "mlp"])
@pytest.mark.parametrize("shards", [1, 2])
def test_gemms_in_bfloat16(mixer_name: str, shards: int) -> None:
    """They err by as much as torch's own, and by no more than some times their rounding."""
    torch.manual_seed(0)
    model = mixer(mixer=mixer_name, kernel_size=3, hidden_channels=[64, 64, 64])
    of = spec(model, 16, precision=torch.bfloat16, shards=shards)
    exact, exact_loss = eager_gradients(replace(of, precision=torch.float32))(of.images)
    rounded, _ = eager_gradients(of)(of.images)
    gradients, loss = NativeStep(of)(of.images)
    assert 0 < (gradients - exact).norm() < 2 * (rounded - exact).norm()
    torch.testing.assert_close(loss, exact_loss, rtol=1e-3, atol=0)


def test_large_weights_are_shared_by_threads() -> None:
    """A thread's slice begins within a row of a weight; conversion is shared too, and repeated at each step.

    How a library adds up the elements of a gemm may depend on its size: bfloat16 makes more of that.
    """
    torch.manual_seed(0)
    model = mixer(mixer="mlp", hidden_channels=[9, 50, 50], mixer_at=[2, 3])
    assert max(parameter.numel() for parameter in model.parameters()) > 2**16
    assert_exact(model, batch_size=6, shards=3)
    of = spec(model, 6, precision=torch.bfloat16)
    together, alone = NativeStep(replace(of, shards=3)), NativeStep(of)
    for _ in range(3):
        expected, expected_loss = alone(of.images)
        gradients, loss = together(of.images)
        assert (gradients - expected).norm() < 0.01 * expected.norm()
        torch.testing.assert_close(loss, expected_loss, rtol=1e-3, atol=0)
        with torch.no_grad():
            of.parameters.vector.mul_(1.5)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("decay", [{}, {"weight_decay": 0.5}])
def test_the_step_with_its_optimizer_does_what_torch_s_does(shards: int, decay: dict[str, float]) -> None:
    """Also where the learning rate changes, and for weights whose gradients are never stored."""
    torch.manual_seed(0)
    models = [mixer(mixer="mlp", hidden_channels=[9, 50, 50], mixer_at=[2, 3])]
    models.append(copy.deepcopy(models[0]))
    own, other = (spec(model, 6, shards=shards) for model in models)
    ours, theirs = own.parameters, other.parameters
    our_optimizer, optimizer = (VectorAdamW(flat.vector, 0.01, **decay) for flat in (ours, theirs))
    step, gradients_of = NativeStep(own, [our_optimizer]).update, NativeStep(other)
    for count in range(1, 30):
        images = random_images(models[0], 6)
        set_learning_rate([our_optimizer, optimizer], 0.01 / count)
        theirs.vector.grad, loss = gradients_of(images)
        optimizer.step()
        torch.testing.assert_close(step(images), loss)
    torch.testing.assert_close(ours.vector, theirs.vector, rtol=1e-3, atol=1e-5)
    state, expected = our_optimizer.state[ours.vector], optimizer.state[theirs.vector]
    assert state["step"] == expected["step"] == 29
    for name in ("exp_avg", "exp_avg_sq"):
        torch.testing.assert_close(state[name], expected[name], rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_an_interrupted_step_updates_nothing_and_the_next_is_whole(
    precision: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C may come when the other threads have begun: they return, and all wait for each other again."""
    own = spec(mixer(), shards=2, precision=precision)
    other = replace(own, parameters=FlatParameters(copied := copy.deepcopy(own.model)), model=copied)
    optimizers = [VectorAdamW(it.parameters.vector, 0.01) for it in (own, other)]
    step, undisturbed = (NativeStep(it, [o]) for it, o in zip((own, other), optimizers, strict=True))
    step.update(own.images)
    run, ended = NativeStep._run, threading.Event()

    def interrupted(self: NativeStep, operations: Any, shard: Tensor) -> None:
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        run(self, operations, shard)
        ended.set()

    with monkeypatch.context() as patched:
        patched.setattr(NativeStep, "_run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            step.update(own.images)
        assert ended.is_set()
    step.update(own.images)
    for _ in range(2):
        undisturbed.update(own.images)
    assert torch.equal(own.parameters.vector, other.parameters.vector)
    assert optimizers[0].state[own.parameters.vector]["step"] == 2


class Doubled(nn.Identity):
    def forward(self, values: Tensor) -> Tensor:
        return values * 2


class Accumulated(nn.Identity):
    """A layer that there is no rule for."""

    def forward(self, values: Tensor) -> Tensor:
        return values.cumsum(1)


def changed_mixers() -> dict[str, Autoencoder]:
    """Mixers with layers that nobody wrote operations for."""
    shared, frozen, foreign, softer, unbiased, normed = (mixer() for _ in range(6))
    layers = [m for m in shared.modules() if isinstance(m, nn.Linear) and m.weight.shape == (9, 9)]
    layers[1].weight = layers[0].weight
    next(frozen.parameters()).requires_grad_(False)
    foreign.encoder[0].act = Doubled()  # type: ignore[index, union-attr]
    softer.encoder[0].act = nn.GELU("tanh")  # type: ignore[index, union-attr]
    unbiased.encoder[0].module.bias = None  # type: ignore[index, union-attr]
    weight_norm(normed.encoder[0].module)  # type: ignore[index, union-attr]
    rms = mixer(norm="rms")
    for norm in (module for module in rms.modules() if isinstance(module, nn.RMSNorm)):
        norm.eps = 1e-6  # the default would be another one in double precision
    return {
        "shared": shared,
        "frozen": frozen,
        "foreign": foreign,
        "softer": softer,
        "unbiased": unbiased,
        "parametrized": normed,
        "rms": rms,
        "layer norm": mixer(norm="layer"),
        "script": create_model("script", image_shape=(3, 8, 8), script="ch=8|down2|ch=2", kernel_size=1),
    }


@pytest.mark.parametrize("name", list(changed_mixers()))
@pytest.mark.parametrize("shards", [1, 7])
def test_changed_layers(name: str, shards: int) -> None:
    torch.manual_seed(0)
    assert_exact(changed_mixers()[name], rounding=1e-4, shards=shards)


def other_models() -> dict[str, Autoencoder]:
    """What native steps refuse."""
    hooked, unknown = mixer(), mixer()
    hooked.encoder[1].register_forward_hook(lambda module, inputs, output: output * 2)  # type: ignore[index, union-attr]
    unknown.encoder[0].act = Accumulated()  # type: ignore[index, union-attr]
    return {
        "hook": hooked,
        "torch.Tensor.cumsum": unknown,
        "zeros": mixer(mixer="cnn2d", kernel_size=3, patch_size=1, hidden_channels=[81], mixer_at=[1]),
    }


@pytest.mark.parametrize("name", list(other_models()))
def test_the_rest_is_refused_by_name(name: str) -> None:
    model = other_models()[name]
    assert name in (missing_operation(model) or "")
    with pytest.raises(UnsupportedError, match=name):
        NativeStep(spec(model))


def test_saturated_activations_take_no_longer() -> None:
    """Their derivatives are denormals, with which a processor computes a hundred times as slowly."""

    def seconds(bias: float) -> float:
        torch.manual_seed(0)
        model = mixer(hidden_channels=[64, 64, 64], mixer_at=[])
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("bias"):
                    parameter.fill_(bias)
        step = NativeStep(spec(model, 64))
        images = torch.zeros(64, *model.image_shape, dtype=torch.uint8)
        times = []
        for _ in range(20):
            start = time.perf_counter()
            step(images)
            times.append(time.perf_counter() - start)
        return min(times)

    assert seconds(-13.15) < 5 * seconds(0.0)
