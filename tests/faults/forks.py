"""The `mixcoder` command in a forked process, killed at a drawn moment.

    this process: torch and mixcoder imported, no thread started
      └─ fork ─▶ mixcoder.cli.app.main([...]) ─┬─ ends by itself ─▶ Ended
                                           └─ SIGKILL, by the clock or around a file operation ─▶ Ended

To import torch takes ten times as long as a small run: done once here, thousands of kills are possible.
"""

from __future__ import annotations

import gc
import importlib
import os
import pkgutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

import torch

import mixcoder
from mixcoder.cli.app import main as mixcoder_main

IN_MEMORY = Path("/dev/shm")
"""A file system without a disk to wait for: a kill undoes nothing that the kernel has."""
CALLS = range(6)
"""After an operation, within which a file is opened, written, and made to last."""
_CHANGING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_OPERATIONS = frozenset(f"os.{name}" for name in ("rename", "remove", "mkdir", "rmdir", "link", "symlink"))


@dataclass(frozen=True)
class Moment:
    """When a process is killed, unless it has ended before: by the clock, or around a file operation.

    Attributes:
        seconds: after its start.
        operation: the number of the operation, from 1.
        calls: of C functions, such as `write`, that are made after it; 0 is right before it.
    """

    seconds: float | None = None
    operation: int | None = None
    calls: int = 0


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        status: its exit status, or minus the signal.
        said: what it printed.
        operations: how many file operations it came to, where it ended by itself.
        seconds: that it took.
    """

    status: int
    said: str
    operations: int
    seconds: float

    @property
    def is_killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.status == -signal.SIGKILL

    @property
    def has_traceback(self) -> bool:
        """Whether it printed one."""
        return "Traceback (most recent call last)" in self.said


def import_all() -> None:
    """Imports what commands import on their way, so that no child has to."""
    importlib.import_module("torch._dynamo")  # which torch imports for its optimizers
    for module in pkgutil.walk_packages(mixcoder.__path__, "mixcoder."):
        if not module.name.endswith("__main__"):
            with suppress(ImportError):  # an extra that is not installed
                importlib.import_module(module.name)
    gc.freeze()  # so that no child copies pages to look for garbage in them


def memory_folder() -> str | None:
    """Where files of a harness are fastest; None for the usual place."""
    return str(IN_MEMORY) if os.access(IN_MEMORY, os.W_OK) else None


def drawn_moment(dice: Random, whole: Ended) -> Moment:
    """A moment within the time of a process that was let alone: by the clock, or by its file operations."""
    if dice.random() < 0.5 or not whole.operations:
        return Moment(seconds=dice.uniform(0, whole.seconds))
    return Moment(operation=dice.randint(1, whole.operations), calls=dice.choice(CALLS))


def run_forked(
    arguments: Sequence[str], folder: Path, variables: Mapping[str, str], moment: Moment | None = None
) -> Ended:
    """Runs `mixcoder ARGUMENTS` in a fork of this process, within `folder`."""
    said = folder / "said.txt"
    reader, writer = os.pipe()
    start = time.perf_counter()
    child = os.fork()
    if not child:
        os.close(reader)
        _be_the_command(arguments, folder, variables, writer, moment)
    os.close(writer)
    status = _status_of(child, moment)
    seconds = time.perf_counter() - start
    with os.fdopen(reader, "rb") as pipe:
        operations = int(pipe.read() or 0)
    return Ended(status, said.read_text(errors="replace") if said.exists() else "", operations, seconds)


def run_command(
    arguments: Sequence[str], folder: Path, variables: Mapping[str, str], moment: Moment | None = None
) -> Ended:
    """Runs the same as a command of its own, from the start of its interpreter; killed by the clock alone."""
    start = time.perf_counter()
    with (folder / "said.txt").open("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "mixcoder", *arguments],
            cwd=folder,
            env={**os.environ, **variables, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        try:
            process.wait(moment.seconds if moment else None)
        except subprocess.TimeoutExpired:
            pass
        finally:
            process.kill()
        status = process.wait()
        said.seek(0)
        return Ended(status, said.read(), 0, time.perf_counter() - start)


def _status_of(child: int, moment: Moment | None) -> int:
    try:
        if moment and moment.seconds is not None:
            time.sleep(moment.seconds)
            os.kill(child, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise


def _be_the_command(
    arguments: Sequence[str], folder: Path, variables: Mapping[str, str], writer: int, moment: Moment | None
) -> None:
    """Becomes the command in a child; never returns."""
    status: Any = 70
    operations = [0]
    try:
        os.setsid()  # Ctrl-C is for the harness
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.chdir(folder)
        os.environ.update(variables)
        _redirect_output(folder / "said.txt")
        torch.set_num_threads(1)
        _count_operations(folder, operations, moment or Moment())
        mixcoder_main(list(arguments))
    except SystemExit as left:
        status = left.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os.write(writer, str(operations[0]).encode())
        os._exit(status if isinstance(status, int) else 1)


def _redirect_output(said: Path) -> None:
    handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDONLY) if stream == 0 else handle, stream)


def _count_operations(folder: Path, operations: list[int], moment: Moment) -> None:
    """Counts what Python does to files below `folder`; dies at the moment, if it comes."""

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, int) or not (flags or 0) & _CHANGING:
                return
        elif event not in _OPERATIONS:
            return
        if Path(os.fsdecode(arguments[0])).absolute().is_relative_to(folder):
            operations[0] += 1
            if operations[0] == moment.operation:
                _die_after(moment.calls)

    sys.addaudithook(watch)


def _die_after(calls: int) -> None:
    """Ends this process when this thread has called so many more C functions."""
    left = [calls]

    def count(frame: FrameType, event: str, function: Any) -> None:
        left[0] -= event == "c_call"
        if left[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    if calls:
        sys.setprofile(count)
    else:
        os.kill(os.getpid(), signal.SIGKILL)
