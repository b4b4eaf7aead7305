"""Steps of all backends: equal but for rounding, chosen by cost, eager where nothing else can be built."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mixcoder.backends import backend
from mixcoder.backends.backend import Backend, BackendChoice, build_step, choose_backend
from mixcoder.backends.eager import EAGER, Eager, eager_gradients
from mixcoder.backends.inductor.inductor_backend import INDUCTOR, SHARDED_INDUCTOR, sharded_gradients
from mixcoder.backends.native import native_step
from mixcoder.backends.native.build import load_kernels
from mixcoder.backends.native.native_backend import NATIVE
from mixcoder.backends.parameters import FlatParameters
from mixcoder.backends.step import Gradients, StepSpec, UnsupportedError
from mixcoder.backends.workload import Workload
from mixcoder.data import ImageData
from mixcoder.models import Autoencoder, create_model
from mixcoder.models.cost import count_madds
from mixcoder.training.recipe import Recipe
from mixcoder.training.training_loop import TrainingLoop
from tests.conftest import needs_compiler, slow, slow_but
from tests.documents import assert_shown, faq_sentences

CPU = torch.device("cpu")
COMPILED = BackendChoice(INDUCTOR, torch.float32)
SHARDED = BackendChoice(SHARDED_INDUCTOR, torch.float32, 3, fallbacks=[(INDUCTOR, 1), (EAGER, 1)])

compiling = pytest.mark.xdist_group("compiling")
"""One worker takes all of these: in two, one would wait for what the other compiles."""


def mixer(**arguments: Any) -> Autoencoder:
    torch.manual_seed(0)
    given = {"patch_size": 2, "hidden_channels": [9], "latent_dim": 4, "mixer_at": [1], **arguments}
    return create_model("mixer", image_shape=(1, 4, 6), **given)


class Accumulated(nn.Identity):
    """A layer that native steps have no rule for."""

    def forward(self, values: Tensor) -> Tensor:
        return values + values.cumsum(1) * 0.01


def foreign() -> Autoencoder:
    """One that native steps refuse, in all tests the same: it is compiled but once."""
    model = mixer(mixer="cnn2df", kernel_size=3, norm="rms")
    model.encoder[0].norm = Accumulated()  # type: ignore[index, method-assign]
    return model


def known() -> Autoencoder:
    """A model of our layers alone: what it computes is known without tracing it."""
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


def spec(model: Autoencoder, batch: Tensor, loss: str = "mse", **settings: Any) -> StepSpec:
    return StepSpec(model, FlatParameters(model), loss, batch, **settings)


def exact(spec: StepSpec, batch: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients and loss of eager steps in float32."""
    return eager_gradients(replace(spec, precision=torch.float32))(batch)


def gradients_by(choice: BackendChoice, of: StepSpec) -> tuple[Gradients, BackendChoice]:
    """The gradients that steps of a choice compute, seen by an optimizer that takes them as they are."""
    seen = Seeing(of.parameters.vector)
    step, built = build_step(replace(of, optimizers=[seen]), choice)

    def gradients_of(images: Tensor) -> tuple[Tensor, Tensor]:
        loss = step(images)
        return seen.gradients, loss

    return gradients_of, built


class Seeing(torch.optim.SGD):
    """Keeps the gradients, and uses them for nothing."""

    def __init__(self, vector: nn.Parameter) -> None:
        super().__init__([vector])
        self.vector = vector

    def step(self, closure: object = None) -> None:  # type: ignore[override]
        assert self.vector.grad is not None
        self.gradients = self.vector.grad.clone()


def chosen(model: Autoencoder, inputs: int = 1, **settings: Any) -> BackendChoice:
    recipe = Recipe(steps=1, **settings)
    return choose_backend(recipe.workload(model, count_madds(model), inputs, CPU))


def packages(cache: Path) -> dict[Path, int]:
    """What was compiled, and when."""
    return {path: path.stat().st_mtime_ns for path in cache.glob("*.pt2")}


