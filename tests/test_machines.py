"""What a machine may lack: each thing that is missing is done without, or told in one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from mixcoder.data.sources.mnist import SHAPES
from tests.conftest import needs_compiler, slow, slow_but
from tests.documents import assert_shown, faq_sentences
from tests.machines import machines

EXPERIMENT = """\
name: x
data: {source: digits}
model: {type: mixer, patch_size: 4, hidden_channels: [9], latent_dim: 3}
training: {steps: 20, batch_size: 32, compile: on}
"""
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def run(*command: str, folder: Path, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Runs a command in a folder; variables that are None are taken away."""
    given = {**os.environ, **environment}
    return subprocess.run(
        command,
        cwd=folder,
        env={name: value for name, value in given.items() if value is not None},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def mixcoder(*arguments: str, folder: Path, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Runs the command line."""
    return run(sys.executable, "-m", "mixcoder", *arguments, folder=folder, **environment)


def test_machines_run_tests_that_there_are(tmp_path: Path) -> None:
    tests = {test for machine in machines(tmp_path).values() for test in machine.tests}
    assert len(tests) >= 8
    for test in tests:
        file, _, name = test.partition("::")
        path = Path(__file__).parent / file
        assert path.exists(), test
        assert not name or f"def {name}(" in path.read_text(), test


WITHOUT_HOME = """\
import pwd, sys
def getpwuid(uid): raise KeyError(uid)
pwd.getpwuid = getpwuid
from mixcoder.cli.app import main
main(sys.argv[1:])
"""
"""The command line of a user without an entry among the users."""
NO_HOME = {"HOME": None, "XDG_CACHE_HOME": None, "MPLCONFIGDIR": None, "HF_HOME": None, "MIXCODER_DATA": None}
NO_CACHE = faq_sentences()["There is no home folder"].strip().removeprefix("error: ")


def homeless(*arguments: str, folder: Path, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Runs the command line of a user without a home."""
    program = (sys.executable, "-c", WITHOUT_HOME, *arguments)
    return run(*program, folder=folder, **{**NO_HOME, **environment})


@pytest.mark.parametrize(
    "arguments", slow_but(0, ["models ls", "schema --format md", "experiments ls --format json"])
)
def test_output_in_a_locale_without_its_characters(arguments: str, tmp_path: Path) -> None:
    done = mixcoder(*arguments.split(), folder=tmp_path, **C_LOCALE)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    assert "\\xb7" in done.stdout or "\\u" in done.stdout


WITHOUT_POSIX = """\
import os, signal, sys
import filelock, httpx2, matplotlib.figure, platformdirs, torch
for module in ("resource", "fcntl", "pwd", "grp", "sklearn", "scipy"):
    sys.modules[module] = None
names = '''sysconf register_at_fork fork getuid geteuid getgid getegid fchmod fchown chown sched_getaffinity
    sched_setaffinity statvfs uname killpg setsid nice mkfifo O_NOFOLLOW O_DIRECTORY posix_fallocate'''
for name in names.split():
    delattr(os, name)
for name in ("SIGKILL", "SIGALRM", "SIGHUP", "SIGUSR1", "pthread_sigmask"):
    delattr(signal, name)
"""


@slow
def test_training_and_its_report_need_nothing_that_windows_lacks(tmp_path: Path) -> None:
    """Nor what only the tests install. What other packages need, they have imported first.

    A sweep's workers load the same plugin.
    """
    (tmp_path / "without_posix.py").write_text(WITHOUT_POSIX)
    two = EXPERIMENT.replace("steps: 20", 'steps: 20, seed: "${seed}"')
    (tmp_path / "x.yml").write_text(f"{two}matrix: {{seed: [0, 1]}}\n")
    for arguments in ("run x.yml -j 2", "report x.yml -o x.html"):
        done = mixcoder("--plugin", "without_posix.py", *arguments.split(), folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", slow_but(1, ["data verify mnist", "data fetch folder path=pictures"]))
def test_data_without_a_home_for_it_is_refused(arguments: str, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (120, 120)).save(tmp_path / "pictures" / "a.png")
    done = homeless(*arguments.split(), folder=tmp_path)
    assert (done.returncode, done.stderr) == (2, f"error: {NO_CACHE}\n")


@slow
def test_no_cache_is_asked_for_where_the_data_is(tmp_path: Path) -> None:
    (tmp_path / "data" / "mnist").mkdir(parents=True)
    for name in SHAPES:
        (tmp_path / "data" / "mnist" / name).touch()

    def listed(**environment: str | None) -> str:
        done = homeless("data", "ls", "--format", "csv", folder=tmp_path, **environment)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    assert f"mnist,,{NO_CACHE}" in listed()
    assert "ready in data/mnist" in listed(MIXCODER_DATA="data")
    home = listed(MIXCODER_DATA="~/data", HOME=str(tmp_path))  # as settings have it that no shell has read
    assert f"ready in {tmp_path}/data/mnist" in home


@slow
def test_a_name_with_a_tilde_that_is_no_home(tmp_path: Path) -> None:
    (tmp_path / "~nobody at all").mkdir()
    Image.new("RGB", (120, 120)).save(tmp_path / "~nobody at all" / "a.png")
    done = homeless("data", "fetch", "folder", "path=~/none", folder=tmp_path)
    assert (done.returncode, done.stderr) == (2, "error: ~/none: there is no such folder\n")
    cache = str(tmp_path / "cache")
    done = homeless("data", "fetch", "folder", "path=~nobody at all", folder=tmp_path, XDG_CACHE_HOME=cache)
    assert "of 1 images, 1 would train" in done.stderr


@slow
def test_training_and_its_results_without_a_home(tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text(EXPERIMENT)
    for arguments in ("run x.yml", "report x.yml -o x.html"):
        done = homeless(*arguments.split(), folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "~").exists()


@slow
@needs_compiler
@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has no such modes")
def test_compiled_code_that_others_may_have_written_is_not_loaded(tmp_path: Path) -> None:
    """One note says so; the run is native all the same, and the next one finds nothing of it."""
    (tmp_path / "x.yml").write_text(EXPERIMENT)
    folder = tmp_path / "cache" / "mixcoder" / "compiled"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    for seed in ("1", "2"):
        arguments = ("run", "x.yml", f"training.seed={seed}")
        done = mixcoder(*arguments, folder=tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("note: compiled code is kept for this process alone: ") == 1
        assert_shown(faq_sentences()["Compiled code is not kept"], done.stderr)
        assert str(folder) in done.stderr
        assert "native steps" in done.stderr
        assert not any(folder.iterdir())
