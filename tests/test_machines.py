"""What a machine may lack: each thing that is missing is done without, or told in one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXPERIMENT = """\
name: x
data: {source: digits}
model: {type: mixer, patch_size: 4, hidden_channels: [9], latent_dim: 3}
training: {steps: 20, batch_size: 32, compile: on}
"""
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def mixcoder(*arguments: str, folder: Path, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Runs the command line in a folder; variables that are None are taken away."""
    given = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, "-m", "mixcoder", *arguments],
        cwd=folder,
        env={name: value for name, value in given.items() if value is not None},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


@pytest.mark.parametrize("arguments", ["models ls", "schema --format md", "experiments ls --format json"])
def test_output_in_a_locale_without_its_characters(arguments: str, tmp_path: Path) -> None:
    done = mixcoder(*arguments.split(), folder=tmp_path, **C_LOCALE)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    assert "\\xb7" in done.stdout or "\\u" in done.stdout


WITHOUT_POSIX = """\
import os, signal, sys
import filelock, httpx2, matplotlib.figure, platformdirs, sklearn.datasets, torch
for module in ("resource", "fcntl", "pwd", "grp"):
    sys.modules[module] = None
names = '''sysconf register_at_fork fork getuid geteuid getgid getegid fchmod fchown chown sched_getaffinity
    sched_setaffinity statvfs uname killpg setsid nice mkfifo O_NOFOLLOW O_DIRECTORY posix_fallocate'''
for name in names.split():
    delattr(os, name)
for name in ("SIGKILL", "SIGALRM", "SIGHUP", "SIGUSR1", "pthread_sigmask"):
    delattr(signal, name)
"""


def test_training_needs_nothing_that_windows_lacks(tmp_path: Path) -> None:
    """Of this package: what others need, they have imported. A sweep's workers load the same plugin."""
    (tmp_path / "without_posix.py").write_text(WITHOUT_POSIX)
    two = EXPERIMENT.replace("steps: 20", 'steps: 20, seed: "${seed}"')
    (tmp_path / "x.yml").write_text(f"{two}matrix: {{seed: [0, 1]}}\n")
    for arguments in ("run x.yml -j 2", "report x.yml -o x.html"):
        done = mixcoder("--plugin", "without_posix.py", *arguments.split(), folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
