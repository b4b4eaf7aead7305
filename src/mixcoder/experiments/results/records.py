"""The results of an experiment, read back from disk.

experiment file ─▶ its runs, or those that its search has asked for ┐
                            ├─▶ Record: run, values, directory, state, result ─▶ rows for tables
folder of runs ─▶ config.yml┘

The state of each run is read from its directory every time, so that the two cannot disagree. A directory that
cannot be read is a record with its reason, and hides no other.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mixcoder.errors import ArgumentError, ExperimentError, MixcoderError, RunDirectoryError, first_line
from mixcoder.experiments.file.matrix import RESERVED_AXES, Values, label
from mixcoder.experiments.file.search_section import Search
from mixcoder.experiments.file.spec import Experiment, Run, read_experiment
from mixcoder.experiments.file.yaml_file import read_document
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.runs.run_folders import find_run_folders
from mixcoder.experiments.runs.unknown_names import unknown_name
from mixcoder.experiments.searches.halving import choose_finalists, is_over
from mixcoder.experiments.searches.trial_losses import read_asked
from mixcoder.experiments.searches.trial_runs import asked_runs, finalist_runs
from mixcoder.measures import COMPARISONS, MEASURES
from mixcoder.models.named import is_trained_name
from mixcoder.text.sanitize import sanitize
from mixcoder.text.values import format_value

State = Literal["done", "running", "failed", "stopped", "open", "unreadable"]
"""The state of a run: "stopped" has a checkpoint to go on from, "open" has not begun, and the config of an
"unreadable" one states no run that is known here."""

_TABLE_WORDS = {*(measure.key for measure in (*MEASURES, *COMPARISONS)), *RESERVED_AXES}


@dataclass(frozen=True)
class Record:
    """A run, its state and its result.

    Attributes:
        run: what is or was trained; None of one that is unreadable.
        values: its values of the matrix, or the settings in which it differs from the other runs.
        directory: its files.
        state: how far it has come.
        result: of a run that is done, else empty.
        reason: of a run that failed or is unreadable, why; else empty.
    """

    run: Run | None
    values: Values
    directory: RunDirectory
    state: State
    result: dict[str, Any]
    reason: str

    @property
    def name(self) -> str:
        """The run by its values, or by the name of its directory."""
        return label(self.values) or self.directory.path.name


def read_records(source: Path, overrides: Sequence[str], runs: Path) -> list[Record]:
    """Returns the records of an experiment file, or of all runs below a folder.

    Args:
        source: an experiment file; or a run directory, a folder of them, or a folder of such folders.
        overrides: `key=value`, of an experiment file alone.
        runs: the folder of all runs, for an experiment file.

    Raises:
        MixcoderError: the file is wrong, or the folder holds no run.
    """
    if is_trained_name(str(source)) and not source.exists():
        right = f"mixcoder models show {source} shows its figures"
        raise ArgumentError("source", f"'{source}' is a trained model, not runs of yours; {right}")
    if not source.is_dir():
        return records_of(read_experiment(source, overrides), runs)
    if overrides:
        raise ExperimentError([f"command line, '{overrides[0]}': only an experiment file can be overridden"])
    return records_in(source)


def read_all_records(sources: Sequence[Path], overrides: Sequence[str], runs: Path) -> list[Record]:
    """Returns the records of one source or of several: then each has its `experiment` among its values.

    Args:
        sources: at least one, each as `read_records` takes it.
        overrides: `key=value`, of all files.
        runs: the folder of all runs, for experiment files.

    Raises:
        MixcoderError: a file is wrong, or a folder holds no run.
    """
    if len(sources) == 1:
        return read_records(sources[0], overrides, runs)
    read = [read_records(source, overrides, runs) for source in sources]
    names = tell_apart(sources, [title_of(records) for records in read])
    return [
        replace(record, values=with_experiment(name, record.values))
        for name, records in zip(names, read, strict=True)
        for record in records
    ]


def tell_apart(sources: Sequence[Path], names: Sequence[str]) -> list[str]:
    """Returns the names of the experiments of some sources, or the sources where names are equal."""
    return list(names) if len(set(names)) == len(names) else list(map(str, sources))


def with_experiment(name: str, values: Values) -> Values:
    """Returns values that begin with the name of their experiment."""
    return {"experiment": name, **rename_measures(values, ["experiment"])}


def records_of(experiment: Experiment, runs: Path) -> list[Record]:
    """Returns one record a run, in the order of the file; of a search, for those that were asked for.

    Raises:
        RunDirectoryError: a search has not begun, or its file of trials is damaged.
    """
    if experiment.search is None:
        return _records(experiment.runs, runs)
    asked = read_asked(experiment.search, runs)
    if not asked.trained:
        raise RunDirectoryError(f"{asked.path.parent}: nothing has been tried yet; mixcoder run does it")
    trials = [run for *_, run in asked_runs(experiment.search, asked.trained)]
    return _records(trials, runs) + finalist_records(experiment.search, runs)


def finalist_records(search: Search, runs: Path) -> list[Record]:
    """Returns a record for each run of a finalist; none before all trials have ended.

    Raises:
        RunDirectoryError: the file of trials is damaged.
    """
    asked = read_asked(search, runs)
    if not is_over(search.section, asked):
        return []
    return _records(finalist_runs(search, choose_finalists(search.section, asked.trained)), runs)


def _records(stated: Sequence[Run], runs: Path) -> list[Record]:
    directories = RunDirectory.of_all(stated, runs)
    return [
        _record(run, rename_measures(run.values), directory)
        for run, directory in zip(stated, directories, strict=True)
    ]


def records_in(folder: Path) -> list[Record]:
    """Returns one record for each run directory at or up to two levels below `folder`, the unreadable last.

    Raises:
        RunDirectoryError: there is none.
    """
    paths = find_run_folders(folder)
    if not paths:
        raise RunDirectoryError(f"{folder}: holds no run; name an experiment file or a folder of runs")
    readable: list[tuple[Run, RunDirectory]] = []
    unreadable: list[Record] = []
    for directory in map(RunDirectory, paths):
        try:
            readable.append((directory.read_run(), directory))
        except ExperimentError as error:
            unreadable.append(_unreadable_record(directory, _unknown_name_in(directory) or first_line(error)))
        except MixcoderError as error:
            unreadable.append(_unreadable_record(directory, first_line(error)))
    values = differing_values([run for run, _ in readable])
    records = [_record(run, its, directory) for (run, directory), its in zip(readable, values, strict=True)]
    records.sort(key=lambda record: [_rank(value) for value in record.values.values()])
    return records + unreadable


def _rank(value: Any) -> tuple[bool, float, str]:
    """Returns a key that sorts numbers by size, before texts by letter."""
    is_number = isinstance(value, int | float)
    return not is_number, value if is_number else 0, format_value(value)


def differing_values(runs: Sequence[Run]) -> list[Values]:
    """Returns for each run the settings in which the runs differ, by the last part of their keys.

    A setting that is named as a measure keeps its whole key: `inputs` are those a run has seen,
    `training.inputs` those it was to see. Where two keys end alike, both are whole. A setting that a run
    lacks, such as the mixer of a CNN, is not among its values.
    """
    settings = [run.settings() for run in runs]
    keys = differing_keys(settings)
    short = [key.rpartition(".")[2] for key in keys]
    names = {
        key: name if short.count(name) == 1 and name not in _TABLE_WORDS else key
        for key, name in zip(keys, short, strict=True)
    }
    return [{name: stated[key] for key, name in names.items() if key in stated} for stated in settings]


def rename_measures(values: Values, measures: Container[str] = _TABLE_WORDS) -> Values:
    """Returns values with the whole key of an axis that is named as a measure, such as `matrix.inputs`."""
    return {f"matrix.{axis}" if axis in measures else axis: value for axis, value in values.items()}


def short_names(records: Sequence[Record]) -> list[str]:
    """Returns the records' names without the values that all of them share, such as the same seed."""
    readable = [record for record in records if record.state != "unreadable"]
    shared = {
        axis
        for axis in (readable[0].values if len(readable) > 1 else {})
        if len({repr(record.values.get(axis, _ABSENT)) for record in readable}) == 1
    }
    return [
        label({axis: value for axis, value in record.values.items() if axis not in shared}) or record.name
        for record in records
    ]


