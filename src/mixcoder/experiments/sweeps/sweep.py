"""Several runs: those that are not done are trained, some of them side by side.

    Experiment ─▶ runs that are not done ─▶ LocalWorkers, at most `jobs` at a time ─▶ done, or failed
                          ▲                                │
                          └─ another process trains it ────┘

All state is on disk: a sweep that is started again, after any end, skips what is done and resumes the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mixcoder.errors import MixcoderError, RunInterruptedError
from mixcoder.experiments.file.spec import Experiment
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.runs.run_loggers import check_loggers
from mixcoder.experiments.sweeps.local import LocalWorkers
from mixcoder.experiments.sweeps.run_state import RunState
from mixcoder.io.interrupts import check_interrupted

POLL_SECONDS = 0.2
"""Seconds between two looks at the workers: progress on a terminal seems immediate."""

Observer = Callable[[Sequence[RunState]], None]
"""Called several times a second with the states of all runs."""


def run_sweep(
    experiment: Experiment,
    runs: Path,
    observer: Observer,
    jobs: int = 1,
    device: str = "auto",
    plugins: Sequence[str] = (),
) -> list[RunState]:
    """Trains every run that is not done yet, `jobs` of them side by side.

    A run that another process is training, such as the worker of a killed sweep, is waited for.

    Args:
        experiment: its runs, in this order.
        runs: the folder of all runs.
        observer: called with the progress.
        jobs: runs side by side.
        device: as for `train_run`.
        plugins: files or modules that the workers load first.

    Returns:
        A state for each run, all of them "done" or "failed".

    Raises:
        ArgumentError: a logger cannot work here.
        RunInterruptedError: the user interrupted; the workers have saved their checkpoints.
    """
    states = _initial_states(experiment, runs)
    workers = LocalWorkers(runs, jobs, device, plugins)
    try:
        _train_all(states, workers, observer)
    except KeyboardInterrupt:
        raise RunInterruptedError("interrupted; the same command goes on from there") from None
    finally:
        workers.stop()
    return states


def _initial_states(experiment: Experiment, runs: Path) -> list[RunState]:
    """Returns the states of all runs, done or waiting.

    Raises:
        ArgumentError: a logger of a run that is not done cannot work here.
    """
    states = list(map(RunState, experiment.runs, RunDirectory.of_all(experiment.runs, runs)))
    for state in states:
        if state.directory.is_done():
            state.state = "done"
        else:
            check_loggers(state.run)
    return states


def _train_all(states: Sequence[RunState], workers: LocalWorkers, observer: Observer) -> None:
    """Trains runs until all have ended."""
    while not all(state.has_ended for state in states):
        _start_waiting(states, workers)
        time.sleep(POLL_SECONDS)
        check_interrupted()
        workers.update()
        observer(states)


def _start_waiting(states: Sequence[RunState], workers: LocalWorkers) -> None:
    """Starts to train runs that wait, until all workers are busy."""
    for state in states:
        if workers.is_full:
            return
        if state.state != "waiting":
            continue
        if state.directory.is_locked():
            state.wait()
            continue
        state.reason = ""
        if state.directory.is_done():  # by the process that was waited for
            state.state = "done"
            continue
        try:
            workers.start(state)
        except (MixcoderError, OSError) as error:  # of this run's directory; the others can go on
            state.fail(str(error), 1)