@pytest.mark.parametrize("loss", ["mse", "l1", "huber"])
def test_eager_gradients_are_those_of_backward(loss: str) -> None:
    model, batch = mixer(mixer="cnn2df", kernel_size=3), images()
    of = spec(model, batch, loss)
    gradients, value = exact(of, batch)
    inputs = batch.float() / 255
    function = {"mse": nn.MSELoss(), "l1": nn.L1Loss(), "huber": nn.HuberLoss()}[loss]
    expected = function(model(inputs), inputs)
    expected.backward()
    torch.testing.assert_close(value, expected.detach())
    for gradient, parameter in zip(of.parameters.split(gradients), model.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)


@compiling
@needs_compiler
def test_compiled_gradients_are_the_eager_ones_and_compiled_once(cache: Path) -> None:
    model, batch = foreign(), images()
    of, state = spec(model, batch), torch.get_rng_state()
    gradients_of, built = gradients_by(COMPILED, of)
    assert built == COMPILED
    assert torch.equal(torch.get_rng_state(), state)
    for batch in (images(), images()):
        torch.testing.assert_close(gradients_of(batch), exact(of, batch))
    with torch.no_grad():  # the compiled graph reads the weights anew at every step
        of.parameters.vector.mul_(0.5)
    torch.testing.assert_close(gradients_of(batch), exact(of, batch))
    made = packages(cache)
    assert made
    build_step(spec(foreign(), batch), COMPILED)
    assert packages(cache).items() >= made.items()


