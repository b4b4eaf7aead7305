"""The losses of a search's trials, as their run directories say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from mixcoder.errors import RunDirectoryError
from mixcoder.experiments.file.search_section import Search
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.searches.trial_runs import asked_runs
from mixcoder.experiments.searches.trials import AskedTrials


def read_asked(search: Search, runs: Path) -> AskedTrials:
    """Returns the trials that were asked for, with the losses of those that are done.

    Raises:
        RunDirectoryError: the file of trials is damaged, or of another search.
    """
    asked = AskedTrials.read(search, runs)
    places = asked_runs(search, asked.trained)
    directories = RunDirectory.of_all([run for *_, run in places], runs)
    for (trial, rung, _), directory in zip(places, directories, strict=True):
        if directory.is_done():
            trial.losses[rung] = read_loss(directory)
        elif has_failed(directory):
            trial.losses[rung] = math.inf
    return asked


def read_loss(directory: RunDirectory) -> float:
    """Returns the validation loss of a run that is done; infinite where it is no number."""
    result: dict[str, Any] = directory.read_result() or {}
    loss = float(result.get("validation_loss", math.inf))
    return loss if math.isfinite(loss) else math.inf


def has_failed(directory: RunDirectory) -> bool:
    """Returns whether the last try of a run failed, and no other goes on."""
    try:
        return directory.read_failure() is not None and not directory.is_locked()
    except RunDirectoryError:
        return True
