"""Results are what the run directories say, whoever asks."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mixcoder.data import register_source
from mixcoder.data.sources.digits import Digits
from mixcoder.errors import RunDirectoryError
from mixcoder.experiments.file.spec import Experiment, Run, read_experiment
from mixcoder.experiments.results.records import (
    differing_values,
    read_records,
    records_in,
    records_of,
    result_rows,
    short_names,
)
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.runs.training_run import train_run

SWEEP = """\
name: mine
data: {source: digits}
model: {type: mixer, patch_size: 4, hidden_channels: [9], latent_dim: 3, mixer_at: [1], mixer: "${mixer}"}
training: {inputs: "${inputs}", seed: 0}
matrix: {mixer: [cnn, cnnf, mlp], inputs: [128, 256]}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.yml"
    path.write_text(SWEEP)
    return path


def test_every_state(file: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    states = read_experiment(file).runs
    directories = [RunDirectory.of(run, runs) for run in states]
    train_run(states[0], runs, lambda loop, progress: None)
    directories[1].write_failure({"reason": "error: it rained", "exit_status": 1})
    directories[2].checkpoint.parent.mkdir(parents=True)
    directories[2].checkpoint.touch()
    directories[3].write_failure({"reason": "an earlier try", "exit_status": 1})
    with directories[3].locked():
        rows = result_rows(read_records(file, [], runs))
    assert [row["state"] for row in rows] == ["done", "failed", "stopped", "running", "open", "open"]
    assert [row["reason"] for row in rows] == ["", "error: it rained", "", "", "", ""]
    assert rows[0]["params"] > 0
    assert rows[0]["madds"] > 0
    assert rows[1]["validation_loss"] is None


def test_an_axis_named_as_a_measure_has_its_whole_key(file: Path, tmp_path: Path) -> None:
    """One name, one meaning: `inputs` is what a run has seen, here and in the table of a folder."""
    runs = tmp_path / "runs"
    rows = result_rows(records_of(read_experiment(file), runs))
    assert [row["matrix.inputs"] for row in rows] == [128, 256] * 3
    assert [row["inputs"] for row in rows] == [None] * 6
    for run in read_experiment(file, ["matrix.mixer=[cnn]", "matrix.inputs=[100, 200]"]).runs:
        train_run(run, runs, lambda loop, progress: None)
    rows = result_rows(records_in(runs))
    assert [(row["training.inputs"], row["inputs"]) for row in rows] == [(100, 128), (200, 256)]


def test_a_folder_tells_its_runs_apart(file: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for run in read_experiment(file, ["matrix.mixer=[cnn, mlp]", "matrix.inputs=[128]"]).runs:
        train_run(run, runs, lambda loop, progress: None)
    [other] = read_experiment(file, ["matrix.mixer=[mlp]", "matrix.inputs=[256]", "name=other"]).runs
    train_run(other, runs, lambda loop, progress: None)

    assert [record.values for record in records_in(runs / "mine")] == [{"mixer": "cnn"}, {"mixer": "mlp"}]
    assert [record.name for record in records_in(runs / "mine")] == ["mixer=cnn", "mixer=mlp"]
    assert {tuple(record.values) for record in records_in(runs)} == {("name", "mixer", "training.inputs")}
    [alone] = records_in(runs / "other")
    assert (alone.values, alone.name) == ({}, alone.directory.path.name)
    assert [it.directory.path for it in records_in(alone.directory.path)] == [alone.directory.path]
    with pytest.raises(RunDirectoryError, match="holds no run; name an experiment file or a folder of runs"):
        records_in(tmp_path / "runs" / "mine" / alone.directory.path.name / "checkpoint")


def test_different_models_show_what_they_have(tmp_path: Path) -> None:
    for name, model in {
        "mixer": "{type: mixer, patch_size: 4, hidden_channels: [9], latent_dim: 3}",
        "cnn": "{type: cnn, channels: [3], kernel_size: 3, latent_dim: 3}",
    }.items():
        (tmp_path / "x.yml").write_text(
            f"name: {name}\ndata: {{source: digits}}\nmodel: {model}\ntraining: {{steps: 1}}\n"
        )
        [run] = read_experiment(tmp_path / "x.yml").runs
        RunDirectory.of(run, tmp_path / "runs").write_config(run)
    cnn, mixer = (record.values for record in records_in(tmp_path / "runs"))
    assert (cnn["channels"], cnn["type"]) == ([3], "cnn")
    assert "channels" not in mixer
    assert mixer["patch_size"] == 4
    assert "latent_dim" not in mixer
    assert "steps" not in mixer


def test_short_names_leave_out_what_all_share(tmp_path: Path, file: Path) -> None:
    records = records_of(read_experiment(file, ["matrix.inputs=[128]"]), tmp_path)
    assert short_names(records) == ["mixer=cnn", "mixer=cnnf", "mixer=mlp"]
    assert short_names(records[:1]) == ["mixer=cnn, matrix.inputs=128"]


def test_a_lock_held_elsewhere_is_a_run_that_runs(file: Path, tmp_path: Path) -> None:
    """By a thread here, by a process elsewhere; once it is let go, the run is what it was."""
    runs = tmp_path / "runs"
    [run] = read_experiment(file, ["matrix.mixer=[cnn]", "matrix.inputs=[128]"]).runs
    directory = RunDirectory.of(run, runs)
    directory.write_failure({"reason": "an earlier try"})

    def state() -> str:
        return records_of(Experiment("mine", (run,)), runs)[0].state

    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with directory.locked():
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(60)
    assert state() == "running"
    done.set()
    thread.join()
    assert state() == "failed"

    program = (
        "import sys; from filelock import FileLock\n"
        f"with FileLock({str(directory.path / '.lock')!r}): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert state() == "running"
        process.kill()
    assert state() == "failed"


def test_what_is_done_stays_done(file: Path, tmp_path: Path) -> None:
    """Whatever else lies there: a failure of an earlier try, a checkpoint, a lock."""
    runs = tmp_path / "runs"
    run = read_experiment(file).runs[0]
    directory = RunDirectory.of(run, runs)
    directory.write_result({"validation_loss": 0.5, "inputs": 7})
    directory.write_failure({"reason": "an earlier try"})
    directory.checkpoint.parent.mkdir()
    directory.checkpoint.touch()
    with directory.locked():
        [record] = records_of(Experiment("mine", (run,)), runs)
    assert (record.state, record.reason, record.result["validation_loss"]) == ("done", "", 0.5)
    [row] = result_rows([record])
    assert (row["inputs"], row["matrix.inputs"], row["params"]) == (7, 128, None)


def test_values_of_one_name_are_told_apart_by_their_section(tmp_path: Path) -> None:
    @register_source("shuffled")
    class Shuffled(Digits):
        def __init__(self, seed: int = 0) -> None:
            super().__init__()

    runs: list[Run] = []
    for data_seed, seed, optimizer in ((0, 0, "adamw"), (1, 5, "sgd")):
        (tmp_path / "x.yml").write_text(
            f"name: mine\ndata: {{source: shuffled, seed: {data_seed}}}\n"
            "model: {type: cnn, channels: [3], kernel_size: 3, latent_dim: 3}\n"
            f"training: {{steps: 1, seed: {seed}, optimizer: {optimizer}}}\n"
        )
        runs += read_experiment(tmp_path / "x.yml").runs
    assert differing_values(runs) == [
        {"data.seed": 0, "optimizer": "adamw", "training.seed": 0},
        {"data.seed": 1, "optimizer": "sgd", "training.seed": 5},
    ]
    assert differing_values(runs[:1]) == [{}]


def test_folders_that_hold_no_run(tmp_path: Path) -> None:
    (tmp_path / "a" / "b" / "c" / "d").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c" / "d" / "config.yml").write_text("too: deep\n")
    with pytest.raises(RunDirectoryError) as caught:
        read_records(tmp_path / "a", [], tmp_path / "runs")
    assert str(caught.value) == f"{tmp_path / 'a'}: holds no run; name an experiment file or a folder of runs"


def test_inputs_of_runs_of_differing_length_are_those_seen(tmp_path: Path) -> None:
    """One states steps, one inputs: the table's column is for both."""
    for duration in ("steps: 2", "inputs: 100"):
        (tmp_path / "x.yml").write_text(
            "name: mine\ndata: {source: digits}\n"
            "model: {type: cnn, channels: [3], kernel_size: 3, latent_dim: 3}\n"
            f"training: {{{duration}}}\n"
        )
        [run] = read_experiment(tmp_path / "x.yml").runs
        directory = RunDirectory.of(run, tmp_path / "runs")
        directory.write_config(run)
        directory.write_result({"validation_loss": 0.5, "inputs": run.total_steps * 64})
    assert [row["inputs"] for row in result_rows(records_in(tmp_path / "runs"))] == [128, 128]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is not readable JSON"),
        ("[]", "is not a JSON object"),
        ("{}", "validation_loss: is missing"),
        ('{"validation_loss": "small"}', "validation_loss: must be a number, not the text 'small'"),
        ('{"validation_loss": 0.5, "latent_shape": [3, "a"]}', "latent_shape.1: must be a whole number"),
        ('{"validation_loss": 0.5, "hardware": 3}', "hardware: must be a map"),
    ],
)
def test_a_damaged_result_is_told_and_hides_no_other(tmp_path: Path, content: str, sentence: str) -> None:
    directories = []
    for seed in (0, 1):
        (tmp_path / "x.yml").write_text(
            "name: mine\ndata: {source: digits}\n"
            "model: {type: cnn, channels: [3], kernel_size: 3, latent_dim: 3}\n"
            f"training: {{steps: 2, seed: {seed}}}\n"
        )
        [run] = read_experiment(tmp_path / "x.yml").runs
        directories.append(RunDirectory.of(run, tmp_path / "runs"))
        directories[-1].write_config(run)
        directories[-1].write_result({"validation_loss": 0.5})
    (directories[0].path / "result.json").write_text(content)
    damaged, sound = result_rows(records_in(tmp_path / "runs"))
    assert (sound["state"], sound["validation_loss"]) == ("done", 0.5)
    assert damaged["state"] == "failed"
    assert sentence in damaged["reason"]
    assert not directories[0].is_done()
    with pytest.raises(RunDirectoryError):
        directories[0].read_result()


def test_lines_that_are_no_metrics_are_left_out(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    row = {"step": 1, "inputs": 64, "training_loss": 0.5, "learning_rate": 0.001}
    lines = [
        json.dumps(row),
        "\0\0\0",
        "[]",
        '{"step": 2}',
        '{"step": "2"}',
        json.dumps({**row, "step": 3})[:-9],
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    assert directory.read_metrics() == [row]


def test_one_listing_finds_the_directories_of_all_runs(file: Path, tmp_path: Path) -> None:
    """Whatever stands before the digest; of two the first by name; of none a new name."""
    runs = tmp_path / "runs"
    first, second, *others = read_experiment(file).runs
    for name in ("b", "a", "not-a-run"):
        (runs / "mine" / f"{name}-{first.digest}").mkdir(parents=True)
    (runs / "mine" / f"renamed-{second.digest}").mkdir()
    (runs / "mine" / "nothing").mkdir()
    found = RunDirectory.of_all([first, second, *others], runs)
    assert [it.path for it in found] == [RunDirectory.of(run, runs).path for run in [first, second, *others]]
    assert [it.path.name for it in found[:2]] == [f"a-{first.digest}", f"renamed-{second.digest}"]
    assert [it.path.name for it in found[2:]] == [run.directory_name for run in others]
    assert RunDirectory.of_all([], runs) == []
