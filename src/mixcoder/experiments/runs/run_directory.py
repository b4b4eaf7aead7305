"""The files of one run.

runs/<experiment>/<model>-<data>-<hash>/
  config.yml                      the resolved experiment; runs again by itself
  metrics.jsonl                   a line for each Progress of the training
  checkpoint/latest.safetensors   all that is needed to resume
  checkpoint/best.safetensors     the weights of the smallest validation loss so far
  model.safetensors, model.json   the trained model, all that `load` needs
  result.json                     how good, how large, how fast, on what
  failure.json                    why the last try failed
  log.txt                         the output of a sweep's worker
  tensorboard/                    with `training.log: [tensorboard]`, its event files
  .lock                           held by the process that trains here, and released when it ends
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal

from filelock import Timeout
from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from ruamel.yaml import YAML

from mixcoder.errors import (
    ArgumentError,
    ExperimentError,
    RunDirectoryError,
    RunLockedError,
    WriteError,
    system_reason,
)
from mixcoder.experiments.file.spec import Run, read_experiment
from mixcoder.experiments.runs.model_files import load_model, save_model
from mixcoder.io.appended_file import check_no_links, open_to_append
from mixcoder.io.atomic_file import remove_parts, write_atomically
from mixcoder.io.file_lock import acquire_lock, file_lock
from mixcoder.io.json_file import check_plain_file, read_json_object
from mixcoder.io.safetensors_file import write_tensors
from mixcoder.measures import MEASURES
from mixcoder.models import Autoencoder
from mixcoder.models.description import DESCRIPTION
from mixcoder.models.named import is_trained_folder, is_trained_name, trained_folder, trained_names
from mixcoder.registry.problems import first_problem
from mixcoder.registry.signatures import check_path
from mixcoder.text.sanitize import sanitize

_LOCK = ".lock"
LOCK_SECONDS = 10.0
"""Seconds to wait for the lock: a worker that lost its sweep may need a moment to save and end."""


class RunDirectory:
    """A run directory: reads and writes its files by what they mean."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "checkpoint" / "latest.safetensors"
        self.best = path / "checkpoint" / "best.safetensors"

    @classmethod
    def of(cls, run: Run, runs: Path) -> RunDirectory:
        """Returns the directory of a run: the one with its digest, whatever the rest of the name."""
        return cls.of_all([run], runs)[0]

    @classmethod
    def of_all(cls, experiment: Sequence[Run], runs: Path) -> list[RunDirectory]:
        """Returns the directories of several runs of one experiment, whose folder is listed once for all."""
        if not experiment:
            return []
        folder = runs / experiment[0].experiment
        existing = _names_by_digest(folder)
        return [cls(folder / existing.get(run.digest, run.directory_name)) for run in experiment]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Context in which no other process trains here.

        Raises:
            RunLockedError: another process trains here.
            WriteError: the directory cannot be written, or a link in it leads elsewhere.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            check_no_links(self.path, files={_LOCK})
            lock = acquire_lock(self.path / _LOCK, LOCK_SECONDS)
        except Timeout:
            raise RunLockedError(f"{self.path}: another process is training this run") from None
        except OSError as error:
            raise WriteError(f"cannot write {self.path}: {system_reason(error)}") from error
        try:
            remove_parts(self.path)
            yield
        finally:
            lock.release()

    def is_locked(self) -> bool:
        """Returns whether a process is training here now."""
        path = self.path / _LOCK
        if not path.exists():
            return False
        try:
            with file_lock(path, timeout=0):
                return False
        except Timeout:
            return True
        except OSError:  # a folder that only others may write to
            return False

    def write_config(self, run: Run) -> None:
        """Writes the resolved run."""
        text = BytesIO()
        yaml = YAML()
        yaml.default_flow_style = None
        yaml.width = 2**31 - 1  # a folded line could lose spaces of a text
        yaml.dump(run.resolved(), text)
        write_atomically(self.path / "config.yml", text.getvalue())

    def read_run(self) -> Run:
        """Returns the run of this directory, without its loggers, which a reader need not have.

        Raises:
            MixcoderError: the config is missing or damaged, or names what is not registered here.
        """
        path = self.path / "config.yml"
        check_plain_file(path)
        try:
            experiment = read_experiment(path, ["training.log=[]"])
        except ExperimentError:
            experiment = read_experiment(path)  # whose error is about the file alone
        if not experiment.runs:
            raise RunDirectoryError(f"{path}: states a search, not a run")
        return experiment.runs[0]

    def truncate_metrics(self, last_step: int) -> None:
        """Deletes the metrics after `last_step`, before a run resumes from there."""
        rows = [row for row in self.read_metrics() if row["step"] <= last_step]
        write_atomically(self.path / "metrics.jsonl", "".join(map(_line, rows)).encode())

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Appends a line to the metrics."""
        with self._metrics_file() as file:
            file.write(_line(row).encode())

    def sync_metrics(self) -> None:
        """Syncs the metrics to disk, before a checkpoint, after which they go on."""
        with self._metrics_file() as file:
            os.fsync(file.fileno())

    @contextmanager
    def _metrics_file(self) -> Iterator[BinaryIO]:
        path = self.path / "metrics.jsonl"
        try:
            with open_to_append(path) as file:
                yield file
        except OSError as error:
            raise WriteError(f"cannot write {path}: {system_reason(error)}") from error

    def read_metrics(self) -> list[dict[str, Any]]:
        """Returns the metrics so far, without lines that are torn or no metrics."""
        try:
            check_plain_file(self.path / "metrics.jsonl")
            lines = (self.path / "metrics.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []
        return [row for row in map(parse_metrics, lines) if row is not None]

    def write_model(self, model: Autoencoder, name: str, arguments: dict[str, Any]) -> None:
        """Writes the trained model."""
        save_model(self.path, model, name, arguments)

    def write_best(self, model: Autoencoder, row: dict[str, Any]) -> None:
        """Writes the weights of the smallest validation loss, with their row of metrics as metadata."""
        metadata = {"weights": "best", **{key: json.dumps(value) for key, value in row.items()}}
        write_tensors(self.best, model.state_dict(), metadata)

    def write_result(self, result: dict[str, Any]) -> None:
        """Writes the result; a run with a result is done."""
        write_atomically(self.path / "result.json", _to_json(result))

    def write_failure(self, failure: dict[str, Any]) -> None:
        """Writes why the last attempt failed."""
        write_atomically(self.path / "failure.json", _to_json(failure))

    def forget_failure(self) -> None:
        """Deletes why the last attempt failed, before the next one.

        Raises:
            WriteError: the file cannot be deleted.
        """
        try:
            (self.path / "failure.json").unlink(missing_ok=True)
        except OSError as error:
            raise WriteError(f"cannot write {self.path}: {system_reason(error)}") from error

    def open_log(self) -> BinaryIO:
        """Opens the file for the output of a worker, to append.

        Raises:
            WriteError: the file cannot be written.
        """
        return open_to_append(self.path / "log.txt")

    def read_failure(self) -> dict[str, Any] | None:
        """Returns why the last attempt failed, or None."""
        path = self.path / "failure.json"
        return read_json_object(path) if os.path.lexists(path) else None

    def is_done(self) -> bool:
        """Returns whether there is a result; a damaged one does not count, and training refuses it."""
        try:
            return self.read_result() is not None
        except RunDirectoryError:
            return False

    def read_result(self) -> dict[str, Any] | None:
        """Returns the result, or None while the run is not done.

        Raises:
            RunDirectoryError: the result is damaged; names the key.
        """
        path = self.path / "result.json"
        if not os.path.lexists(path):
            return None
        result = read_json_object(path)
        try:
            _Result.model_validate(result)
        except ValidationError as error:
            raise RunDirectoryError(f"{path}: {first_problem(error, _Result)}") from error
        return result


def _names_by_digest(folder: Path) -> dict[str, str]:
    """Returns the names in a folder of runs by their digest; of equal digests, the first name."""
    try:
        names = sorted((path.name for path in folder.iterdir()), reverse=True)
    except OSError:  # missing, or not readable: writing there raises an error
        return {}
    return {name.rpartition("-")[2]: name for name in names if "-" in name}


def find_run(path: Path) -> RunDirectory:
    """Returns the finished run at `path`, the only one below it, as in `runs/my-experiment`, or by its name.

    A trained model that comes with the package has a name. A file or folder of that name comes first.

    Raises:
        RunDirectoryError: there is no finished run, or more than one.
    """
    try:
        if is_trained_name(str(path)) and not os.path.lexists(path):
            return RunDirectory(trained_folder(str(path)))
        if (path / DESCRIPTION).is_file():
            return RunDirectory(path)
        below = sorted(found.parent for found in path.glob(f"*/{DESCRIPTION}"))
    except OSError as error:  # such as a name that is too long, or a folder of others
        raise RunDirectoryError(f"{sanitize(str(path), 200)}: {system_reason(error)}") from error
    if len(below) == 1:
        return RunDirectory(below[0])
    if below:
        raise RunDirectoryError(f"{path}: holds {len(below)} runs; name one, such as {below[0]}")
    raise RunDirectoryError(f"{path}: holds no trained model; {_right_name(path)}")


def _right_name(path: Path) -> str:
    """Returns what to name in place of a path that holds no trained model."""
    if is_trained_name(str(path)):
        return "it hides the trained model of this name: rename it, or go to another folder"
    near = get_close_matches(str(path), trained_names(), n=1, cutoff=0.8)
    if near and not os.path.lexists(path):
        return f"did you mean '{near[0]}'?"
    return "name the folder of a finished run, or a trained model of mixcoder models ls"


Weights = Literal["final", "best"]
"""Those at the end of a run, or those of its smallest validation loss."""


def load(run: str | Path, weights: Weights = "final") -> Autoencoder:
    """Returns the trained model of a run directory, or of a name, in float32, on the CPU, to evaluate.

    Args:
        run: the folder of a finished run, or one with a single run below it; or the name of a trained model
            that comes with the package. A folder of that name comes first.
        weights: "final", those at the end of the run, or "best", those of the smallest validation loss.

    Raises:
        ArgumentError: an argument is of another type; says what it must be.
        RunDirectoryError: there is no finished run, its files are damaged, or it uses a model or a
            mixing layer that is not registered here.
    """
    if not isinstance(weights, str) or weights not in ("final", "best"):
        raise ArgumentError("weights", "must be 'final' or 'best'")
    directory = find_run(check_path("run", run, "the folder of a finished run, or a trained model's name"))
    if weights == "best" and is_trained_folder(directory.path):
        name = directory.path.name
        raise ArgumentError("weights", f"'{name}' has the weights of its end alone; leave out weights='best'")
    return load_model(directory.path, directory.best if weights == "best" else None)


class _Strict(BaseModel):
    """A schema that converts no value, and allows unknown keys."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


_REQUIRED = "validation_loss"
_MEASURED: dict[str, Any] = {
    measure.key: (measure.type, ...) if measure.key == _REQUIRED else (measure.type | None, None)
    for measure in MEASURES
}
_Result = create_model(
    "_Result", __base__=_Strict, **_MEASURED, hardware=(dict[str, Any], {}), versions=(dict[str, Any], {})
)
"""The keys of a result on which tables, curves and pages rely, and their types."""


class _MetricsRow(BaseModel):
    """A line of the metrics."""

    model_config = ConfigDict(strict=True)

    step: int
    inputs: int
    training_loss: float
    learning_rate: float | None = None
    validation_loss: float | None = None


def parse_metrics(line: str) -> dict[str, Any] | None:
    """Returns a line of the metrics as a row, or None for a line that is torn or no metrics."""
    try:
        return _MetricsRow.model_validate_json(line).model_dump(exclude_none=True)
    except ValidationError:
        return None


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row) + "\n"


def _to_json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
