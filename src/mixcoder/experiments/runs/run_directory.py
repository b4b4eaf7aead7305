"""What one run leaves on disk.

runs/<experiment>/<model>-<data>-<hash>/
  config.yml                      the resolved experiment; runs again by itself
  metrics.jsonl                   a line each time the trainer looked up
  checkpoint/latest.safetensors   all that is needed to go on
  checkpoint/best.safetensors     the weights of the smallest validation loss so far
  model.safetensors, model.json   the trained model, all that `load` needs
  result.json                     how good, how large, how fast, on what
  failure.json                    why the last try failed
  log.txt                         of a sweep's worker: what it said
  tensorboard/                    with `training.log: [tensorboard]`, its event files
  .lock                           held by the process that trains here, and gone with it
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from mixcoder.experiments.runs.model_files import DESCRIPTION, load_model, save_model
from mixcoder.io.appended_file import check_no_links, open_to_append
from mixcoder.io.atomic_file import remove_parts, write_atomically
from mixcoder.io.file_lock import acquire_lock, file_lock
from mixcoder.io.json_file import check_plain_file, read_json_object
from mixcoder.io.safetensors_file import write_tensors
from mixcoder.measures import MEASURES
from mixcoder.models import Autoencoder
from mixcoder.registry.problems import first_problem
from mixcoder.registry.signatures import check_path
from mixcoder.text.sanitize import sanitize

_LOCK = ".lock"
LOCK_SECONDS = 10.0
"""How long to wait for the lock: a worker that lost its sweep may need a moment to save and leave."""


class RunDirectory:
    """The files of one run, by what they mean."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "checkpoint" / "latest.safetensors"
        self.best = path / "checkpoint" / "best.safetensors"

    @classmethod
    def of(cls, run: Run, runs: Path) -> RunDirectory:
        """Where the runs folder keeps this run: the digest decides, whatever stands before it."""
        return cls.of_all([run], runs)[0]

    @classmethod
    def of_all(cls, experiment: Sequence[Run], runs: Path) -> list[RunDirectory]:
        """The same for each of several runs of one experiment, whose folder is listed once for all."""
        if not experiment:
            return []
        folder = runs / experiment[0].experiment
        existing = _names_by_digest(folder)
        return [cls(folder / existing.get(run.digest, run.directory_name)) for run in experiment]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps every other process from training here during the `with` block.

        Raises:
            RunLockedError: another process does.
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
        """Whether a process is training here now."""
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
        """States the resolved run."""
        text = BytesIO()
        yaml = YAML()
        yaml.default_flow_style = None
        yaml.width = 2**31 - 1  # a folded line could lose spaces of a text
        yaml.dump(run.resolved(), text)
        write_atomically(self.path / "config.yml", text.getvalue())

    def read_run(self) -> Run:
        """The run that was made here, without its loggers, which a reader need not have.

        Raises:
            MixcoderError: the config is missing, damaged, or of what is not known here.
        """
        path = self.path / "config.yml"
        check_plain_file(path)
        try:
            return read_experiment(path, ["training.log=[]"]).runs[0]
        except ExperimentError:
            return read_experiment(path).runs[0]  # which tells of the file alone

    def truncate_metrics(self, last_step: int) -> None:
        """Forgets the metrics after `last_step`, before a run goes on from there."""
        rows = [row for row in self.read_metrics() if row["step"] <= last_step]
        write_atomically(self.path / "metrics.jsonl", "".join(map(_line, rows)).encode())

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Adds a line to the metrics."""
        with self._metrics_file() as file:
            file.write(_line(row).encode())

    def keep_metrics(self) -> None:
        """Makes the metrics so far outlast the machine: before a checkpoint, which goes on after them."""
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
        """The metrics so far, without lines that are torn or were never metrics."""
        try:
            check_plain_file(self.path / "metrics.jsonl")
            lines = (self.path / "metrics.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []
        return [row for row in map(metrics_row, lines) if row is not None]

    def write_model(self, model: Autoencoder, name: str, arguments: dict[str, Any]) -> None:
        """Saves the trained model."""
        save_model(self.path, model, name, arguments)

    def write_best(self, model: Autoencoder, row: dict[str, Any]) -> None:
        """Keeps the weights that gave a row of the metrics, which they carry with them."""
        metadata = {"weights": "best", **{key: json.dumps(value) for key, value in row.items()}}
        write_tensors(self.best, model.state_dict(), metadata)

    def write_result(self, result: dict[str, Any]) -> None:
        """Writes the result; its being there means that the run is done."""
        write_atomically(self.path / "result.json", _pretty(result))

    def write_failure(self, failure: dict[str, Any]) -> None:
        """Writes why the last try failed."""
        write_atomically(self.path / "failure.json", _pretty(failure))

    def forget_failure(self) -> None:
        """Removes what the last try left, before the next one.

        Raises:
            WriteError: it cannot be removed.
        """
        try:
            (self.path / "failure.json").unlink(missing_ok=True)
        except OSError as error:
            raise WriteError(f"cannot write {self.path}: {system_reason(error)}") from error

    def open_log(self) -> BinaryIO:
        """The file for what a worker says, at its end.

        Raises:
            WriteError: it cannot be written.
        """
        return open_to_append(self.path / "log.txt")

    def read_failure(self) -> dict[str, Any] | None:
        """Why the last try failed, or None."""
        path = self.path / "failure.json"
        return read_json_object(path) if os.path.lexists(path) else None

    def is_done(self) -> bool:
        """Whether a result is there; a damaged one is none, and whoever trains here is told of it."""
        try:
            return self.read_result() is not None
        except RunDirectoryError:
            return False

    def read_result(self) -> dict[str, Any] | None:
        """The result, or None while the run is not done.

        Raises:
            RunDirectoryError: it is damaged; names the key.
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
    """The names in a folder of runs by what follows their last dash, of several the first by name."""
    try:
        names = sorted((path.name for path in folder.iterdir()), reverse=True)
    except OSError:  # not made yet; whoever writes there is told what is wrong
        return {}
    return {name.rpartition("-")[2]: name for name in names if "-" in name}


