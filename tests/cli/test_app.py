"""The commands, as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

import mixcoder
from mixcoder.cli import lazy
from mixcoder.cli.app import create_app
from mixcoder.cli.lazy import LazyCommand, LazyGroup, add_commands
from mixcoder.cli.results import CostName
from mixcoder.measures import MEASURES
from tests.conftest import Cli

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


def test_plugins_show_in_the_listing(cli: Cli) -> None:
    Path("mine.py").write_text(PLUGIN)
    _, out, _ = cli("--plugin", "mine.py", "models", "ls", "--format", "json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert rows["shift"] == {
        "kind": "mixer",
        "name": "shift",
        "summary": "Every patch sees the one before it.",
    }
    assert {"mixer", "cnn", "script"} <= {name for name, row in rows.items()}
    assert all(row["summary"] for row in rows.values())


def test_models_show(cli: Cli) -> None:
    status, out, _ = cli("models", "show", "mixer")
    assert status == 0
    assert "35,249 parameters, latent shape (16,), compression ratio 49" in out
    assert "encoder.2.module" in out
    status, out, _ = cli("models", "show", "mixer", "kernel_size=3", "mixer=cnnf", "--format", "json")
    rows = json.loads(out)
    assert sum(row["params"] for row in rows) == 89_297
    assert rows[0] == {
        "layer": "patchify",
        "module": "Patchify(patch_size=7)",
        "output_shape": [16, 49],
        "params": 0,
    }
    status, out, _ = cli("models", "show", "script", "image_shape=[1, 8, 8]", "script=ch=4|down2|ch=1")
    assert "latent shape (1, 4, 4)" in out


@pytest.mark.usefixtures("empty_cache")
def test_data_ls(cli: Cli) -> None:
    _, out, _ = cli("data", "ls", "--format", "json")
    assert json.loads(out) == [
        {"source": "digits", "image_shape": [1, 8, 8], "status": "ready"},
        {
            "source": "folder",
            "image_shape": None,
            "status": "ready once told: path: is missing: name a folder of images",
        },
        {
            "source": "hub",
            "image_shape": None,
            "status": "ready once told: name: is missing (in data source 'hub')",
        },
        {"source": "mnist", "image_shape": [1, 28, 28], "status": "not fetched yet"},
        {"source": "fashion_mnist", "image_shape": [1, 28, 28], "status": "not fetched yet"},
        {
            "source": "unsplash",
            "image_shape": [3, 96, 96],
            "status": "not fetched yet",
        },
    ]


def test_data_verify(cli: Cli, mnist_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIXCODER_DATA", str(mnist_folder.parent))
    status, out, _ = cli("data", "verify", "mnist")
    assert status == 0
    assert out.count("-ubyte") == 4
    assert "damaged" not in out
    expected = f"mnist: 60,000 images to train on, 10,000 to validate on\nready in {mnist_folder}\n"
    assert cli("data", "fetch", "mnist")[:2] == (0, expected)


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


def test_version_and_help(cli: Cli) -> None:
    assert cli("--version") == (0, f"mixcoder {mixcoder.__version__}\n", "")
    assert "reconstruct" in cli("--help")[1]


def test_the_table_of_commands() -> None:
    """Its names and help are those of the functions; every module of the table can be imported."""
    app = create_app()
    groups = [app, *(command for command in app.commands.values() if isinstance(command, LazyGroup))]
    for group in groups:
        for name, command in group.commands.items():
            if isinstance(command, LazyCommand):
                loaded = command.load()
                assert (loaded.name, loaded.help) == (name, command.help)
    assert {"run", "table", "encode", "models"} <= set(app.commands)
    assert [len(group.commands) for group in groups[1:]] == [2, 3, 2]


NEW = """\
def data_hi():
    'Say hi.'

def hi():
    'Say hi to all.'

def _helper():
    pass
"""


def test_a_new_command_is_a_new_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.py").write_text(NEW)
    monkeypatch.setattr(lazy, "__file__", str(tmp_path / "lazy.py"))
    group = LazyGroup()
    add_commands(group, ["own"], {"data": "The data."})
    data = group.commands["data"]
    assert isinstance(data, LazyGroup)
    assert list(group.commands) == ["hi", "data"]
    assert [(name, command.help) for name, command in data.commands.items()] == [("hi", "Say hi.")]


def test_plots_take_every_cost_of_the_measures() -> None:
    assert set(CostName) == {measure.cost for measure in MEASURES if measure.cost}


def test_a_command_that_there_is_not(cli: Cli) -> None:
    status, _, err = cli("recnstruct")
    assert status == 2
    assert "'reconstruct'" in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize(
    ("place", "status", "said"), [(">/dev/full", 1, "error: no space left on device\n"), (">&-", 0, "")]
)
def test_output_that_nobody_can_take(place: str, status: int, said: str) -> None:
    """A full disk is told in a sentence; closed output is what the user asked for."""
    command = f"'{sys.executable}' -m mixcoder experiments ls --format json {place}"
    ended = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (status, said)


def test_help_is_instant_because_torch_stays_out() -> None:
    """The ratio to an empty interpreter in one run, so that a slow machine slows both."""
    program = (
        "import sys; from mixcoder.cli.app import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    )
    check = program + "assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules), sys.modules.keys()\n"
    subprocess.run([sys.executable, "-c", check], check=True, capture_output=True)

    def seconds(code: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        return time.perf_counter() - start

    help_seconds = min(seconds(program) for _ in range(3))
    torch_seconds = min(seconds("import torch") for _ in range(3))
    assert help_seconds < torch_seconds


def test_the_public_names_are_all_there() -> None:
    assert sorted(mixcoder.__all__) == sorted(mixcoder._HOMES)
    for name in mixcoder.__all__:
        assert getattr(mixcoder, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = mixcoder.nonsense


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_any_encoding_of_a_terminal_takes_all_that_is_printed(encoding: str) -> None:
    """A character that it lacks appears as its escape."""
    ended = subprocess.run(
        [sys.executable, "-m", "mixcoder", "schema", "--format", "md"],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert rb"\u2265" in ended.stdout
