"""The article's figures: every parameter count of its seven tables is exact."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mixcoder.experiments.results.article import article_run, article_tables, row_costs
from mixcoder.models import create_model
from mixcoder.models.cost import count_costs
from mixcoder.models.dispatch import without_elements
from mixcoder.models.summary import count_parameters, layer_rows
from tests.conftest import slow_but

TABLES = article_tables()
ROWS = [pytest.param(row, id=f"{table}-{i}") for table, rows in TABLES.items() for i, row in enumerate(rows)]
EVERY = [row for rows in TABLES.values() for row in rows]


def test_all_rows_are_here() -> None:
    assert {table: len(rows) for table, rows in TABLES.items()} == {
        "conv-mixing": 8,
        "linear-mixing": 9,
        "cnn-baseline": 4,
        "kernel-sizes": 28,
        "patch-sizes": 6,
        "narrow-head": 5,
        "pixel-unshuffle": 2,
        "long-run": 2,
    }


@pytest.mark.parametrize("row", ROWS)
def test_parameter_count_is_the_articles(row: dict[str, Any]) -> None:
    arguments = dict(row["model"])
    with torch.device("meta"):
        model = create_model(arguments.pop("type"), **arguments)
        images = torch.zeros(2, *model.image_shape)
        latents = model.encode(images)
        assert model.decode(latents).shape == images.shape
    assert count_parameters(model) == row["params"]
    assert latents.shape[1:] == model.latent_shape
    assert sum(layer["params"] for layer in layer_rows(model)) == row["params"]


@pytest.mark.parametrize("row", slow_but(2, EVERY))
def test_multiply_adds_are_those_that_are_counted(row: dict[str, Any]) -> None:
    with without_elements():
        costs = count_costs(article_run(row).create_model())
    counted = {"madds": costs.madds, "encode_madds": costs.encode_madds}
    counted |= {"decode_madds": costs.decode_madds, "train_madds": costs.train_madds}
    assert row_costs(row) == {"params": row["params"], **counted}


def test_the_scripts_as_printed_lack_a_halving() -> None:
    """The erratum: with two `ch/2`, as printed, the count is not the printed one."""
    with torch.device("meta"):
        printed = create_model(
            "script", image_shape=(3, 96, 96), script="ch=32|down4|ch/2|ch/2|ch*1|ch*1|ch=1", kernel_size=3
        )
    assert count_parameters(printed) != 3_248_612
