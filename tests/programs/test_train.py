"""`train` as a Python caller meets it: whatever is around the call, and whatever model is given."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from mixcoder import ImageData, ImageSplit, MixcoderError, create_model, train
from mixcoder.backends.backend import BackendChoice, build_step
from mixcoder.backends.inductor.inductor_backend import INDUCTOR
from mixcoder.errors import ArgumentError, TrainingError
from mixcoder.models import Autoencoder
from mixcoder.training.recipe import Recipe
from mixcoder.training.training_loop import TrainingLoop
from tests.backends.test_backend import cache, compiling, exact, gradients_by, spec
from tests.conftest import slow
from tests.training.test_training_loop import tiny_mixer, weights

__all__ = ["cache"]

COMPILED = BackendChoice(INDUCTOR, torch.float32)


class Plain(Autoencoder):
    """Two layers, and between them whatever a test puts there."""

    image_shape = (1, 4, 6)
    latent_shape = (5,)

    def __init__(self, between: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.decoder = nn.Linear(24, 5), nn.Linear(5, 24)
        self.between = between or nn.Identity()

    def _encode(self, images: Tensor) -> Tensor:
        latents: Tensor = self.between(self.encoder(images.flatten(1)))
        return latents

    def _decode(self, latents: Tensor) -> Tensor:
        images: Tensor = self.decoder(latents)
        return images.reshape(-1, *self.image_shape)


def trained(data: ImageData, model: nn.Module | None = None, **settings: Any) -> Tensor:
    """The weights (N,) after a few steps."""
    model = Plain() if model is None else model
    train(model, data, **{"steps": 5, "batch_size": 8, "learning_rate": 0.01, **settings})
    return weights(model)


@contextmanager
def switched(switch: Callable[[Any], object], on: Any, off: Any) -> Iterator[None]:
    switch(on)
    try:
        yield
    finally:
        switch(off)


SURROUNDINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "gradients off": lambda: torch.set_grad_enabled(False),
    "double": lambda: switched(torch.set_default_dtype, torch.float64, torch.float32),
    "half": lambda: switched(torch.set_default_dtype, torch.float16, torch.float32),
    "meta": lambda: switched(torch.set_default_device, "meta", None),
    "cpu": lambda: switched(torch.set_default_device, "cpu", None),
    "within meta": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "deterministic": lambda: switched(torch.use_deterministic_algorithms, True, False),
    "anomaly": lambda: torch.autograd.set_detect_anomaly(True),
}


@pytest.mark.parametrize("surrounding", SURROUNDINGS)
def test_what_is_around_the_call_changes_nothing(surrounding: str, tiny_data: ImageData) -> None:
    expected, model = trained(tiny_data), Plain()
    with SURROUNDINGS[surrounding]():
        train(model, tiny_data, steps=5, batch_size=8, learning_rate=0.01)
    assert torch.equal(weights(model), expected)


@compiling
@pytest.mark.parametrize("surrounding", SURROUNDINGS)
def test_nor_does_it_change_native_steps(surrounding: str, tiny_data: ImageData, cache: Path) -> None:
    """Their buffers are filled by address: one of another type or place would be the end of the process."""
    expected, model = trained(tiny_data, tiny_mixer(), compile="on"), tiny_mixer()
    with SURROUNDINGS[surrounding]():
        train(model, tiny_data, steps=5, batch_size=8, learning_rate=0.01, compile="on")
    assert torch.equal(weights(model), expected)


def test_a_model_that_was_built_in_inference_mode_is_trained(tiny_data: ImageData) -> None:
    expected = trained(tiny_data, Plain(nn.BatchNorm1d(5)))
    with torch.inference_mode():
        model = Plain(nn.BatchNorm1d(5))
    assert torch.equal(trained(tiny_data, model), expected)


def test_in_a_thread_and_with_other_threads_midway(tiny_data: ImageData) -> None:
    found: list[Tensor] = []
    thread = Thread(target=lambda: found.append(trained(tiny_data)))
    thread.start()
    thread.join()
    model = Plain()
    for row in TrainingLoop(model, tiny_data, Recipe(steps=5, batch_size=8, learning_rate=0.01)).run():
        torch.set_num_threads(1 + row.step % 2)
    torch.set_num_threads(1)
    expected = trained(tiny_data)
    assert torch.equal(found[0], expected)
    torch.testing.assert_close(weights(model), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_are_refused_before_anything_else(dtype: torch.dtype, tiny_data: ImageData) -> None:
    calls: list[int] = []
    model = Plain().to(dtype)
    model.register_forward_hook(lambda *_: calls.append(1))
    with pytest.raises(ArgumentError, match=rf"encoder\.weight is {dtype}; training takes torch\.float32"):
        train(model, tiny_data, steps=2)
    assert not calls


class Lazy(Plain):
    def __init__(self) -> None:
        super().__init__(nn.LazyLinear(5))


def with_parameter(make: Callable[[Plain], Tensor]) -> Autoencoder:
    model = Plain()
    model.own = nn.Parameter(make(model))
    return model


def hooked() -> Autoencoder:
    model = Plain()
    model.encoder.bias.register_post_accumulate_grad_hook(lambda _: None)  # type: ignore[no-untyped-call]
    return model


IMPOSSIBLE: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "frozen": (lambda: Plain().requires_grad_(False), "nothing to train"),
    "no numbers": (lambda: Plain().to("meta"), "is on the meta device and holds no numbers"),
    "a buffer elsewhere": (lambda: Plain(nn.BatchNorm1d(5, device="meta")), "is on the meta device"),
    "no shape yet": (Lazy, r"layers have no shapes yet; call model\(images\) once"),
    "the same memory": (
        lambda: with_parameter(lambda model: model.encoder.weight.detach().t()),
        r"encoder\.weight and own lie in the same memory; make them one nn\.Parameter",
    ),
    "a hook after": (hooked, r"encoder\.bias has a hook after its gradient"),
    "no autoencoder": (lambda: nn.Linear(1, 1), r"must be a mixcoder\.Autoencoder, .* got Linear"),
}


@pytest.mark.parametrize("kind", IMPOSSIBLE)
def test_what_cannot_be_trained_is_one_sentence(kind: str, tiny_data: ImageData) -> None:
    make, sentence = IMPOSSIBLE[kind]
    model = make()
    with pytest.raises(MixcoderError, match=sentence):
        train(model, tiny_data, steps=2)


def test_wrapped_models_are_trained_in_place(tiny_data: ImageData) -> None:
    for wrap in (nn.DataParallel, partial(torch.compile, backend="eager")):
        model = Plain()
        trained(tiny_data, wrap(model))  # type: ignore[arg-type]
        assert torch.equal(weights(model), trained(tiny_data))


def test_parameters_have_memory_of_their_own_afterwards(tmp_path: Path, tiny_data: ImageData) -> None:
    model = Plain()
    expected = stored(model.encoder)
    trained(tiny_data, model)
    assert stored(model.encoder) == expected
    save_model(model, str(tmp_path / "model.safetensors"))
    other = Plain()
    load_model(other, tmp_path / "model.safetensors")
    assert torch.equal(weights(other), weights(model))
    assert torch.equal(trained(tiny_data, model), trained(tiny_data, other))  # once more


def stored(module: nn.Module) -> int:
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    return file.tell()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_after_an_error_all_is_as_before(error: type[BaseException], tiny_data: ImageData) -> None:
    model, count = Plain(nn.Dropout(0.1)), stored(Plain().encoder)
    model.between.eval()

    def interrupt(*_: object) -> None:
        modes.append(model.between.training)
        if len(modes) > 4:
            raise error

    modes: list[bool] = []
    model.register_forward_hook(interrupt)
    with pytest.raises(error):
        train(model, tiny_data, steps=9)
    assert not any(modes)  # as its owner wants it
    assert stored(model.encoder) == count
    assert (model.training, model.between.training, model.encoder.training) == (True, False, True)
    model.eval()
    with pytest.raises(error):
        train(model, tiny_data, steps=9)
    assert not any(module.training for module in model.modules())


def test_divergence_leaves_memory_of_its_own(tiny_data: ImageData) -> None:
    model, count = Plain(), stored(Plain().encoder)
    with pytest.raises(TrainingError):
        train(model, tiny_data, steps=200, optimizer="sgd", learning_rate=1e6)
    assert stored(model.encoder) == count


def test_tied_parameters_stay_one(tiny_data: ImageData) -> None:
    model = Plain(nn.Linear(5, 5))
    model.second = second = nn.Linear(5, 5)
    model.between.weight = second.weight
    trained(tiny_data, model)
    assert model.between.weight is second.weight
    assert model.state_dict()["second.weight"].data_ptr() == model.state_dict()["between.weight"].data_ptr()


def test_frozen_parameters_stay_and_others_learn(tiny_data: ImageData) -> None:
    model = Plain()
    model.encoder.requires_grad_(False)
    trained(tiny_data, model)
    assert torch.equal(model.encoder.weight, Plain().encoder.weight)
    assert not torch.equal(model.decoder.weight, Plain().decoder.weight)


def test_parameters_of_another_layout_and_parametrized_ones(tiny_data: ImageData) -> None:
    model = Plain()
    model.encoder.weight.data = model.encoder.weight.detach().t().contiguous().t()
    assert not model.encoder.weight.is_contiguous()
    assert torch.equal(trained(tiny_data, model), trained(tiny_data))
    normed = Plain(parametrizations.weight_norm(nn.Linear(5, 5)))
    before = weights(normed)
    assert not torch.equal(trained(tiny_data, normed), before)


@pytest.mark.parametrize("compile", ["off", "on"])
def test_running_statistics_are_those_of_the_textbook(compile: str, tiny_data: ImageData) -> None:
    """What looks at a model before training, such as whether it can be split, leaves them alone."""
    model = Plain(nn.BatchNorm1d(5))
    with switched(torch.set_num_threads, 2, 1):
        trained(tiny_data, model, compile=compile, steps=4, batch_size=32, optimizer="sgd")
    expected = Plain(nn.BatchNorm1d(5))
    optimizer = torch.optim.SGD(expected.parameters(), momentum=0.9, nesterov=True)
    run = TrainingLoop(Plain(), tiny_data, Recipe(steps=4, batch_size=32, learning_rate=0.01))
    for step, rate in enumerate([1, 0.853553, 0.5, 0.146447]):
        optimizer.param_groups[0]["lr"] = 0.01 * rate
        images = run._batches[step] / 255
        optimizer.zero_grad()
        (expected(images) - images).square().mean().backward()
        optimizer.step()
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_a_frozen_norm_stays_frozen(tiny_data: ImageData) -> None:
    model = Plain(nn.BatchNorm1d(5))
    model.between.eval()
    trained(tiny_data, model)
    assert torch.equal(model.state_dict()["between.running_mean"], torch.zeros(5))
    assert model.training
    assert not model.between.training


def test_statistics_are_part_of_a_checkpoint(tmp_path: Path, tiny_data: ImageData) -> None:
    def run() -> TrainingLoop:
        return TrainingLoop(Plain(nn.BatchNorm1d(5)), tiny_data, Recipe(steps=20, batch_size=8))

    whole, first, second = run(), run(), run()
    list(whole.run())
    for row in first.run():
        if row.step == 9:
            first.save(tmp_path / "c")
            break
    second.restore(tmp_path / "c")
    list(second.run())
    for name, value in whole.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], value), name


class Scheduled(nn.Module):
    """Noise that fades with every call: what is traced once would stay at its first."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += self.training
        return x * (1 + 1 / (1 + self.calls))


