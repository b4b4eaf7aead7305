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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from mixcoder.errors import TrainingError
from mixcoder.experiments.matrix import label
from mixcoder.experiments.run_directory import RunDirectory, metrics_row
from mixcoder.experiments.run_logs import check_loggers
from mixcoder.experiments.spec import Experiment, Run
from mixcoder.experiments.training_run import SWEEP_VARIABLE

POLL_SECONDS = 0.2
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
        reason: why it failed.
    """

    run: Run
    directory: RunDirectory
    state: Literal["waiting", "running", "done", "failed"] = "waiting"
    metrics: dict[str, Any] = field(default_factory=dict)
    reason: str = ""

    @property
    def name(self) -> str:
        """The run in words."""
        return label(self.run.values) or self.directory.path.name


@dataclass
class _Worker:
    state: RunState
    process: subprocess.Popen[bytes]
    slot: int


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
        TrainingError: the user interrupted; the workers have saved their checkpoints.
    """
    states = [RunState(run, RunDirectory.of(run, runs)) for run in experiment.runs]
    for state in states:
        if state.directory.is_done():
            state.state = "done"
    waiting = [state for state in states if state.state == "waiting"]
    for state in waiting:
        check_loggers(state.run)
    workers: list[_Worker] = []
    try:
        while waiting or workers:
            while waiting and len(workers) < jobs:
                slot = min(set(range(jobs)) - {worker.slot for worker in workers})
                workers.append(_start(waiting.pop(0), runs, slot, jobs, device, plugins))
            time.sleep(POLL_SECONDS)
            for worker in workers:
                worker.state.metrics = _last_metrics(worker.state.directory.path) or worker.state.metrics
                if worker.process.poll() is not None:
                    _finish(worker)
            workers = [worker for worker in workers if worker.state.state == "running"]
            observer(states)
    except KeyboardInterrupt:
        raise TrainingError("interrupted; the same command goes on from there") from None
    finally:
        _stop(workers)
    return states


def _start(state: RunState, runs: Path, slot: int, jobs: int, device: str, plugins: Sequence[str]) -> _Worker:
    state.directory.write_config(state.run)
    (state.directory.path / "failure.json").unlink(missing_ok=True)
    command = [sys.executable, "-m", "mixcoder"]
    for plugin in plugins:
        command += ["--plugin", plugin]
    command += ["run", str(state.directory.path / "config.yml"), "--runs", str(runs), "--device", device]
    environment = {**os.environ, SWEEP_VARIABLE: str(os.getpid())}
    environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // jobs))
    if device == "auto" and torch.cuda.is_available():
        environment["CUDA_VISIBLE_DEVICES"] = str(slot % torch.cuda.device_count())
    with (state.directory.path / "log.txt").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command, no shell
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
        )
    state.state = "running"
    return _Worker(state, process, slot)


def _finish(worker: _Worker) -> None:
    state, status = worker.state, worker.process.returncode
    if state.directory.is_done():  # however its process ended afterwards
        state.state = "done"
        return
    state.state = "failed"
    state.reason = _killed(-status) if status < 0 else _last_line(state.directory.path / "log.txt")
    state.directory.write_failure({"reason": state.reason, "exit_status": status})


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
