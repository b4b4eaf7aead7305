"""What an experiment will be, before anything trains.

Experiment ─▶ every model on the meta device ─▶ shapes, parameters, multiply-adds, memory
           └▶ finished runs, or two seconds of training steps ─▶ minutes
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mixcoder.experiments.memory import fitting_bytes, telling_of_memory
from mixcoder.experiments.run_directory import RunDirectory
from mixcoder.experiments.spec import Experiment, Run
from mixcoder.models import Autoencoder
from mixcoder.models.cost import count_madds
from mixcoder.models.summary import count_parameters
from mixcoder.training.execution import choose_execution
from mixcoder.training.flat_parameters import FlatParameters
from mixcoder.training.gradients import eager_gradients
from mixcoder.training.optimizers import create_optimizers
from mixcoder.training.step import create_step

CALIBRATION_SECONDS = 1.0
"""For each of two models, the cheapest and the dearest."""


def plan_rows(experiment: Experiment, runs: Path) -> list[dict[str, Any]]:
    """One row a run: its values of the matrix, its size, its cost, and how long it takes or took.

    Args:
        experiment: every run of it has been checked.
        runs: the folder of all runs, for those that are done.

    Returns:
        Rows with the matrix's axes, `latent_shape`, `compression_ratio`, `params`, `madds` (of one
        image), `memory_bytes`, `minutes` and `done`.

    Raises:
        ArgumentError: this machine has not the memory for one of them.
    """
    rows = [_counted(run) for run in experiment.runs]
    results = [RunDirectory.of(run, runs).read_result() for run in experiment.runs]
    open_rows = [i for i, result in enumerate(results) if result is None]
    seconds = _calibrated_seconds(experiment.runs, [row["madds"] for row in rows], open_rows)
    for i, (row, run, result) in enumerate(zip(rows, experiment.runs, results, strict=True)):
        row["minutes"] = (result.get("train_minutes") or 0.0) if result else run.total_steps * seconds[i] / 60
        row["done"] = result is not None
    return rows


def _counted(run: Run) -> dict[str, Any]:
    with torch.device("meta"):
        model = run.create_model()
    return {
        **run.values,
        "latent_shape": list(model.latent_shape),
        "compression_ratio": model.compression_ratio,
        "params": count_parameters(model),
        "madds": count_madds(model),
        "memory_bytes": fitting_bytes(run, torch.device("cpu")),
    }


def _calibrated_seconds(runs: Sequence[Run], madds: Sequence[int], chosen: Sequence[int]) -> dict[int, float]:
    """Seconds a step of each chosen run: measured at the cheapest and the dearest, a line between."""
    if not chosen:
        return {}
    work = {i: madds[i] * runs[i].recipe.batch_size for i in chosen}
    cheapest, dearest = min(chosen, key=work.__getitem__), max(chosen, key=work.__getitem__)
    low = _measured_seconds(runs[cheapest])
    high = _measured_seconds(runs[dearest]) if dearest != cheapest else low
    span = max(1, work[dearest] - work[cheapest])
    return {i: low + (high - low) * (work[i] - work[cheapest]) / span for i in chosen}


def _measured_seconds(run: Run) -> float:
    """Seconds of one training step of `run` here, on noise; the first step is left out.

    The step is not compiled, which would take longer than to measure it: a run that is takes less time.
    """
    with torch.random.fork_rng(devices=[]):
        model = run.create_model()
        images = torch.randint(0, 256, (run.recipe.batch_size, *model.image_shape), dtype=torch.uint8)
    with telling_of_memory(run):
        return _timed_steps(run, model, images)


def _timed_steps(run: Run, model: Autoencoder, images: Tensor) -> float:
    chosen = choose_execution(model, run.recipe, 0, images.device)
    parameters = FlatParameters(model)
    gradients_of = eager_gradients(model, parameters, run.recipe.loss, chosen.precision)
    step = create_step(gradients_of, parameters, create_optimizers(parameters, run.recipe))
    step(images)
    start, steps = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < CALIBRATION_SECONDS or not steps:
        step(images)
        steps += 1
    return elapsed / steps
