"""The order of runs on many machines: by their work, the longest first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from mixcoder.experiments.file.spec import read_experiment
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.sweeps.run_order import longest_first
from mixcoder.experiments.sweeps.run_state import RunState
from tests.conftest import Cli, slow

EXPERIMENT = """\
name: mine
data: {source: digits}
model: {type: mixer, patch_size: 4, hidden_channels: "${size}", latent_dim: 3, mixer_at: [1], mixer: cnn}
training: {learning_rate: 0.1, inputs: "${inputs}", seed: "${seed}"}
matrix: {size: [[4], [16]], inputs: [640, 1280], seed: [0, 1]}
"""
Key = tuple[list[int], int, int]


@pytest.fixture(autouse=True)
def _file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.yml").write_text(EXPERIMENT)


def states_of(*overrides: str) -> list[RunState]:
    runs = read_experiment(Path("x.yml"), overrides).runs
    return list(map(RunState, runs, RunDirectory.of_all(runs, Path("runs"))))


def keys(states: Sequence[RunState]) -> list[Key]:
    values = [state.run.values for state in states]
    return [(each["size"], each["inputs"], each["seed"]) for each in values]


def test_more_multiply_adds_and_more_inputs_start_first_and_equal_runs_keep_their_order() -> None:
    assert keys(longest_first(states_of())) == [
        ([16], 1280, 0),
        ([16], 1280, 1),
        ([16], 640, 0),
        ([16], 640, 1),
        ([4], 1280, 0),
        ([4], 1280, 1),
        ([4], 640, 0),
        ([4], 640, 1),
    ]


def test_many_inputs_of_a_small_model_are_more_work_than_few_of_a_large_one() -> None:
    found = keys(longest_first(states_of("matrix.inputs=[640, 64000]", "matrix.seed=[0]")))
    assert [inputs for _, inputs, _ in found] == [64000, 64000, 640, 640]


def test_epochs_over_images_that_are_not_here_are_compared_without_them() -> None:
    """As on a cluster, where nodes read or fetch them."""
    text = EXPERIMENT.replace("digits", "folder, path: nowhere, crop_size: 8")
    Path("x.yml").write_text(text.replace("inputs: ", "epochs: ", 1).replace("640, 1280", "1, 6"))
    found = keys(longest_first(states_of("matrix.seed=[0]")))
    assert found == [([16], 6, 0), ([4], 6, 0), ([16], 1, 0), ([4], 1, 0)]


@slow
def test_the_longest_run_starts_first_behind_a_launcher_alone(cli: Cli) -> None:
    changes = ["matrix.seed=[0]", "matrix.inputs=[640]"]
    for options, first in (([], "size=4"), (["--launcher", "env"], "size=16")):
        status, _, err = cli("run", "x.yml", *changes, "--runs", f"runs{len(options)}", *options)
        assert status == 0
        assert err.splitlines()[0].startswith(f"running: {first}")
