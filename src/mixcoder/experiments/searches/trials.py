"""The trials of a search, and the file that says which were asked for.

    runs/<experiment>/search.json ─▶ values, highest rung asked for ─┐
    result.json of each run ───────▶ losses ─────────────────────────┴▶ Trial

The file is written before a run begins, whole or not at all: a search that is killed loses no trial, and
starts none twice. What the runs gave is in their own directories alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mixcoder.errors import RunDirectoryError
from mixcoder.experiments.file.matrix import Values
from mixcoder.experiments.file.search_section import Search
from mixcoder.io.atomic_file import write_atomically
from mixcoder.io.json_file import read_json_object
from mixcoder.registry.problems import first_problem

SEARCH_FILE = "search.json"
_FORMAT = 1


@dataclass
class Trial:
    """A combination of values that was proposed: trained on one rung after the other, or on none.

    Attributes:
        values: of the search.
        number: from 1, among the trials that are trained; 0 of one that never is.
        rung: the highest that was asked for, from 0.
        excess: how far it is beyond the limits; above 0 it is never trained.
        reason: why it is never trained.
        losses: on the images held out, by rung; infinite of a training that failed.
    """

    values: Values
    number: int = 0
    rung: int = 0
    excess: float = 0.0
    reason: str = ""
    losses: dict[int, float] = field(default_factory=dict)

    @property
    def is_trained(self) -> bool:
        """Returns whether the trial is within the limits."""
        return self.number > 0

    @property
    def is_pending(self) -> bool:
        """Returns whether a training was asked for that has not ended."""
        return self.is_trained and self.rung not in self.losses


class AskedTrials:
    """The trials that a search has asked for, and their file.

    Args:
        path: of the file.
        fingerprint: of the search.
        trials: in the order in which they were proposed.
        is_exhausted: whether the sampler found no further combination.
    """

    def __init__(
        self, path: Path, fingerprint: str, trials: Sequence[Trial] = (), is_exhausted: bool = False
    ) -> None:
        self.path = path
        self.fingerprint = fingerprint
        self.proposed: list[Trial] = []
        self.is_exhausted = is_exhausted
        for trial in trials:
            self.add(trial)

    @classmethod
    def read(cls, search: Search, runs: Path) -> AskedTrials:
        """Returns what a search has asked for so far.

        Args:
            search: that asks.
            runs: the folder of all runs.

        Raises:
            RunDirectoryError: the file is damaged, or of another search.
        """
        path = runs / search.name / SEARCH_FILE
        if not path.exists():
            return cls(path, search.fingerprint())
        stated = _read(path)
        if stated.fingerprint != search.fingerprint():
            raise RunDirectoryError(
                f"{path}: is of another search; only trials, keep, finalists and seeds may change while it "
                f"goes on. Undo the other changes, or give the search another name, such as "
                f"name={search.name}-2"
            )
        for trial in stated.trials:
            _check_trial(path, search, trial)
        trials = [Trial(each.values, 0, each.rung, each.excess, each.reason) for each in stated.trials]
        return cls(path, stated.fingerprint, trials, stated.is_exhausted)

    @property
    def trained(self) -> list[Trial]:
        """Returns the trials within the limits, by their numbers."""
        return [trial for trial in self.proposed if trial.is_trained]

    def add(self, trial: Trial) -> None:
        """Adds a trial, and numbers it where it is within the limits; `write` keeps it."""
        trial.number = 0 if trial.excess > 0 else len(self.trained) + 1
        self.proposed.append(trial)

    def write(self) -> None:
        """Writes the file.

        Raises:
            WriteError: it cannot be written.
        """
        trials = [
            {"values": trial.values, "rung": trial.rung, "excess": trial.excess, "reason": trial.reason}
            for trial in self.proposed
        ]
        content = {
            "format": _FORMAT,
            "fingerprint": self.fingerprint,
            "is_exhausted": self.is_exhausted,
            "trials": trials,
        }
        write_atomically(self.path, (json.dumps(content, indent=1) + "\n").encode())


class _StatedTrial(BaseModel):
    """A trial in the file."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    values: dict[str, Any]
    rung: int = Field(ge=0)
    excess: float = Field(ge=0)
    reason: str


class _StatedTrials(BaseModel):
    """A schema of search.json."""

    model_config = ConfigDict(strict=True, extra="forbid")

    format: int = Field(ge=_FORMAT, le=_FORMAT)
    fingerprint: str
    is_exhausted: bool
    trials: list[_StatedTrial]


def _read(path: Path) -> _StatedTrials:
    """Returns the content of the file.

    Raises:
        RunDirectoryError: it is damaged; names the key.
    """
    content = read_json_object(path)
    try:
        return _StatedTrials.model_validate(content)
    except ValidationError as error:
        raise RunDirectoryError(f"{path}: {first_problem(error, _StatedTrials)}") from error


def _check_trial(path: Path, search: Search, trial: _StatedTrial) -> None:
    """Checks that a trial of the file is one that the search can have asked for.

    Raises:
        RunDirectoryError: it is not.
    """
    fits = trial.values.keys() == search.spaces.keys() and all(
        space.holds(trial.values[name]) for name, space in search.spaces.items()
    )
    if not fits or trial.rung >= len(search.section.inputs):
        raise RunDirectoryError(f"{path}: is damaged: it holds a trial that the search cannot have asked for")
