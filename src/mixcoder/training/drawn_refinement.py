"""A number of refinement steps for each training step, drawn from the seed where a model's `refine` wants it.

    seed, step ─draw_steps─▶ model.refinement.steps_now ─▶ the training step that was built for this number

A training step is compiled for one number of refinement steps, so that there is one for each.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from torch import Tensor

from mixcoder.backends.backend import BackendChoice, build_step
from mixcoder.backends.step import StepSpec, TrainingStep
from mixcoder.models.autoencoder import Autoencoder
from mixcoder.models.code_refinement import CodeRefinement


def draw_steps(model: Autoencoder, seed: int, step: int) -> None:
    """Sets the refinement steps of a training step: a function of the run's seed and the step alone."""
    refinement = model.refinement
    if refinement is not None and refinement.fewest < refinement.steps:
        random = np.random.default_rng([seed, step, 2])
        refinement.steps_now = int(random.integers(refinement.fewest, refinement.steps, endpoint=True))


@contextmanager
def drawing_steps(model: Autoencoder) -> Iterator[None]:
    """Context in which refinement steps are drawn; behind it a forward has all of them again."""
    try:
        yield
    finally:
        if model.refinement is not None:
            model.refinement.steps_now = model.refinement.steps


def build_for_each_count(spec: StepSpec, choice: BackendChoice) -> tuple[TrainingStep, BackendChoice]:
    """Returns the training step, built for each number of refinement steps, and how it is computed."""
    refinement = spec.model.refinement
    if refinement is None or refinement.fewest == refinement.steps:
        return build_step(spec, choice)
    built = {}
    with drawing_steps(spec.model):
        for count in range(refinement.fewest, refinement.steps + 1):
            refinement.steps_now = count
            built[count], choice = build_step(spec, choice)
    return _ChosenStep(refinement, built), choice


class _ChosenStep:
    """A training step that is the one for the refinement steps of now."""

    def __init__(self, refinement: CodeRefinement, built: dict[int, TrainingStep]) -> None:
        self._refinement = refinement
        self._built = built

    def __call__(self, images: Tensor) -> Tensor:
        return self._built[self._refinement.steps_now](images)
