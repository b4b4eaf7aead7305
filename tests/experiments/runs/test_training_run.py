"""Runs and their directories: done once, resumed exactly, loaded again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import mixcoder
from mixcoder.errors import (
    ExperimentError,
    RunDirectoryError,
    RunInterruptedError,
    RunLockedError,
    TrainingError,
    WriteError,
)
from mixcoder.experiments.file.spec import Run, read_experiment
from mixcoder.experiments.results.records import records_in
from mixcoder.experiments.runs import run_directory, training_run
from mixcoder.experiments.runs.run_directory import RunDirectory, find_run
from mixcoder.experiments.runs.stop_requests import SWEEP_VARIABLE
from mixcoder.experiments.runs.training_run import train_run
from mixcoder.training.evaluation import validation_loss
from mixcoder.training.training_loop import Progress, TrainingLoop
from tests.conftest import slow
from tests.experiments.file.test_spec import SOUND


@pytest.fixture
def run(tmp_path: Path) -> Run:
    path = tmp_path / "x.yml"
    path.write_text(SOUND)
    return read_experiment(path, ["training.inputs=8_000", "training.validations=5"]).runs[0]


def ignore(loop: TrainingLoop, progress: Progress) -> None:
    pass


def test_a_run_leaves_what_the_design_says(tmp_path: Path, run: Run) -> None:
    directory = train_run(run, tmp_path / "runs", ignore)
    assert directory.path == tmp_path / "runs" / "mine" / run.directory_name
    assert sorted(path.name for path in directory.path.iterdir()) == [
        ".lock",
        "checkpoint",
        "config.yml",
        "metrics.jsonl",
        "model.json",
        "model.safetensors",
        "result.json",
    ]
    result = directory.read_result()
    assert result is not None
    metrics = directory.read_metrics()
    assert metrics[-1]["validation_loss"] == result["validation_loss"]
    assert result["best_validation_loss"] <= result["validation_loss"]
    assert result["inputs"] == metrics[-1]["inputs"] == 8_000
    assert result["latent_shape"] == [3]
    assert result["compression_ratio"] == pytest.approx(64 / 3)
    assert result["throughput"] > 0
    assert len(result["data_hash"]) == 64
    assert result["versions"]["torch"] == torch.__version__
    assert json.loads((directory.path / "model.json").read_text())["type"] == "mixer"


def test_the_model_comes_back(tmp_path: Path, run: Run) -> None:
    trained: list[TrainingLoop] = []
    directory = train_run(run, tmp_path, lambda loop, progress: trained.append(loop))
    model = mixcoder.load(directory.path)
    assert not model.training
    images = torch.rand(3, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(model(images), trained[-1].model(images))
    assert torch.equal(mixcoder.load(str(directory.path.parent))(images), model(images))


def test_of_an_average_all_files_and_figures_are_the_averages(tmp_path: Path, run: Run) -> None:
    averaged = replace(run, recipe=run.recipe.model_copy(update={"ema": 0.99}))
    assert averaged.digest != run.digest
    trained: list[TrainingLoop] = []
    directory = train_run(averaged, tmp_path, lambda loop, progress: trained.append(loop))
    result = directory.read_result()
    assert result is not None
    [loop] = {*trained}
    for kind, loss in (("final", "validation_loss"), ("best", "best_validation_loss")):
        model = mixcoder.load(directory.path, weights=kind)  # type: ignore[arg-type]
        assert validation_loss(model, loop.data.validation, "mse") == pytest.approx(result[loss])
    raw = validation_loss(loop.model, loop.data.validation, "mse")
    assert raw != pytest.approx(result["validation_loss"], rel=1e-3)


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_files_have_the_mode_that_the_umask_gives(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, mask: int
) -> None:
    monkeypatch.setattr(training_run, "CHECKPOINT_SECONDS", 0)
    before = os.umask(mask)
    try:
        directory = train_run(run, tmp_path, ignore)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in directory.path.rglob("*") if path.is_file()}
    assert {"model.safetensors", "best.safetensors", "latest.safetensors", "result.json"} <= set(modes)
    assert set(modes.values()) == {0o666 & ~mask}


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_a_file_that_only_others_may_read_is_told_as_such(run: Run, name: str) -> None:
    with not_as_root(), tempfile.TemporaryDirectory() as place:
        directory = train_run(run, Path(place), ignore)
        path = directory.path / name
        path.chmod(0)
        with pytest.raises(RunDirectoryError, match=f"^{path}: permission denied$"):
            mixcoder.load(directory.path)


@contextmanager
def not_as_root() -> Iterator[None]:
    """As a user whom the modes of files keep out."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(12345)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def test_done_is_done(tmp_path: Path, run: Run) -> None:
    directory = train_run(run, tmp_path, ignore)
    before = {path: path.stat().st_mtime_ns for path in directory.path.iterdir()}
    seen: list[Progress] = []
    train_run(run, tmp_path, lambda loop, progress: seen.append(progress))
    assert not seen
    assert {path: path.stat().st_mtime_ns for path in directory.path.iterdir()} == before


