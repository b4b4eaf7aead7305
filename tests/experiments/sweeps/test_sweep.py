"""Sweeps: real worker processes that finish, fail, are killed and start again."""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from mixcoder.experiments.file.spec import read_experiment
from mixcoder.experiments.results.records import Record, records_of
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.sweeps.local import LocalWorkers
from mixcoder.experiments.sweeps.run_state import RunState
from mixcoder.experiments.sweeps.sweep import run_sweep
from tests.conftest import Cli, slow

SWEEP = """\
name: mine
data: {source: digits}
model:
  type: mixer
  patch_size: 4
  hidden_channels: [9]
  latent_dim: 3
  mixer_at: [1]
  mixer: ${mixer}
training: {learning_rate: "${rate}", inputs: 9_600, optimizer: sgd, validations: 3}
matrix:
  mixer: [cnn, mlp]
  rate: [0.1]
"""
PLUGIN = """\
import os, signal, torch, mixcoder

@mixcoder.register_mixer("killed")
class Killed(mixcoder.MixingLayer):
    '''Ends its process.'''

    def __init__(self, grid, channels, kernel_size):
        super().__init__()

    def mix(self, x):
        if not x.is_meta:
            os.kill(os.getpid(), signal.SIGKILL)
        return x

@mixcoder.register_mixer("huge")
class Huge(mixcoder.MixingLayer):
    '''Asks for more than there is.'''

    def __init__(self, grid, channels, kernel_size):
        super().__init__()

    def mix(self, x):
        return x if x.is_meta else x + torch.zeros(2**55)[:1]
"""


