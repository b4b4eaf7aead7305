"""Several runs: those that are not done are trained, some of them side by side.

    Experiment ─▶ runs that are not done ─▶ Workers ─┬▶ done, or failed ─▶ NextRun ─▶ one run more, or none
                     ▲                               │
                     ├─ front ◀──── lost ◀───────────┤
                     └─ back ◀─ trained elsewhere ◀──┘

A search has no list of runs: which is next, the results so far decide.

All state is on disk: a sweep that is started again, after any end, skips what is done and resumes the rest.
Nothing here knows where a run is trained, or what time it is.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path

from mixcoder.errors import MixcoderError, RunInterruptedError
from mixcoder.experiments.file.spec import Experiment
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.runs.run_loggers import check_loggers
from mixcoder.experiments.sweeps.run_state import TRAINED_ELSEWHERE, RunState
from mixcoder.experiments.sweeps.workers import Done, Elsewhere, Failed, Lost, Outcome, Workers
from mixcoder.io.interrupts import check_interrupted, interrupting_on_end

MOST_LOSSES = 5
"""How often a run that was lost is started again."""

Observer = Callable[[Sequence[RunState]], None]
"""Called several times a second with the states of all runs."""


StartOrder = Callable[[Sequence[RunState]], list[RunState]]
"""Returns runs in the order in which they start."""

NextRun = Callable[[Sequence[RunState]], RunState | None]
"""Returns one run more, given the states of all runs so far; None where there is none now."""


def no_further_run(states: Sequence[RunState]) -> RunState | None:
    """Returns no run, as a `NextRun`: the file states all."""
    return None


def run_sweep(
    experiment: Experiment,
    runs: Path,
    observer: Observer,
    workers: Workers,
    order: StartOrder = list,
    next_run: NextRun = no_further_run,
) -> list[RunState]:
    """Trains every run that is not done yet.

    A run that another process is training, such as the worker of a killed sweep, is waited for.

    Args:
        experiment: its runs.
        runs: the folder of all runs.
        observer: called with the progress.
        workers: that train them; stopped at the end.
        order: in which they start; that of the file, unless stated.
        next_run: asked for one run more whenever a worker is free and no run waits.

    Returns:
        A state for each run, all of them "done" or "failed".

    Raises:
        ArgumentError: a logger cannot work here.
        RunInterruptedError: the user interrupted; the workers have saved their checkpoints.
    """
    try:
        with interrupting_on_end():
            states = _initial_states(experiment, runs)
            train_all(states, workers, observer, order, next_run)
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


def train_all(
    states: list[RunState],
    workers: Workers,
    observer: Observer,
    order: StartOrder = list,
    next_run: NextRun = no_further_run,
) -> None:
    """Trains all runs that wait, and those that follow, until each is done or has failed.

    Args:
        states: of all runs; those that follow are added.
        workers: that train them.
        observer: called with the progress.
        order: in which runs start.
        next_run: asked for those that follow.
    """
    waiting = deque(order([state for state in states if not state.has_ended]))
    losses: Counter[Path] = Counter()
    while True:
        _start_waiting(waiting, workers)
        _start_further(states, waiting, workers, next_run)
        if not (waiting or workers.are_busy):
            return
        workers.wait()
        check_interrupted()
        for state, outcome in workers.poll():
            _apply(outcome, state, waiting, losses)
        observer(states)


def _start_further(
    states: list[RunState], waiting: deque[RunState], workers: Workers, next_run: NextRun
) -> None:
    """Starts runs that the results so far ask for, until the workers are full.

    While a run waits for a place or for another process, none is asked for: its result is one to count on.
    """
    while not (workers.are_full or any(state.state == "waiting" for state in states)):
        state = next_run(states)
        if state is None:
            return
        states.append(state)
        waiting.append(state)
        _start_waiting(waiting, workers)


def _start_waiting(waiting: deque[RunState], workers: Workers) -> None:
    """Starts runs from the front of the queue, until the workers are full; others keep their places."""
    blocked = []
    while waiting and not workers.are_full:
        state = waiting.popleft()
        if state.directory.is_locked():
            state.wait(TRAINED_ELSEWHERE)
            blocked.append(state)
        elif state.directory.is_done():  # by the process that was waited for
            state.state = "done"
        else:
            _start(state, workers)
    waiting.extendleft(reversed(blocked))


def _start(state: RunState, workers: Workers) -> None:
    try:
        workers.start(state)
    except (MixcoderError, OSError) as error:  # of this run's directory; the others can go on
        state.fail(str(error), 1)


def _apply(outcome: Outcome, state: RunState, waiting: deque[RunState], losses: Counter[Path]) -> None:
    """Notes the outcome of a run, and queues it again where it can go on."""
    match outcome:
        case Done():
            state.state, state.reason = "done", ""
        case Failed(reason, status):
            state.fail(reason, status)
        case Elsewhere():
            state.wait(TRAINED_ELSEWHERE)
            waiting.append(state)
        case Lost(reason) if losses[state.directory.path] == MOST_LOSSES:
            state.fail(f"lost {MOST_LOSSES + 1} times, the last time because {reason}", 1)
        case Lost(reason):
            losses[state.directory.path] += 1
            state.wait(f"{reason}; goes on from its last checkpoint")
            waiting.appendleft(state)
