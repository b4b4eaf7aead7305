"""What one run leaves on disk.

runs/<experiment>/<model>-<data>-<hash>/
  config.yml                      the resolved experiment; runs again by itself
  metrics.jsonl                   a line each time the trainer looked up
  checkpoint/latest.safetensors   all that is needed to go on
  model.safetensors, model.json   the trained model, all that `load` needs
  result.json                     how good, how large, how fast, on what
  log.txt, failure.json           of a sweep's worker: what it said, why it failed
  .lock                           held by the process that trains here, and gone with it
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from ruamel.yaml import YAML
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from mixcoder.atomic_file import write_atomically
from mixcoder.errors import ArgumentError, RunDirectoryError, WriteError
from mixcoder.experiments.spec import Run, read_experiment
from mixcoder.models import Autoencoder, create_model

MODEL_FORMAT = 1
_LOCK = ".lock"
LOCK_SECONDS = 10.0
"""How long to wait for the lock: a worker that lost its sweep may need a moment to save and leave."""


class RunDirectory:
    """The files of one run, by what they mean."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "checkpoint" / "latest.safetensors"

    @classmethod
    def of(cls, run: Run, runs: Path) -> RunDirectory:
        """Where the runs folder keeps this run: the digest decides, whatever stands before it."""
        folder = runs / run.experiment
        existing = sorted(folder.glob(f"*-{run.digest}"))
        return cls(existing[0] if existing else folder / run.directory_name)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps every other process from training here during the `with` block.

        Raises:
            RunDirectoryError: another process does.
            WriteError: the directory cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / _LOCK, timeout=LOCK_SECONDS)
            lock.acquire()
        except Timeout:
            raise RunDirectoryError(f"{self.path}: another process is training this run") from None
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise WriteError(f"cannot write {self.path}: {reason}") from error
        try:
            yield
        finally:
            lock.release()

    def is_locked(self) -> bool:
        """Whether a process is training here now."""
        path = self.path / _LOCK
        if not path.exists():
            return False
        try:
            with FileLock(path, timeout=0):
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
        """The run that was made here."""
        return read_experiment(self.path / "config.yml").runs[0]

    def truncate_metrics(self, last_step: int) -> None:
        """Forgets the metrics after `last_step`, before a run goes on from there."""
        rows = [row for row in self.read_metrics() if row["step"] <= last_step]
        write_atomically(self.path / "metrics.jsonl", "".join(map(_line, rows)).encode())

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Adds a line to the metrics."""
        try:
            with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(_line(row))
        except OSError as error:
            raise WriteError(f"cannot write {self.path / 'metrics.jsonl'}: {error.strerror}") from error

    def read_metrics(self) -> list[dict[str, Any]]:
        """The metrics so far; a torn last line is left out."""
        try:
            lines = (self.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        except OSError:
            return []
        return [json.loads(line) for line in lines if line.endswith("}\n")]

    def write_model(self, model: Autoencoder, name: str, arguments: dict[str, Any]) -> None:
        """Saves the trained model as safetensors beside the arguments that build it."""
        description = {
            "format": MODEL_FORMAT,
            "type": name,
            "arguments": {"image_shape": list(model.image_shape), **arguments},
        }
        weights = {
            key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()
        }
        write_atomically(self.path / "model.safetensors", save_tensors(weights))
        write_atomically(self.path / "model.json", _pretty(description))

    def write_result(self, result: dict[str, Any]) -> None:
        """Writes the result; its being there means that the run is done."""
        write_atomically(self.path / "result.json", _pretty(result))

    def write_failure(self, failure: dict[str, Any]) -> None:
        """Writes why the last try failed."""
        write_atomically(self.path / "failure.json", _pretty(failure))

    def read_failure(self) -> dict[str, Any] | None:
        """Why the last try failed, or None."""
        path = self.path / "failure.json"
        return _read_json(path) if path.is_file() else None

    def read_result(self) -> dict[str, Any] | None:
        """The result, or None while the run is not done."""
        path = self.path / "result.json"
        return _read_json(path) if path.is_file() else None


def find_run(path: Path) -> RunDirectory:
    """The finished run at `path`, or the only one below it, as in `runs/my-experiment`.

    Raises:
        RunDirectoryError: there is none, or more than one.
    """
    if (path / "model.json").is_file():
        return RunDirectory(path)
    below = sorted(found.parent for found in path.glob("*/model.json"))
    if len(below) == 1:
        return RunDirectory(below[0])
    if below:
        raise RunDirectoryError(f"{path}: holds {len(below)} runs; name one, such as {below[0]}")
    raise RunDirectoryError(f"{path}: holds no trained model; name the folder of a finished run")


def load(run: str | Path) -> Autoencoder:
    """The trained model of a run directory, on the CPU and in evaluation mode.

    Args:
        run: the folder of a finished run, or one with a single run below it.

    Raises:
        RunDirectoryError: there is no finished run, its files are damaged, or it uses a model or a
            mixing layer that is not registered here.
    """
    path = find_run(Path(run)).path
    description = _read_json(path / "model.json")
    try:
        if description["format"] != MODEL_FORMAT:
            raise RunDirectoryError(
                f"{path / 'model.json'}: format {description['format']} is not known here"
            )
        model = create_model(description["type"], **description["arguments"])
    except (KeyError, TypeError) as error:
        raise RunDirectoryError(f"{path / 'model.json'}: does not describe a model ({error})") from error
    except ArgumentError as error:
        raise RunDirectoryError(f"{path / 'model.json'}: {error}") from error
    try:
        model.load_state_dict(load_tensors((path / "model.safetensors").read_bytes()))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise RunDirectoryError(
            f"{path / 'model.safetensors'}: are not this model's weights ({reason})"
        ) from error
    return model.eval()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunDirectoryError(f"{path}: is not readable JSON ({error})") from error
    if not isinstance(content, dict):
        raise RunDirectoryError(f"{path}: is not a JSON object")
    return content


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row) + "\n"


def _pretty(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