class Faded:
    """A count of calls that belongs to no module."""

    calls = 0


class ScheduledElsewhere(nn.Module):
    """Noise that fades with every call, which is counted elsewhere."""

    def forward(self, x: Tensor) -> Tensor:
        Faded.calls += 1
        return x * (1 + 1 / Faded.calls)


def add_module_hook(model: Plain) -> None:
    model.encoder.register_forward_hook(lambda module, inputs, output: 2 * output)


def add_gradient_hook(model: Plain) -> None:
    model.encoder.weight.register_hook(torch.zeros_like)  # type: ignore[no-untyped-call]


def add_global_hook(model: Plain) -> None:
    handles.append(nn.modules.module.register_module_forward_hook(lambda module, inputs, output: 2 * output))


handles: list[Any] = []


@pytest.mark.parametrize("change", [add_module_hook, add_gradient_hook, add_global_hook])
def test_hooks_are_called_in_every_step_however_steps_are_computed(
    change: Callable[[Plain], None], tiny_data: ImageData
) -> None:
    def result(compile: str) -> Tensor:
        model = Plain()
        change(model)
        try:
            return trained(tiny_data, model, compile=compile)
        finally:
            while handles:
                handles.pop().remove()

    assert torch.equal(result("on"), result("off"))
    assert not torch.equal(result("off"), trained(tiny_data))


