"""Built steps are measured by eager ones: in float32, and by what a model rounds itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mixcoder.backends.eager import eager_gradients
from mixcoder.backends.parameters import FlatParameters
from mixcoder.backends.self_check import check_close, check_rounding
from mixcoder.backends.step import StepSpec, UnsupportedError
from mixcoder.models import create_model

PROBLEM = "it computes something else"
STEEP = {"name": "sigmoid", "scale": 2_000, "offset": 0}
"""So steep that it makes every rounding large."""


def spec(output: object, precision: torch.dtype = torch.bfloat16) -> StepSpec:
    torch.manual_seed(0)
    model = create_model(
        "mixer",
        image_shape=(1, 8, 8),
        patch_size=4,
        hidden_channels=[8, 8],
        latent_dim=4,
        output_activation=output,
    )
    images = torch.randint(0, 256, (16, 1, 8, 8), dtype=torch.uint8)
    return StepSpec(model, FlatParameters(model), "mse", images, precision=precision)


def in_float32(step: StepSpec) -> tuple[Tensor, Tensor]:
    return eager_gradients(StepSpec(step.model, step.parameters, step.loss, step.images))(step.images)


def test_a_model_that_rounds_more_than_most_is_measured_by_its_own_rounding() -> None:
    step = spec(STEEP)
    exact, rounded = in_float32(step), eager_gradients(step)(step.images)
    with pytest.raises(UnsupportedError, match=PROBLEM):
        check_close(rounded, exact, torch.bfloat16, PROBLEM)
    check_rounding(rounded, exact, step, PROBLEM)


@pytest.mark.parametrize("output", ["sigmoid", STEEP], ids=["usual", "steep"])
def test_gradients_of_something_else_are_told(output: object) -> None:
    step = spec(output)
    exact = in_float32(step)
    gradients, loss = eager_gradients(step)(step.images)
    for wrong in ((-gradients, loss), (gradients.roll(1), loss), (gradients, loss * 2)):
        with pytest.raises(UnsupportedError, match=PROBLEM):
            check_rounding(wrong, exact, step, PROBLEM)


def test_what_is_no_number_is_never_close() -> None:
    step = spec("sigmoid", torch.float32)
    exact = in_float32(step)
    with pytest.raises(UnsupportedError, match=PROBLEM):
        check_rounding((exact[0] * torch.nan, exact[1]), exact, step, PROBLEM)
    check_rounding(exact, exact, step, PROBLEM)


def test_looking_leaves_the_random_state() -> None:
    step = spec(STEEP)
    exact, rounded = in_float32(step), eager_gradients(step)(step.images)
    before = torch.get_rng_state()
    check_rounding(rounded, exact, step, PROBLEM)
    assert torch.equal(torch.get_rng_state(), before)
