"""TensorBoard's own reader finds in a run's event files what metrics.jsonl has; its table shows the run."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard import context
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

from mixcoder.errors import ArgumentError, TrainingError
from mixcoder.experiments.file.spec import Run, read_experiment
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.runs.training_run import train_run
from mixcoder.pixels.pictures import stacked_grid
from mixcoder.training.training_loop import Progress, TrainingLoop
from tests.experiments.file.test_spec import SOUND

CURVES = {
    "training_loss": "loss/training",
    "validation_loss": "loss/validation",
    "learning_rate": "schedule/learning_rate",
}
FIGURES = {"params": "result/params", "psnr": "result/psnr", "ssim": "result/ssim"}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path, "training.log=[tensorboard]")


def make_run(tmp_path: Path, *overrides: str) -> Run:
    path = tmp_path / "x.yml"
    path.write_text(SOUND)
    [run] = read_experiment(path, ["training.steps=40", "training.validations=4", *overrides]).runs
    return run


def ignore(loop: TrainingLoop, progress: Progress) -> None:
    pass


def read(directory: RunDirectory) -> Any:
    """What TensorBoard's reader finds, with no point left out."""
    everything = {"scalars": 0, "images": 0, "tensors": 0}
    return EventAccumulator(str(directory.path / "tensorboard"), size_guidance=everything).Reload()


def points_of(rows: Iterable[dict[str, Any]], key: str) -> list[tuple[int, float]]:
    """(inputs, value) of the rows that have the key, as event files hold numbers."""
    return [(row["inputs"], float(np.float32(row[key]))) for row in rows if key in row]


def assert_has_every_scalar(directory: RunDirectory) -> None:
    rows, events = directory.read_metrics(), read(directory)
    assert {key for row in rows for key in row} == {*CURVES, "step", "inputs"}
    for key, tag in CURVES.items():
        assert [(it.step, it.value) for it in events.Scalars(tag)] == points_of(rows, key), tag


def test_every_scalar_is_read_back(tmp_path: Path, run: Run) -> None:
    directory = train_run(run, tmp_path / "runs", ignore)
    assert len(directory.read_metrics()) > 4
    assert_has_every_scalar(directory)
    result, events = directory.read_result(), read(directory)
    assert result is not None
    for key, tag in FIGURES.items():
        assert [(it.step, it.value) for it in events.Scalars(tag)] == points_of([result], key), tag


def test_each_validation_shows_what_the_model_then_made_of_the_images(tmp_path: Path, run: Run) -> None:
    def keep(loop: TrainingLoop, progress: Progress) -> None:
        if progress.validation_loss is not None:
            images = loop.data.validation.images[:8] / 255
            copies = loop.model.eval()(images).detach().clamp(0, 1)
            loop.model.train()
            expected.append((progress.inputs, stacked_grid([images, copies])))

    expected: list[tuple[int, Image.Image]] = []
    shown = read(train_run(run, tmp_path / "runs", keep)).Images("reconstructions")
    assert len(shown) == 4
    for event, (inputs, grid) in zip(shown, expected, strict=True):
        picture = Image.open(BytesIO(event.encoded_image_string))
        assert (event.step, event.width, event.height) == (inputs, *grid.size)
        assert picture.tobytes() == grid.tobytes()


def test_its_table_of_runs_has_settings_and_figures(tmp_path: Path) -> None:
    """What the page HPARAMS asks TensorBoard's server for."""
    for mixer in ("cnn", "mlp"):
        settings = [f"model.mixer={mixer}", "model.mixer_at=[1]", "training.log=[tensorboard]"]
        train_run(make_run(tmp_path, *settings), tmp_path / "runs", ignore)
    rows = table_of(tmp_path / "runs")
    assert sorted(row.hparams["model.mixer"].string_value for row in rows) == ["cnn", "mlp"]
    for row in rows:
        assert row.hparams["training.learning_rate"].number_value == 0.001
        assert row.hparams["model.hidden_channels"].string_value == "9,4"
        assert "training.log" not in row.hparams
        [session] = row.sessions
        assert session.status == api_pb2.STATUS_SUCCESS
        figures = {f"{it.name.group}/{it.name.tag}": it.value for it in row.metric_values}
        assert any(name.endswith("loss/validation") for name in figures), figures


def table_of(runs: Path) -> list[Any]:
    multiplexer = EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(runs))
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, str(runs))
    backend = backend_context.Context(TBContext(data_provider=provider, logdir=str(runs)))
    request = api_pb2.ListSessionGroupsRequest(
        start_index=0, slice_size=10, allowed_statuses=[api_pb2.STATUS_SUCCESS]
    )
    answer = list_session_groups.Handler(context.RequestContext(), backend, "", request).run()
    return list(answer.session_groups)


def test_interrupted_and_gone_on_no_step_is_lost_or_doubled(tmp_path: Path, run: Run) -> None:
    def interrupt(loop: TrainingLoop, progress: Progress) -> None:
        if progress.step == 15:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(TrainingError, match="interrupted"):
        train_run(run, tmp_path / "runs", interrupt)
    directory = train_run(run, tmp_path / "runs", ignore)
    assert len(list((directory.path / "tensorboard").iterdir())) == 2
    assert_has_every_scalar(directory)
    inputs = [event.step for event in read(directory).Images("reconstructions")]
    assert inputs == [row["inputs"] for row in directory.read_metrics() if "validation_loss" in row]


def test_what_a_crash_threw_away_is_thrown_away_here_too(tmp_path: Path, run: Run) -> None:
    directory = RunDirectory.of(run, tmp_path / "runs")

    def die(loop: TrainingLoop, progress: Progress) -> None:
        if progress.step == 10:
            loop.save(directory.checkpoint)
        if progress.step == 31:
            raise ZeroDivisionError("the end")

    with pytest.raises(ZeroDivisionError):
        train_run(run, tmp_path / "runs", die)
    assert read(directory).Scalars("loss/training")[-1].step == 31 * 64
    train_run(run, tmp_path / "runs", ignore)
    assert_has_every_scalar(directory)
    inputs = [event.step for event in read(directory).Images("reconstructions")]
    assert inputs == [row["inputs"] for row in directory.read_metrics() if "validation_loss" in row]


def test_a_run_that_began_without_it_is_whole_in_it(tmp_path: Path, run: Run) -> None:
    def interrupt(loop: TrainingLoop, progress: Progress) -> None:
        if progress.step == 15:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(TrainingError, match="interrupted"):
        train_run(make_run(tmp_path), tmp_path / "runs", interrupt)
    assert_has_every_scalar(train_run(run, tmp_path / "runs", ignore))


def test_without_the_package_it_says_how_to_get_it(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "mixcoder.loggers.event_file", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    with pytest.raises(ArgumentError, match=r"pip install 'mixcoder\[tensorboard\]'"):
        train_run(run, tmp_path / "runs", ignore)
    assert not (tmp_path / "runs").exists()
