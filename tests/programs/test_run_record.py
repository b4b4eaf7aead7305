"""Trainings of a program that are runs: every command knows them, and the same call goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

import mixcoder
from mixcoder import History, ImageData, Trainer, train
from mixcoder.errors import ArgumentError, MixcoderError, RunLockedError
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.models import Autoencoder
from tests.conftest import Cli
from tests.training.test_training_loop import weights

SETTINGS: dict[str, Any] = {"steps": 40, "batch_size": 16, "learning_rate": 0.01, "compile": "off"}


def mixer(seed: int = 0) -> Autoencoder:
    torch.manual_seed(seed)
    return mixcoder.create_model(
        "mixer", image_shape=(1, 8, 8), patch_size=4, hidden_channels=[4], latent_dim=3, mixer_at=[1]
    )


def recorded(model: Autoencoder, folder: Path, data: Any = "digits", **settings: Any) -> History:
    given = mixcoder.load_data(data) if isinstance(data, str) else data
    return train(model, given, runs=folder / "runs", name="mine", **{**SETTINGS, **settings})


def test_a_run_of_a_program_is_one_of_the_command_line(tmp_path: Path, cli: Cli) -> None:
    plain, model = mixer(), mixer()
    expected = train(plain, mixcoder.load_data("digits"), **SETTINGS)
    history = recorded(model, tmp_path)
    assert torch.equal(weights(model), weights(plain))
    assert history.validation_losses == expected.validation_losses
    assert history.run is not None
    assert history.run.parent == tmp_path / "runs" / "mine"
    assert torch.equal(weights(mixcoder.load(history.run)), weights(model))
    config = YAML(typ="safe").load(history.run / "config.yml")
    assert config["data"]["source"] == "digits"
    assert config["model"]["hidden_channels"] == [4]
    assert len(config["weights"]) == 64

    status, table, _ = cli("table", "runs", "--format", "csv", "--columns", "validation_loss,inputs")
    assert status == 0
    assert table.splitlines()[1] == f"{history.validation_loss},640"
    for command in (
        ("report", "runs", "-o", "report.html"),
        ("plot", "runs", "-o", "curves.svg"),
        ("encode", "runs/mine", "digits", "-o", "codes.safetensors"),
        ("reconstruct", "runs/mine", "-o", "grid.png"),
    ):
        assert cli(*command)[0] == 0, command
    status, _, err = cli("run", str(history.run / "config.yml"), "--runs", "others")
    assert status == 2
    assert "are those of a Python program, in which mixcoder.train goes on" in err


def test_the_same_call_trains_nothing_again_and_other_weights_are_another_run(tmp_path: Path) -> None:
    first = recorded(mixer(), tmp_path)
    assert first.run is not None
    result = (first.run / "result.json").read_bytes()
    model = mixer()
    again = recorded(model, tmp_path)
    assert again.run == first.run
    assert again.validation_losses == first.validation_losses
    assert (first.run / "result.json").read_bytes() == result
    assert torch.equal(weights(model), weights(mixcoder.load(first.run)))
    other = recorded(mixer(seed=1), tmp_path)
    assert other.run != first.run
    assert recorded(mixer(), tmp_path, learning_rate=0.02).run != first.run


def test_after_a_break_another_trainer_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole = mixer()
    expected = recorded(whole, tmp_path / "whole")
    data = mixcoder.load_data("digits")
    for progress in (trainer := Trainer(mixer(), data, runs=tmp_path / "runs", name="mine", **SETTINGS)):
        if progress.step == 20:
            break
    assert trainer.history.steps == 20
    model = mixer()
    rest = Trainer(model, data, runs=tmp_path / "runs", name="mine", **SETTINGS)
    assert [progress.step for progress in rest] == list(range(21, 41))
    assert torch.equal(weights(model), weights(whole))
    assert rest.history.training_losses == expected.training_losses
    assert rest.history.run is not None
    [result] = tmp_path.glob("runs/mine/*/result.json")
    assert json.loads(result.read_text())["validation_loss"] == expected.validation_loss


def test_a_run_is_what_its_settings_say(tmp_path: Path) -> None:
    trainer = Trainer(mixer(), mixcoder.load_data("digits"), runs=tmp_path, **SETTINGS)
    with pytest.raises(ArgumentError, match="learning_rate: of a run is that of its settings"):
        trainer.learning_rate = 0.1


def test_images_in_memory_are_named_and_hashed(tmp_path: Path, cli: Cli) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    history = recorded(mixer(), tmp_path, mixcoder.images(pixels, name="noise"))
    assert history.run is not None
    data = YAML(typ="safe").load(history.run / "config.yml")["data"]
    sha256 = mixcoder.images(pixels).content_hash()
    stated = {"source": "memory", "name": "noise", "image_shape": [1, 8, 8], "count": 54, "sha256": sha256}
    assert stated.items() <= data.items()
    assert cli("table", "runs", "--format", "csv")[0] == 0
    assert cli("report", "runs", "-o", "report.html")[0] == 0
    status, _, err = cli("reconstruct", "runs/mine", "-o", "grid.png", "--open-data")
    assert status == 2
    assert "the images 'noise' were in the memory of a Python program" in err
    changed = recorded(mixer(), tmp_path, mixcoder.images(pixels[::-1].copy(), name="noise"))
    assert changed.run != history.run


def test_data_that_was_changed_is_not_taken_for_its_source(tmp_path: Path) -> None:
    data = mixcoder.load_data("digits", classes=[0, 1])
    history = recorded(mixer(), tmp_path, data)
    assert history.run is not None
    assert YAML(typ="safe").load(history.run / "config.yml")["data"]["classes"] == [0, 1]
    fewer = ImageData("digits", data.train, data.validation.hold_out(torch.arange(3))[0])
    other = recorded(mixer(), tmp_path, fewer)
    assert other.run is not None
    assert YAML(typ="safe").load(other.run / "config.yml")["data"]["source"] == "memory"


def test_two_trainings_of_one_run_do_not_disturb_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixcoder.experiments.runs.run_directory.LOCK_SECONDS", 0.1)
    history = recorded(mixer(), tmp_path / "other")
    assert history.run is not None
    directory = RunDirectory(tmp_path / "runs" / "mine" / history.run.name)
    with directory.locked(), pytest.raises(RunLockedError, match="another process is training this run"):
        recorded(mixer(), tmp_path)


def test_a_failure_is_noted_for_tables(tmp_path: Path, cli: Cli) -> None:
    with pytest.raises(MixcoderError, match="the loss became"):
        recorded(mixer(), tmp_path, learning_rate=1e25, optimizer="sgd")
    status, table, _ = cli("table", "runs", "--format", "csv")
    assert status == 0
    assert "failed" in table


class Changed(Autoencoder):
    """A model that nobody registered."""

    image_shape = (1, 8, 8)
    latent_shape = (64,)

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(64, 64)

    def _encode(self, images: torch.Tensor) -> torch.Tensor:
        latents: torch.Tensor = self.layer(images.flatten(1))
        return latents

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        return latents.reshape(-1, 1, 8, 8)


def test_what_could_not_be_loaded_again_is_refused_before_it_trains(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"model: was not made by create_model, .*register_model"):
        recorded(Changed(), tmp_path)
    model = mixer()
    model.extra = torch.nn.Linear(2, 2)
    with pytest.raises(ArgumentError, match="model: has other weights than create_model makes"):
        recorded(model, tmp_path)
    with pytest.raises(ArgumentError, match="name"):
        train(mixer(), mixcoder.load_data("digits"), runs=tmp_path, name="a/b", **SETTINGS)
    with pytest.raises(ArgumentError, match="log: needs a run directory; state the folder of runs"):
        train(mixer(), mixcoder.load_data("digits"), log=["tensorboard"], **SETTINGS)
    assert not list(tmp_path.iterdir())
