"""The plan: counts that are the article's, refusals before training, times that mean something."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from mixcoder.experiments import plan
from mixcoder.experiments.article import article_row, article_tables
from mixcoder.experiments.spec import read_experiment
from tests.conftest import Cli

ROOT = Path(__file__).parents[2]
TABLES = article_tables()


@pytest.fixture(autouse=True)
def _short_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "CALIBRATION_SECONDS", 0.01)


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
def test_the_articles_tables_row_by_row(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "_measured_seconds", lambda run: 0.01)  # a photo step takes seconds
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
    status, out, _ = cli("plan", file, "--format", "json")
    row = json.loads(out)[4]
    assert (row["at"], row["seed"], row["latent_shape"], row["params"]) == ([1], 0, [16], 34_161)
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


def test_a_row_that_cannot_work_is_refused_with_its_reason(cli: Cli) -> None:
    file = ROOT / "experiments" / "mnist" / "kernel-sizes.yml"
    status, out, err = cli("plan", file, "matrix.ks=[1, 2]")
    assert (status, out) == (2, "")
    assert "kernel_size: must be odd so that padding keeps the size, got 2" in err
    assert "(with mixer=cnn, ks=2, seed=0)" in err