def test_two_runs_with_the_same_seed_are_equal_to_the_byte(tmp_path: Path, run: Run) -> None:
    first = train_run(run, tmp_path / "a", ignore)
    torch.rand(5)
    second = train_run(run, tmp_path / "b", ignore)
    for name in (
        "model.safetensors",
        "model.json",
        "metrics.jsonl",
        "config.yml",
        "checkpoint/best.safetensors",
    ):
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes()


def test_interrupted_and_started_again_it_ends_the_same(tmp_path: Path, run: Run) -> None:
    whole = train_run(run, tmp_path / "whole", ignore)

    def interrupt_at(step: int, signum: signal.Signals) -> training_run.Observer:
        def observe(loop: TrainingLoop, progress: Progress) -> None:
            if progress.step == step:
                os.kill(os.getpid(), signum)

        return observe

    for step, signum in ((1, signal.SIGINT), (60, signal.SIGTERM)):
        with pytest.raises(TrainingError, match=f"interrupted after {step * 64:,} inputs; the same command"):
            train_run(run, tmp_path / "parts", interrupt_at(step, signum))
        assert RunDirectory.of(run, tmp_path / "parts").read_failure() is None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    parts = train_run(run, tmp_path / "parts", ignore)
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (parts.path / name).read_bytes() == (whole.path / name).read_bytes()


def test_killed_between_checkpoints_it_goes_back_to_the_last_one(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_run(run, tmp_path / "whole", ignore)
    monkeypatch.setattr(training_run, "CHECKPOINT_SECONDS", 0)

    def die(loop: TrainingLoop, progress: Progress) -> None:
        if progress.step == 70:
            raise ZeroDivisionError("the end")

    with pytest.raises(ZeroDivisionError):
        train_run(run, tmp_path / "parts", die)
    parts = RunDirectory.of(run, tmp_path / "parts")
    assert parts.read_failure() == {"reason": "ZeroDivisionError: the end", "exit_status": 1}
    assert parts.read_metrics()[-1]["step"] == 70
    with (parts.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 71, "inp')  # torn by the crash
    assert parts.read_metrics()[-1]["step"] == 70
    train_run(run, tmp_path / "parts", ignore)
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (parts.path / name).read_bytes() == (whole.path / name).read_bytes()


def test_runs_to_choose_from(tmp_path: Path, run: Run) -> None:
    with pytest.raises(RunDirectoryError, match="holds no trained model"):
        find_run(tmp_path)
    first = train_run(run, tmp_path, ignore)
    assert find_run(tmp_path / "mine").path == first.path
    path = tmp_path / "x.yml"
    train_run(read_experiment(path, ["training.steps=1"]).runs[0], tmp_path, ignore)
    with pytest.raises(RunDirectoryError, match="holds 2 runs; name one, such as"):
        find_run(tmp_path / "mine")


def test_best_and_final_weights_are_both_there_and_say_which_they_are(tmp_path: Path, run: Run) -> None:
    def spoil(loop: TrainingLoop, progress: Progress) -> None:
        if loop.total_steps / 2 < progress.step < loop.total_steps:
            with torch.no_grad():
                for parameter in loop.model.parameters():
                    parameter.mul_(1.03)

    directory = train_run(run, tmp_path, spoil)
    rows = [row for row in directory.read_metrics() if "validation_loss" in row]
    best = min(rows, key=lambda row: row["validation_loss"])
    assert best["step"] < rows[-1]["step"]
    data = run.create_source().load()
    for weights, row in (("best", best), ("final", rows[-1])):
        model = mixcoder.load(directory.path, weights)  # type: ignore[arg-type]
        assert validation_loss(model, data.validation, "mse") == pytest.approx(row["validation_loss"])
    with safe_open(directory.best, framework="pt") as file:
        assert file.metadata()["weights"] == "best"
        assert int(file.metadata()["step"]) == best["step"]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("model.json", "{", "is not readable JSON"),
        ("model.json", "[]", "is not a JSON object"),
        ("model.json", "{}", "does not describe a model"),
        ("model.json", '{"format": 99}', "format 99 is not known here"),
        ("model.json", '{"format": 1, "type": "mixer", "arguments": []}', "does not describe a model"),
        (
            "model.json",
            '{"format": 1, "type": "os.system", "arguments": {}}',
            "'os.system' is not known here",
        ),
        ("model.json", '{"format": 1, "type": "mixer", "arguments": {"x": 1}}', "unknown key 'x'"),
        (
            "model.json",
            r'{"format": 1, "\u001b": 1}',
            r"does not describe a model: \\x1b: unknown key '\\x1b'",
        ),
        (
            "model.json",
            r'{"format": 1, "type": "mixer", "arguments": {"\u001b": 1}}',
            r"model.json: \\x1b: unknown key '\\x1b'",
        ),
        (
            "model.json",
            r'{"format": 1, "type": "mixer", "arguments": {}, "\ud800": 3}',
            r"does not describe a model: a key must be Unicode text, not the text '\\ud800'",
        ),
        ("model.safetensors", "garbage", "are not this model's weights"),
    ],
)
def test_damaged_models_are_refused(tmp_path: Path, run: Run, name: str, content: str, sentence: str) -> None:
    directory = train_run(run, tmp_path, ignore)
    (directory.path / name).write_text(content)
    with pytest.raises(RunDirectoryError, match=sentence):
        mixcoder.load(directory.path)


