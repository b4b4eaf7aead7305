"""A run on a node of a cluster: its process, and its files on their way to and from the node.

    files of the run directory ─▶ start ─▶ mixcoder run config.yml, in a folder on the node's own disk
                                                │
    files that are new or have grown ◀─ news ◀──┘

This module travels to the node as it is, which may have another Mixcoder or none: it imports the standard
library alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

_FOLDER = "mixcoder-run-"
_LOCK = "lock"
_CHECKPOINTS = "checkpoint/"
LATEST = "checkpoint/latest.safetensors"
RESULT = "result.json"
_OUTPUT = "output"
_CONFIG = "config.yml"
_GROWING = ("metrics.jsonl", ".tfevents.")
"""Parts of names of files that are appended to; all others are replaced whole."""

Stamp = tuple[int, int, int]
"""A file's inode, the time of its last change in nanoseconds, and how many of its bytes are known."""
_NEVER_SENT: Stamp = (-1, -1, 0)


class Order(TypedDict):
    """What a node must know to train a run.

    Keys:
        directory: of the run, below the folder of all runs.
        files: contents by path below that directory.
        plugins: contents by path, and the names to load them by.
        arguments: of the command line, after the file.
        environment: variables to set.
        parent_variable: of the environment, which tells the process the id of its parent.
    """

    directory: str
    files: Mapping[str, bytes]
    plugins: Mapping[str, bytes]
    plugin_names: Sequence[str]
    arguments: Sequence[str]
    environment: Mapping[str, str]
    parent_variable: str


class News(TypedDict):
    """What has happened on a node since the last news.

    Keys:
        status: exit status of the process; None while it runs.
        output: what it has printed.
        files: by path below the run's directory: where the new bytes belong, and these.
        folder: the run's directory on the node.
    """

    status: int | None
    output: bytes
    files: Mapping[str, tuple[int, bytes]]
    folder: str


class NodeProcess:
    """A process of Ray on this node, which holds a place in the cluster for one run after another.

    Its methods are called by two threads, so that `stop` need not wait for `news`.
    """

    def __init__(self) -> None:
        self._run: NodeRun | None = None
        self._is_stopped = False

    def describe(self) -> dict[str, str]:
        """Deletes what an earlier run has left; returns the node's name, and what is installed there."""
        self.close()
        return {"host": socket.gethostname(), "command": sys.executable, **describe_versions()}

    def start(self, order: Order) -> None:
        """Starts to train a run.

        Raises:
            OSError: a file cannot be written, or the process cannot be started.
        """
        _remove_abandoned()
        self._run = NodeRun(order)
        if self._is_stopped:  # meanwhile
            self._run.stop()

    def news(self, seconds: float, *, with_checkpoint: bool) -> News:
        """Returns what is new of the run that was started."""
        assert self._run is not None
        return self._run.news(seconds, with_checkpoint=with_checkpoint)

    def stop(self) -> None:
        """Asks the run that was started, or will be, to save a checkpoint and end."""
        self._is_stopped = True
        if self._run is not None:
            self._run.stop()

    def close(self) -> None:
        """Ends and deletes what is left of a run."""
        if self._run is not None:
            self._run.close()
            self._run = None


