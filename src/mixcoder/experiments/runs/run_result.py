"""The result of a run: how good, how large, how fast, on what."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from mixcoder import __version__  # also of a source tree that is not installed
from mixcoder.errors import is_out_of_memory
from mixcoder.experiments.file.spec import Run
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.runs.stop_requests import check_sweep
from mixcoder.measures import MEASURES
from mixcoder.models.cost import Costs, cost_measures, count_costs
from mixcoder.models.dispatch import without_elements
from mixcoder.models.summary import count_parameters
from mixcoder.training.evaluation import keep_codes, losses_of_few_bits, measure_reconstructions
from mixcoder.training.training_loop import TrainingLoop

_FAILURES_OF_DECODERS = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)
"""Raised by one that takes only what its own encoder gives, such as entries of a code book: it has no losses
of rounded codes, and is trained all the same."""


def validation_losses(directory: RunDirectory) -> list[float]:
    """Returns the validation losses of a run so far."""
    return [row["validation_loss"] for row in directory.read_metrics() if "validation_loss" in row]


def describe_result(
    run: Run, loop: TrainingLoop, directory: RunDirectory, wall_seconds: float
) -> dict[str, Any]:
    """Returns the result of a run that has ended, with the keys that every listing uses."""
    model, clock = loop.model, loop.clock
    final_loss = _final_loss(loop, directory)
    codes = keep_codes(model, loop.data.validation, check_sweep)
    return {
        "name": run.experiment,
        "run": directory.path.name,
        "model": run.model[0],
        "data": run.data[0],
        "optimizer": run.recipe.optimizer,
        "validation_loss": final_loss,
        "best_validation_loss": min([*validation_losses(directory), final_loss]),
        **rounded_losses(loop, codes),
        **measure_reconstructions(model, loop.data.validation, check_sweep, codes),
        "params": count_parameters(model),
        **cost_measures(_count_costs(run)),
        "latent_shape": list(model.latent_shape),
        "compression_ratio": model.compression_ratio,
        "inputs": loop.inputs,
        "steps": loop.step,
        "train_minutes": (clock.seconds + clock.warmup_seconds) / 60,
        "warmup_seconds": clock.warmup_seconds,
        "last_session_seconds": wall_seconds,
        "throughput": clock.throughput,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "execution": str(loop.backend),
        "hardware": _hardware(loop),
        "versions": {
            "python": platform.python_version(),
            "mixcoder": __version__,
            **{name: version(name) for name in ("torch", "numpy")},
        },
        "training_images": len(loop.data.train),
        "validation_images": len(loop.data.validation),
        "images_left_out": len(loop.data.left_out),
        "data_hash": loop.data_hash,
    }


def _final_loss(loop: TrainingLoop, directory: RunDirectory) -> float:
    """Returns the validation loss of the last step, measured again where the metrics are damaged."""
    last: dict[str, Any] = next(reversed(directory.read_metrics()), {})
    is_there = last.get("step") == loop.step and "validation_loss" in last
    return float(last["validation_loss"]) if is_there else loop.validate()


def rounded_losses(loop: TrainingLoop, codes: Sequence[Tensor] | None) -> dict[str, float | None]:
    """Returns the validation losses from rounded codes, by the keys of their measures; None without them.

    Args:
        loop: at its end.
        codes: of the validation images, as `keep_codes` gives them.
    """
    bits = {measure.key: measure.bits for measure in MEASURES if measure.bits}
    images, loss = loop.data.validation, loop.recipe.loss
    losses = None
    try:
        if codes is not None:
            losses = losses_of_few_bits(loop.model, images, codes, loss, [*bits.values()], check_sweep)
    except _FAILURES_OF_DECODERS as error:
        if is_out_of_memory(error):  # says nothing of the decoder; the run can be tried again
            raise
    if losses is None:
        return dict.fromkeys(bits)
    return {key: value if math.isfinite(value) else None for key, value in zip(bits, losses, strict=True)}


def _count_costs(run: Run) -> Costs:
    with without_elements():
        return count_costs(run.create_model())


def _hardware(loop: TrainingLoop) -> dict[str, Any]:
    device = loop.data.validation.device
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        **({"ranks": loop.ranks.count} if loop.ranks.count > 1 else {}),
    }
