"""What a sweep trains next in a search, given what has ended.

    ended runs ─▶ losses ─┬▶ a trial goes on to its next rung ─┐
                          ├▶ a new trial is proposed ──────────┼─▶ search.json ─▶ RunState
                          └▶ all is tried ─▶ finalists ────────┘

Only the finalists wait for the others: who they are, all trials decide.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import Timeout

from mixcoder.errors import (
    ArgumentError,
    ExperimentError,
    RunLockedError,
    WriteError,
    system_reason,
)
from mixcoder.experiments.file.matrix import Values
from mixcoder.experiments.file.search_section import Search
from mixcoder.experiments.file.spec import Run
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.searches.examination import examine, nearest_reason
from mixcoder.experiments.searches.halving import choose_finalists, next_promotion
from mixcoder.experiments.searches.proposals import propose
from mixcoder.experiments.searches.trial_losses import read_loss
from mixcoder.experiments.searches.trial_runs import asked_runs, finalist_runs, trial_run
from mixcoder.experiments.searches.trials import AskedTrials, Trial
from mixcoder.experiments.sweeps.run_state import RunState
from mixcoder.io.file_lock import file_lock

_MOST_ATTEMPTS = 100
"""Proposals in a row that are known already, or beyond the limits, after which nothing else is expected."""
_LOCK = ".search.lock"


@contextmanager
def search_lock(search: Search, runs: Path) -> Iterator[None]:
    """Context in which no other process runs the search.

    Raises:
        RunLockedError: another process does.
        WriteError: the folder of the search cannot be written.
    """
    folder = runs / search.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with file_lock(folder / _LOCK, timeout=0):
            yield
    except Timeout:
        raise RunLockedError(f"{folder}: another process runs this search; wait for its end") from None
    except OSError as error:
        raise WriteError(f"cannot write {folder}: {system_reason(error)}") from error


class SearchRuns:
    """A source of the runs of a search.

    Args:
        search: that the experiment file states.
        runs: the folder of all runs.

    Raises:
        RunDirectoryError: the file of trials is damaged, or of another search.
    """

    def __init__(self, search: Search, runs: Path) -> None:
        self.search = search
        self.asked = AskedTrials.read(search, runs)
        self._runs = runs
        self._places: dict[str, list[tuple[Trial, int]]] = defaultdict(list)
        self._finalists: deque[Run] | None = None

    def asked_before(self) -> list[Run]:
        """Returns the runs that were asked for already, done or not."""
        runs = []
        for trial, rung, run in asked_runs(self.search, self.asked.trained):
            self._places[run.digest].append((trial, rung))
            runs.append(run)
        return runs

    def next_run(self, states: Sequence[RunState]) -> RunState | None:
        """Returns what to train next; None where that depends on what is trained now, or where all is over.

        Args:
            states: of all runs so far, those that this source has given among them.

        Raises:
            ArgumentError: no combination is within the limits.
            WriteError: the file of trials cannot be written.
        """
        self._note_losses(states)
        asked = self._next_trial_run() or self._next_finalist_run()
        return None if asked is None else RunState(asked, RunDirectory.of(asked, self._runs))

    def _note_losses(self, states: Sequence[RunState]) -> None:
        """Notes the losses of trials whose run has ended since the last call."""
        for state in states:
            places = self._places.get(state.run.digest, [])  # several in a file of an older version alone
            if not state.has_ended or all(rung in trial.losses for trial, rung in places):
                continue
            loss = read_loss(state.directory) if state.state == "done" else math.inf
            for trial, rung in places:
                trial.losses[rung] = loss

    def _next_trial_run(self) -> Run | None:
        """Returns the next run of a trial, once it is written down; None while there is none."""
        trial = next_promotion(self.search.section, self.asked.trained)
        if trial is not None:
            trial.rung += 1
        elif len(self.asked.trained) < self.search.section.trials and not self.asked.is_exhausted:
            trial = self._next_trial()
        else:
            return None
        self.asked.write()
        if trial is None:
            return None
        run = trial_run(self.search, trial, trial.rung)
        self._places[run.digest].append((trial, trial.rung))
        return run

    def _next_trial(self) -> Trial | None:
        """Returns a new trial within the limits; None where no further one is found.

        Raises:
            ArgumentError: there is none at all.
        """
        for _ in range(_MOST_ATTEMPTS):
            values = self._new_values()
            if values is None:
                break
            trial = examine(self.search, values)
            self.asked.add(trial)
            if trial.is_trained:
                return trial
        self.asked.is_exhausted = True
        if not self.asked.trained:
            raise ArgumentError(
                "search",
                f"none of {len(self.asked.proposed):,} combinations can be trained; the nearest: "
                f"{nearest_reason(self.asked.proposed)}; widen search.values or search.limits",
            )
        return None

    def _new_values(self) -> Values | None:
        """Returns values that were not proposed before, and train what no other trial trains; or None."""
        known = {repr(sorted(trial.values.items())) for trial in self.asked.proposed}
        for attempt in range(_MOST_ATTEMPTS):
            values = propose(self.search, self.asked.proposed, attempt)
            if repr(sorted(values.items())) not in known and not self._is_trained(values):
                return values
        return None

    def _is_trained(self, values: Values) -> bool:
        """Returns whether a trial with other values trains the same, as with 1 and 1.0."""
        try:
            return trial_run(self.search, Trial(values), 0).digest in self._places
        except ExperimentError:  # they do not fit together, which `examine` notes
            return False

    def _next_finalist_run(self) -> Run | None:
        """Returns the next run of a finalist, once no trial is trained any more."""
        if any(trial.is_pending for trial in self.asked.trained):
            return None
        if self._finalists is None:
            chosen = choose_finalists(self.search.section, self.asked.trained)
            self._finalists = deque(finalist_runs(self.search, chosen))
        return self._finalists.popleft() if self._finalists else None
