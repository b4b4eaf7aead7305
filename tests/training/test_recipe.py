"""One place resolves how long, and one sentence says what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from mixcoder import train
from mixcoder.data import ImageData
from mixcoder.errors import ArgumentError
from mixcoder.models import create_model
from mixcoder.training.recipe import Recipe


@pytest.mark.parametrize(
    ("duration", "steps"),
    [
        ({"inputs": 1_000_000}, 15_625),
        ({"inputs": 1}, 1),
        ({"inputs": 65}, 2),
        ({"steps": 7}, 7),
        ({"epochs": 2}, 1875),
        ({"epochs": 1}, 938),
    ],
)
def test_total_steps(duration: dict[str, int], steps: int) -> None:
    assert Recipe(**duration).total_steps(training_images=60_000) == steps  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "needs exactly one of inputs, steps and epochs, found none"),
        ({"inputs": 5, "epochs": 1}, "found inputs and epochs"),
        ({"inputs": 0}, "inputs: must be above 0, not 0"),
        ({"inputs": 5, "learning_rate": -0.1}, "learning_rate: must be above 0, not -0.1"),
        ({"inputs": 5, "learning_rate": float("nan")}, "learning_rate: must be a finite number, not nan"),
        ({"inputs": 5, "batch_size": 6.4}, "batch_size: must be a whole number, not 6.4"),
        (
            {"inputs": 5, "optimizer": "admw"},
            "optimizer: unknown optimizer 'admw'; did you mean 'adamw'?",
        ),
        ({"inputs": 5, "decay_share": 0.1}, "decay_share: is for the schedule wsd alone, not for cosine"),
        (
            {"inputs": 5, "vector_learning_rate": 0.1, "optimizer": "sgd"},
            "vector_learning_rate: is for optimizers that treat vectors apart, such as muon, not for sgd",
        ),
        ({"inputs": 5, "ema": 1.0}, "ema: must be below 1, not 1.0"),
        ({"inputs": 5, "clip_norm": 0.0}, "clip_norm: must be above 0, not 0.0"),
        ({"inputs": 5, "warmup": 3}, "warmup: unknown key 'warmup'; did you mean 'warmup_steps'?"),
        (
            {"inputs": 640, "warmup_steps": 10},
            "warmup_steps: 10 steps of warm-up leave nothing of a run of 10",
        ),
    ],
)
def test_clear_errors(settings: dict[str, Any], sentence: str, tiny_data: ImageData) -> None:
    model = create_model("cnn", image_shape=(1, 4, 6), channels=[2], kernel_size=3, latent_dim=2)
    with pytest.raises(ArgumentError, match=sentence.replace("?", r"\?")):
        train(model, tiny_data, **settings)
