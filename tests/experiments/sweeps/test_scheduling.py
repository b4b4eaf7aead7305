"""The order of a sweep: workers in memory, on a clock of their own, end as each test says."""

from __future__ import annotations

import fcntl
import heapq
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from mixcoder.errors import RunInterruptedError
from mixcoder.experiments.file.spec import Experiment, read_experiment
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.sweeps.run_state import RunState
from mixcoder.experiments.sweeps.sweep import run_sweep
from mixcoder.experiments.sweeps.workers import Done, Elsewhere, Failed, Lost, Outcome

EXPERIMENT = """\
name: mine
data: {source: digits}
model: {type: mixer, patch_size: 4, hidden_channels: [9], latent_dim: 3, mixer_at: [1], mixer: cnn}
training: {learning_rate: 0.1, steps: 1, seed: "${seed}"}
matrix: {seed: [0, 1, 2, 3]}
"""
GONE = Lost("node7 is gone")


class TimedWorkers:
    """Workers that need a second for each run, or as many as they are told.

    Args:
        places: runs at a time.
        ends: by seed, how one try after the other ends; any further one is done.
        seconds: by seed, how long each try takes.
    """

    def __init__(
        self,
        places: int,
        ends: Mapping[int, Sequence[Outcome]] | None = None,
        seconds: dict[int, float] | None = None,
    ) -> None:
        self.places = places
        self.ends = {seed: list(outcomes) for seed, outcomes in (ends or {}).items()}
        self.seconds = seconds or {}
        self.now = 0.0
        self.started: list[int] = []
        self.stopped = 0
        self._running: list[tuple[float, int, RunState]] = []

    @property
    def are_full(self) -> bool:
        return len(self._running) >= self.places

    @property
    def are_busy(self) -> bool:
        return bool(self._running)

    def start(self, state: RunState) -> None:
        assert not self.are_full
        seed = state.run.values["seed"]
        state.state = "running"
        end = self.now + self.seconds.get(seed, 1)
        heapq.heappush(self._running, (end, len(self.started), state))
        self.started.append(seed)

    def wait(self) -> None:
        self.now += 0.2

    def poll(self) -> list[tuple[RunState, Outcome]]:
        ended: list[tuple[RunState, Outcome]] = []
        while self._running and self._running[0][0] <= self.now:
            _, _, state = heapq.heappop(self._running)
            ends = self.ends.get(state.run.values["seed"], [])
            ended.append((state, ends.pop(0) if ends else Done()))
        return ended

    def stop(self) -> None:
        self.stopped += 1


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    monkeypatch.chdir(tmp_path)
    Path("x.yml").write_text(EXPERIMENT)
    return read_experiment(Path("x.yml"))


def sweep(experiment: Experiment, workers: TimedWorkers) -> list[RunState]:
    states = run_sweep(experiment, Path("runs"), lambda states: None, workers)
    assert workers.stopped == 1
    return states


def test_runs_start_in_their_order_as_places_become_free(experiment: Experiment) -> None:
    workers = TimedWorkers(2, seconds={0: 5, 1: 1, 2: 1, 3: 1})
    assert [state.state for state in sweep(experiment, workers)] == ["done"] * 4
    assert workers.started == [0, 1, 2, 3]
    assert workers.now == pytest.approx(5)  # 1, 2 and 3 one after the other beside 0


def test_runs_start_in_another_order_where_one_is_stated(experiment: Experiment) -> None:
    """What is done keeps its place in the list; what waits starts in the order stated."""
    RunDirectory.of_all(experiment.runs[1:2], Path("runs"))[0].write_result({"validation_loss": 0.1})
    workers = TimedWorkers(1, {3: [GONE]})
    states = run_sweep(
        experiment, Path("runs"), lambda states: None, workers, lambda states: list(reversed(states))
    )
    assert [state.run.values["seed"] for state in states] == [0, 1, 2, 3]
    assert workers.started == [3, 3, 2, 0]


def test_all_runs_start_at_once_where_there_is_no_end_of_places(experiment: Experiment) -> None:
    """So that a cluster sees how many machines are wanted."""
    workers = TimedWorkers(10**6)
    sweep(experiment, workers)
    assert workers.started == [0, 1, 2, 3]
    assert workers.now == pytest.approx(1)


def test_a_lost_run_starts_again_before_all_that_wait(experiment: Experiment) -> None:
    workers = TimedWorkers(1, {0: [GONE], 2: [GONE, GONE]})
    assert [state.state for state in sweep(experiment, workers)] == ["done"] * 4
    assert workers.started == [0, 0, 1, 2, 2, 2, 3]


def test_a_lost_run_says_what_it_waits_for(experiment: Experiment) -> None:
    reasons = []

    def observe(states: Sequence[RunState]) -> None:
        if states[0].state == "waiting":
            reasons.append(states[0].reason)

    [state, *_] = run_sweep(experiment, Path("runs"), observe, TimedWorkers(1, {0: [GONE]}))
    assert reasons == ["node7 is gone; goes on from its last checkpoint"]
    assert state.reason == ""


def test_a_run_that_is_lost_six_times_has_failed(experiment: Experiment) -> None:
    workers = TimedWorkers(1, {1: [GONE] * 5 + [Lost("node8 is gone")], 2: [GONE] * 5})
    states = sweep(experiment, workers)
    assert [state.state for state in states] == ["done", "failed", "done", "done"]
    assert states[1].reason == "lost 6 times, the last time because node8 is gone"
    failure = json.loads((states[1].directory.path / "failure.json").read_text())
    assert failure == {"reason": states[1].reason, "exit_status": 1}
    assert workers.started == [0, *[1] * 6, *[2] * 6, 3]


