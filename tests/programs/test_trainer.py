"""The loop in one's own hands, and `train`, which is that loop with a bar."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mixcoder import History, ImageData, Progress, Trainer, train
from mixcoder.errors import ArgumentError
from mixcoder.models import Autoencoder
from tests.training.test_training_loop import tiny_mixer, weights

SETTINGS: dict[str, Any] = {"steps": 40, "batch_size": 8, "learning_rate": 0.01, "validations": 4}


def test_the_loop_trains_what_train_trains(tiny_data: ImageData) -> None:
    by_hand, in_one_call = tiny_mixer(), tiny_mixer()
    seen = list(Trainer(by_hand, tiny_data, **SETTINGS))
    history = train(in_one_call, tiny_data, **SETTINGS)
    assert torch.equal(weights(by_hand), weights(in_one_call))
    assert [each.training_loss for each in seen] == [loss for _, loss in history.training_losses]
    assert seen[-1].step == history.steps == 40
    assert len(history.validation_losses) == 4


def test_a_break_leaves_a_whole_model_in_its_modes(tiny_data: ImageData) -> None:
    model = tiny_mixer().eval()
    trainer = Trainer(model, tiny_data, **SETTINGS)
    for progress in trainer:
        assert model.training
        with torch.no_grad():
            assert model(tiny_data.validation.images[:1] / 255).isfinite().all()
        if progress.step >= 10:
            break
    assert not any(module.training for module in model.modules())
    pointers = {value.untyped_storage().data_ptr() for value in model.parameters()}
    assert len(pointers) == len(list(model.parameters()))
    assert trainer.history.steps == progress.step < 40
    assert not trainer.history.was_interrupted
    with pytest.raises(ArgumentError, match=rf"has ended after {progress.step} steps; make another Trainer"):
        next(iter(trainer))


def test_before_the_first_step_there_is_no_history(tiny_data: ImageData) -> None:
    with pytest.raises(ArgumentError, match="the training has not begun"):
        _ = Trainer(tiny_mixer(), tiny_data, **SETTINGS).history


def test_the_rate_can_be_changed_between_steps(tiny_data: ImageData) -> None:
    """A tenth of it from the middle on is what a recipe of two parts would do."""
    trainer = Trainer(tiny_mixer(), tiny_data, **SETTINGS, schedule="constant")
    assert trainer.learning_rate == 0.01
    rates = []
    for progress in trainer:
        rates.append(progress.learning_rate)
        if progress.step == 20:
            trainer.learning_rate = 0.001
    assert rates[:20] == [0.01] * 20
    assert rates[20:] == pytest.approx([0.001] * 20)
    other = train(tiny_mixer(), tiny_data, **SETTINGS, schedule="constant")
    assert other.training_loss != trainer.history.training_loss
    for wrong in (0, -1, float("nan"), float("inf"), "fast", True, None):
        with pytest.raises(ArgumentError, match="learning_rate: must be a number above 0"):
            trainer.learning_rate = wrong  # type: ignore[assignment]


def test_the_moving_average_is_what_stays_also_after_a_break(tiny_data: ImageData) -> None:
    model = tiny_mixer()
    trainer = Trainer(model, tiny_data, **SETTINGS, ema=0.9)
    for progress in trainer:
        if progress.validation_loss is not None and progress.step < 40:
            with trainer.evaluated_weights():
                average = weights(model)
            raw = weights(model)
            break
    assert not torch.equal(raw, average)
    assert torch.equal(weights(model), average)


def test_what_the_program_switched_off_stays_off_between_steps(tiny_data: ImageData) -> None:
    plain = tiny_mixer()
    train(plain, tiny_data, **SETTINGS)
    model = tiny_mixer()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        for _ in Trainer(model, tiny_data, **SETTINGS):
            assert not torch.is_grad_enabled()
            assert torch.is_autocast_enabled("cpu")
    assert torch.equal(weights(model), weights(plain))


def test_on_progress_sees_all_and_its_error_ends_the_training(tiny_data: ImageData) -> None:
    seen: list[Progress] = []
    history = train(tiny_mixer(), tiny_data, on_progress=seen.append, **SETTINGS)
    assert tuple(seen) == history.progress

    def fail(progress: Progress) -> None:
        raise ZeroDivisionError

    model = tiny_mixer()
    with pytest.raises(ZeroDivisionError) as caught:
        train(model, tiny_data, on_progress=fail, **SETTINGS)
    assert caught.traceback  # which holds on to the loop
    pointers = {value.untyped_storage().data_ptr() for value in model.parameters()}
    assert len(pointers) == len(list(model.parameters()))


def test_the_history_knows_its_best_and_draws_itself(tiny_data: ImageData, tmp_path: Path) -> None:
    history = train(tiny_mixer(), tiny_data, **SETTINGS)
    losses = [loss for _, loss in history.validation_losses]
    assert history.best.validation_loss == min(losses)
    assert history.validation_loss == losses[-1]
    assert history.inputs == 320
    history.plot().save(tmp_path / "losses.svg")
    drawn = (tmp_path / "losses.svg").read_text()
    assert drawn == history._repr_svg_() == history.plot()._repr_svg_()
    for text in ("inputs", "loss", "training", "validation"):
        assert f">{text}<" in drawn
    with pytest.raises(ArgumentError, match=r"does not end in \.svg, \.png or \.pdf"):
        history.plot().save(tmp_path / "losses.txt")
    only = History(history.progress[:1])
    assert only.validation_loss is None
    assert only.plot().figure.axes
    with pytest.raises(ArgumentError, match="nothing was validated before the training ended"):
        _ = only.best


class Signalling(Autoencoder):
    """Sends its own process Ctrl-C while a step is computed."""

    image_shape = (1, 4, 6)
    latent_shape = (5,)

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.left = calls

    def _encode(self, images: torch.Tensor) -> torch.Tensor:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return images.flatten(1)[:, :5] * self.weight

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(latents, (0, 19)).reshape(-1, 1, 4, 6)


def test_ctrl_c_ends_train_after_a_whole_step_with_what_it_has(tiny_data: ImageData) -> None:
    handler = signal.getsignal(signal.SIGINT)
    settings: dict[str, Any] = {"steps": 400, "batch_size": 8, "validations": 1, "compile": "off"}
    history = train(Signalling(30), tiny_data, **settings)
    assert history.was_interrupted
    assert 0 < history.steps < 400
    assert signal.getsignal(signal.SIGINT) is handler
    with pytest.raises(KeyboardInterrupt):
        for _ in (trainer := Trainer(Signalling(30), tiny_data, **settings)):
            pass
    assert trainer.history.steps == history.steps
    assert not train(tiny_mixer(), tiny_data, **SETTINGS).was_interrupted


PROGRAM = """\
import torch, mixcoder
data = mixcoder.load_data("digits")
torch.manual_seed(0)
model = mixcoder.create_model(
    "mixer", image_shape=data.image_shape, patch_size=4, hidden_channels=[8], latent_dim=4, mixer_at=[1]
)
history = mixcoder.train(model, data, inputs=100_000_000, show=True)
print(history.was_interrupted, history.steps > 0, flush=True)
"""


def test_a_real_ctrl_c_in_a_real_program(tmp_path: Path) -> None:
    command, pipe = [sys.executable, "-c", PROGRAM], subprocess.PIPE
    process = subprocess.Popen(command, cwd=tmp_path, text=True, stdout=pipe, stderr=pipe)
    assert process.stderr is not None
    lines = []
    while "inputs" not in (line := process.stderr.readline()):  # it trains
        lines.append(line)
        assert line, lines
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "True True\n"), err


def test_a_program_shows_a_bar_only_where_somebody_looks(
    tiny_data: ImageData, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tiny_mixer(), tiny_data, **SETTINGS)
    assert capsys.readouterr() == ("", "")
    train(tiny_mixer(), tiny_data, **SETTINGS, show=True)
    assert "320/320 inputs · loss 0." in capsys.readouterr().err
    with pytest.raises(ArgumentError, match="show: must be True, False or None"):
        train(tiny_mixer(), tiny_data, show="yes", **SETTINGS)  # type: ignore[arg-type]