def title_of(records: Sequence[Record]) -> str:
    """Returns the names of the experiments; of runs that are all unreadable, those of their folders."""
    names = [record.run.experiment for record in records if record.run]
    names = names or [record.directory.path.parent.name for record in records]
    return " · ".join(sanitize(name, limit=None) for name in dict.fromkeys(names))


def differing_keys(settings: Sequence[dict[str, Any]]) -> list[str]:
    """Returns the keys whose value is not the same in all `settings`, in their order."""
    every = list(dict.fromkeys(key for stated in settings for key in stated))
    return [key for key in every if len({repr(stated.get(key, _ABSENT)) for stated in settings}) > 1]


_ABSENT = object()


def result_rows(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Returns one row a record, for tables.

    Returns:
        Rows with `run` (the directory's name), `state`, `reason`, the measures (each None while there is
        none) and the values.
    """
    return [
        {
            "run": record.directory.path.name,
            "state": record.state,
            "reason": record.reason,
            **{measure.key: record.result.get(measure.key) for measure in MEASURES},
            **record.values,
        }
        for record in records
    ]


def _record(run: Run, values: Values, directory: RunDirectory) -> Record:
    """Returns the record of a run; one whose files are damaged has failed."""
    try:
        return _read_record(run, values, directory)
    except (RunDirectoryError, OSError) as error:
        return Record(run, values, directory, "failed", {}, _without_directory(directory, str(error)))


def _read_record(run: Run, values: Values, directory: RunDirectory) -> Record:
    result = directory.read_result() or {}
    failure = {} if result else directory.read_failure() or {}
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


def _unreadable_record(directory: RunDirectory, problem: str) -> Record:
    """Returns the record of a run whose config cannot be read: its result, and the reason."""
    try:
        result = directory.read_result() or {}
    except (RunDirectoryError, OSError):
        result = {}
    return Record(None, {}, directory, "unreadable", result, _without_directory(directory, problem))


def _unknown_name_in(directory: RunDirectory) -> str:
    """Returns the message for a name in a config that only a plugin may know; empty where there is none."""
    try:
        config = read_document(directory.path / "config.yml").data
    except ExperimentError:
        return ""
    return unknown_name(config.get("data"), config.get("model"))


def _without_directory(directory: RunDirectory, problem: str) -> str:
    """Returns a problem without the directory, which the row names already."""
    return problem.removeprefix(f"{directory.path}{os.sep}")