def test_half_a_letter_as_a_key_of_a_result_is_said(tmp_path: Path, run: Run) -> None:
    directory = RunDirectory.of(run, tmp_path)
    directory.write_config(run)
    (directory.path / "result.json").write_text(r'{"\ud800": 3}')
    with pytest.raises(RunDirectoryError, match=r"result.json: a key must be Unicode text"):
        directory.read_result()


def test_a_damaged_config_is_told_by_its_line(tmp_path: Path, run: Run) -> None:
    directory = RunDirectory.of(run, tmp_path)
    directory.write_config(run)
    config = directory.path / "config.yml"
    config.write_text("name: x\ndata: {source: digits}\nmodel: {type: mixer}\ntraining: 3\n")
    with pytest.raises(ExperimentError, match=rf"^{config}:4: training: must be a map"):
        directory.read_run()


def test_a_runs_folder_that_cannot_be_written(tmp_path: Path, run: Run) -> None:
    (tmp_path / "runs").write_text("in the way")
    with pytest.raises(WriteError, match=r"cannot write .*: not a directory"):
        train_run(run, tmp_path / "runs", ignore)


def test_shared_weights_are_saved_and_come_back(tmp_path: Path, run: Run) -> None:
    @mixcoder.register_mixer("shared")
    class Shared(mixcoder.MixingLayer):
        """Two names for one weight."""

        def __init__(self, grid: tuple[int, int], channels: int, kernel_size: int) -> None:
            super().__init__()
            self.one = torch.nn.Linear(channels, channels)
            self.two = self.one

        def mix(self, x: torch.Tensor) -> torch.Tensor:
            mixed: torch.Tensor = self.two(self.one(x.roll(1, dims=1)))
            return mixed

    path = tmp_path / "x.yml"
    [shared] = read_experiment(path, ["model.mixer=shared", "model.mixer_at=[1]", "training.steps=3"]).runs
    directory = train_run(shared, tmp_path, lambda loop, progress: loop.save(tmp_path / "checkpoint"))
    assert mixcoder.load(directory.path)(torch.rand(1, 1, 8, 8)).shape == (1, 1, 8, 8)


def test_a_layer_that_cannot_run_is_refused_before_training(tmp_path: Path) -> None:
    @mixcoder.register_mixer("broken")
    class Broken(mixcoder.MixingLayer):
        """Forgets to mix."""

        def __init__(self, grid: tuple[int, int], channels: int, kernel_size: int) -> None:
            super().__init__()

    (tmp_path / "x.yml").write_text(SOUND)
    with pytest.raises(ExperimentError, match="model: cannot run on the images"):
        read_experiment(tmp_path / "x.yml", ["model.mixer=broken", "model.mixer_at=[1]"])


