"""`mixcoder run`, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

import mixcoder
from tests.conftest import Cli, slow

EXPERIMENT = """\
name: mine
data: {source: digits}
model: {type: mixer, patch_size: 2, hidden_channels: [9, 9], latent_dim: 6, mixer_at: [1], mixer: cnn2df}
training: {learning_rate: 0.01, inputs: 6_400}
"""
PLUGIN = """\
import torch
import mixcoder

@mixcoder.register_mixer("shift")
class Shift(mixcoder.MixingLayer):
    '''Every patch sees the one before it.'''

    def __init__(self, grid, channels, kernel_size):
        super().__init__()
        self.linear = torch.nn.Linear(channels, channels)

    def mix(self, x):
        return self.linear(x.roll(1, dims=1))
"""


def test_run_then_reconstruct_then_load(cli: Cli) -> None:
    Path("x.yml").write_text(EXPERIMENT)
    status, out, err = cli("run", "x.yml")
    assert status == 0
    assert "validation loss" in out
    assert "6,400/6,400 inputs" in err
    assert "images/s" in err
    run = Path(out.splitlines()[-1])
    assert run.parent == Path("runs/mine")

    status, out, err = cli("reconstruct", run, "-o", "pictures/grid.png", "-n", "20")
    assert (status, out, err) == (0, "pictures/grid.png\n", "")
    with Image.open("pictures/grid.png") as grid:
        assert grid.size == (8 * (8 * 8 + 2) + 2, 3 * (2 * 64 + 2) + 2 * 10 + 2 * 2)

    images = mixcoder.load_data("digits").validation.images[:5] / 255
    assert mixcoder.load("runs/mine")(images).shape == (5, 1, 8, 8)

    status, again, err = cli("run", "x.yml", "--format", "json")
    assert (status, err) == (0, "")
    [row] = json.loads(again)
    assert row["run"] == run.name
    assert row["inputs"] == 6400
    assert isinstance(row["validation_loss"], float)

    status, out, _ = cli("run", "x.yml", "--format", "md")
    assert out.startswith("| run | validation loss | PSNR (dB) | SSIM | inputs |")


def test_overrides_make_another_run(cli: Cli) -> None:
    Path("x.yml").write_text(EXPERIMENT)
    cli("run", "x.yml", "training.steps=2", "--runs", "elsewhere")
    cli("run", "x.yml", "training.steps=2", "model.mixer=mlp", "--runs", "elsewhere")
    assert len(list(Path("elsewhere/mine").iterdir())) == 2


def test_a_run_directorys_config_runs_by_itself(cli: Cli) -> None:
    Path("x.yml").write_text(EXPERIMENT)
    _, out, _ = cli("run", "x.yml", "training.steps=3")
    run = Path(out.splitlines()[-1])
    _, again, _ = cli("run", run / "config.yml", "--runs", "again")
    weights = [path / "model.safetensors" for path in (run, Path(again.splitlines()[-1]))]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_users_own_mixing_layer_from_a_plugin(cli: Cli) -> None:
    Path("mine.py").write_text(PLUGIN)
    Path("x.yml").write_text(EXPERIMENT)
    status, _, err = cli("run", "x.yml", "model.mixer=shift")
    assert status == 2
    assert "unknown mixing layer 'shift'" in err

    status, out, _ = cli("--plugin", "mine.py", "run", "x.yml", "model.mixer=shift", "training.steps=5")
    assert status == 0
    run = out.splitlines()[-1]
    assert mixcoder.load(run)(torch.rand(2, 1, 8, 8)).shape == (2, 1, 8, 8)


@slow
def test_first_trains_on_the_real_mnist(
    cli: Cli, mnist_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The main job, shortened: after 20,000 of its inputs the loss is well below that of the mean image."""
    monkeypatch.setenv("MIXCODER_DATA", str(mnist_folder.parent))
    first = Path(__file__).parents[2] / "experiments" / "mnist" / "first.yml"
    status, out, _ = cli("run", first, "training.inputs=20_000", "training.validations=1", "--format", "json")
    assert status == 0
    [row] = json.loads(out)
    assert row["params"] == 35_249
    assert row["validation_loss"] < 0.03  # the mean image's is 0.067
