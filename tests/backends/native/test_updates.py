"""Native steps with their optimizer do what eager steps do, and leave the same state."""

from __future__ import annotations

import copy
import ctypes
import threading
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mixcoder.backends.matrices import MatrixShape
from mixcoder.backends.muon import Muon
from mixcoder.backends.native.build import load_kernels
from mixcoder.backends.native.matrix_updates import MuonUpdate
from mixcoder.backends.native.native_backend import NATIVE
from mixcoder.backends.native.native_step import NativeStep
from mixcoder.backends.native.program import Program
from mixcoder.backends.native.step_memory import StepMemory
from mixcoder.backends.native.updates import threads_can_update
from mixcoder.backends.parameters import FlatParameters
from mixcoder.backends.step import StepSpec, TrainingStep, apply_optimizers
from mixcoder.models import Autoencoder, create_model
from mixcoder.training.checkpoint import optimizer_tensors
from mixcoder.training.optimizers import set_learning_rate
from mixcoder.training.recipe import Recipe
from tests.conftest import needs_compiler

pytestmark = needs_compiler

RECIPES: dict[str, dict[str, Any]] = {
    "adamw": {"weight_decay": 0.5},
    "sgd": {"optimizer": "sgd"},
    "sgd with decay": {"optimizer": "sgd", "weight_decay": 0.2},
    "muon": {"optimizer": "muon", "weight_decay": 0.5, "vector_learning_rate": 0.003},
    "average": {"ema": 0.9},
    "clipped": {"clip_norm": 0.01},
    "all": {"optimizer": "muon", "ema": 0.9, "clip_norm": 0.01},
}


def create_spec(model: Autoencoder, recipe: Recipe, shards: int) -> StepSpec:
    parameters = FlatParameters(model)
    images = torch.randint(0, 256, (6, *model.image_shape), dtype=torch.uint8)
    return StepSpec(
        model,
        parameters,
        "mse",
        images,
        recipe.create_optimizers(parameters),
        shards=shards,
        clip_norm=recipe.clip_norm,
        average=recipe.create_average(parameters),
    )


def state_of(spec: StepSpec) -> dict[str, Tensor]:
    """All that a checkpoint holds of a step."""
    average = {} if spec.average is None else {"average": spec.average.vector}
    return {"weights": spec.parameters.vector.detach(), **average, **optimizer_tensors(spec.optimizers)}


def create_mixer(mixer: str) -> Autoencoder:
    torch.manual_seed(0)
    arguments = {"patch_size": 4, "hidden_channels": [9, 25, 25], "latent_dim": 5, "mixer_at": [2, 3]}
    return create_model("mixer", image_shape=(3, 12, 8), mixer=mixer, kernel_size=3, **arguments)


@pytest.mark.parametrize("settings", RECIPES.values(), ids=list(RECIPES))
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("mixer", ["cnn2d", "mlp"])
def test_thirty_steps_are_those_of_the_optimizers(settings: dict[str, Any], shards: int, mixer: str) -> None:
    """Also where the learning rate changes, and for weights whose gradients are never stored."""
    recipe = Recipe(steps=30, learning_rate=0.01, **settings)
    model = create_mixer(mixer)
    own, other = (create_spec(copy.deepcopy(model), recipe, shards) for _ in range(2))
    assert threads_can_update(own)
    step: TrainingStep = NativeStep(own, own.optimizers).update
    expected = apply_optimizers(NativeStep(replace(other, shards=1)), other)
    for count in range(1, 31):
        images = torch.randint_like(own.images, 0, 256)
        set_learning_rate([*own.optimizers, *other.optimizers], 0.01 / count)
        torch.testing.assert_close(step(images), expected(images), rtol=1e-3, atol=1e-5)
    found, wanted = state_of(own), state_of(other)
    assert list(found) == list(wanted)
    for name, value in found.items():
        assert (value - wanted[name]).norm() <= 1e-3 * wanted[name].norm(), name
    if own.average and other.average:
        assert own.average.steps == other.average.steps == 30


