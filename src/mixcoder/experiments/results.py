"""The results of an experiment, read back from disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mixcoder.experiments.run_directory import RunDirectory
from mixcoder.experiments.spec import Experiment

_MEASURES = (
    "validation_loss",
    "best_validation_loss",
    "inputs",
    "params",
    "compression_ratio",
    "train_minutes",
    "throughput",
)


def result_rows(experiment: Experiment, runs: Path) -> list[dict[str, Any]]:
    """One row a run, in the order of the file: its values of the matrix and what came out.

    Args:
        experiment: what was to be run.
        runs: the folder of all runs.

    Returns:
        Rows with the matrix's axes, `run` (the directory's name), `state` ("done", "failed" or "open"),
        and the result's figures, each None while there is none.
    """
    rows = []
    for run in experiment.runs:
        directory = RunDirectory.of(run, runs)
        result = directory.read_result()
        state = "done" if result else "failed" if directory.read_failure() else "open"
        figures = {key: (result or {}).get(key) for key in _MEASURES}
        rows.append({**run.values, "run": directory.path.name, "state": state, **figures})
    return rows
