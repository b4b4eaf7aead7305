"""Launchers: real prefixes, and small scripts in the place of srun, which tests cannot expect."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from mixcoder.experiments.file.spec import read_experiment
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.runs.stop_requests import SWEEP_VARIABLE
from mixcoder.experiments.sweeps import launched
from mixcoder.experiments.sweeps.launched import LaunchedWorkers, split_launcher
from mixcoder.experiments.sweeps.run_state import RunState
from mixcoder.experiments.sweeps.sweep import run_sweep
from tests.conftest import Cli, slow
from tests.experiments.sweeps.test_sweep import outcomes, wait_until

EXPERIMENT = """\
name: mine
data: {source: digits}
model: {type: mixer, patch_size: 4, hidden_channels: [9], latent_dim: 3, mixer_at: [1], mixer: "${mixer}"}
training: {learning_rate: 0.1, inputs: 9_600, optimizer: sgd, validations: 3}
matrix: {mixer: [cnn]}
"""
SRUN = """\
import signal, subprocess, sys
worker = subprocess.Popen(sys.argv[1:], start_new_session=True)
signal.signal(signal.SIGTERM, lambda *_: worker.terminate())
status = worker.wait()
print("srun: error: node7: task 0: Exited with exit code", status, file=sys.stderr)
sys.exit(status if status >= 0 else 128 - status)
"""
"""A launcher as srun is: its worker is no child of the sweep, and a signal that killed it is 128 and more."""
LOSING = """\
import pathlib, signal, subprocess, sys, time
worker = subprocess.Popen(sys.argv[1:])
if not pathlib.Path("lost").exists():
    pathlib.Path("lost").touch()
    folder = pathlib.Path(sys.argv[-5]).parent
    while not (folder / "metrics.jsonl").exists():
        time.sleep(0.01)
    worker.kill()
