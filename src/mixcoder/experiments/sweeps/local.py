"""Workers on this machine.

    RunState ─▶ mixcoder run <directory>/config.yml ─┬▶ metrics.jsonl ─▶ progress
                                                     └▶ exit status, log.txt ─▶ done, or failed with a reason

Each trains one run in a process of its own, so that a crash ends that run alone. `launched` adds a launcher.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mixcoder.experiments.runs.stop_requests import SWEEP_VARIABLE
from mixcoder.experiments.sweeps.outcomes import last_metrics, read_outcome
from mixcoder.experiments.sweeps.run_state import RunState
from mixcoder.experiments.sweeps.workers import Outcome

_POLL_SECONDS = 0.2
"""Seconds between two looks at the processes: progress on a terminal seems immediate."""


@dataclass(eq=False)
class Worker:
    """A process that trains a run.

    Attributes:
        state: of the run.
        process: the process.
        slot: its number among those side by side, which picks a GPU.
        log_start: bytes of the log before it.
    """

    state: RunState
    process: subprocess.Popen[bytes]
    slot: int
    log_start: int


class LocalWorkers:
    """At most `jobs` processes that train runs side by side.

    Args:
        runs: the folder of all runs.
        jobs: processes at a time; the cores are divided among them, and each has a GPU where there are any.
        device: as for `train_run`.
        plugins: files or modules that each process loads first.
    """

    _process_group: int | None = None
    """Of the processes: that of the sweep, so that a Ctrl-C at the terminal reaches them too."""

    def __init__(self, runs: Path, jobs: int, device: str, plugins: Sequence[str]) -> None:
        self._runs = runs
        self._jobs = jobs
        self._device = device
        self._plugins = plugins
        self._workers: list[Worker] = []

    @property
    def are_full(self) -> bool:
        """Returns whether all jobs are taken."""
        return len(self._workers) >= self._jobs

    @property
    def are_busy(self) -> bool:
        """Returns whether a process was started whose end was not seen yet."""
        return bool(self._workers)

    def start(self, state: RunState) -> None:
        """Starts a process that trains a run.

        Raises:
            MixcoderError: the directory of the run cannot be written.
            OSError: the process cannot be started.
        """
        slot = min(set(range(self._jobs)) - {worker.slot for worker in self._workers})
        state.directory.write_config(state.run)
        state.directory.forget_failure()
        with state.directory.open_log() as log:
            log_start = os.fstat(log.fileno()).st_size
            process = subprocess.Popen(  # noqa: S603 - our own command, no shell
                self._command(state),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment(slot),
                process_group=self._process_group,
            )
        state.begin()
        self._workers.append(Worker(state, process, slot, log_start))

    def wait(self) -> None:
        """Waits for a moment."""
        time.sleep(_POLL_SECONDS)

    def poll(self) -> list[tuple[RunState, Outcome]]:
        """Reads the metrics of all runs, and the outcome of those whose process has ended."""
        ended = []
        for worker in list(self._workers):
            state = worker.state
            state.metrics = last_metrics(state.directory.path) or state.metrics
            if outcome := self._outcome(worker):
                ended.append((state, outcome))
                self._workers.remove(worker)
        return ended

    def stop(self) -> None:
        """Asks all processes to save a checkpoint and end, and waits for that."""
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.process.terminate()  # a background job ignores SIGINT, and so do its workers
        for worker in self._workers:
            worker.process.wait()

    def _outcome(self, worker: Worker) -> Outcome | None:
        """Returns the outcome of a run, or None while its process goes on."""
        status = worker.process.poll()
        return None if status is None else read_outcome(worker.state, status)

    def _command(self, state: RunState) -> list[str]:
        # -P: a file in the current folder must not stand for a module of Python's or ours.
        command = [sys.executable, "-P", "-m", "mixcoder"]
        for plugin in self._plugins:
            command += ["--plugin", plugin]
        config = state.directory.path / "config.yml"
        return [*command, "run", str(config), "--runs", str(self._runs), "--device", self._device]

    def _environment(self, slot: int) -> dict[str, str]:
        environment = {**os.environ, SWEEP_VARIABLE: str(os.getpid())}
        environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // self._jobs))
        if self._device == "auto" and torch.cuda.is_available():
            environment["CUDA_VISIBLE_DEVICES"] = str(slot % torch.cuda.device_count())
        return environment
