"""The files of a run that is trained on another machine, on their way from and to its directory here.

    news ─▶ log.txt ─▶ metrics, weights, … ─▶ checkpoint/best ─▶ checkpoint/latest ─▶ result.json

Here a run must be resumable at any moment, also while news are written, or read twice: what a checkpoint
counts on is here before it, and a run with a result has all its files.
"""

from __future__ import annotations

import os
from pathlib import Path

from mixcoder.errors import RunDirectoryError, WriteError, system_reason
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.sweeps.ray_node import LATEST, RESULT, News
from mixcoder.io.appended_file import open_to_append
from mixcoder.io.atomic_file import write_atomically

_ONLY_HERE = {"log.txt", "failure.json"}
"""Files that a run does not read."""


def read_files(directory: RunDirectory) -> dict[str, bytes]:
    """Returns the files that a run goes on from, by path below its directory.

    Raises:
        RunDirectoryError: one cannot be read.
    """
    files = {}
    for path in sorted(directory.path.rglob("*")):
        if path.name.startswith(".") or path.name in _ONLY_HERE or path.is_symlink() or not path.is_file():
            continue
        try:
            files[path.relative_to(directory.path).as_posix()] = path.read_bytes()
        except OSError as error:
            raise RunDirectoryError(f"cannot read {path}: {system_reason(error)}") from error
    return files


def write_news(directory: RunDirectory, news: News) -> None:
    """Brings a run directory up to date.

    Raises:
        WriteError: a file cannot be written.
    """
    there, here = news["folder"].encode(), os.fsencode(directory.path)  # in messages
    if news["output"]:
        with directory.open_log() as log:
            log.write(news["output"].replace(there, here))
    for name in sorted(news["files"], key=_order_to_write):
        path, (start, content) = directory.path / name, news["files"][name]
        if name == LATEST:
            directory.sync_metrics()  # which the checkpoint counts on
        try:
            if start:
                _append(path, start, content)
            else:
                write_atomically(path, content)
        except OSError as error:
            raise WriteError(f"cannot write {path}: {system_reason(error)}") from error


def _append(path: Path, start: int, content: bytes) -> None:
    """Writes the bytes of a file from `start` on: a second time changes nothing."""
    with open_to_append(path) as file:
        file.truncate(start)
        file.write(content)


def _order_to_write(name: str) -> int:
    if name in (LATEST, RESULT):
        return 2 if name == LATEST else 3
    return 1 if name.startswith("checkpoint/") else 0
