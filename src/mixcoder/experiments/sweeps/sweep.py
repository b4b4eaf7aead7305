"""Several runs, each in a process of its own, so that a crash hurts that run alone.

    Experiment ─▶ what is not done ─▶ at most `jobs` workers at a time: mixcoder run <directory>/config.yml
                                        │ metrics.jsonl ─▶ progress
                                        └ exit status, log.txt ─▶ done, or failed with a reason

All state is on disk: started again after any end, a sweep skips what is done and goes on with the rest.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch

from mixcoder.errors import MixcoderError, RunInterruptedError, RunLockedError, WriteError
from mixcoder.experiments.file.matrix import label
from mixcoder.experiments.file.spec import Experiment, Run
from mixcoder.experiments.runs.run_directory import RunDirectory, metrics_row
from mixcoder.experiments.runs.run_loggers import check_loggers
from mixcoder.experiments.runs.training_run import SWEEP_VARIABLE
from mixcoder.io.interrupts import check_interrupted

POLL_SECONDS = 0.2
_TRAINED_ELSEWHERE = "another process is training it"
_TAIL_BYTES = 4096
_OUT_OF_MEMORY = (
    "; the machine may have been out of memory: try fewer jobs (-j) or a smaller training.batch_size"
)
"""How a kernel ends a process that asked for more than there is."""


@dataclass
class RunState:
    """Where one run of a sweep stands.

    Attributes:
        run: what is trained.
        directory: where.
        state: what becomes of it.
        metrics: its last line of metrics.
        reason: why it failed, or what it waits for.
    """

    run: Run
    directory: RunDirectory
    state: Literal["waiting", "running", "done", "failed"] = "waiting"
    metrics: dict[str, Any] = field(default_factory=dict)
    reason: str = ""

    @cached_property
    def name(self) -> str:
        """The run in words; asked for several times a second."""
        return label(self.run.values) or self.directory.path.name

    @cached_property
    def total_inputs(self) -> int:
        """Images seen when the run is over; of a run stated in epochs, its images are read to know it."""
        return self.run.total_steps * self.run.recipe.batch_size


@dataclass
class _Worker:
    state: RunState
    process: subprocess.Popen[bytes]
    slot: int


@dataclass(frozen=True)
class _Workplace:
    """What all workers have in common."""

    runs: Path
    jobs: int
    device: str
    plugins: Sequence[str]


Observer = Callable[[Sequence[RunState]], None]
"""Told several times a second how all runs stand."""


def run_sweep(
    experiment: Experiment,
    runs: Path,
    observer: Observer,
    jobs: int = 1,
    device: str = "auto",
    plugins: Sequence[str] = (),
) -> list[RunState]:
    """Trains every run that is not done yet, `jobs` of them side by side.

    A run that another process is training is waited for, such as the worker of a sweep that was killed.

    Args:
        experiment: its runs, in this order.
        runs: the folder of all runs.
        observer: told of the progress.
        jobs: workers at a time; the cores are divided among them, and each has a GPU where there are any.
        device: as for `train_run`.
        plugins: files or modules that the workers load first.

    Returns:
        A state for each run, all of them "done" or "failed".

    Raises:
        ArgumentError: a logger cannot work here.
        RunInterruptedError: the user interrupted; the workers have saved their checkpoints.
    """
    directories = RunDirectory.of_all(experiment.runs, runs)
    states = list(map(RunState, experiment.runs, directories))
    for state in states:
        if state.directory.is_done():
            state.state = "done"
        else:
            check_loggers(state.run)
    place = _Workplace(runs, jobs, device, plugins)
    workers: list[_Worker] = []
    try:
        while any(state.state in ("waiting", "running") for state in states):
            _start_workers(states, workers, place)
            time.sleep(POLL_SECONDS)
            check_interrupted()
            for worker in workers:
                worker.state.metrics = _last_metrics(worker.state.directory.path) or worker.state.metrics
                if worker.process.poll() is not None:
                    _finish(worker)
            workers = [worker for worker in workers if worker.state.state == "running"]
            observer(states)
    except KeyboardInterrupt:
        raise RunInterruptedError("interrupted; the same command goes on from there") from None
    finally:
        _stop(workers)
    return states


def _start_workers(states: Sequence[RunState], workers: list[_Worker], place: _Workplace) -> None:
    """Starts workers for runs that wait, as long as there is room."""
    for state in states:
        if len(workers) >= place.jobs:
            return
        if state.state != "waiting":
            continue
        if state.directory.is_locked():
            state.reason = _TRAINED_ELSEWHERE
            continue
        state.reason = ""
        if state.directory.is_done():  # by the process that we waited for
            state.state = "done"
            continue
        slot = min(set(range(place.jobs)) - {worker.slot for worker in workers})
        try:
            workers.append(_start(state, slot, place))
        except (MixcoderError, OSError) as error:  # of its directory; the others are none the worse
            _fail(state, str(error), 1)


def _start(state: RunState, slot: int, place: _Workplace) -> _Worker:
    state.directory.write_config(state.run)
    state.directory.forget_failure()
    # -P: what lies in the current folder must not stand for a module of Python's or ours.
    command = [sys.executable, "-P", "-m", "mixcoder"]
    for plugin in place.plugins:
        command += ["--plugin", plugin]
    config = state.directory.path / "config.yml"
    command += ["run", str(config), "--runs", str(place.runs), "--device", place.device]
    environment = {**os.environ, SWEEP_VARIABLE: str(os.getpid())}
    environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // place.jobs))
    if place.device == "auto" and torch.cuda.is_available():
        environment["CUDA_VISIBLE_DEVICES"] = str(slot % torch.cuda.device_count())
    with state.directory.open_log() as log:
        process = subprocess.Popen(  # noqa: S603 - our own command, no shell
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
        )
    state.state = "running"
    return _Worker(state, process, slot)


def _finish(worker: _Worker) -> None:
    state, status = worker.state, worker.process.returncode
    if state.directory.is_done():  # however its process ended afterwards
        state.state = "done"
    elif status == RunLockedError.exit_status:  # another process was faster
        state.state, state.reason = "waiting", _TRAINED_ELSEWHERE
    elif status < 0:
        _fail(state, _killed(-status), status)
    else:
        _fail(state, _last_line(state.directory.path / "log.txt").removeprefix("error: "), status)


def _fail(state: RunState, reason: str, status: int) -> None:
    state.state, state.reason = "failed", reason
    with suppress(WriteError):  # the reason is told in any case
        state.directory.write_failure({"reason": reason, "exit_status": status})


def _stop(workers: Sequence[_Worker]) -> None:
    """Asks what still runs to save its checkpoint and end, and waits for it."""
    for worker in workers:
        if worker.process.poll() is None:
            worker.process.terminate()  # a background job ignores SIGINT, and so do its workers
    for worker in workers:
        worker.process.wait()


def _killed(number: int) -> str:
    name = signal.Signals(number).name if number in list(signal.Signals) else f"signal {number}"
    return f"killed by {name}{_OUT_OF_MEMORY}" if number == signal.SIGKILL else f"killed by {name}"


def _last_line(path: Path) -> str:
    lines = [line for line in _tail(path).splitlines() if line.strip()]
    return lines[-1].strip() if lines else "ended without a word"


def _last_metrics(path: Path) -> dict[str, Any] | None:
    rows = map(metrics_row, reversed(_tail(path / "metrics.jsonl").splitlines()))
    return next((row for row in rows if row is not None), None)


def _tail(path: Path) -> str:
    """The end of a text file; nothing where there is no file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