def test_a_model_that_changes_itself_is_not_frozen_at_its_first_step(tiny_data: ImageData) -> None:
    """To trace it is one call more, and that is seen by nobody but the model."""
    model = Plain(Scheduled())
    _, built = build_step(spec(model, torch.zeros(8, 1, 4, 6, dtype=torch.uint8)), COMPILED)
    assert str(built).endswith("(they could not be compiled: the model changes itself as it computes)")


def test_a_model_whose_changes_show_only_in_its_results_is_not_frozen_either(tiny_data: ImageData) -> None:
    model = Plain(ScheduledElsewhere())
    _, built = build_step(spec(model, torch.zeros(8, 1, 4, 6, dtype=torch.uint8)), COMPILED)
    assert "a forward that computes something else at the second call" in str(built)


@slow
@compiling
def test_frozen_weights_are_not_those_of_the_model_that_was_compiled_first(cache: Path) -> None:
    """They are constants of the graph, and the cache must tell graphs apart by them."""

    def frozen(seed: int) -> Autoencoder:
        torch.manual_seed(seed)
        model = create_model("cnn", image_shape=(1, 4, 6), channels=[2], kernel_size=3, latent_dim=2)
        next(model.parameters()).requires_grad_(False)
        return model

    batch = torch.randint(0, 256, (8, 1, 4, 6), dtype=torch.uint8)
    for model in (frozen(0), frozen(1)):
        of = spec(model, batch)
        gradients_of, built = gradients_by(COMPILED, of)
        assert built == COMPILED
        torch.testing.assert_close(gradients_of(batch), exact(of, batch))


def test_the_seed_is_that_of_the_order_not_of_the_weights(tiny_data: ImageData) -> None:
    """With one batch of all images, the order is the last thing that a seed could change."""
    whole = ImageData("whole", ImageSplit(tiny_data.validation.images), tiny_data.validation)
    first, second = (trained(whole, seed=seed, steps=1, batch_size=15) for seed in (0, 1))
    torch.testing.assert_close(first, second)
