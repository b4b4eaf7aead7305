"""One run: from what an experiment file states to a run directory with its result.

Run ─▶ seeds ─▶ model, data ─▶ Trainer ─▶ Progress ─▶ metrics.jsonl, checkpoint, loggers, observer
                                         └─ at the end ─▶ model.safetensors, loggers, result.json
"""

from __future__ import annotations

import math
import os
import platform
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from mixcoder.device import resolve_device
from mixcoder.errors import ArgumentError, ExperimentError, TrainingError
from mixcoder.experiments.memory import refuse_unfit, telling_of_memory
from mixcoder.experiments.run_directory import RunDirectory
from mixcoder.experiments.run_logs import RunLogs, check_loggers
from mixcoder.experiments.spec import Run
from mixcoder.models.cost import count_madds
from mixcoder.models.summary import count_parameters
from mixcoder.training.metrics import measure_quality
from mixcoder.training.trainer import Progress, Trainer

CHECKPOINT_SECONDS = 5.0
"""The shortest time between two checkpoints; a large model, whose checkpoints take long, has fewer."""
CHECKPOINT_SHARE = 0.02
"""How much of a run's time its checkpoints may take."""
SWEEP_VARIABLE = "MIXCODER_SWEEP"
"""Tells a sweep's workers the process that is to be their parent."""

Observer = Callable[[Trainer, Progress], None]
"""Told of each Progress of a run."""


def train_run(run: Run, runs: Path, observer: Observer, device: str = "auto") -> RunDirectory:
    """Trains what `run` states, unless that is done already, and goes on where a run was cut off.

    Args:
        run: what to train.
        runs: the folder of all runs.
        observer: told of the progress.
        device: "auto", "cpu", or a torch device such as "cuda:1".

    Returns:
        The run directory, with its result.

    Raises:
        TrainingError: the loss is no longer finite, or the user interrupted the run.
        MixcoderError: data, run or run directory are not in order.
    """
    directory = RunDirectory.of(run, runs)
    if directory.read_result() is not None:
        return directory
    check_loggers(run)
    started = time.perf_counter()
    with telling_of_memory(run):
        trainer = _create_trainer(run, resolve_device(device))
        with directory.locked():
            if directory.read_result() is not None:  # by the process that we waited for
                return directory
            directory.write_config(run)
            _go_back(trainer, directory)
            logs = RunLogs(run, directory, trainer.data.validation.device)
            _train(trainer, directory, logs, observer)
            directory.write_model(trainer.model, *run.model)
            result = _result(run, trainer, directory, time.perf_counter() - started)
            logs.finish(result)
            directory.write_result(result)
    return directory


def _go_back(trainer: Trainer, directory: RunDirectory) -> None:
    """Goes back to the checkpoint, or to the start where there is none."""
    if directory.checkpoint.exists():
        trainer.restore(directory.checkpoint)
    directory.truncate_metrics(trainer.step)


def _train(trainer: Trainer, directory: RunDirectory, logs: RunLogs, observer: Observer) -> None:
    """Trains to the end, and keeps metrics and checkpoints."""
    best_loss = min(_validation_losses(directory), default=math.inf)

    with _deferred_interrupt() as is_interrupted:
        next_save = time.perf_counter() + CHECKPOINT_SECONDS
        for progress in trainer.run():
            row = _metrics(progress)
            directory.append_metrics(row)
            if progress.validation_loss is not None and progress.validation_loss < best_loss:
                best_loss = progress.validation_loss
                directory.write_best(trainer.model, row)
            logs.log(row)
            if progress.validation_loss is not None:
                logs.show(progress.inputs, trainer.model, trainer.data.validation)
            observer(trainer, progress)
            if is_interrupted() or time.perf_counter() > next_save:
                next_save = _save(trainer, directory)
            if is_interrupted():
                raise TrainingError(
                    f"interrupted after {progress.inputs:,} inputs; the same command goes on from there"
                )


def _save(trainer: Trainer, directory: RunDirectory) -> float:
    """Saves a checkpoint; says when the next one is due."""
    start = time.perf_counter()
    directory.keep_metrics()
    trainer.save(directory.checkpoint)
    end = time.perf_counter()
    return end + max(CHECKPOINT_SECONDS, (end - start) / CHECKPOINT_SHARE)


def _validation_losses(directory: RunDirectory) -> list[float]:
    return [row["validation_loss"] for row in directory.read_metrics() if "validation_loss" in row]


def _create_trainer(run: Run, device: torch.device) -> Trainer:
    data = run.create_source().load().to(device)
    refuse_unfit(run, device)
    torch.manual_seed(run.recipe.seed)
    model = run.create_model().to(device)
    try:
        return Trainer(model, data, run.recipe)
    except ArgumentError as error:
        raise ExperimentError([f"training.{error}" if error.argument else error.message]) from None


@contextmanager
def _deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Lets a first Ctrl-C wait until the trainer has come to a whole step; a second one cuts at once.

    A request to terminate is taken alike. A sweep's worker is interrupted as well when the sweep is gone.
    """
    interrupted = False
    sweep = os.environ.get(SWEEP_VARIABLE)

    def is_interrupted() -> bool:
        return interrupted or (sweep is not None and sweep != str(os.getppid()))

    def remember(signum: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        for each in _INTERRUPTS:
            signal.signal(each, signal.default_int_handler)

    before = {each: signal.getsignal(each) for each in _INTERRUPTS}
    try:
        for each, handler in before.items():
            if handler is not signal.SIG_IGN:  # a background job leaves Ctrl-C to its parent
                signal.signal(each, remember)
    except ValueError:  # not in the main thread, where no signal arrives
        yield lambda: False
        return
    try:
        yield is_interrupted
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what a machine or a queue sends before it ends a process."""


def _metrics(progress: Progress) -> dict[str, Any]:
    row = {
        "step": progress.step,
        "inputs": progress.inputs,
        "training_loss": progress.training_loss,
        "learning_rate": progress.learning_rate,
    }
    if progress.validation_loss is not None:
        row["validation_loss"] = progress.validation_loss
    return row


def _result(run: Run, trainer: Trainer, directory: RunDirectory, wall_seconds: float) -> dict[str, Any]:
    """What came out, in the words that every listing uses."""
    model, clock = trainer.model, trainer.clock
    losses = _validation_losses(directory)
    quality = measure_quality(model, trainer.data.validation)
    return {
        "name": run.experiment,
        "run": directory.path.name,
        "model": run.model[0],
        "data": run.data[0],
        "validation_loss": losses[-1],
        "best_validation_loss": min(losses),
        "psnr": quality.psnr,
        "ssim": quality.ssim,
        "params": count_parameters(model),
        "madds": _madds(run),
        "latent_shape": list(model.latent_shape),
        "compression_ratio": model.compression_ratio,
        "inputs": trainer.inputs,
        "steps": trainer.step,
        "train_minutes": (clock.seconds + clock.warmup_seconds) / 60,
        "warmup_seconds": clock.warmup_seconds,
        "last_session_seconds": wall_seconds,
        "throughput": clock.throughput,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "execution": str(trainer.execution),
        "hardware": _hardware(trainer),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("mixcoder", "torch", "numpy")},
        },
        "training_images": len(trainer.data.train),
        "validation_images": len(trainer.data.validation),
        "images_left_out": len(trainer.data.left_out),
        "data_hash": trainer.data.content_hash(),
    }


def _madds(run: Run) -> int:
    with torch.device("meta"):
        return count_madds(run.create_model())


def _hardware(trainer: Trainer) -> dict[str, Any]:
    device = trainer.data.validation.device
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