@slow
def test_one_process_a_run(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second process is told so and leaves; the lock of a killed one is gone with it."""
    monkeypatch.setattr(run_directory, "LOCK_SECONDS", 0.1)
    directory = RunDirectory.of(run, tmp_path / "runs")
    hold = (
        "import sys, time; from pathlib import Path; from mixcoder.experiments.runs.run_directory import *\n"
        "with RunDirectory(Path(sys.argv[1])).locked():\n    print(flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", hold, directory.path], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    assert directory.is_locked()
    with pytest.raises(RunLockedError, match="another process is training this run") as caught:
        train_run(run, tmp_path / "runs", ignore)
    assert caught.value.exit_status == 3
    assert directory.read_failure() is None
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert not directory.is_locked()
    assert train_run(run, tmp_path / "runs", ignore).read_result()


def test_a_diverged_run_has_failed_until_it_is_tried_again(tmp_path: Path, run: Run) -> None:
    bad = replace(run, recipe=run.recipe.model_copy(update={"optimizer": "sgd", "learning_rate": 1e9}))
    with pytest.raises(TrainingError, match="loss became"):
        train_run(bad, tmp_path, ignore)
    [record] = records_in(RunDirectory.of(bad, tmp_path).path)
    assert record.state == "failed"
    assert "loss became inf at step" in record.reason
    RunDirectory.of(run, tmp_path).path.mkdir(parents=True)
    RunDirectory.of(run, tmp_path).write_failure({"reason": "of the last try"})
    assert train_run(run, tmp_path, ignore).read_failure() is None


@pytest.mark.parametrize("name", [".lock", "checkpoint", "tensorboard", "metrics.jsonl", "config.yml"])
def test_nothing_is_written_through_a_link(tmp_path: Path, run: Run, name: str) -> None:
    """A run directory may be a stranger's."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "file").write_text("theirs\n")
    is_folder = name in ("checkpoint", "tensorboard")
    directory = RunDirectory.of(run, tmp_path / "runs")
    directory.path.mkdir(parents=True)
    (directory.path / name).symlink_to(theirs if is_folder else theirs / "missing")
    if name in ("metrics.jsonl", "config.yml"):  # those are swapped in, in place of the link
        train_run(run, tmp_path / "runs", ignore)
        assert not (directory.path / name).is_symlink()
    else:
        with pytest.raises(WriteError, match=f"{name}: it is a link, which may lead anywhere; delete it"):
            train_run(run, tmp_path / "runs", ignore)
    assert [path.name for path in theirs.iterdir()] == ["file"]
    assert (theirs / "file").read_text() == "theirs\n"


def test_metrics_that_were_damaged_at_the_end_are_measured_again(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_run, "CHECKPOINT_SECONDS", 0)
    directory = train_run(run, tmp_path, ignore)
    before = directory.read_result()
    assert before
    for content in ("", "\n".join((directory.path / "metrics.jsonl").read_text().splitlines()[:-1]) + "\n"):
        (directory.path / "metrics.jsonl").write_text(content)
        (directory.path / "result.json").unlink()
        after = train_run(run, tmp_path, ignore).read_result()
        assert after
        assert after["validation_loss"] == pytest.approx(before["validation_loss"])


def test_what_a_sweep_sends_after_a_ctrl_c_is_no_second_one(tmp_path: Path, run: Run) -> None:
    def interrupt(loop: TrainingLoop, progress: Progress) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(RunInterruptedError, match="interrupted after 64 inputs; the same command"):
        train_run(run, tmp_path, interrupt)
    assert RunDirectory.of(run, tmp_path).checkpoint.is_file()


def test_a_worker_looks_for_its_sweep_while_it_validates(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SWEEP_VARIABLE, "1")
    often = replace(run, recipe=run.recipe.model_copy(update={"validations": 125}))
    with pytest.raises(RunInterruptedError, match="interrupted after its sweep had ended; the same command"):
        train_run(often, tmp_path, ignore)
    assert RunDirectory.of(often, tmp_path).read_failure() is None