@pytest.fixture(autouse=True)
def _sweep_file(tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text(SWEEP)
    (tmp_path / "mine.py").write_text(PLUGIN)


def outcomes(runs: Path) -> dict[str, tuple[bytes, bytes]]:
    return {
        path.name: ((path / "model.safetensors").read_bytes(), (path / "metrics.jsonl").read_bytes())
        for path in sorted((runs / "mine").iterdir())
    }


def test_side_by_side_is_one_by_one(cli: Cli) -> None:
    status, out, err = cli("run", "x.yml", "-j", "2", "--runs", "two", "--format", "json")
    assert status == 0
    rows = json.loads(out)
    assert [(row["mixer"], row["state"]) for row in rows] == [("cnn", "done"), ("mlp", "done")]
    assert rows[0]["params"] < rows[1]["params"]
    assert err.count("running: mixer=") == err.count("done: mixer=") == 2

    for mixer in ("cnn", "mlp"):
        assert cli("run", "x.yml", f"matrix.mixer=[{mixer}]", "--runs", "one")[0] == 0
    alone, together = outcomes(Path("one")), outcomes(Path("two"))
    assert [name[-10:] for name in alone] == [name[-10:] for name in together]
    assert list(alone.values()) == list(together.values())

    before = outcomes(Path("two"))
    status, out, err = cli("run", "x.yml", "-j", "2", "--runs", "two")
    assert (status, err) == (0, "")
    assert outcomes(Path("two")) == before


@slow
def test_failures_keep_to_themselves_and_are_told(cli: Cli) -> None:
    overrides = [
        "matrix.mixer=[killed, huge, cnn]",
        "matrix.rate=[0.1]",
        "matrix.include=[{mixer: mlp, rate: 1000000000.0}]",
    ]
    status, out, err = cli("--plugin", "mine.py", "run", "x.yml", "-j", "2", *overrides)
    assert status == 1
    assert "error: 3 of 4 runs failed:" in err
    assert "mixer=killed, rate=0.1: killed by SIGKILL; the machine may have been out of memory" in err
    assert "mixer=huge, rate=0.1: out of memory while training a mixer of " in err
    assert "mixer=mlp, rate=1000000000.0: the loss became" in err
    assert out.count("failed") == 3
    assert out.count("done") == 1
    [failure] = Path("runs/mine").glob("mixer-killed*/failure.json")
    assert json.loads(failure.read_text())["exit_status"] == -9
    assert len(list(Path("runs/mine").glob("*/result.json"))) == 1


@slow
def test_killed_as_a_group_and_started_again_it_ends_the_same(cli: Cli, tmp_path: Path) -> None:
    assert cli("run", "x.yml", "-j", "2", "--runs", "calm")[0] == 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mixcoder", "run", "x.yml", "-j", "2", "--runs", "stormy"]
    chance = random.Random(5)
    for _ in range(2):
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(chance.uniform(1, 5))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert cli("run", "x.yml", "-j", "2", "--runs", "stormy")[0] == 0
    assert outcomes(Path("stormy")) == outcomes(Path("calm"))


@slow
def test_interrupted_workers_save_and_end(tmp_path: Path) -> None:
    experiment = read_experiment(tmp_path / "x.yml", ["training.inputs=60_000_000"])

    def interrupt(states: Sequence[RunState]) -> None:
        if all(state.metrics for state in states):
            raise KeyboardInterrupt

    with pytest.raises(Exception, match="interrupted; the same command goes on from there"):
        run_sweep(experiment, tmp_path / "runs", interrupt, LocalWorkers(tmp_path / "runs", 2, "auto", []))
    for path in (tmp_path / "runs" / "mine").iterdir():
        assert (path / "checkpoint" / "latest.safetensors").is_file()
        assert "interrupted after" in (path / "log.txt").read_text()
        assert not (path / "result.json").exists()


@slow
def test_a_ctrl_c_at_the_terminal_reaches_all_processes_and_loses_nothing(tmp_path: Path) -> None:
    experiment = read_experiment(tmp_path / "x.yml", ["training.inputs=60_000_000"])
    directories = [RunDirectory.of(run, tmp_path / "runs") for run in experiment.runs]
    sweep = subprocess.Popen(
        [sys.executable, "-m", "mixcoder", "run", "x.yml", "-j", "2", "training.inputs=60_000_000"],
        cwd=tmp_path, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_until(lambda: all(directory.read_metrics() for directory in directories))
    os.killpg(sweep.pid, signal.SIGINT)
    _, err = sweep.communicate()
    assert sweep.returncode == 1
    assert err.splitlines()[-1] == "error: interrupted; the same command goes on from there"
    for directory in directories:
        assert directory.checkpoint.is_file()
        assert "interrupted after" in (directory.path / "log.txt").read_text()


@slow
def test_workers_that_lost_their_sweep_save_and_leave(cli: Cli, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mixcoder", "run", "x.yml", "-j", "2", "training.inputs=60_000_000"]
    sweep = subprocess.Popen(
        command, cwd=tmp_path, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def records() -> list[Record]:
        return records_of(
            read_experiment(tmp_path / "x.yml", ["training.inputs=60_000_000"]), tmp_path / "runs"
        )

    try:
        wait_until(lambda: all(record.directory.read_metrics() for record in records()))
        assert [record.state for record in records()] == ["running", "running"]
        sweep.kill()
        sweep.wait()
        wait_until(lambda: [record.state for record in records()] == ["stopped", "stopped"])
    finally:
        with suppress(ProcessLookupError):
            os.killpg(sweep.pid, signal.SIGKILL)
    assert all("interrupted after" in (record.directory.path / "log.txt").read_text() for record in records())


@slow
def test_workers_import_nothing_from_the_current_folder_but_what_was_named(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))  # to which a plugin's folder is added
    for name in ("random", "typer", "mixcoder"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('hijacked')")
    (tmp_path / "own_layers.py").write_text(
        PLUGIN.replace('"killed"', '"own_killed"').replace('"huge"', '"own"')
    )
    layers = "matrix.mixer=[cnn, cnnf]"
    status, _, err = cli("--plugin", "own_layers", "run", "x.yml", "-j", "2", layers, "training.inputs=640")
    assert (status, "hijacked" in err) == (0, False), err


@slow
def test_a_run_that_another_process_trains_is_waited_for(tmp_path: Path) -> None:
    """And one whose directory cannot be written fails alone."""
    experiment = read_experiment(tmp_path / "x.yml", ["training.inputs=640"])
    linked, locked = (RunDirectory.of(run, tmp_path / "runs") for run in experiment.runs)
    for directory in (linked, locked):
        directory.path.mkdir(parents=True)
    (linked.path / "log.txt").symlink_to(tmp_path / "theirs")
    waited = []
    with (locked.path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def unlock(states: Sequence[RunState]) -> None:
            if states[1].state == "waiting":
                waited.append(states[1].reason)
                fcntl.flock(lock, fcntl.LOCK_UN)

        states = run_sweep(
            experiment, tmp_path / "runs", unlock, LocalWorkers(tmp_path / "runs", 1, "auto", [])
        )
    assert waited == ["another process is training it"]
    assert [state.state for state in states] == ["failed", "done"]
    assert "log.txt: it is a link, which may lead anywhere; delete it" in states[0].reason
    assert not (tmp_path / "theirs").exists()


def wait_until(holds: Callable[[], bool]) -> None:
    """Waits up to a minute."""
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)
