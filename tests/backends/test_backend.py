"""Steps computed in different ways: equal but for rounding, chosen by cost, and never in the way."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mixcoder.backends.backend import Execution, choose_execution, create_gradients
from mixcoder.backends.gradients import CompileError, eager_gradients, split_gradients
from mixcoder.backends.native import native_step as native_step
from mixcoder.backends.native.build import load_kernels
from mixcoder.backends.parameters import FlatParameters
from mixcoder.data import ImageData
from mixcoder.models import Autoencoder, create_model
from mixcoder.training.recipe import Recipe
from mixcoder.training.trainer import Trainer
from tests.conftest import needs_compiler
from tests.documents import assert_shown, faq_sentences

CPU = torch.device("cpu")
COMPILED = Execution(is_compiled=True, precision=torch.float32)

NATIVE = replace(COMPILED, is_native=True)

compiling = pytest.mark.xdist_group("compiling")
"""One worker takes all of these: in two, one would wait for what the other compiles."""


def mixer(**arguments: Any) -> Autoencoder:
    torch.manual_seed(0)
    given = {"patch_size": 2, "hidden_channels": [9], "latent_dim": 4, "mixer_at": [1], **arguments}
    return create_model("mixer", image_shape=(1, 4, 6), **given)


def normed() -> Autoencoder:
    """One that has no operations of our own, in all tests the same: it is compiled but once."""
    return mixer(mixer="cnn2df", kernel_size=3, norm="rms")


def images(count: int = 8) -> Tensor:
    return torch.randint(0, 256, (count, 1, 4, 6), dtype=torch.uint8)


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache for all tests here, side by side in several workers: what is equal is compiled once."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "cache of compiled graphs"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "mixcoder" / "compiled"


def packages(cache: Path) -> dict[Path, int]:
    """What was compiled, and when."""
    return {path: path.stat().st_mtime_ns for path in cache.glob("*.pt2")}


@pytest.mark.parametrize("loss", ["mse", "l1", "huber"])
def test_eager_gradients_are_those_of_backward(loss: str) -> None:
    model, batch = mixer(mixer="cnn2df", kernel_size=3), images()
    flat = FlatParameters(model)
    gradients, value = eager_gradients(model, flat, loss, torch.float32)(batch)
    inputs = batch.float() / 255
    function = {"mse": nn.MSELoss(), "l1": nn.L1Loss(), "huber": nn.HuberLoss()}[loss]
    expected = function(model(inputs), inputs)
    expected.backward()
    torch.testing.assert_close(value, expected.detach())
    for gradient, parameter in zip(flat.split(gradients), model.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)


@compiling
@needs_compiler
def test_compiled_gradients_are_the_eager_ones_and_compiled_once(cache: Path) -> None:
    model, batch = normed(), images()
    flat = FlatParameters(model)
    state = torch.get_rng_state()
    gradients_of, execution = create_gradients(COMPILED, model, flat, "mse", batch)
    assert execution == COMPILED
    assert torch.equal(torch.get_rng_state(), state)
    for batch in (images(), images()):
        expected, expected_loss = eager_gradients(model, flat, "mse", torch.float32)(batch)
        gradients, loss = gradients_of(batch)
        torch.testing.assert_close(gradients, expected)
        torch.testing.assert_close(loss, expected_loss)
    with torch.no_grad():  # the compiled graph reads the weights anew at every step
        flat.vector.mul_(0.5)
    torch.testing.assert_close(
        gradients_of(batch)[1], eager_gradients(model, flat, "mse", torch.float32)(batch)[1]
    )
    made = packages(cache)
    assert made
    other = normed()
    create_gradients(COMPILED, other, FlatParameters(other), "mse", batch)
    assert packages(cache).items() >= made.items()


@compiling
@needs_compiler
def test_what_was_compiled_before_needs_neither_tracer_nor_compiler(cache: Path) -> None:
    """They take two seconds to import: most of what a run takes to start."""
    model, batch = normed(), images()
    create_gradients(COMPILED, model, FlatParameters(model), "mse", batch)
    code = """