status = worker.wait()
sys.exit(status if status >= 0 else 128 - status)
"""
"""A launcher that loses its first worker when that has trained for a while."""


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.yml").write_text(EXPERIMENT)
    Path("srun.py").write_text(SRUN)
    Path("losing.py").write_text(LOSING)


def launcher_of(script: str) -> str:
    """The launcher that a script of Python is."""
    return shlex.join([sys.executable, script])


def sweep_behind(script: str) -> tuple[RunState, list[str]]:
    """A run behind a shell script that stands for the whole worker: its state, and what it waited for."""
    waited: list[str] = []

    def observe(states: Sequence[RunState]) -> None:
        if states[0].state == "waiting":
            waited.append(states[0].reason)

    workers = LaunchedWorkers(Path("runs"), 1, "auto", [], ["sh", "-c", script, "sh"])
    [state] = run_sweep(read_experiment(Path("x.yml")), Path("runs"), observe, workers)
    return state, waited


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("srun '-n1", "--launcher: no closing quotation in srun '-n1"),
        (" ", "--launcher: must be a command, such as 'srun -n1'"),
        ("no-such-srun -n1", "--launcher: there is no command 'no-such-srun' on this machine"),
    ],
)
def test_a_launcher_that_cannot_be_is_told_before_anything_starts(text: str, message: str, cli: Cli) -> None:
    assert cli("run", "x.yml", "--launcher", text) == (2, "", f"error: {message}\n")
    assert not Path("runs").exists()


def test_words_are_those_of_a_shell() -> None:
    assert split_launcher("env 'A=b c' nice -n 5") == ["env", "A=b c", "nice", "-n", "5"]


def test_environment_and_cores_are_the_launchers_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWEEP_VARIABLE, "1")  # as where a sweep is itself a worker
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    state, _ = sweep_behind('env > environment; echo "$@"; exit 5')
    lines = Path("environment").read_text().splitlines()
    assert {"OMP_NUM_THREADS=7", "CUDA_VISIBLE_DEVICES=3"} < set(lines)
    assert not any(line.startswith(SWEEP_VARIABLE) for line in lines)
    assert state.reason.startswith(f"{sys.executable} -P -m mixcoder run ")  # the last line, of no error


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            'echo "error: no photos"; echo "srun: error: node7: Exited with exit code 2"; exit 2',
            "no photos",
        ),
        (
            "echo '{}' > $(echo runs/mine/*)/failure.json; echo 'error: the loss became nan'; exit 143",
            "the loss ",
        ),
        ("echo first; echo last; exit 127", "last"),
    ],
)
def test_a_failure_is_told_in_the_words_of_the_run(script: str, reason: str) -> None:
    state, waited = sweep_behind(script)
    assert (state.state, waited) == ("failed", [])
    assert state.reason.startswith(reason)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 143", "killed by SIGTERM"),
        ("exit 253", "its launcher ended with status 253"),
        ("kill -TERM $$", "killed by SIGTERM"),
        ("echo 'error: interrupted after 640 inputs; more'; exit 1", "interrupted after 640 inputs"),
    ],
)
def test_a_run_that_is_killed_behind_its_launcher_is_lost_and_started_again(script: str, reason: str) -> None:
    state, waited = sweep_behind(script)
    assert waited == [f"{reason}; goes on from its last checkpoint"] * 5
    assert (state.state, state.reason) == ("failed", f"lost 6 times, the last time because {reason}")


def test_the_log_of_an_earlier_try_says_nothing_of_this_one() -> None:
    script = "test -e again && exit 2; touch again; echo 'error: interrupted after 640 inputs'; exit 1"
    state, waited = sweep_behind(script)
    assert (len(waited), state.reason) == (1, "ended without a word")


def test_a_result_may_be_seen_after_its_process_has_ended() -> None:
    """As on NFS, which remembers for a while that there is no such file."""
    result = '{"validation_loss": 0.1}'
    state, waited = sweep_behind(f"(sleep 0.5; echo '{result}' > $(echo runs/mine/*)/result.json) & exit 0")
    assert (state.state, waited) == ("done", [])


def test_a_result_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launched, "RESULT_SECONDS", 0.3)
    state, _ = sweep_behind("exit 0")
    assert (state.state, state.reason) == ("failed", "ended without a word")


@slow
@pytest.mark.parametrize("launcher", ["env X=Y", "nice -n 5", "sh -c 'exec \"$@\"' sh", "srun"])
def test_a_single_run_behind_a_real_prefix_is_that_without(launcher: str, cli: Cli) -> None:
    launcher = launcher_of("srun.py") if launcher == "srun" else launcher
    assert cli("run", "x.yml", "--runs", "alone")[0] == 0
    status, _, err = cli("run", "x.yml", "--runs", "behind", "--launcher", launcher)
    assert (status, err) == (0, "running: mixer=cnn\ndone: mixer=cnn\n")
    assert outcomes(Path("behind")) == outcomes(Path("alone"))


@slow
def test_a_worker_that_is_lost_on_its_way_goes_on_and_ends_the_same(cli: Cli) -> None:
    longer = "training.inputs=200_000"
    assert cli("run", "x.yml", longer, "--runs", "calm")[0] == 0
    status, _, err = cli("run", "x.yml", longer, "--runs", "lossy", "--launcher", launcher_of("losing.py"))
    assert status == 0, err
    assert "waiting: mixer=cnn (killed by SIGKILL;" in err
    assert outcomes(Path("lossy")) == outcomes(Path("calm"))


@slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda it: it.name)
def test_the_end_of_the_sweep_reaches_workers_of_other_machines(number: signal.Signals) -> None:
    changes = ["training.inputs=60_000_000", "matrix.mixer=[cnn, mlp]"]
    directories = [RunDirectory.of(run, Path("runs")) for run in read_experiment(Path("x.yml"), changes).runs]
    command = [sys.executable, "-m", "mixcoder", "run", "x.yml", "-j", "2", *changes]
    sweep = subprocess.Popen(
        [*command, "--launcher", launcher_of("srun.py")],
        start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_until(lambda: all(directory.read_metrics() for directory in directories))
    os.killpg(sweep.pid, number)  # as a terminal does
    _, err = sweep.communicate()
    assert sweep.returncode == 1
    assert err.splitlines()[-1] == "error: interrupted; the same command goes on from there"
    for directory in directories:
        assert directory.checkpoint.is_file()
        assert not directory.is_locked()
        assert (directory.path / "log.txt").read_text().count("interrupted after") == 1
        assert not (directory.path / "failure.json").exists()
