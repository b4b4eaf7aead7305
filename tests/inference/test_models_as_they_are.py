"""Whatever model a Python caller has: it is used as it is, and is afterwards as it was."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mixcoder
from mixcoder import Autoencoder, Codes, MixcoderError
from mixcoder.experiments.runs.model_files import hash_weights
from mixcoder.inference.decoding import decode_batches
from mixcoder.inference.encoding import encode_batches
from mixcoder.inference.image_stream import ImageBatch
from mixcoder.inference.scoring import score_batches
from tests.conftest import slow_but
from tests.zoo import SHAPE, build, save

GREY, LATENTS = torch.full((1, *SHAPE), 0.5), Codes(["a", "b"], torch.ones(2, 5))


def numbers(*values: float) -> Tensor:
    """A tensor of these, whatever the defaults are."""
    return torch.tensor(values, dtype=torch.float64, device="cpu")


USES: dict[str, Callable[[Any, Path], Any]] = {
    "encode": lambda model, folder: mixcoder.encode(model, "digits:0", "digits:1", fit=True).latents,
    "decode": lambda model, folder: mixcoder.decode(model, LATENTS),
    "score": lambda model, folder: numbers(mixcoder.score(model, "digits:0", fit=True)[0].mse),
    "walk": lambda model, folder: mixcoder.walk(model, "digits:0", "digits:1", 3, fit=True),
    "grid": lambda model, folder: numbers(*mixcoder.reconstruction_grid(model, GREY, 1).tobytes()),
}
ALL_USES: dict[str, Callable[[Any, Path], Any]] = {
    **USES,
    "export": lambda model, folder: numbers(
        *(len(path.read_bytes()) for path in mixcoder.export_onnx(model, folder))
    ),
}


class Normed(Autoencoder):
    """Dropout, a frozen norm, one that learns, and a table that is made when it is first needed."""

    image_shape = SHAPE
    latent_shape = (5,)

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(288, 5), nn.Linear(5, 288)
        self.frozen, self.norm = nn.BatchNorm1d(5).eval(), nn.BatchNorm1d(5)
        self.dropout = nn.Dropout(0.5)
        self.table: Tensor | None = None

    def _encode(self, images: Tensor) -> Tensor:
        if self.table is None:
            self.table = self.encoder.weight.detach().mean(1)
        latents: Tensor = self.norm(self.frozen(self.encoder(self.dropout(images.flatten(1)))))
        return latents * self.table

    def _decode(self, latents: Tensor) -> Tensor:
        images: Tensor = self.decoder(latents)
        return images.reshape(-1, *self.image_shape)


def normed() -> Normed:
    torch.manual_seed(0)
    return Normed()


def state_of(model: nn.Module) -> list[Any]:
    modes = [module.training for module in model.modules()]
    places = [(value.device, value.dtype, value.data_ptr()) for value in model.parameters()]
    return [modes, places, hash_weights(model)]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", slow_but(len(USES), ALL_USES))
def test_a_model_is_afterwards_as_it_was(name: str, tmp_path: Path) -> None:
    """In training, but for a norm that is frozen; and a table of its own can be trained through."""
    use, model = ALL_USES[name], normed()
    before = state_of(model)
    first = use(model, tmp_path)
    assert state_of(model) == before
    assert torch.equal(use(model, tmp_path), first)  # no dropout, no statistics of the batch
    assert not first.is_inference()
    model(torch.rand(4, *SHAPE)).sum().backward()


@pytest.mark.parametrize("name", slow_but(len(USES), ALL_USES))
def test_also_after_an_error(name: str, tmp_path: Path) -> None:
    model = normed()

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    for layer in (model.encoder, model.decoder):
        layer.register_forward_hook(fail)
    before = state_of(model)
    with pytest.raises(ZeroDivisionError):
        ALL_USES[name](model, tmp_path)
    assert state_of(model) == before
    assert torch.is_grad_enabled()


def test_between_two_batches_and_when_no_more_are_asked_for() -> None:
    """The caller of a generator is neither in evaluation mode nor without gradients."""
    model, codes = normed(), Codes([str(i) for i in range(600)], torch.ones(600, 5))
    batches = [ImageBatch(["a"], torch.ones(1, *SHAPE, dtype=torch.uint8))] * 2
    before = state_of(model)
    for generator in (
        encode_batches(model, batches),
        decode_batches(model, codes),
        score_batches(model, batches),
    ):
        next(generator)
        assert state_of(model) == before
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", USES)
def test_a_model_computes_in_its_own_type(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model, exact = build("cnn").to(dtype), build("cnn")
    before = state_of(model)
    found, expected = USES[name](model, tmp_path), USES[name](exact, tmp_path)
    assert state_of(model) == before
    assert found.dtype == (dtype if name in ("decode", "walk") else expected.dtype)
    rounding = 3 if name == "grid" else {torch.float64: 1e-5}.get(dtype, 0.05)
    torch.testing.assert_close(found.double(), expected.double(), atol=rounding, rtol=0)


@pytest.mark.parametrize("dtype", slow_but(0, [torch.float16, torch.bfloat16, torch.float64]))
def test_an_export_is_in_float32_whatever_the_model(dtype: torch.dtype, tmp_path: Path) -> None:
    import onnxruntime

    model = build("baseline").to(dtype)
    before = state_of(model)
    encoder, _ = mixcoder.export_onnx(model, tmp_path)
    assert state_of(model) == before
    images = torch.rand(2, *SHAPE)
    [latents] = onnxruntime.InferenceSession(encoder).run(None, {"images": images.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(
            torch.from_numpy(latents), build("baseline").to(dtype).float().encode(images)
        )


def test_codes_of_a_half_model_are_told_apart_from_others(tmp_path: Path) -> None:
    model = build("cnn").bfloat16()
    codes = mixcoder.encode(model, "digits:0", fit=True)
    assert mixcoder.decode(model, codes).dtype == torch.bfloat16
    with pytest.raises(MixcoderError, match="made by a model with other weights"):
        mixcoder.decode(build("cnn"), codes)


def test_wrappers_are_looked_through() -> None:
    expected = USES["encode"](build("cnn"), Path())
    compiled: Any = partial(torch.compile, backend="eager")
    wraps: list[Any] = [nn.DataParallel, compiled, lambda model: nn.DataParallel(compiled(model))]
    for wrap in wraps:
        assert torch.equal(USES["encode"](wrap(build("cnn")), Path()), expected)
    model = build("cnn")
    model.compile(backend="eager")
    assert torch.equal(USES["walk"](model, Path()), USES["walk"](build("cnn"), Path()))


SWITCHES: dict[str, tuple[Callable[[Any], object], Any, Any]] = {
    "double": (torch.set_default_dtype, torch.float64, torch.float32),
    "meta": (torch.set_default_device, "meta", None),
    "no gradients": (torch.set_grad_enabled, False, True),
    "deterministic": (torch.use_deterministic_algorithms, True, False),
}


@pytest.mark.parametrize("switch", slow_but(0, SWITCHES))
def test_what_is_around_the_call_changes_nothing(switch: str, tmp_path: Path) -> None:
    save("mlp", tmp_path / "run")
    uses = [use for name, use in USES.items() if name != "grid"]  # which takes a model
    expected = [use(tmp_path / "run", tmp_path) for use in uses]
    change, on, off = SWITCHES[switch]
    change(on)
    try:
        found = [use(tmp_path / "run", tmp_path) for use in uses]
        model = mixcoder.load(tmp_path / "run")
        split = mixcoder.load_data("digits").validation
        mixcoder.export_onnx(model, tmp_path / "onnx")
    finally:
        change(off)
    assert all(map(torch.equal, found, expected))
    assert {(value.dtype, value.device.type) for value in model.parameters()} == {(torch.float32, "cpu")}
    assert (split.images.dtype, split.device.type) == (torch.uint8, "cpu")


def test_what_is_loaded_in_inference_mode_can_be_trained(tmp_path: Path) -> None:
    save("cnn", tmp_path)
    with torch.inference_mode():
        model, codes = mixcoder.load(tmp_path), mixcoder.encode(tmp_path, "digits:0", fit=True)
        images, way = mixcoder.decode(tmp_path, codes), USES["walk"](tmp_path, tmp_path)
    assert not any(tensor.is_inference() for tensor in (codes.latents, images, way))
    model(images.clamp_(0, 1)).sum().backward()


def test_a_model_without_parameters_is_used_too() -> None:
    class Pooling(Autoencoder):
        image_shape = (1, 8, 8)
        latent_shape = (1, 4, 4)

        def _encode(self, images: Tensor) -> Tensor:
            return nn.functional.avg_pool2d(images, 2)

        def _decode(self, latents: Tensor) -> Tensor:
            return latents.repeat_interleave(2, 2).repeat_interleave(2, 3)

    codes = mixcoder.encode(Pooling(), "digits:0")
    assert mixcoder.decode(Pooling(), codes).shape == (1, 1, 8, 8)
    with suppress(MixcoderError):  # of a model that has nothing to learn, a sentence
        mixcoder.train(Pooling(), mixcoder.load_data("digits"), steps=1)


def test_a_model_that_cannot_be_copied_says_what_to_do(tmp_path: Path) -> None:
    model: Any = build("cnn").double()
    model.generator = (i for i in "abc")
    with pytest.raises(MixcoderError, match=r"cannot be copied .* export model\.float\(\)\.cpu\(\)"):
        mixcoder.export_onnx(model, tmp_path)
