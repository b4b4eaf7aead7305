"""What fingers type that know other tools: each mistake gets the next step."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Cli

FILE = """\
name: mine
data: {source: digits}
model: {type: mixer, patch_size: 4, hidden_channels: [8], latent_dim: 4, mixer_at: [1], mixer: cnnf}
training: {learning_rate: 0.003, inputs: 640}
"""

MISTAKES: dict[str, tuple[tuple[str, ...], str]] = {
    "a setting without its section": (("inputs=640",), "did you mean 'training.inputs'?"),
    "a rate without its section": (("lr=0.1",), "did you mean 'training.learning_rate'?"),
    "a rate by another name": (("training.lr=0.1",), "did you mean 'learning_rate'?"),
    "decay by another name": (("training.wd=0.1",), "did you mean 'weight_decay'?"),
    "clipping by another name": (("training.gradient_clip_val=1",), "did you mean 'clip_norm'?"),
    "a key of the model": (("hidden_channels=32,32",), "did you mean 'model.hidden_channels'?"),
    "a choice without its section": (("source=mnist",), "did you mean 'data.source'?"),
    "capitals": (("model.mixer=CNNF",), "did you mean 'cnnf'?"),
    "capitals of a setting": (("training.optimizer=AdamW",), "did you mean 'adamw'?"),
    "several parts": (
        ("model.mixer=cnn,mlp",), "to try each, state matrix: {mixer: [cnn, mlp]} and mixer: ${mixer}",
    ),
    "several names": (("training.schedule=cosine,linear",), "state matrix: {schedule: [cosine, linear]}"),
    "numbers with commas": (("model.hidden_channels=32,32",), "did you mean [32, 32]?"),
    "one number for a list": (("model.hidden_channels=32",), "did you mean [32]?"),
    "a power of ten": (("training.inputs=2e4",), "must be a whole number, not 20000.0; did you mean 20_000?"),
    "thousands": (("training.inputs=10k",), "did you mean 10_000?"),
    "millions": (("training.inputs=1.5M",), "did you mean 1_500_000?"),
    "commas in a number": (("training.inputs=20,000",), "did you mean 20_000?"),
    "a part of a number": (("training.inputs=0.5k1",), "must be a whole number, not the text '0.5k1'"),
    "an axis by its key": (
        ("matrix.model.mixer=[cnn, mlp]",), "state it as mixer, and model.mixer: ${mixer}",
    ),
    "another type alone": (
        ("model.type=cnn",), "keeps the other keys of the file; 'model={type: cnn, …}' replaces them all",
    ),
    "resume": (("--resume",), "A run that was interrupted goes on by itself"),
    "epochs": (("--epochs", "3"), "A setting is a key: training.epochs=3"),
    "a rate as an option": (("--lr=0.1",), "A setting is a key: training.learning_rate=0.1"),
    "a dry run": (("--dry-run",), "mixcoder plan shows all runs and trains none"),
    "several runs": (("--multirun",), "State a matrix in the experiment file"),
}  # fmt: skip


def squeezed(text: str) -> str:
    """A text without the frame and the line ends that a terminal gives it."""
    return " ".join(text.replace("│", " ").split())


@pytest.mark.parametrize("kind", MISTAKES)
def test_each_mistake_gets_the_next_step(kind: str, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text(FILE)
    arguments, step = MISTAKES[kind]
    status, out, err = cli("run", "x.yml", *arguments)
    assert (status, out) == (2, "")
    assert step in squeezed(err)
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("kind", ["capitals", "another type alone"])
def test_the_next_step_is_the_right_one(kind: str, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text(FILE)
    right = {
        "capitals": ("model.mixer=cnnf",),
        "another type alone": ("model={type: cnn, channels: [2], kernel_size: 3, latent_dim: 4}",),
    }
    assert cli("plan", "x.yml", *right[kind])[0] == 0


def test_an_axis_by_its_key_in_a_file(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text(f"{FILE}matrix: {{model.mixer: [cnn, mlp]}}\n")
    status, _, err = cli("plan", "x.yml")
    assert status == 2
    assert "x.yml:5: matrix.model.mixer: must be a name of letters" in err
    assert "state it as mixer, and model.mixer: ${mixer}" in err


def test_a_part_is_shown_where_a_model_is_asked_for(cli: Cli) -> None:
    status, _, err = cli("models", "show", "cnnf")
    assert status == 2
    assert "mixcoder models show mixer mixer=cnnf shows it in a model" in err


@pytest.mark.parametrize("command", [(), ("run",), ("data", "ls"), ("models",)])
def test_help_by_one_letter(command: tuple[str, ...], cli: Cli) -> None:
    status, out, _ = cli(*command, "-h")
    assert status == 0
    assert cli(*command, "--help")[1] == out