import sys, torch
torch.set_num_threads(1)
from mixcoder.backends.parameters import FlatParameters
from mixcoder.backends.backend import create_gradients
from tests.backends.test_backend import COMPILED, images, normed
model = normed()
_, execution = create_gradients(COMPILED, model, FlatParameters(model), "mse", images())
print(execution == COMPILED, sorted({"torch._dynamo", "torch._inductor", "sympy"} & {*sys.modules}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True []\n"


@compiling
@needs_compiler
def test_parts_of_a_batch_side_by_side_give_the_gradients_of_the_whole(cache: Path) -> None:
    model, batch = normed(), images(24)
    flat = FlatParameters(model)
    split = Execution(is_compiled=True, precision=torch.float32, parts=3)
    gradients_of, execution = create_gradients(split, model, flat, "mse", batch)
    assert execution == split
    threads = torch.get_num_threads()
    for batch in (images(24), images(24)):
        with execution.threads():
            gradients, loss = gradients_of(batch)
        expected, expected_loss = eager_gradients(model, flat, "mse", torch.float32)(batch)
        torch.testing.assert_close(gradients, expected)
        torch.testing.assert_close(loss, expected_loss)
    assert torch.get_num_threads() == threads


@compiling
@needs_compiler
def test_parts_compute_products_in_bfloat16_where_asked(cache: Path) -> None:
    model, batch = mixer(mixer_at=[]), images(24)
    flat = FlatParameters(model)
    split = Execution(is_compiled=True, precision=torch.bfloat16, parts=3)
    gradients_of, execution = create_gradients(split, model, flat, "mse", batch)
    assert execution == split
    with execution.threads():
        rough, _ = gradients_of(batch)
    exact, _ = eager_gradients(model, flat, "mse", torch.float32)(batch)
    assert not torch.allclose(rough, exact, rtol=1e-5)
    assert torch.cosine_similarity(rough, exact, dim=0) > 0.99


class Contrast(Autoencoder):
    """Tells images apart by how they differ from the batch's mean."""

    image_shape = (1, 4, 6)
    latent_shape = (24,)

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(24, 24)

    def _encode(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        latents: Tensor = self.layer(flat - flat.mean(0)) * flat.std(0)
        return latents

    def _decode(self, latents: Tensor) -> Tensor:
        return latents.view(-1, *self.image_shape)


def test_a_batch_whose_images_depend_on_each_other_stays_whole() -> None:
    split = Execution(is_compiled=True, precision=torch.float32, parts=2)
    model = Contrast()
    with pytest.raises(CompileError, match="the images of a batch depend on each other"):
        split_gradients(model, FlatParameters(model), "mse", torch.float32, images(), 2)
    model.register_buffer("count", torch.zeros(()))  # so that it is not compiled whole either
    gradients_of, execution = create_gradients(split, model, FlatParameters(model), "mse", images())
    assert (execution.is_compiled, execution.parts) == (False, 1)
    assert gradients_of(images())[1].isfinite()


@pytest.mark.parametrize(
    ("threads", "batch_size", "parts"),
    [(1, 64, 1), (2, 64, 2), (3, 64, 2), (16, 64, 4), (4, 20, 1), (2, 33, 1)],
)
def test_parts_are_equal_and_not_too_small(
    threads: int, batch_size: int, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)

    def chosen(**settings: Any) -> Execution:
        return choose_execution(mixer(), Recipe(steps=1, batch_size=batch_size, **settings), 1, CPU)

    assert chosen(compile="on").parts == parts
    assert chosen(compile="on", precision="bfloat16").parts == parts
    assert chosen(compile="off").parts == 1


@compiling
@needs_compiler
@pytest.mark.parametrize("is_native", [True, False])
def test_runs_repeat_and_go_on_to_the_bit(
    cache: Path, tmp_path: Path, tiny_data: ImageData, is_native: bool
) -> None:
    def trainer() -> Trainer:
        model = mixer(mixer="cnn2df", kernel_size=3) if is_native else normed()
        return Trainer(model, tiny_data, Recipe(steps=40, batch_size=8, compile="on", validations=2))

    whole = trainer()
    list(whole.run())
    assert (whole.execution.is_compiled, whole.execution.is_native) == (True, is_native)
    first = trainer()
    for row in first.run():
        if row.step == 20:
            first.save(tmp_path / "half.safetensors")
            break
    second = trainer()
    second.restore(tmp_path / "half.safetensors")
    assert [row.step for row in second.run()][-1] == 40
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, second.model.state_dict()[name])


def test_without_a_compiler_steps_are_eager_and_say_why(tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text(
        "name: x\n"
        "data: {source: digits}\n"
        "model: {type: mixer, patch_size: 4, hidden_channels: [9], latent_dim: 3}\n"
        "training: {steps: 3, compile: on}\n"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "mixcoder", "run", "x.yml"],
        cwd=tmp_path,
        env={**os.environ, "CXX": "/nowhere/c++", "XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert_shown(faq_sentences()["There is no compiler"], ended.stderr)
    assert "Traceback" not in ended.stderr
    assert not list((tmp_path / "cache").rglob("*.pt2"))


def test_a_model_with_buffers_is_not_compiled() -> None:
    model = mixer(mixer="cnn2df", kernel_size=3)
    model.register_buffer("count", torch.zeros(()))
    _, execution = create_gradients(COMPILED, model, FlatParameters(model), "mse", images())
    assert str(execution).endswith("(they could not be compiled: the model has buffers)")


def test_bfloat16_products_are_close() -> None:
    model, batch = mixer(), images(64)
    flat = FlatParameters(model)
    exact, _ = eager_gradients(model, flat, "mse", torch.float32)(batch)
    rough, _ = eager_gradients(model, flat, "mse", torch.bfloat16)(batch)
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    assert torch.cosine_similarity(rough, exact, dim=0) > 0.99


def test_the_choice_follows_cost_and_recipe() -> None:
    model = mixer(norm="rms")

    def chosen(inputs: int, **settings: Any) -> Execution:
        return choose_execution(model, Recipe(steps=1, **settings), inputs, CPU)

    assert chosen(1_000) == Execution(is_compiled=False, precision=torch.float32)
    assert chosen(10**12).is_compiled
    assert not chosen(10**12, compile="off").is_compiled
    assert chosen(1, compile="on").is_compiled
    assert chosen(1, precision="bfloat16").precision == torch.bfloat16
    assert str(chosen(1, compile="on")) == "compiled steps, products in float32"
    halves = Execution(is_compiled=True, precision=torch.float32, parts=2)
    assert str(halves) == "compiled steps, products in float32, batches in 2 parts side by side"
    assert str(NATIVE) == "native steps, products in float32"


def test_our_own_operations_pay_sooner() -> None:
    model = mixer()
    pays_from = 10**8

    def chosen(inputs: int, **settings: Any) -> Execution:
        return choose_execution(model, Recipe(steps=1, **settings), inputs, CPU)

    assert not chosen(pays_from // 100).is_native
    assert chosen(pays_from) == Execution(is_compiled=False, precision=torch.float32, is_native=True)
    assert chosen(1, compile="on") == NATIVE
    assert not chosen(pays_from, compile="off").is_native
    large = mixer(hidden_channels=[4_000, 4_000])
    assert not choose_execution(large, Recipe(steps=1, compile="on"), 1, CPU).is_native


@pytest.mark.parametrize("has_tiles", [True, False])
def test_our_own_products_are_in_bfloat16_where_the_library_s_are(
    has_tiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": has_tiles})
    large = mixer(hidden_channels=[300], mixer="mlp")
    small = mixer()

    def chosen(model: Autoencoder, **settings: Any) -> tuple[bool, torch.dtype]:
        execution = choose_execution(model, Recipe(steps=1, compile="on", **settings), 1, CPU)
        return execution.is_native, execution.precision

    assert chosen(large) == (True, torch.bfloat16 if has_tiles else torch.float32)
    assert chosen(small) == (True, torch.float32)
    assert chosen(small, precision="bfloat16") == (has_tiles, torch.bfloat16)
    assert chosen(large, precision="float32") == (True, torch.float32)


def test_where_our_own_operations_cannot_be_compiled_steps_are_eager(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "/nowhere/c++")
    monkeypatch.setattr(native_step, "load_kernels", load_kernels.__wrapped__)  # not those loaded already
    wanted = Execution(is_compiled=False, precision=torch.float32, parts=2, is_native=True)
    model, batch = mixer(), images(32)
    gradients_of, execution = create_gradients(wanted, model, FlatParameters(model), "mse", batch)
    assert (execution.is_native, execution.is_compiled, execution.parts) == (False, False, 1)
    assert str(execution) == (
        "eager steps, products in float32 (our own operations could not be compiled: "
        "[Errno 2] No such file or directory: '/nowhere/c++')"
    )
    assert gradients_of(batch)[1].isfinite()


@needs_compiler
@pytest.mark.parametrize("parts", [1, 3])
def test_layers_with_operations_of_our_own_use_them(cache: Path, parts: int) -> None:
    model, batch = mixer(mixer="cnnf", kernel_size=3), images(24)
    flat = FlatParameters(model)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    gradients_of, execution = create_gradients(replace(NATIVE, parts=parts), model, flat, "l1", batch)
    assert execution == replace(NATIVE, parts=parts)
    assert torch.equal(torch.get_rng_state(), state)
    for batch in (images(24), images(24)):
        with execution.threads():
            gradients, loss = gradients_of(batch)
        expected, expected_loss = eager_gradients(model, flat, "l1", torch.float32)(batch)
        torch.testing.assert_close(gradients, expected)
        torch.testing.assert_close(loss, expected_loss)
    with torch.no_grad():  # they read the weights anew at every step
        flat.vector.mul_(0.5)
    expected_loss = eager_gradients(model, flat, "l1", torch.float32)(batch)[1]
    torch.testing.assert_close(gradients_of(batch)[1], expected_loss)
    assert torch.get_num_threads() == threads