class NodeRun:
    """A run in training, in a folder of its own.

    The folder is locked while this process or the trained one lives, so that a later one deletes what a node
    that was killed has left.

    Args:
        order: what to train.

    Raises:
        OSError: a file cannot be written, or the process cannot be started.
    """

    def __init__(self, order: Order) -> None:
        self._open()
        try:
            self._directory = self._folder / "runs" / order["directory"]
            _write_all(self._folder / "plugins", order["plugins"])
            _write_all(self._directory, order["files"])
            self._sent |= {name: _stamp((self._directory / name).stat()) for name in order["files"]}
            self._process = self._start(order)
        except BaseException:
            self._delete()
            raise

    def news(self, seconds: float, *, with_checkpoint: bool) -> News:
        """Returns what is new after so many seconds; sooner, and all, once the process has ended."""
        _wait_for_end(self._process, seconds)
        status = self._process.poll()  # before any file is read: what it wrote last is read too
        left_out = () if status is not None else (RESULT,) if with_checkpoint else (RESULT, _CHECKPOINTS)
        with (self._folder / _OUTPUT).open("rb") as file:
            file.seek(self._printed)
            output = file.read()
        self._printed += len(output)
        folder = str(self._directory)
        return {"status": status, "output": output, "files": self._new_files(left_out), "folder": folder}

    def stop(self) -> None:
        """Asks the process to save a checkpoint and end."""
        self._process.terminate()

    def close(self) -> None:
        """Ends the process if it has not ended, and deletes the folder."""
        self._process.kill()
        self._process.wait()
        self._delete()

    def _open(self) -> None:
        """Creates the folder."""
        self._folder = Path(tempfile.mkdtemp(prefix=_FOLDER))
        self._lock = _locked_file(self._folder / _LOCK)
        self._sent: dict[str, Stamp] = {}
        self._printed = 0

    def _start(self, order: Order) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", "mixcoder"]
        for name in order["plugin_names"]:
            command += ["--plugin", name]
        command += ["run", str(self._directory / _CONFIG), "--runs", str(self._folder / "runs")]
        with (self._folder / _OUTPUT).open("wb") as output:
            return subprocess.Popen(  # noqa: S603 - our own command, no shell
                [*command, *order["arguments"]],
                cwd=self._folder / "plugins",
                env={**os.environ, **order["environment"], order["parent_variable"]: str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[self._lock],
            )

    def _delete(self) -> None:
        _delete_folder(self._folder)
        os.close(self._lock)

    def _new_files(self, left_out: tuple[str, ...]) -> dict[str, tuple[int, bytes]]:
        """Returns files that have changed, the last checkpoint first: metrics then reach at least as far.

        Args:
            left_out: beginnings of names of files that are not wanted now.
        """
        found = {}
        for path in sorted(_files_in(self._directory), key=_order_to_read):
            name = path.relative_to(self._directory).as_posix()
            if name.startswith(left_out):
                continue
            with suppress(FileNotFoundError), path.open("rb") as file:  # replaced this moment: next time
                before, now = self._sent.get(name, _NEVER_SENT), _stamp(os.fstat(file.fileno()))
                if before == now:
                    continue
                start = before[2] if _is_growing(name) and before[0] == now[0] else 0
                file.seek(start)
                content = file.read()
                self._sent[name] = (*now[:2], start + len(content))
                found[name] = (start, content)
        return found


def _wait_for_end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Waits for the end of a process, at most so long; `Popen.wait` would look 20 times a second."""
    if not hasattr(os, "pidfd_open"):  # not Linux
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        return
    with suppress(ProcessLookupError):  # it has ended, and was seen
        handle = os.pidfd_open(process.pid)
        try:
            select.select([handle], [], [], seconds)
        finally:
            os.close(handle)


def describe_versions() -> dict[str, str]:
    """Returns what must be the same on all machines of a sweep; empty for what is not installed."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"python": python, "torch": _version("torch").partition("+")[0], "mixcoder": _mixcoder_version()}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _mixcoder_version() -> str:
    """Returns Mixcoder's version, and a digest of its code: of one version there may be several."""
    spec = importlib.util.find_spec("mixcoder")
    if spec is None or spec.origin is None:
        return ""
    folder, digest = Path(spec.origin).parent, hashlib.sha256()
    for path in sorted([*folder.rglob("*.py"), *folder.rglob("*.cpp")]):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return f"{_version('mixcoder')} (code {digest.hexdigest()[:8]})"


def _write_all(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _files_in(directory: Path) -> Iterator[Path]:
    """Yields the files that a run makes: not its config, no lock, and none that is being written."""
    for path in directory.rglob("*"):
        if path.is_file() and not path.name.startswith(".") and path.name != _CONFIG:
            yield path


def _order_to_read(path: Path) -> bool:
    """Returns False for the checkpoint, which is read first."""
    return not path.as_posix().endswith(LATEST)


def _is_growing(name: str) -> bool:
    return any(part in name for part in _GROWING)


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_ino, status.st_mtime_ns, status.st_size


def _remove_abandoned() -> None:
    """Deletes folders of runs whose processes have ended without doing so."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        with suppress(OSError):
            if folder.lstat().st_uid != os.getuid() or folder.is_symlink():
                continue
            handle = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _delete_folder(folder)
            finally:
                os.close(handle)


def _delete_folder(folder: Path) -> None:
    """Deletes the folder of a run, its lock last: what a killed process leaves can be found."""
    for entry in folder.iterdir():
        if entry.name != _LOCK:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    (folder / _LOCK).unlink()
    folder.rmdir()


def _locked_file(path: Path) -> int:
    """Creates a file and locks it, in this order for nobody to see; returns its handle."""
    new = path.with_name(f"{path.name}.new")
    handle = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX)
    new.rename(path)
    return handle
