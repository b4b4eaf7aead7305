"""Workers that train in this process, so that a search takes a second and its runs are real."""

from __future__ import annotations

from pathlib import Path

from mixcoder.errors import MixcoderError
from mixcoder.experiments.file.spec import Experiment, read_experiment
from mixcoder.experiments.runs.training_run import train_run
from mixcoder.experiments.searches.search_runs import SearchRuns
from mixcoder.experiments.sweeps.run_state import RunState
from mixcoder.experiments.sweeps.sweep import run_sweep
from mixcoder.experiments.sweeps.workers import Done, Failed, Outcome

SEARCH = """\
name: tried
data: {source: digits, search_holdout: 300}
model:
  type: mixer
  patch_size: 4
  hidden_channels: ["${channels}"]
  latent_dim: 4
  mixer_at: [1]
  mixer: ${mixer}
training: {learning_rate: "${rate}", schedule: linear, inputs: 2_560, validations: 1}
search:
  trials: 6
  inputs: [640, 1_280]
  keep: 0.34
  finalists: 2
  seeds: [3, 4]
  values:
    rate: {low: 0.001, high: 0.3, log: true}
    channels: {low: 4, high: 12, step: 4}
    mixer: [cnn, mlp]
"""


class InlineWorkers:
    """Workers that train their runs when they are asked how far these are.

    Args:
        runs: the folder of all runs.
        places: runs at a time.
        killed_after: trainings after which this process seems to be killed.
        is_last_first: whether the run that was started last ends first.
    """

    def __init__(
        self, runs: Path, places: int = 1, killed_after: int | None = None, is_last_first: bool = False
    ) -> None:
        self.runs = runs
        self.places = places
        self.killed_after = killed_after
        self.is_last_first = is_last_first
        self.trained: list[RunState] = []
        self._running: list[RunState] = []

    @property
    def are_full(self) -> bool:
        return len(self._running) >= self.places

    @property
    def are_busy(self) -> bool:
        return bool(self._running)

    def start(self, state: RunState) -> None:
        assert not self.are_full
        state.directory.write_config(state.run)
        state.begin()
        self._running.append(state)

    def wait(self) -> None:
        pass

    def poll(self) -> list[tuple[RunState, Outcome]]:
        if len(self.trained) == self.killed_after:
            raise KilledError
        state = self._running.pop(-1 if self.is_last_first else 0)
        self.trained.append(state)
        try:
            train_run(state.run, self.runs, lambda loop, progress: None)
        except MixcoderError as error:
            return [(state, Failed(str(error), 1))]
        return [(state, Done())]

    def stop(self) -> None:
        pass


class KilledError(Exception):
    """The process is gone."""


def read(path: Path, *overrides: str) -> Experiment:
    """The experiment of `SEARCH`, with overrides."""
    if not path.exists():
        path.write_text(SEARCH)
    return read_experiment(path, overrides)


def search_on(experiment: Experiment, workers: InlineWorkers) -> list[RunState]:
    """Runs a search to its end, or until the workers are killed."""
    assert experiment.search
    source = SearchRuns(experiment.search, workers.runs)
    asked = Experiment(experiment.name, tuple(source.asked_before()))
    return run_sweep(asked, workers.runs, lambda states: None, workers, next_run=source.next_run)
