"""The files of a run that is trained on another machine, on their way from and to its directory here.

Here a run must be resumable at any moment: metrics reach at least as far as the checkpoint, and a run with a
result has all its files. So the checkpoint is written after the metrics, and the result last.
"""

from __future__ import annotations

from mixcoder.errors import RunDirectoryError, WriteError, system_reason
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.sweeps.ray_node import News
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
    if news["output"]:
        with directory.open_log() as log:
            log.write(news["output"])
    for name in sorted(news["files"], key=_order_to_write):
        start, content = news["files"][name]
        path = directory.path / name
        if not start:
            write_atomically(path, content)
            continue
        try:
            with open_to_append(path) as file:
                file.write(content)
        except OSError as error:
            raise WriteError(f"cannot write {path}: {system_reason(error)}") from error


def _order_to_write(name: str) -> int:
    if name == "result.json":
        return 2
    return 1 if name.startswith("checkpoint/") else 0
