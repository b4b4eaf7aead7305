"""One run: from the settings of an experiment file to a run directory with its result.

    Run ─▶ seed ─▶ model, data ─▶ TrainingLoop ─┬▶ Progress ─▶ metrics.jsonl, checkpoint, loggers, observer
                                           └▶ at the end ─▶ model.safetensors, loggers, result.json

A run that was cut off resumes from its last checkpoint, and ends with the same bytes. Of several processes
that train one run, the first restores and writes; the others follow.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from mixcoder.device import resolve_device
from mixcoder.errors import (
    ArgumentError,
    ExperimentError,
    MixcoderError,
    ReportedError,
    RunInterruptedError,
    WriteError,
    first_line,
)
from mixcoder.experiments.file.spec import Run
from mixcoder.experiments.runs.memory_check import check_memory, reraise_oom
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.runs.run_loggers import RunLogs, check_loggers
from mixcoder.experiments.runs.run_result import describe_result, validation_losses
from mixcoder.experiments.runs.stop_requests import StopRequests, check_sweep
from mixcoder.io.interrupts import check_interrupted
from mixcoder.training.ranks import ALONE, Ranks
from mixcoder.training.training_loop import Progress, TrainingLoop

CHECKPOINT_SECONDS = 5.0
"""The shortest time between two checkpoints, in seconds: at most so much training is lost."""
CHECKPOINT_SHARE = 0.02
"""The largest part of a run's time that its checkpoints take: a large model has fewer of them."""
Observer = Callable[[TrainingLoop, Progress], None]
"""Called with each Progress of a run."""


def train_run(
    run: Run, runs: Path, observer: Observer, device: str = "auto", ranks: Ranks = ALONE
) -> RunDirectory:
    """Trains a run, unless it is done already, from its last checkpoint on.

    Args:
        run: the model, the data and the recipe.
        runs: the folder of all runs.
        observer: called with the progress.
        device: "auto", "cpu", or a torch device such as "cuda:1".
        ranks: the processes that train it together, of which this is one.

    Returns:
        The run directory, with its result.

    Raises:
        RunInterruptedError: the user interrupted the run.
        DivergenceError: the loss is no longer finite.
        RunLockedError: another process trains the run.
        ReportedError: another rank has failed before its first step.
        MixcoderError: data, run or run directory are not in order.
    """
    if run.weights:
        raise ArgumentError("weights", "are those of a Python program, in which mixcoder.train goes on")
    directory = RunDirectory.of(run, runs)
    if _is_done(directory, ranks):
        return directory
    started = time.perf_counter()
    with ranks.together(), reraise_oom(run):
        if ranks.is_first:
            check_loggers(run)
        loop = _create_trainer(run, device, ranks)
    check_interrupted()
    with ExitStack() as held:
        with ranks.together():
            if ranks.is_first:
                held.enter_context(directory.locked())
        if _is_done(directory, ranks):  # by the process that we waited for
            return directory
        if ranks.is_first:
            _lead(run, loop, directory, observer, started)
        else:
            _follow(run, loop)
    return directory


def _is_done(directory: RunDirectory, ranks: Ranks) -> bool:
    """Returns whether the first rank finds a result.

    Raises:
        RunDirectoryError: the result is damaged.
    """
    with ranks.together():
        is_done = ranks.is_first and directory.read_result() is not None
    return ranks.any(is_done)


def _lead(run: Run, loop: TrainingLoop, directory: RunDirectory, observer: Observer, started: float) -> None:
    """Trains as the first rank, or alone, and writes all files.

    Raises:
        RunInterruptedError: the run was interrupted, and a checkpoint is saved.
    """
    ranks = loop.ranks
    with recording_failure(directory), reraise_oom(run), StopRequests() as requests:
        with closing(recorded(run, loop, directory, started)) as steps:
            for progress in steps:
                requests.defer()
                observer(loop, progress)
                if ranks.any(requests.is_pending):  # a later request waits for the next step
                    break
            else:
                return
        with ranks.together():
            raise RunInterruptedError(
                f"interrupted after {loop.inputs:,} inputs; the same command goes on from there"
            )