def find_run(path: Path) -> RunDirectory:
    """The finished run at `path`, or the only one below it, as in `runs/my-experiment`.

    Raises:
        RunDirectoryError: there is none, or more than one.
    """
    try:
        if (path / DESCRIPTION).is_file():
            return RunDirectory(path)
        below = sorted(found.parent for found in path.glob(f"*/{DESCRIPTION}"))
    except OSError as error:  # such as a name that is too long, or a folder of others
        raise RunDirectoryError(f"{sanitize(str(path), 200)}: {system_reason(error)}") from error
    if len(below) == 1:
        return RunDirectory(below[0])
    if below:
        raise RunDirectoryError(f"{path}: holds {len(below)} runs; name one, such as {below[0]}")
    raise RunDirectoryError(f"{path}: holds no trained model; name the folder of a finished run")


def load(run: str | Path, weights: Literal["final", "best"] = "final") -> Autoencoder:
    """The trained model of a run directory in float32, on the CPU and in evaluation mode.

    Args:
        run: the folder of a finished run, or one with a single run below it.
        weights: "final", those at the end of the run, or "best", those of the smallest validation loss.

    Raises:
        ArgumentError: an argument is of another type; says what it must be.
        RunDirectoryError: there is no finished run, its files are damaged, or it uses a model or a
            mixing layer that is not registered here.
    """
    if not isinstance(weights, str) or weights not in ("final", "best"):
        raise ArgumentError("weights", "must be 'final' or 'best'")
    directory = find_run(check_path("run", run, "the folder of a finished run"))
    return load_model(directory.path, directory.best if weights == "best" else None)


class _Strict(BaseModel):
    """A schema that converts no value, and lets keys stand that it does not know."""

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


def metrics_row(line: str) -> dict[str, Any] | None:
    """A line of the metrics; None for what is torn or never was one."""
    try:
        return _MetricsRow.model_validate_json(line).model_dump(exclude_none=True)
    except ValidationError:
        return None


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row) + "\n"


def _pretty(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
