"""One process at a time, on any file system."""

from __future__ import annotations

import errno
import fcntl
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import Timeout

from mixcoder.io.file_lock import file_lock

ANSWERS = [None, errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP]
"""Of a file system that has locks, and of three that have none."""


def holder(path: Path, answer: int | None) -> str:
    """A program that holds a lock until its input ends, where `flock` answers so."""
    answering = f"""
import fcntl
def flock(handle, operation): raise OSError({answer}, "told")
fcntl.flock = flock
"""
    return f"""{answering if answer else ""}
import sys
from pathlib import Path
from mixcoder.io.file_lock import file_lock
with file_lock(Path({str(path)!r})):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("answer", ANSWERS)
def test_one_process_at_a_time(answer: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(handle: int, operation: int) -> None:
        raise OSError(answer, "told")

    if answer:
        monkeypatch.setattr(fcntl, "flock", flock)
    path = tmp_path / ".lock"
    command = [sys.executable, "-c", holder(path, answer)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        with pytest.raises(Timeout), file_lock(path, timeout=0):
            raise AssertionError("two hold it")
        process.kill()  # what it leaves keeps nobody waiting
        process.wait()
    for _ in range(2):
        with file_lock(path, timeout=60):
            pass


def test_what_is_wrong_with_the_file_is_raised(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError), file_lock(tmp_path / "folder"):
        raise AssertionError("a folder is no lock")