@slow
@compiling
@needs_compiler
def test_what_was_compiled_before_needs_neither_tracer_nor_compiler(cache: Path) -> None:
    """They take two seconds to import: most of what a run takes to start."""
    build_step(spec(known(), images()), COMPILED)
    code = """
import sys, torch
torch.set_num_threads(1)
from mixcoder.backends.backend import build_step
from tests.backends.test_backend import COMPILED, images, known, spec
_, built = build_step(spec(known(), images()), COMPILED)
print(built == COMPILED, sorted({"torch._dynamo", "torch._inductor", "sympy"} & {*sys.modules}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True []\n"


@slow
@compiling
@needs_compiler
def test_shards_of_a_batch_give_the_gradients_of_the_whole(cache: Path) -> None:
    of = spec(foreign(), images(24))
    gradients_of, built = gradients_by(SHARDED, of)
    assert built == SHARDED
    threads = torch.get_num_threads()
    for batch in (images(24), images(24)):
        with built.threads():
            found = gradients_of(batch)
        torch.testing.assert_close(found, exact(of, batch))
    assert torch.get_num_threads() == threads


@slow
@compiling
@needs_compiler
def test_shards_compute_gemms_in_bfloat16_where_asked(cache: Path) -> None:
    batch = images(24)
    of = spec(mixer(mixer_at=[]), batch)
    gradients_of, built = gradients_by(replace(SHARDED, precision=torch.bfloat16), of)
    assert (built.backend, built.shards, built.precision) == (SHARDED_INDUCTOR, 3, torch.bfloat16)
    with built.threads():
        rough, _ = gradients_of(batch)
    right, _ = exact(of, batch)
    assert not torch.allclose(rough, right, rtol=1e-5)
    assert torch.cosine_similarity(rough, right, dim=0) > 0.99


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
    model = Contrast()
    with pytest.raises(UnsupportedError, match="the images of a batch depend on each other"):
        sharded_gradients(spec(model, images(), shards=2))
    model.register_buffer("count", torch.zeros(()))  # so that it is not compiled whole either
    gradients_of, built = gradients_by(SHARDED, spec(model, images()))
    assert (built.backend, built.shards) == (EAGER, 1)
    assert gradients_of(images())[1].isfinite()


@pytest.mark.parametrize(
    ("threads", "batch_size", "shards"),
    [(1, 64, 1), (2, 64, 2), (3, 64, 2), (16, 64, 4), (4, 20, 1), (2, 33, 1)],
)
def test_shards_are_equal_and_not_too_small(
    threads: int, batch_size: int, shards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    model = mixer()
    assert chosen(model, compile="on", batch_size=batch_size).shards == shards
    assert chosen(model, compile="on", batch_size=batch_size, precision="bfloat16").shards == shards
    assert chosen(model, compile="off", batch_size=batch_size).shards == 1


@compiling
@needs_compiler
@pytest.mark.parametrize("is_native", slow_but(1, [True, False]))
def test_runs_repeat_and_go_on_to_the_bit(
    cache: Path, tmp_path: Path, tiny_data: ImageData, is_native: bool
) -> None:
    def loop() -> TrainingLoop:
        model = mixer(mixer="cnn2df", kernel_size=3) if is_native else foreign()
        return TrainingLoop(model, tiny_data, Recipe(steps=40, batch_size=8, compile="on", validations=2))

    whole = loop()
    list(whole.run())
    assert whole.backend.backend is (NATIVE if is_native else INDUCTOR)
    first = loop()
    for row in first.run():
        if row.step == 20:
            first.save(tmp_path / "half.safetensors")
            break
    second = loop()
    second.restore(tmp_path / "half.safetensors")
    assert [row.step for row in second.run()][-1] == 40
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, second.model.state_dict()[name])


@slow
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
    _, built = build_step(spec(model, images()), COMPILED)
    assert str(built).endswith("(they could not be compiled: the model has buffers)")


def test_bfloat16_gemms_are_close() -> None:
    batch = images(64)
    of = spec(mixer(), batch)
    right, _ = exact(of, batch)
    rough, _ = eager_gradients(replace(of, precision=torch.bfloat16))(batch)
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, right)
    assert torch.cosine_similarity(rough, right, dim=0) > 0.99


def test_the_choice_follows_cost_and_recipe() -> None:
    model = foreign()
    assert chosen(model, 1_000) == BackendChoice(EAGER, torch.float32)
    assert chosen(model, 10**12).backend is INDUCTOR
    assert_shown(faq_sentences()["A function has no rule"], str(chosen(model, 10**12)))
    assert chosen(model, 10**12, compile="off").backend is EAGER
    assert chosen(model, compile="on").backend is INDUCTOR
    assert chosen(model, precision="bfloat16").precision == torch.bfloat16


@pytest.mark.parametrize(
    ("backend", "shards", "note", "text"),
    [
        (INDUCTOR, 1, "", "compiled steps, products in float32"),
        (SHARDED_INDUCTOR, 2, "", "compiled steps, products in float32, batches in 2 parts side by side"),
        (NATIVE, 1, "", "native steps, products in float32"),
        (EAGER, 1, "why", "eager steps, products in float32 (why)"),
    ],
)
def test_results_hold_the_choice_as_this_text(backend: Backend, shards: int, note: str, text: str) -> None:
    """Plans compare runs by it: it stays to the byte."""
    assert str(BackendChoice(backend, torch.float32, shards, note)) == text


def test_native_steps_pay_sooner() -> None:
    model = mixer()
    pays_from = 10**8
    assert chosen(model, pays_from // 100).backend is EAGER
    assert chosen(model, pays_from) == BackendChoice(NATIVE, torch.float32)
    assert list(chosen(model, pays_from).fallbacks) == [(EAGER, 1)]
    assert chosen(model, compile="on") == BackendChoice(NATIVE, torch.float32)
    assert list(chosen(model, compile="on").fallbacks) == [(INDUCTOR, 1), (EAGER, 1)]
    assert chosen(model, pays_from, compile="off").backend is EAGER


@pytest.mark.parametrize(
    ("threads", "madds", "pays"),
    [
        (1, 10**9, True),
        (1, 10**10, False),
        (4, 10**9, True),
        (8, 10**7, True),
        (8, 10**9, False),  # four shards of 16 images are the most, of 64
    ],
)
def test_native_steps_of_large_models_pay_with_a_shard_a_thread(
    threads: int, madds: int, pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    recipe = Recipe(steps=1, batch_size=64, compile="on")
    assert NATIVE.pays(recipe.workload(mixer(), madds, 1, CPU)) == pays


@pytest.mark.parametrize(
    ("capabilities", "large_is_faster", "middle_is_faster", "note"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, True, False, " (bfloat16 is faster here, with AMX tiles)"),
        ({"avx512_bf16": True}, True, True, " (bfloat16 is faster here, with AVX-512)"),
        ({"avx512_bf16": True, "cpu_name": "Intel Xeon"}, False, False, ""),
        ({}, False, False, ""),
    ],
)
def test_native_gemms_are_in_bfloat16_where_that_is_faster(
    capabilities: dict[str, Any],
    large_is_faster: bool,
    middle_is_faster: bool,
    note: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    large, middle, small = (mixer(hidden_channels=[size], mixer="mlp") for size in (300, 150, 9))

    def choice(model: Autoencoder, **settings: Any) -> tuple[bool, torch.dtype, str]:
        found = chosen(model, compile="on", **settings)
        precision = str(found.precision).removeprefix("torch.")
        return found.backend is NATIVE, found.precision, str(found).partition(precision)[2]

    for model, is_faster in ((large, large_is_faster), (middle, middle_is_faster)):
        assert choice(model) == (True, *((torch.bfloat16, note) if is_faster else (torch.float32, "")))
    assert choice(small) == (True, torch.float32, "")
    refusal = " (no native steps: this processor has no instructions for bfloat16)"
    asked = choice(small, precision="bfloat16")
    assert asked == (bool(capabilities), torch.bfloat16, "" if capabilities else refusal)
    assert choice(large, precision="float32") == (True, torch.float32, "")


def test_where_kernels_cannot_be_compiled_steps_are_eager(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "/nowhere/c++")
    monkeypatch.setattr(native_step, "load_kernels", load_kernels.__wrapped__)  # not those loaded already
    batch = images(32)
    gradients_of, built = gradients_by(BackendChoice(NATIVE, torch.float32, 2), spec(mixer(), batch))
    assert (built.backend, built.shards) == (EAGER, 1)
    assert str(built) == (
        "eager steps, products in float32 (our own operations could not be compiled: "
        "[Errno 2] No such file or directory: '/nowhere/c++')"
    )
    assert gradients_of(batch)[1].isfinite()


@needs_compiler
@pytest.mark.parametrize("shards", [1, 3])
def test_native_steps_compute_the_same(cache: Path, shards: int) -> None:
    of = spec(mixer(mixer="cnnf", kernel_size=3), images(24), "l1")
    choice = BackendChoice(NATIVE, torch.float32, shards)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    gradients_of, built = gradients_by(choice, of)
    assert built == choice
    assert torch.equal(torch.get_rng_state(), state)
    for batch in (images(24), images(24)):
        with built.threads():
            found = gradients_of(batch)
        torch.testing.assert_close(found, exact(of, batch))
    with torch.no_grad():  # they read the weights anew at every step
        of.parameters.vector.mul_(0.5)
    torch.testing.assert_close(gradients_of(batch)[1], exact(of, batch)[1])
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"precision": "bfloat16"}, "this processor has no instructions for bfloat16"),
        ({"model": foreign()}, "no rule for torch.Tensor.cumsum"),
    ],
)
def test_native_steps_say_what_they_do_not_support(
    change: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    model = mixer()
    workload = Recipe(steps=1).workload(model, count_madds(model), 1, CPU)
    assert NATIVE.supports(workload) is None
    assert NATIVE.supports(replace(workload, **change)) == reason


def test_the_first_backend_of_the_list_that_can_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Eager):
        name, failure = "broken", "it broke"

        def build(self, spec: StepSpec) -> Any:
            raise UnsupportedError("at once")

    class Unfit(Broken):
        def supports(self, workload: Workload) -> str | None:
            return "never"

    monkeypatch.setattr(backend, "BACKENDS", (Unfit(), Broken(), EAGER))
    model = mixer()
    choice = chosen(model)
    assert choice.backend.name == "broken"
    step, built = build_step(spec(model, images()), choice)
    assert str(built) == "eager steps, products in float32 (it broke: at once)"
    assert step(images()).isfinite()
