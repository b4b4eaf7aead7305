"""The article's figures stand beside the runs they belong to, and beside no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mixcoder.experiments.file.spec import Experiment, Run, read_experiment
from mixcoder.experiments.results.article import add_article, article_row, article_tables
from mixcoder.experiments.results.records import records_in, records_of, result_rows
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.models.summary import count_parameters

EXPERIMENTS = Path(__file__).parents[3] / "experiments"


def first(*overrides: str) -> Run:
    return read_experiment(EXPERIMENTS / "mnist" / "first.yml", overrides).runs[0]


def test_the_files_use_every_row_once() -> None:
    used = [
        article_row(run)
        for path in [*EXPERIMENTS.glob("mnist/*.yml"), *EXPERIMENTS.glob("photos/*.yml")]
        if path.stem != "first"
        for run in read_experiment(path).runs
    ]
    rows = [row for table in article_tables().values() for row in table]
    assert sorted(map(repr, used)) == sorted(map(repr, rows))


def test_the_figures_of_the_first_experiment() -> None:
    cnn, mlp = article_row(first()), article_row(first("model.mixer=mlp"))
    assert cnn is not None
    assert mlp is not None
    assert (cnn["validation_loss"], cnn["params"]) == (0.0105176, 35_249)
    assert (mlp["validation_loss"], mlp["params"]) == (0.0065056, 4_363_601)


@pytest.mark.parametrize(
    "override",
    [
        "data.source=fashion_mnist",
        "training.learning_rate=0.001",
        "training.batch_size=32",
        "training.loss=l1",
        "model.latent_dim=17",
        "model.kernel_size=15",
        "model={type: cnn, channels: [24, 32, 48], kernel_size: 5, latent_dim: 16}",
        "training.optimizer=sgd",
        "training.schedule=constant",
    ],
)
def test_anything_else_has_no_row(override: str) -> None:
    assert article_row(first(override)) is None


def test_difference(tmp_path: Path) -> None:
    """Of a run that is done, and was trained as long as the article's."""
    runs = (first(), first("training.inputs=60_000"), first("training.seed=1"), first("model.latent_dim=8"))
    for run, loss in zip(runs, (0.0116, 0.02, None, 0.01), strict=True):
        if loss:
            RunDirectory.of(run, tmp_path).write_result({"validation_loss": loss})
    records = records_of(Experiment("mnist-first", tuple(replace(run) for run in runs)), tmp_path)
    rows = result_rows(records)
    add_article(rows, records)
    assert [row["article_validation_loss"] for row in rows] == [0.0105176, 0.0105176, 0.0105176, None]
    assert rows[0]["difference"] == pytest.approx(0.0116 / 0.0105176 - 1)
    assert [row["difference"] for row in rows[1:]] == [None, None, None]


@pytest.mark.parametrize(
    "override",
    [
        "model.activation=tanh",
        "model.encoder_mixer_activation=tanh",
        "model.norm=layer",
        "training.weight_decay=0.5",
    ],
)
def test_a_setting_that_the_article_does_not_have(override: str) -> None:
    assert article_row(first(override)) is None


@pytest.mark.parametrize("table", ["conv-mixing", "linear-mixing", "cnn-baseline", "kernel-sizes"])
def test_each_row_is_of_its_own_table_and_size(table: str) -> None:
    rows = article_tables()[table]
    for run in read_experiment(EXPERIMENTS / "mnist" / f"{table}.yml").runs:
        row = article_row(run)
        assert row in rows
        with torch.device("meta"):
            assert count_parameters(run.create_model()) == row["params"]


@pytest.mark.parametrize(
    ("inputs", "compared"),
    [(1_000_000, True), (995_000, True), (1_009_000, True), (985_000, False), (1_011_000, False)],
)
def test_lengths_that_compare(tmp_path: Path, inputs: int, compared: bool) -> None:
    run = first(f"training.inputs={inputs}")
    directory = RunDirectory.of(run, tmp_path)
    directory.write_config(run)
    directory.write_result({"validation_loss": 0.0105176 * 1.5})
    records = records_in(tmp_path)
    rows = result_rows(records)
    add_article(rows, records)
    assert rows[0]["difference"] == (pytest.approx(0.5) if compared else None)


def test_a_failed_run_has_no_difference(tmp_path: Path) -> None:
    RunDirectory.of(first(), tmp_path).write_failure({"reason": "error: it rained"})
    records = records_of(Experiment("mnist-first", (first(),)), tmp_path)
    rows = result_rows(records)
    add_article(rows, records)
    assert rows[0] | {"state": "failed", "article_validation_loss": 0.0105176, "difference": None} == rows[0]