SHAPES = [
    *[(9, 7), (7, 9), (6, 6), (3, 50), (50, 3), (1, 8), (8, 1), (130, 140), (300, 150), (16, 5, 3, 3)],
    *[(5, 4, 4), (40, 4, 4), (33, 2, 7), (6, 7, 2), (3, 9, 20), (20, 8, 8)],
]
"""Those of three axes are stacks of matrices."""


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_any_shapes_of_matrices(precision: torch.dtype) -> None:
    """High, wide, long, stacked, large, by three threads: each as eager Muon updates it."""
    torch.manual_seed(0)
    parameters = FlatParameters(nn.ParameterList([torch.randn(shape) for shape in SHAPES]))
    shapes = {
        parameter: MatrixShape(*shape) if len(shape) == 3 else MatrixShape(1, shape[0], parameter[0].numel())
        for parameter, shape in zip(parameters.parameters, SHAPES, strict=True)
    }
    start, muon = parameters.vector.detach().clone(), Muon(shapes, 0.1)
    memory = StepMemory(parameters.vector.detach(), precision, 3)
    update = MuonUpdate(memory, muon)
    whole, gradients = slice(0, len(start)), parameters.join([torch.randn(shape) for shape in SHAPES])
    update.begin_step()
    programs = [Program(precision) for _ in range(3)]
    update.emit(programs[0], whole, gradients.data_ptr())
    places = [
        place for index, program in enumerate(programs) for place in update.emit_matrices(program, index)
    ]
    for program in programs:
        operations = program.operations()
        load_kernels().mixcoder_run(ctypes.c_void_p(operations.ctypes.data), len(operations), None)
    found = parameters.vector.detach().clone()
    assert sum(place.stop - place.start for place in places) == sum(p.numel() for p in parameters.parameters)

    parameters.vector.detach().copy_(start)
    muon.state.clear()
    parameters.set_gradients(gradients)
    muon.step()
    pairs = zip(parameters.split(found), parameters.parameters, parameters.split(start), SHAPES, strict=True)
    for value, wanted, before, shape in pairs:
        is_rounded = precision == torch.bfloat16 and min(shape) >= 64
        assert (value - wanted).norm() < (0.02 if is_rounded else 1e-4) * (wanted - before).norm(), shape


def test_a_plugins_optimizer_works_with_native_steps() -> None:
    """Its gradients are native; the update is its own, and so it is with clipping and the average."""
    recipe, model = Recipe(steps=1, ema=0.5, clip_norm=0.01), create_mixer("cnn")
    specs = [create_spec(copy.deepcopy(model), recipe, shards) for shards in (3, 1)]
    own, other = (replace(s, optimizers=[torch.optim.Adagrad(s.parameters.parameters, 0.01)]) for s in specs)
    assert not threads_can_update(own)
    step, expected = NATIVE.build(own), apply_optimizers(NativeStep(other), other)
    for _ in range(5):
        torch.testing.assert_close(step(own.images), expected(own.images), rtol=1e-4, atol=1e-6)
    for name, value in state_of(own).items():
        assert (value - state_of(other)[name]).norm() <= 1e-3 * value.norm(), name
    assert not torch.equal(own.parameters.vector, FlatParameters(model).vector)


def test_an_interrupted_step_of_several_barriers_updates_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other threads return from the first barrier; parameters, states and average stay as they are."""
    own = create_spec(create_mixer("cnn"), Recipe(steps=1, **RECIPES["all"]), shards=3)
    step = NativeStep(own, own.optimizers)
    step.update(own.images)
    before = {name: value.clone() for name, value in state_of(own).items()}
    run = NativeStep._run

    def interrupted(self: NativeStep, operations: Any, shard: Tensor) -> None:
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        run(self, operations, shard)

    with monkeypatch.context() as patched:
        patched.setattr(NativeStep, "_run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            step.update(own.images)
    assert all(torch.equal(value, before[name]) for name, value in state_of(own).items())
    step.update(own.images)
    assert not torch.equal(own.parameters.vector.detach(), before["weights"])