def recorded(
    run: Run, loop: TrainingLoop, directory: RunDirectory, started: float
) -> Generator[Progress, None, None]:
    """Yields the progress of a run that is trained in its directory, from its last checkpoint on.

    After the last step, the directory has its result. Closed before that, it has a checkpoint.

    Args:
        run: what is trained.
        loop: that trains it, at its first step.
        directory: locked by this process.
        started: when the run began, as of `time.perf_counter`.
    """
    ranks = loop.ranks
    with ranks.together():
        directory.forget_failure()
        directory.write_config(run)
        _restore_checkpoint(loop, directory)
        logs = RunLogs(run, directory, loop.data.validation.device)
    loop.share_state()
    yield from _recorded_steps(loop, directory, logs)
    with ranks.together(), loop.evaluated_weights():
        directory.write_model(loop.model, *run.model)
        result = describe_result(run, loop, directory, time.perf_counter() - started)
        logs.finish(result)
        directory.write_result(result)


def _follow(run: Run, loop: TrainingLoop) -> None:
    """Trains as another rank than the first, which it waits for at the start and at the end.

    Raises:
        ReportedError: the run was interrupted, as the first rank says.
    """
    ranks = loop.ranks
    with ranks.together():
        pass
    with reraise_oom(run), StopRequests() as requests:
        loop.share_state()
        for _ in loop.run():
            requests.defer()
            if ranks.any(requests.is_pending):
                break
    with ranks.together():
        pass


@contextmanager
def recording_failure(directory: RunDirectory) -> Iterator[None]:
    """Context that notes why a run failed, for tables.

    A run that was interrupted, or that another rank could not begin, has not failed.
    """
    try:
        yield
    except (RunInterruptedError, ReportedError):
        raise
    except Exception as error:
        if isinstance(error, MixcoderError):
            reason, status = str(error), error.exit_status
        else:
            reason, status = f"{type(error).__name__}: {first_line(error)}", 1
        with suppress(WriteError):  # the error itself is raised in any case
            directory.write_failure({"reason": reason, "exit_status": status})
        raise


def _restore_checkpoint(loop: TrainingLoop, directory: RunDirectory) -> None:
    """Restores the last checkpoint, where there is one, and forgets the metrics after it."""
    if directory.checkpoint.exists():
        loop.restore(directory.checkpoint)
    directory.truncate_metrics(loop.step)


def _recorded_steps(
    loop: TrainingLoop, directory: RunDirectory, logs: RunLogs
) -> Generator[Progress, None, None]:
    """Trains to the end; writes metrics and checkpoints, the last one when it is closed."""
    best_loss = min(validation_losses(directory), default=math.inf)
    loop.between_validation_batches = check_sweep
    next_save = time.perf_counter() + CHECKPOINT_SECONDS
    for progress in loop.run():
        row = _metrics_row(progress)
        directory.append_metrics(row)
        logs.log(row)
        if progress.validation_loss is not None:
            with loop.evaluated_weights():
                if progress.validation_loss < best_loss:
                    best_loss = progress.validation_loss
                    directory.write_best(loop.model, row)
                logs.show(progress.inputs, loop.model, loop.data.validation)
        try:
            yield progress
        except GeneratorExit:
            _save(loop, directory)
            raise
        if time.perf_counter() > next_save:
            next_save = _save(loop, directory)


def _save(loop: TrainingLoop, directory: RunDirectory) -> float:
    """Saves a checkpoint; returns the time of the next one, as of `time.perf_counter`."""
    start = time.perf_counter()
    directory.sync_metrics()
    loop.save(directory.checkpoint)
    end = time.perf_counter()
    return end + max(CHECKPOINT_SECONDS, (end - start) / CHECKPOINT_SHARE)


def _create_trainer(run: Run, device_name: str, ranks: Ranks) -> TrainingLoop:
    device = resolve_device(device_name)
    data = run.create_source().load().to(device)
    check_memory(run, device, ranks=ranks)
    torch.manual_seed(run.recipe.seed)
    model = run.create_model().to(device)
    try:
        return TrainingLoop(model, data, run.recipe, ranks)
    except ArgumentError as error:
        raise ExperimentError([f"training.{error}" if error.argument else error.message]) from None


def _metrics_row(progress: Progress) -> dict[str, Any]:
    row = {
        "step": progress.step,
        "inputs": progress.inputs,
        "training_loss": progress.training_loss,
        "learning_rate": progress.learning_rate,
    }
    if progress.validation_loss is not None:
        row["validation_loss"] = progress.validation_loss
    return row
