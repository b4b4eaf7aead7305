"""The number of refinement steps of a training step: drawn from the seed, the same however it is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mixcoder.data import ImageData, load_data
from mixcoder.errors import ArgumentError
from mixcoder.models import Autoencoder, create_model
from mixcoder.training.drawn_refinement import draw_steps
from mixcoder.training.recipe import Recipe
from mixcoder.training.training_loop import TrainingLoop
from tests.conftest import needs_compiler


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_data("digits")


def refined(**settings: Any) -> Autoencoder:
    torch.manual_seed(0)
    return create_model(
        "mixer",
        image_shape=(1, 8, 8),
        patch_size=4,
        hidden_channels=[16],
        latent_dim=4,
        mixer_at=[1],
        refine={"steps": 2, **settings},
    )


def loop(data: ImageData, model: Autoencoder, **settings: Any) -> TrainingLoop:
    return TrainingLoop(model, data, Recipe(**{"batch_size": 32, "steps": 12, **settings}))


def drawn(model: Autoencoder, seed: int, steps: int) -> list[int]:
    assert model.refinement
    counts = []
    for step in range(steps):
        draw_steps(model, seed, step)
        counts.append(model.refinement.steps_now)
    return counts


def test_draws_are_a_function_of_seed_and_step_and_reach_both_ends() -> None:
    counts = drawn(refined(fewest=0), 5, 200)
    assert counts == drawn(refined(fewest=0), 5, 200)
    assert set(counts) == {0, 1, 2}
    assert counts != drawn(refined(fewest=0), 6, 200)


def test_without_fewest_nothing_is_drawn() -> None:
    assert set(drawn(refined(), 5, 50)) == {2}


def weights_of(run: TrainingLoop) -> Tensor:
    for _ in run.run():
        pass
    return torch.cat([parameter.detach().flatten() for parameter in run.model.parameters()])


@needs_compiler
def test_native_steps_train_as_eager_ones(digits: ImageData) -> None:
    model = refined(fewest=0)
    native = loop(digits, model, compile="on")
    weights = weights_of(native)
    assert native.backend.backend.name == "native"
    eager = weights_of(loop(digits, refined(fewest=0), compile="off"))
    torch.testing.assert_close(weights, eager, rtol=1e-4, atol=1e-5)


def test_drawing_changes_what_is_trained(digits: ImageData) -> None:
    always = weights_of(loop(digits, refined(), compile="off"))
    assert not torch.allclose(always, weights_of(loop(digits, refined(fewest=0), compile="off")), atol=1e-4)


def test_a_resumed_run_draws_what_the_undisturbed_one_draws(digits: ImageData, tmp_path: Path) -> None:
    whole = weights_of(loop(digits, refined(fewest=1), compile="off"))
    first = loop(digits, refined(fewest=1), compile="off")
    for progress in first.run():
        if progress.step >= 5:
            break
    first.save(tmp_path / "checkpoint")
    second = loop(digits, refined(fewest=1), compile="off")
    second.restore(tmp_path / "checkpoint")
    assert torch.equal(weights_of(second), whole)


def test_behind_training_a_forward_has_all_steps_again(digits: ImageData) -> None:
    run = loop(digits, refined(fewest=0), compile="off")
    weights_of(run)
    model, images = run.model, torch.rand(3, 1, 8, 8)
    assert torch.equal(model.train().encode(images), model.encode(images, steps=2))


def test_more_than_all_steps_are_no_fewest() -> None:
    with pytest.raises(ArgumentError, match="refine.fewest: must be at most the 2 steps, got 3"):
        refined(fewest=3)
