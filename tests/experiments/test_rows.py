"""Rows chosen, averaged and ordered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mixcoder.errors import ArgumentError, MixcoderError
from mixcoder.experiments.rows import averaged, ordered, where

ROWS: list[dict[str, Any]] = [
    {"mixer": "cnn", "at": [], "ks": 1, "seed": 0, "state": "done", "validation_loss": 0.5, "throughput": 10.0},
    {"mixer": "cnn", "at": [2, 3], "ks": 1, "seed": 1, "state": "done", "validation_loss": 0.4, "throughput": 20.0},
    {"mixer": "mlp", "at": [2, 3], "ks": 11, "seed": 0, "state": "done", "validation_loss": 0.3, "throughput": 30.0},
    {"mixer": "mlp", "at": [], "ks": 3, "seed": 1, "state": "failed", "validation_loss": None, "throughput": None},
]  # fmt: skip


@pytest.mark.parametrize(
    ("condition", "chosen"),
    [
        ("mixer=cnn", [0, 1]),
        ("mixer != cnn", [2, 3]),
        ("at=[2, 3]", [1, 2]),
        ("at=2,3", [1, 2]),
        ("at=none", [0, 3]),
        ("ks>=3", [2, 3]),
        ("ks<3", [0, 1]),
        ("ks<=1.5", [0, 1]),
        ("validation_loss>0.35", [0, 1]),
        ("validation_loss<1", [0, 1, 2]),
        ("validation_loss=null", [3]),
        ("state=failed", [3]),
        ("mixer>cnn", [2, 3]),
        ("ks>cnn", []),
    ],
)
def test_where(condition: str, chosen: list[int]) -> None:
    assert where(ROWS, condition) == [ROWS[i] for i in chosen]


@pytest.mark.parametrize(
    ("condition", "sentence"),
    [
        ("mixr=cnn", "where: there is no 'mixr'; did you mean 'mixer'?"),
        ("mixer", "'mixer' must be a key, one of = != < <= > >=, and a value"),
        ("=cnn", "must be a key"),
        ("ks=[1", "command line, 'ks=[1'"),
    ],
)
def test_where_refuses(condition: str, sentence: str) -> None:
    with pytest.raises(MixcoderError) as error:
        where(ROWS, condition)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("key", "order"),
    [
        ("validation_loss", [2, 1, 0, 3]),
        ("-validation_loss", [0, 1, 2, 3]),
        ("ks", [0, 1, 3, 2]),
        ("mixer", [0, 1, 2, 3]),
        ("-mixer", [2, 3, 0, 1]),
    ],
)
def test_order(key: str, order: list[int]) -> None:
    """What is equal stays in order, and what is missing comes last either way."""
    assert ordered(ROWS, key) == [ROWS[i] for i in order]


def test_order_refuses() -> None:
    with pytest.raises(ArgumentError, match="sort: there is no 'kss'; did you mean 'ks'"):
        ordered(ROWS, "-kss")


def test_average() -> None:
    losses = [0.5, 0.41, 0.37]
    rows = [
        {"mixer": mixer, "seed": seed, "state": "done", "validation_loss": loss * scale, "throughput": 10.0 * seed}
        for mixer, scale in (("cnn", 1), ("mlp", 2))
        for seed, loss in enumerate(losses)
    ]  # fmt: skip
    cnn, mlp = averaged(rows, ["mixer", "seed"], "seed")
    assert (cnn["mixer"], mlp["mixer"]) == ("cnn", "mlp")
    assert cnn["n"] == mlp["n"] == 3
    assert cnn["validation_loss"] == pytest.approx(np.mean(losses))
    assert mlp["validation_loss_std"] == pytest.approx(2 * np.std(losses, ddof=1))
    assert cnn["throughput"] == 10
    assert "seed" not in cnn


def test_average_counts_what_is_done() -> None:
    rows = averaged(ROWS, ["mixer", "seed"], "seed")
    assert [(row["mixer"], row["n"], row["state"]) for row in rows] == [
        ("cnn", 2, "2 of 2 done"),
        ("mlp", 1, "1 of 2 done"),
    ]
    assert rows[1]["validation_loss"] == 0.3
    assert rows[1]["validation_loss_std"] is None
    [none] = averaged(ROWS[3:], ["mixer", "seed"], "seed")
    assert (none["n"], none["validation_loss"], none["mixer"]) == (0, None, "mlp")
    with pytest.raises(ArgumentError, match="average: 'sed' is no axis of the matrix; did you mean 'seed'"):
        averaged(ROWS, ["mixer", "seed"], "sed")
