"""One run: from what an experiment file states to a run directory with its result.

Run ─▶ seeds ─▶ model, data ─▶ Trainer ─▶ Progress ─▶ metrics.jsonl, checkpoint, loggers, observer
                                         └─ at the end ─▶ model.safetensors, loggers, result.json
"""

from __future__ import annotations

import math
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from mixcoder.device import resolve_device
from mixcoder.errors import (
    ArgumentError,
    ExperimentError,
    MixcoderError,
    RunInterruptedError,
    WriteError,
    first_line,
)
from mixcoder.experiments.file.spec import Run
from mixcoder.experiments.runs.memory_check import check_memory, reraise_oom
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.runs.run_loggers import RunLogs, check_loggers
from mixcoder.io.interrupts import check_interrupted, is_interrupted
from mixcoder.models.cost import count_madds
from mixcoder.models.summary import count_parameters
from mixcoder.training.evaluation import measure_reconstructions
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
        RunInterruptedError: the user interrupted the run.
        TrainingError: the loss is no longer finite.
        RunLockedError: another process trains it.
        MixcoderError: data, run or run directory are not in order.
    """
    directory = RunDirectory.of(run, runs)
    if directory.read_result() is not None:
        return directory
    check_loggers(run)
    started = time.perf_counter()
    with reraise_oom(run):
        trainer = _create_trainer(run, resolve_device(device))
    check_interrupted()
    with directory.locked():
        if directory.read_result() is not None:  # by the process that we waited for
            return directory
        with _recording_failure(directory), reraise_oom(run):
            directory.write_config(run)
            _go_back(trainer, directory)
            logs = RunLogs(run, directory, trainer.data.validation.device)
            _train(trainer, directory, logs, observer)
            directory.write_model(trainer.model, *run.model)
            result = _result(run, trainer, directory, time.perf_counter() - started)
            logs.finish(result)
            directory.write_result(result)
    return directory


@contextmanager
def _recording_failure(directory: RunDirectory) -> Iterator[None]:
    """Notes why a run failed, for tables to say; an interrupted one has not failed."""
    directory.forget_failure()
    try:
        yield
    except RunInterruptedError:
        raise
    except Exception as error:
        is_told = isinstance(error, MixcoderError)
        reason = str(error) if is_told else f"{type(error).__name__}: {first_line(error)}"
        with suppress(WriteError):  # the error itself is told in any case
            status = error.exit_status if isinstance(error, MixcoderError) else 1
            directory.write_failure({"reason": reason, "exit_status": status})
        raise


def _go_back(trainer: Trainer, directory: RunDirectory) -> None:
    """Goes back to the checkpoint, or to the start where there is none."""
    if directory.checkpoint.exists():
        trainer.restore(directory.checkpoint)
    directory.truncate_metrics(trainer.step)


def _train(trainer: Trainer, directory: RunDirectory, logs: RunLogs, observer: Observer) -> None:
    """Trains to the end, and keeps metrics and checkpoints."""
    best_loss = min(_validation_losses(directory), default=math.inf)
    trainer.between_validation_batches = _check_sweep

    with _Interrupts() as interrupts:
        next_save = time.perf_counter() + CHECKPOINT_SECONDS
        for progress in trainer.run():
            interrupts.defer()
            row = _metrics(progress)
            directory.append_metrics(row)
            if progress.validation_loss is not None and progress.validation_loss < best_loss:
                best_loss = progress.validation_loss
                directory.write_best(trainer.model, row)
            logs.log(row)
            if progress.validation_loss is not None:
                logs.show(progress.inputs, trainer.model, trainer.data.validation)
            observer(trainer, progress)
            is_to_end = interrupts.are_there or _has_lost_sweep()
            if is_to_end or time.perf_counter() > next_save:
                next_save = _save(trainer, directory)
            if is_to_end:
                raise RunInterruptedError(
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
    check_memory(run, device)
    torch.manual_seed(run.recipe.seed)
    model = run.create_model().to(device)
    try:
        return Trainer(model, data, run.recipe)
    except ArgumentError as error:
        raise ExperimentError([f"training.{error}" if error.argument else error.message]) from None


def _has_lost_sweep() -> bool:
    """Whether this is the worker of a sweep that is gone."""
    sweep = os.environ.get(SWEEP_VARIABLE)
    return sweep is not None and sweep != str(os.getppid())


def _check_sweep() -> None:
    """Ends a validation, which may take long, in a worker whose sweep is gone.

    Raises:
        RunInterruptedError: it is.
    """
    if _has_lost_sweep():
        raise RunInterruptedError(
            "interrupted after its sweep had ended; the same command goes on from the last checkpoint"
        )


_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Ctrl-C, what a machine or a queue sends before it ends a process, what a terminal sends that is closed."""


class _Interrupts:
    """Requests to end, which wait from `defer` on until the trainer has come to a whole step.

    Before that there is nothing to lose, and they end the process at once. So does a second Ctrl-C, but not
    what a sweep sends to its workers after a Ctrl-C that they have seen themselves.
    """

    def __init__(self) -> None:
        self._is_remembered = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> _Interrupts:
        return self

    @property
    def are_there(self) -> bool:
        """Whether there was one, also before, where a library swallowed it."""
        return self._is_remembered or is_interrupted()

    def defer(self) -> None:
        """Lets them wait from now on."""
        is_first = not self._before
        if is_first and threading.current_thread() is threading.main_thread():  # no signal arrives in another
            self._before = {each: signal.getsignal(each) for each in _SIGNALS}
            for each, handler in self._before.items():
                if handler is not signal.SIG_IGN:  # a background job leaves Ctrl-C to its parent
                    signal.signal(each, self._remember)

    def _remember(self, signum: int, frame: FrameType | None) -> None:
        self._is_remembered = True
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def __exit__(self, *_: object) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)


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
    final_loss = _final_loss(trainer, directory)
    return {
        "name": run.experiment,
        "run": directory.path.name,
        "model": run.model[0],
        "data": run.data[0],
        "validation_loss": final_loss,
        "best_validation_loss": min([*_validation_losses(directory), final_loss]),
        **measure_reconstructions(model, trainer.data.validation, _check_sweep),
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
        "data_hash": trainer.data_hash,
    }


def _final_loss(trainer: Trainer, directory: RunDirectory) -> float:
    """The validation loss of the last step; measured again where somebody damaged the metrics."""
    last: dict[str, Any] = next(reversed(directory.read_metrics()), {})
    is_there = last.get("step") == trainer.step and "validation_loss" in last
    return float(last["validation_loss"]) if is_there else trainer.validate()


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
