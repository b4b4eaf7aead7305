"""The plan: counts that are the article's, refusals before training, times that mean something."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from mixcoder.experiments.file.spec import read_experiment
from mixcoder.experiments.plans import plan
from mixcoder.experiments.results.article import article_row, article_tables
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.models import register_model
from mixcoder.models.convolutional import ConvAutoencoder
from mixcoder.models.cost import count_madds
from mixcoder.pixels.shape import ImageShape
from tests.conftest import Cli, slow

ROOT = Path(__file__).parents[3]
TABLES = article_tables()


FILES = {
    "mnist/conv-mixing": "conv-mixing",
    "mnist/linear-mixing": "linear-mixing",
    "mnist/cnn-baseline": "cnn-baseline",
    "mnist/kernel-sizes": "kernel-sizes",
    "mnist/long-run": "long-run",
    "photos/patch-sizes": "patch-sizes",
    "photos/narrow-head": "narrow-head",
    "photos/pixel-unshuffle": "pixel-unshuffle",
}
"""Which file states which table of the article."""


def test_every_table_has_its_file() -> None:
    assert sorted(FILES.values()) == sorted(TABLES)


@pytest.mark.parametrize("file", FILES)
def test_the_articles_tables_row_by_row(file: str, tmp_path: Path) -> None:
    table = FILES[file]
    experiment = read_experiment(ROOT / "experiments" / f"{file}.yml")
    rows = plan.plan_rows(experiment, tmp_path)
    assert Counter(row["params"] for row in rows) == Counter(row["params"] for row in TABLES[table])
    assert all(row["minutes"] > 0 and row["madds"] > 0 and not row["done"] for row in rows)
    if table != "kernel-sizes":  # whose rows the article sorts by loss
        assert [row["params"] for row in rows] == [row["params"] for row in TABLES[table]]
    for run in experiment.runs:
        figures = article_row(run)
        assert figures in TABLES[table]
        assert run.recipe.inputs == figures["inputs"]


def test_command(cli: Cli) -> None:
    file = ROOT / "experiments" / "mnist" / "conv-mixing.yml"
    status, out, _ = cli("plan", file, "matrix.seed=[0, 1]")
    assert status == 0
    assert "16 runs, 0 done, about" in out
    assert "35,793" in out
    assert "encode" in out
    status, out, _ = cli("plan", file, "--format", "json")
    row = json.loads(out)[4]
    assert (row["at"]["mixer_at"], row["seed"], row["latent_shape"], row["params"]) == ([1], 0, [16], 34_161)
    assert row["madds"] == row["encode_madds"] + row["decode_madds"] < row["train_madds"] / 2
    assert not list(Path().iterdir())


def test_what_is_done_is_told_with_its_time(cli: Cli) -> None:
    Path("x.yml").write_text(
        "name: mine\ndata: {source: digits}\ntraining: {steps: '${steps}'}\nmatrix: {steps: [3, 400]}\n"
        "model: {type: mixer, patch_size: 4, hidden_channels: [4], latent_dim: 2}\n"
    )
    assert cli("run", "x.yml", "matrix.steps=[3]")[0] == 0
    [short, long] = json.loads(cli("plan", "x.yml", "--format", "json")[1])
    assert (short["done"], long["done"]) == (True, False)
    [result] = Path("runs/mine").glob("*/result.json")
    assert short["minutes"] == json.loads(result.read_text())["train_minutes"]


MINE = """\
name: mine
data: {source: digits}
training: {steps: "${steps}", seed: "${seed}", compile: "off"}
model: {type: mixer, patch_size: 4, hidden_channels: [4], latent_dim: 2}
matrix: {steps: [10, 1000], seed: [0, 1]}
"""


def _planned(cli: Cli, *options: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(cli("plan", *options, "--format", "json")[1])
    return rows


def _finish(seed: int, **changes: object) -> None:
    """Writes the result of a run of `MINE` as this machine gives it, but for the changes."""
    [run] = read_experiment(Path("x.yml"), ["matrix.steps=[10]", f"matrix.seed=[{seed}]"]).runs
    hardware = {
        "device": "cpu",
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    madds = _planned_madds()
    result = {
        "validation_loss": 0.5,
        "model": "mixer",
        "madds": madds,
        "inputs": 640,
        "throughput": 64.0,
        "train_minutes": 1.0,
        "warmup_seconds": 1.0,
        "hardware": hardware,
        "execution": "eager steps, products in float32 (a note)",
    }
    RunDirectory.of(run, Path("runs")).write_result({**result, **changes})


def _planned_madds() -> int:
    [run, *_] = read_experiment(Path("x.yml")).runs
    with torch.device("meta"):
        return count_madds(run.create_model())


def test_an_estimate_says_from_what_it_is(cli: Cli) -> None:
    """Steps cost what they cost: a hundred times as many take a hundred times as long."""
    Path("x.yml").write_text(MINE)
    rows = _planned(cli, "x.yml")
    assert {row["minutes_from"] for row in rows} == {"estimate from measured speed"}
    assert rows[2]["minutes"] == pytest.approx(100 * rows[0]["minutes"])
    assert 0 < rows[0]["minutes"] < 1
    _finish(0)
    done, other, *long = _planned(cli, "x.yml")
    assert (done["minutes"], done["minutes_from"], done["done"]) == (1.0, "finished run", True)
    assert other["minutes"] == pytest.approx(10 / 60)  # ten steps of a batch a second
    assert {row["minutes_from"] for row in [other, *long]} == {"estimate from finished runs"}
    assert long[0]["minutes"] == pytest.approx(1000 / 60)
    out = cli("plan", "x.yml")[1]
    assert "4 runs, 1 done, about 34 min one after the other for the rest" in out
    assert "estimate from finished runs" in out


@pytest.mark.parametrize(
    "changes",
    [
        {"hardware": {"device": "cpu", "machine": "other", "cores": 1, "threads": 1}},
        {"hardware": {}},
        {"execution": "native steps, products in float32"},
        {"execution": None},
        {"model": "cnn"},
        {"optimizer": "muon"},
        {"madds": 0},
        {"train_madds": 0},
        {"train_madds": "many"},
        {"throughput": 0.0},
        {"train_minutes": 0.02, "warmup_seconds": 1.2},
        {"warmup_seconds": "long"},
    ],
    ids=str,
)
def test_runs_of_other_kinds_tell_nothing(cli: Cli, changes: dict[str, Any]) -> None:
    Path("x.yml").write_text(MINE)
    _finish(0, **changes)
    assert _planned(cli, "x.yml")[1]["minutes_from"] == "estimate from measured speed"


def test_muon_takes_longer_where_matrices_are_large(cli: Cli) -> None:
    text = MINE.replace("hidden_channels: [4]", "hidden_channels: [64], mixer_at: [1], mixer: mlp")
    Path("x.yml").write_text(text.replace("seed: [0, 1]", "seed: [0]"))
    [adamw, muon] = (
        _planned(cli, "x.yml", f"training.optimizer={name}")[0]["minutes"] for name in ("adamw", "muon")
    )
    assert muon > 1.5 * adamw


def test_a_run_of_half_the_size_takes_half_as_long(cli: Cli) -> None:
    Path("x.yml").write_text(MINE)
    _finish(0, madds=2 * _planned_madds(), throughput=32.0)
    assert _planned(cli, "x.yml")[1]["minutes"] == pytest.approx(10 / 60)


def test_a_run_that_states_its_training_is_compared_by_that(cli: Cli) -> None:
    Path("x.yml").write_text(MINE)
    planned = _planned(cli, "x.yml")[1]["train_madds"]
    _finish(0, train_madds=4 * planned, throughput=16.0)
    assert _planned(cli, "x.yml")[1]["minutes"] == pytest.approx(10 / 60)


def test_a_damaged_result_does_not_hide_the_plan(cli: Cli) -> None:
    Path("x.yml").write_text(MINE)
    _finish(0)
    [path] = Path("runs/mine").glob("*/result.json")
    path.write_text("{")
    assert [row["done"] for row in _planned(cli, "x.yml")] == [False] * 4


def test_images_that_are_not_here_leave_the_time_unknown(cli: Cli, empty_cache: Path) -> None:
    Path("x.yml").write_text(
        "name: mine\ndata: {source: folder, path: gone, crop_size: 8}\ntraining: {epochs: 1}\n"
        "model: {type: cnn, channels: [3], kernel_size: 3, latent_dim: 3}\n"
    )
    [row] = _planned(cli, "x.yml")
    assert (row["minutes"], row["minutes_from"], row["done"]) == (None, "unknown", False)
    assert "1 runs, 0 done, no time is known" in cli("plan", "x.yml")[1]


def test_an_axis_named_as_a_column_keeps_its_name_apart(cli: Cli) -> None:
    text = MINE.replace("steps: [10, 1000]", "minutes: [10, 1000]").replace("${steps}", "${minutes}")
    Path("x.yml").write_text(text)
    rows = _planned(cli, "x.yml")
    assert [row["matrix.minutes"] for row in rows] == [10, 10, 1000, 1000]
    assert all(row["minutes"] < 10 for row in rows)
    assert cli("plan", "x.yml")[0] == 0


@slow
def test_equal_models_are_looked_at_once(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand runs of one model: it is built a few times, not ten thousand."""
    built = []

    @register_model("counted")
    class Counted(ConvAutoencoder):
        def __init__(self, image_shape: ImageShape, latent_dim: int) -> None:
            built.append(latent_dim)
            super().__init__(image_shape, channels=[2], kernel_size=3, latent_dim=latent_dim)

    seeds = ", ".join(map(str, range(5_000)))
    Path("x.yml").write_text(
        "name: mine\ndata: {source: digits}\ntraining: {steps: 1, seed: '${seed}'}\n"
        "model: {type: counted, latent_dim: '${size}'}\n"
        f"matrix: {{size: [2, 3], seed: [{seeds}]}}\n"
    )
    rows = plan.plan_rows(read_experiment(Path("x.yml")), Path("runs"))
    assert len(rows) == 10_000
    assert len(built) < 50


def test_a_row_that_cannot_work_is_refused_with_its_reason(cli: Cli) -> None:
    file = ROOT / "experiments" / "mnist" / "kernel-sizes.yml"
    status, out, err = cli("plan", file, "matrix.ks=[1, 2]")
    assert (status, out) == (2, "")
    assert "kernel_size: must be odd so that padding keeps the size, got 2" in err
    assert "(with mixer=cnn, ks=2, seed=0)" in err
