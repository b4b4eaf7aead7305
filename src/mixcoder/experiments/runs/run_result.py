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
from mixcoder.data.split import ImageData, ImageSplit
from mixcoder.errors import is_out_of_memory
from mixcoder.experiments.file.spec import Run
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.runs.stop_requests import check_sweep
from mixcoder.measures import MEASURES
from mixcoder.models import Autoencoder, create_model
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
    clock, final_loss = loop.clock, _final_loss(loop, directory)
    best = _best_row(directory, loop.inputs, final_loss)
    return {
        "name": run.experiment,
        "run": directory.path.name,
        "model": run.model[0],
        "data": run.data[0],
        "optimizer": run.recipe.optimizer,
        "validation_loss": final_loss,
        "best_validation_loss": best["validation_loss"],
        "best_inputs": best["inputs"],
        **measure_model(loop.model, loop.data, run.recipe.loss),
        "inputs": loop.inputs,
        "steps": loop.step,
        "train_minutes": (clock.seconds + clock.warmup_seconds) / 60,
        "warmup_seconds": clock.warmup_seconds,
        "last_session_seconds": wall_seconds,
        "throughput": clock.throughput,
        "execution": str(loop.backend),
        **describe_circumstances(loop.data, loop.data_hash, loop.ranks.count),
    }


def measure_model(model: Autoencoder, data: ImageData, loss: str) -> dict[str, Any]:
    """Returns how good and how large a model is: measures of the validation images, sizes, costs.

    Args:
        model: made by `create_model`, on the device of the images.
        data: whose validation images it is measured on.
        loss: "mse", "l1" or "huber".
    """
    codes = keep_codes(model, data.validation, check_sweep)
    return {
        **rounded_losses(model, data.validation, codes, loss),
        **measure_reconstructions(model, data.validation, check_sweep, codes),
        "params": count_parameters(model),
        **cost_measures(_count_costs(model)),
        "latent_shape": list(model.latent_shape),
        "compression_ratio": model.compression_ratio,
    }


def describe_circumstances(data: ImageData, data_hash: str, ranks: int = 1) -> dict[str, Any]:
    """Returns when, where and of which images a result is."""
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": _hardware(data.validation.device, ranks),
        "versions": {
            "python": platform.python_version(),
            "mixcoder": __version__,
            **{name: version(name) for name in ("torch", "numpy")},
        },
        "training_images": len(data.train),
        "validation_images": len(data.validation),
        "images_left_out": len(data.left_out),
        "data_hash": data_hash,
    }


def _best_row(directory: RunDirectory, inputs: int, final_loss: float) -> dict[str, Any]:
    """Returns the row of metrics with the lowest validation loss, the first of equal ones."""
    validated = [row for row in directory.read_metrics() if "validation_loss" in row]
    last = {"inputs": inputs, "validation_loss": final_loss}
    best: dict[str, Any] = min([*validated, last], key=lambda row: row["validation_loss"])
    return best


def _final_loss(loop: TrainingLoop, directory: RunDirectory) -> float:
    """Returns the validation loss of the last step, measured again where the metrics are damaged."""
    last: dict[str, Any] = next(reversed(directory.read_metrics()), {})
    is_there = last.get("step") == loop.step and "validation_loss" in last
    return float(last["validation_loss"]) if is_there else loop.validate()


def rounded_losses(
    model: Autoencoder, images: ImageSplit, codes: Sequence[Tensor] | None, loss: str
) -> dict[str, float | None]:
    """Returns the losses from rounded codes, by the keys of their measures; None without them.

    Args:
        model: at the end of its training.
        images: that validate.
        codes: of the images, as `keep_codes` gives them.
        loss: "mse", "l1" or "huber".
    """
    bits = {measure.key: measure.bits for measure in MEASURES if measure.bits}
    losses = None
    try:
        if codes is not None:
            losses = losses_of_few_bits(model, images, codes, loss, [*bits.values()], check_sweep)
    except _FAILURES_OF_DECODERS as error:
        if is_out_of_memory(error):  # says nothing of the decoder; the run can be tried again
            raise
    if losses is None:
        return dict.fromkeys(bits)
    return {key: value if math.isfinite(value) else None for key, value in zip(bits, losses, strict=True)}


def _count_costs(model: Autoencoder) -> Costs:
    assert model.made_as is not None
    name, arguments = model.made_as
    with without_elements():
        return count_costs(create_model(name, **arguments))


def _hardware(device: torch.device, ranks: int) -> dict[str, Any]:
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        **({"ranks": ranks} if ranks > 1 else {}),
    }
