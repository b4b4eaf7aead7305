"""Progress of things that others have named."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path
from shutil import rmtree

import pytest
from rich.console import Console
from rich.text import Text

from mixcoder.cli.progress import data_progress, sweep_progress
from mixcoder.experiments.file.spec import read_experiment
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.sweeps.run_state import RunState
from mixcoder.text.durations import format_clock
from tests.data.pictures import noise

EXPERIMENT = """\
name: x
data: {source: digits}
model: {type: mixer, patch_size: 4, hidden_channels: [4], latent_dim: 2}
training: {steps: 10, seed: "${seed}"}
matrix: {seed: [0, 1]}
"""
HOSTILE = "[red]a[/]\x1b[2J\x1b]0;owned\x07\rb\u202e\udcff[/nothing]"
SAFE = r"[red]a[/]\x1b[2J\x1b]0;owned\x07\rb\u202e\udcff[/nothing]"


def said(console: Console) -> str:
    """What a console was sent, without what it adds itself: colours, and moves to show a line anew."""
    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    text.encode()
    assert "\x1b[2J" not in text
    assert "\x1b]0" not in text
    assert "\x07" not in text
    return Text.from_ansi(text).plain


@pytest.mark.parametrize("is_terminal", [True, False])
def test_names_and_reasons_of_runs(tmp_path: Path, is_terminal: bool) -> None:
    (tmp_path / "x.yml").write_text(EXPERIMENT)
    [run, other] = read_experiment(tmp_path / "x.yml").runs
    console = Console(file=StringIO(), force_terminal=is_terminal, width=200)
    state = RunState(replace(run, values={"mixer": HOSTILE}), RunDirectory(tmp_path), "running")
    ended = RunState(other, RunDirectory(tmp_path), "failed", reason=HOSTILE)
    with sweep_progress(console) as show:
        show([state, ended])
    text = said(console)
    assert SAFE in text
    assert text.count(SAFE) == 2 or is_terminal


def test_a_terminal_shows_the_first_of_a_thousand_runs(tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text(EXPERIMENT.replace("[0, 1]", str(list(range(1100)))))
    runs = read_experiment(tmp_path / "x.yml").runs
    states = [RunState(run, RunDirectory(tmp_path)) for run in runs]
    console = Console(file=StringIO(), force_terminal=True, width=100, height=60)
    with sweep_progress(console) as show:
        for state in states[:1000]:
            state.state, state.metrics = "running", {"inputs": 64, "training_loss": 0.5}
        show(states)
        states[3].state = "done"
        show(states)
    text = said(console)
    last = text[text.rindex("all runs") :]
    assert "1 of 1100 done, 999 running" in last
    assert last.count("64/640 inputs") == 20
    assert "seed=3 " not in last
    assert "seed=20 " in last


def test_images_are_read_once_to_know_how_long_epochs_are(tmp_path: Path) -> None:
    """Progress is shown several times a second, and these may be gigabytes."""
    (tmp_path / "photos").mkdir()
    for i in range(20):
        noise(16, 16, i).save(tmp_path / "photos" / f"{i}.png")
    text = EXPERIMENT.replace("{source: digits}", "{source: folder, path: photos, crop_size: 8}")
    (tmp_path / "x.yml").write_text(text.replace("steps: 10", "epochs: 4, batch_size: 9"))
    [run, _] = read_experiment(tmp_path / "x.yml").runs
    console = Console(file=StringIO(), force_terminal=True, width=200)
    state = RunState(run, RunDirectory(tmp_path), "running", {"inputs": 9, "training_loss": 0.5})
    with sweep_progress(console) as show:
        show([state])
        rmtree(tmp_path / "photos")
        show([state])
    assert state.total_inputs == 4 * 18


@pytest.mark.parametrize("is_terminal", [True, False])
def test_names_of_data(is_terminal: bool) -> None:
    console = Console(file=StringIO(), force_terminal=is_terminal, width=200)
    with data_progress(console) as start:
        start(f"packing {HOSTILE}", "images")(1, 2)
    assert f"packing {SAFE}" in said(console)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (185, "3:05"), (3599.6, "1:00:00"), (30_005, "8:20:05")]
)
def test_time_left_has_hours(seconds: float, text: str) -> None:
    assert format_clock(seconds) == text
