"""Workers behind a launcher, such as `srun -n1`, on machines that share a folder.

    srun -n1 mixcoder run <directory>/config.yml ─┬▶ exit status below 128, log.txt ─▶ done, or failed
                                                  └▶ killed behind the launcher ─▶ lost, goes on elsewhere

Which cores and GPUs a worker has is the launcher's matter.
"""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from mixcoder.errors import ArgumentError
from mixcoder.experiments.runs.stop_requests import SWEEP_VARIABLE
from mixcoder.experiments.sweeps.local import LocalWorkers, Worker
from mixcoder.experiments.sweeps.outcomes import read_remote_outcome
from mixcoder.experiments.sweeps.run_state import RunState
from mixcoder.experiments.sweeps.workers import Outcome

RESULT_SECONDS = 90.0
"""Seconds to wait for a result that another machine has written: NFS may remember for 60 seconds (`acdirmax`)
that there was none."""


def split_launcher(text: str) -> list[str]:
    """Returns the words of a launcher, as a shell would read them.

    Raises:
        ArgumentError: a quote is not closed, or there is no such command.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ArgumentError("--launcher", f"{str(error).lower()} in {text}") from None
    if not words:
        raise ArgumentError("--launcher", "must be a command, such as 'srun -n1'")
    if shutil.which(words[0]) is None:
        raise ArgumentError("--launcher", f"there is no command '{words[0]}' on this machine")
    return words


class LaunchedWorkers(LocalWorkers):
    """At most `jobs` launchers side by side, each of which starts a process that trains a run.

    Args:
        runs: the folder of all runs, on all machines.
        jobs: launchers at a time.
        device: as for `train_run`.
        plugins: files or modules that each process loads first.
        launcher: the words before the command of the process.
    """

    _process_group = 0
    """A group of its own each: at a Ctrl-C, srun asks for a second one, which soon kills the run."""

    def __init__(
        self, runs: Path, jobs: int, device: str, plugins: Sequence[str], launcher: Sequence[str]
    ) -> None:
        super().__init__(runs, jobs, device, plugins)
        self._launcher = launcher
        self._ended: dict[Worker, float] = {}

    def _command(self, state: RunState) -> list[str]:
        return [*self._launcher, *super()._command(state)]

    def _environment(self, slot: int) -> dict[str, str]:
        # The id of our process means nothing to a worker on another machine.
        return {name: value for name, value in os.environ.items() if name != SWEEP_VARIABLE}

    def _outcome(self, worker: Worker) -> Outcome | None:
        """Returns the outcome of a run, or None while its launcher goes on, or its result is not seen yet."""
        status = worker.process.poll()
        if status is None:
            return None
        if status == 0 and not worker.state.directory.is_done():
            ended = self._ended.setdefault(worker, time.monotonic())
            if time.monotonic() - ended < RESULT_SECONDS:
                list(worker.state.directory.path.iterdir())  # NFS then looks again
                return None
        return read_remote_outcome(worker.state, status, worker.log_start)