def test_a_failed_run_is_not_tried_again(experiment: Experiment) -> None:
    workers = TimedWorkers(1, {1: [Failed("the loss became nan", 1)]})
    states = sweep(experiment, workers)
    assert [state.state for state in states] == ["done", "failed", "done", "done"]
    assert workers.started == [0, 1, 2, 3]


def test_a_run_trained_elsewhere_waits_behind_all_others(experiment: Experiment) -> None:
    workers = TimedWorkers(1, {0: [Elsewhere(), Elsewhere()]})
    assert [state.state for state in sweep(experiment, workers)] == ["done"] * 4
    assert workers.started == [0, 1, 2, 3, 0, 0]


def test_runs_that_are_locked_keep_their_places(experiment: Experiment) -> None:
    first, second = RunDirectory.of_all(experiment.runs[:2], Path("runs"))
    workers = TimedWorkers(1)
    for directory in (first, second):
        directory.path.mkdir(parents=True)
    with (first.path / ".lock").open("w") as lock, (second.path / ".lock").open("w") as other:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fcntl.flock(other, fcntl.LOCK_EX)

        def unlock(states: Sequence[RunState]) -> None:
            if workers.started == [2]:
                assert [state.reason for state in states[:2]] == ["another process is training it"] * 2
                fcntl.flock(lock, fcntl.LOCK_UN)
                fcntl.flock(other, fcntl.LOCK_UN)

        states = run_sweep(experiment, Path("runs"), unlock, workers)
    assert workers.started == [2, 0, 1, 3]
    assert [state.state for state in states] == ["done"] * 4


def test_a_run_that_another_process_has_ended_is_not_started(experiment: Experiment) -> None:
    [directory] = RunDirectory.of_all(experiment.runs[3:], Path("runs"))
    workers = TimedWorkers(1)

    def end(states: Sequence[RunState]) -> None:
        if workers.started == [0, 1]:
            directory.path.mkdir(parents=True, exist_ok=True)
            directory.write_result({"validation_loss": 0.1})

    states = run_sweep(experiment, Path("runs"), end, workers)
    assert [state.state for state in states] == ["done"] * 4
    assert workers.started == [0, 1, 2]


def test_a_run_whose_directory_cannot_be_written_fails_alone(experiment: Experiment) -> None:
    class NoDirectory(TimedWorkers):
        def start(self, state: RunState) -> None:
            if state.run.values["seed"] == 1:
                raise OSError("no space left on device")
            super().start(state)

    workers = NoDirectory(1)
    states = sweep(experiment, workers)
    assert [(state.state, state.reason) for state in states[:2]] == [
        ("done", ""),
        ("failed", "no space left on device"),
    ]
    assert workers.started == [0, 2, 3]


def test_an_interrupt_stops_the_workers_and_fails_no_run(experiment: Experiment) -> None:
    seen: list[RunState] = []

    def interrupt(states: Sequence[RunState]) -> None:
        seen[:] = states
        if len(workers.started) == 2:
            raise KeyboardInterrupt

    workers = TimedWorkers(1)
    with pytest.raises(RunInterruptedError, match="the same command goes on from there"):
        run_sweep(experiment, Path("runs"), interrupt, workers)
    assert workers.stopped == 1
    assert [state.state for state in seen] == ["done", "running", "waiting", "waiting"]


def test_each_look_at_the_workers_comes_after_a_wait(experiment: Experiment) -> None:
    """Also while no run can be started: a sweep that waits for another process takes no processor."""
    [directory] = RunDirectory.of_all(experiment.runs[:1], Path("runs"))
    directory.path.mkdir(parents=True)
    looks = []
    workers = TimedWorkers(1)
    with (directory.path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def observe(states: Sequence[RunState]) -> None:
            looks.append(workers.now)
            if workers.now > 20:
                fcntl.flock(lock, fcntl.LOCK_UN)

        run_sweep(experiment, Path("runs"), observe, workers)
    assert looks == sorted(set(looks))
    assert workers.started == [1, 2, 3, 0]


def test_further_runs_are_asked_for_as_places_become_free(experiment: Experiment) -> None:
    """Given the results so far; not while a run waits, as one does that was lost: its result is to count."""
    asked: list[list[str]] = []
    further = list(map(RunState, experiment.runs[1:], RunDirectory.of_all(experiment.runs[1:], Path("runs"))))

    def next_run(states: Sequence[RunState]) -> RunState | None:
        asked.append([state.state for state in states])
        has_first_ended = states[0].has_ended
        return further.pop(0) if further and (has_first_ended or len(states) < 3) else None

    workers = TimedWorkers(2, {0: [GONE]}, seconds={0: 3})
    first = Experiment(experiment.name, experiment.runs[:1])
    states = run_sweep(first, Path("runs"), lambda states: None, workers, next_run=next_run)
    assert [state.state for state in states] == ["done"] * 4
    assert workers.started == [0, 1, 2, 0, 3]
    assert all("waiting" not in each for each in asked)
    assert asked[0] == ["running"]
    assert asked[-1] == ["done"] * 4, "the last one has ended, and there is no other"


def test_a_further_run_that_cannot_start_has_failed_and_another_is_asked_for(experiment: Experiment) -> None:
    further = list(map(RunState, experiment.runs, RunDirectory.of_all(experiment.runs, Path("runs"))))
    workers = TimedWorkers(1)
    start = workers.start

    def start_or_not(state: RunState) -> None:
        if state.run.values["seed"] == 1:
            raise OSError("no process")
        start(state)

    workers.start = start_or_not  # type: ignore[method-assign]
    states = run_sweep(
        Experiment(experiment.name, ()),
        Path("runs"),
        lambda states: None,
        workers,
        next_run=lambda states: further.pop(0) if further else None,
    )
    assert [state.state for state in states] == ["done", "failed", "done", "done"]
