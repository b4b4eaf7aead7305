"""Loggers do a run no harm: not by failing, not by what they do to torch, not by being there at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import mixcoder
from mixcoder.errors import ArgumentError, ExperimentError
from mixcoder.experiments.file.spec import Run, read_experiment
from mixcoder.experiments.runs.training_run import train_run
from mixcoder.loggers.logger import Row
from mixcoder.training.training_loop import Progress, TrainingLoop
from tests.conftest import Cli
from tests.experiments.file.test_spec import SOUND

PLUGIN = '''\
import mixcoder


@mixcoder.register_logger("lines")
class Lines(mixcoder.Logger):
    """A line of text for each validation."""

    def log(self, row):
        if "validation_loss" in row:
            with (self.folder / "lines.txt").open("a") as file:
                print(row["inputs"], row["validation_loss"], file=file)
'''


def make_run(tmp_path: Path, *overrides: str) -> Run:
    path = tmp_path / "x.yml"
    path.write_text(SOUND)
    [run] = read_experiment(path, ["training.steps=20", "training.validations=4", *overrides]).runs
    return run


def ignore(loop: TrainingLoop, progress: Progress) -> None:
    pass


class Told(mixcoder.Logger):
    """Keeps what it is told, and disturbs torch as much as it can."""

    heard: list[tuple[str, Any]] = []  # noqa: RUF012 - the test's own

    def __init__(self, folder: Path, settings: Mapping[str, Any], rows: Sequence[Row]) -> None:
        super().__init__(folder, settings, rows)
        self.heard.clear()
        torch.manual_seed(99)

    def log(self, row: Row) -> None:
        self.heard.append(("log", row))
        torch.rand(3)

    def images(self, inputs: int, originals: Tensor, copies: Tensor) -> None:
        self.heard.append(("images", (inputs, originals.clone(), copies.clone())))
        originals.fill_(5)
        torch.manual_seed(1)

    def finish(self, result: Mapping[str, Any]) -> None:
        self.heard.append(("finish", result))


def test_what_a_logger_is_told(tmp_path: Path) -> None:
    mixcoder.register_logger("told")(Told)
    directory = train_run(make_run(tmp_path, "training.log=[told]"), tmp_path / "runs", ignore)
    assert [row for kind, row in Told.heard if kind == "log"] == directory.read_metrics()
    shown = [images for kind, images in Told.heard if kind == "images"]
    assert [inputs for inputs, _, _ in shown] == [320, 640, 960, 1280]
    for _, originals, copies in shown:
        assert originals.shape == copies.shape == (8, 1, 8, 8)
        assert torch.equal(originals, shown[0][1])
        assert 0 <= copies.min() < copies.max() <= 1
    assert Told.heard[-1] == ("finish", directory.read_result())


def test_weights_and_metrics_are_the_same_to_the_byte(tmp_path: Path) -> None:
    mixcoder.register_logger("told")(Told)
    without = train_run(make_run(tmp_path), tmp_path / "without", ignore)
    logged = train_run(make_run(tmp_path, "training.log=[told, tensorboard]"), tmp_path / "with", ignore)
    assert (logged.path / "tensorboard").is_dir()
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (without.path / name).read_bytes() == (logged.path / name).read_bytes()


def test_it_is_the_same_run_with_and_without(tmp_path: Path) -> None:
    logged = make_run(tmp_path, "training.log=[tensorboard]")
    assert logged.directory_name == make_run(tmp_path).directory_name


@pytest.mark.parametrize("method", ["__init__", "log", "images", "finish"])
def test_one_that_fails_is_told_once_and_the_run_goes_on(
    tmp_path: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: mixcoder.Logger, *arguments: Any) -> None:
        raise OSError("no space left\non the device")

    mixcoder.register_logger("failing")(type("Failing", (mixcoder.Logger,), {method: fail}))
    mixcoder.register_logger("told")(Told)
    run = make_run(tmp_path, "training.log=[failing, told]")
    directory = train_run(run, tmp_path / "runs", ignore)
    assert capsys.readouterr().err == (
        "training.log: failing failed and is left out from here on, metrics.jsonl has everything "
        "(OSError: no space left)\n"
    )
    assert directory.read_result() is not None
    assert Told.heard[-1][0] == "finish"


def test_tensorboard_that_cannot_write_does_not_lose_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path, "training.log=[tensorboard]")
    folder = tmp_path / "runs" / "mine" / run.directory_name
    folder.mkdir(parents=True)
    (folder / "tensorboard").write_text("in the way")
    assert train_run(run, tmp_path / "runs", ignore).read_result() is not None
    assert capsys.readouterr().err.startswith("training.log: tensorboard failed and is left out from here on")


def test_a_users_own_from_a_plugin(cli: Cli) -> None:
    Path("lines.py").write_text(PLUGIN)
    Path("x.yml").write_text(SOUND)
    status, _, err = cli("run", "x.yml", "training.log=[lines]")
    assert status == 2
    assert "training.log: unknown logger 'lines'" in err
    short = ["training.steps=4", "training.validations=2", "training.log=[lines]"]
    status, out, _ = cli("--plugin", "lines.py", "run", "x.yml", *short)
    assert status == 0
    folder = Path(out.splitlines()[-1])
    assert [int(line.split()[0]) for line in (folder / "lines.txt").read_text().splitlines()] == [128, 256]
    assert mixcoder.load(folder)  # whoever has not the plugin can still use the model


def test_names_are_checked_with_the_experiment(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"unknown logger 'tensorbord'; did you mean 'tensorboard'\?"):
        make_run(tmp_path, "training.log=[tensorbord]")
    with pytest.raises(ExperimentError, match="names 'tensorboard' twice"):
        make_run(tmp_path, "training.log=[tensorboard, tensorboard]")


def test_in_python_there_is_no_run_directory_to_log_to() -> None:
    data = mixcoder.load_data("digits")
    sizes = {"patch_size": 2, "hidden_channels": [4], "latent_dim": 2}
    model = mixcoder.create_model("mixer", image_shape=data.image_shape, **sizes)
    with pytest.raises(ArgumentError, match="needs a run directory"):
        mixcoder.train(model, data, steps=1, log=["tensorboard"])
