"""The results of an experiment, read back from disk.

experiment file ─▶ its runs ┐
                            ├─▶ Record: run, values, directory, state, result ─▶ rows for tables
folder of runs ─▶ config.yml┘

Where each run stands is read from its directory every time: the directories are the ledger, so that it
cannot disagree with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mixcoder.errors import ExperimentError, RunDirectoryError
from mixcoder.experiments.matrix import Values, label, written
from mixcoder.experiments.run_directory import RunDirectory
from mixcoder.experiments.spec import Experiment, Run, read_experiment

State = Literal["done", "running", "failed", "stopped", "open"]
"""What has become of a run; "stopped" has a checkpoint to go on from, "open" has not begun."""

MEASURES = (
    "validation_loss",
    "best_validation_loss",
    "psnr",
    "ssim",
    "inputs",
    "params",
    "madds",
    "latent_shape",
    "compression_ratio",
    "train_minutes",
    "throughput",
)
"""What of a result goes into every table."""


@dataclass(frozen=True)
class Record:
    """One run and what is known of it.

    Attributes:
        run: what is or was trained.
        values: what tells it from the other runs: its values of the matrix.
        directory: where it is.
        state: what has become of it.
        result: of a run that is done, else empty.
        reason: of a run that failed, why; else empty.
    """

    run: Run
    values: Values
    directory: RunDirectory
    state: State
    result: dict[str, Any]
    reason: str

    @property
    def name(self) -> str:
        """The run in words."""
        return label(self.values) or self.directory.path.name


def read_records(source: Path, overrides: Sequence[str], runs: Path) -> list[Record]:
    """The records of an experiment file, or of all runs below a folder.

    Args:
        source: an experiment file; or a run directory, a folder of them, or a folder of such folders.
        overrides: `key=value`, of an experiment file alone.
        runs: the folder of all runs, for an experiment file.

    Raises:
        MixcoderError: the file is wrong, or the folder holds no run.
    """
    if not source.is_dir():
        return records_of(read_experiment(source, overrides), runs)
    if overrides:
        raise ExperimentError([f"command line, '{overrides[0]}': only an experiment file can be overridden"])
    return records_in(source)


def records_of(experiment: Experiment, runs: Path) -> list[Record]:
    """One record a run, in the order of the file."""
    return [_record(run, run.values, RunDirectory.of(run, runs)) for run in experiment.runs]


def records_in(folder: Path) -> list[Record]:
    """One record for each run directory at or up to two levels below `folder`."""
    configs = [config for depth in ("", "*/", "*/*/") for config in sorted(folder.glob(f"{depth}config.yml"))]
    if not configs:
        raise RunDirectoryError(f"{folder}: holds no run; name an experiment file or a folder of runs")
    directories = [RunDirectory(config.parent) for config in configs]
    runs = [directory.read_run() for directory in directories]
    records = [
        _record(run, values, directory)
        for run, values, directory in zip(runs, differing_values(runs), directories, strict=True)
    ]
    return sorted(records, key=lambda record: [_rank(value) for value in record.values.values()])


def _rank(value: Any) -> tuple[bool, float, str]:
    """Numbers by size, before texts by letter."""
    is_number = isinstance(value, int | float)
    return not is_number, value if is_number else 0, written(value)


def differing_values(runs: Sequence[Run]) -> list[Values]:
    """For each run, the settings in which the runs differ, by the last part of their key where that will do.

    Durations that are not all stated in one way keep their whole key: `inputs` is what a run has seen.

    A setting that a run does not have, such as the mixer of a CNN, is not among its values.
    """
    settings = [settings_of(run) for run in runs]
    keys = differing_keys(settings)
    is_mixed = sum(key in _DURATIONS for key in keys) > 1
    short = [key if is_mixed and key in _DURATIONS else key.rpartition(".")[2] for key in keys]
    names = {key: name if short.count(name) == 1 else key for key, name in zip(keys, short, strict=True)}
    return [{name: it[key] for key, name in names.items() if key in it} for it in settings]


def short_names(records: Sequence[Record]) -> list[str]:
    """The records' names without the values that they all share, such as the same seed."""
    shared = {
        axis
        for axis in records[0].values
        if len(records) > 1 and len({repr(record.values.get(axis, _ABSENT)) for record in records}) == 1
    }
    return [
        label({axis: value for axis, value in record.values.items() if axis not in shared}) or record.name
        for record in records
    ]


def settings_of(run: Run) -> dict[str, Any]:
    """The resolved run as one map with dotted keys, such as `model.patch_size`."""
    settings: dict[str, Any] = {}
    for section, content in run.resolved().items():
        if isinstance(content, dict):
            settings |= {f"{section}.{key}": value for key, value in content.items()}
        else:
            settings[section] = content
    return settings


def differing_keys(settings: Sequence[dict[str, Any]]) -> list[str]:
    """The keys whose value is not the same in all `settings`, in their order."""
    every = list(dict.fromkeys(key for it in settings for key in it))
    return [key for key in every if len({repr(it.get(key, _ABSENT)) for it in settings}) > 1]


_ABSENT = object()
_DURATIONS = ("training.inputs", "training.steps", "training.epochs")


def result_rows(records: Iterable[Record]) -> list[dict[str, Any]]:
    """One row a record, for tables.

    Returns:
        Rows with `run` (the directory's name), `state`, `reason`, the measures (each None while there is
        none) and the values, which stand above a measure of the same name.
    """
    return [
        {
            "run": record.directory.path.name,
            "state": record.state,
            "reason": record.reason,
            **{key: record.result.get(key) for key in MEASURES},
            **record.values,
        }
        for record in records
    ]


def _record(run: Run, values: Values, directory: RunDirectory) -> Record:
    """A run whose files are damaged has failed; the others are none the worse for it."""
    try:
        result = directory.read_result() or {}
        failure = {} if result else directory.read_failure() or {}
    except RunDirectoryError as error:
        return Record(run, values, directory, "failed", {}, str(error))
    state: State = "open"
    if result:
        state = "done"
    elif directory.is_locked():
        state = "running"
    elif failure:
        state = "failed"
    elif directory.checkpoint.exists():
        state = "stopped"
    reason = str(failure.get("reason", "")) if state == "failed" else ""
    return Record(run, values, directory, state, result, reason)
