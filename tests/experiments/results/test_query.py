"""Rows chosen, averaged and ordered."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from mixcoder.errors import ArgumentError, MixcoderError
from mixcoder.experiments.results.query import average_rows, filter_rows, sort_rows

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
    assert filter_rows(ROWS, condition) == [ROWS[i] for i in chosen]


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
        filter_rows(ROWS, condition)
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
    assert sort_rows(ROWS, key) == [ROWS[i] for i in order]


def test_order_refuses() -> None:
    with pytest.raises(ArgumentError, match="sort: there is no 'kss'; did you mean 'ks'"):
        sort_rows(ROWS, "-kss")


def test_average() -> None:
    losses = [0.5, 0.41, 0.37]
    rows = [
        {"mixer": mixer, "seed": seed, "state": "done", "validation_loss": loss * scale, "throughput": 10.0 * seed}
        for mixer, scale in (("cnn", 1), ("mlp", 2))
        for seed, loss in enumerate(losses)
    ]  # fmt: skip
    cnn, mlp = average_rows(rows, ["mixer", "seed"], "seed")
    assert (cnn["mixer"], mlp["mixer"]) == ("cnn", "mlp")
    assert cnn["n"] == mlp["n"] == 3
    assert cnn["validation_loss"] == pytest.approx(np.mean(losses))
    assert mlp["validation_loss_std"] == pytest.approx(2 * np.std(losses, ddof=1))
    assert cnn["throughput"] == 10
    assert "seed" not in cnn


def test_average_counts_what_is_done() -> None:
    rows = average_rows(ROWS, ["mixer", "seed"], "seed")
    assert [(row["mixer"], row["n"], row["state"]) for row in rows] == [
        ("cnn", 2, "2 of 2 done"),
        ("mlp", 1, "1 of 2 done"),
    ]
    assert rows[1]["validation_loss"] == 0.3
    assert rows[1]["validation_loss_std"] is None
    [none] = average_rows(ROWS[3:], ["mixer", "seed"], "seed")
    assert (none["n"], none["validation_loss"], none["mixer"]) == (0, None, "mlp")
    with pytest.raises(ArgumentError, match="average: 'sed' is no axis of the matrix; did you mean 'seed'"):
        average_rows(ROWS, ["mixer", "seed"], "sed")


MIXED: list[dict[str, Any]] = [
    {"run": "a", "mixer": "cnn", "ks": 1, "at": [], "on": True, "rate": 3e-4, "loss": 0.5, "x": "cnn"},
    {"run": "b", "mixer": "cnnf", "ks": 3, "at": [2], "on": False, "rate": 0.003, "loss": 0.25, "x": 7},
    {"run": "c", "mixer": "mlp", "ks": 5, "at": [2, 3], "on": True, "rate": 1.0, "loss": None, "x": 70},
    {"run": "d", "ks": 13, "at": [2, 3, 4], "on": None, "rate": 0.1, "loss": math.nan, "x": None},
]
"""One run has no mixer, one no loss yet, one a loss that is none; `x` is now a text, now a number."""


def names(rows: list[dict[str, Any]]) -> str:
    return "".join(row["run"] for row in rows)


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ("mixer!=cnn", "bcd"),
        ("mixer=null", "d"),
        ("mixer!=null", "abc"),
        ("mixer<3", ""),
        ("ks=3.0", "b"),
        ("ks='3'", "b"),
        ("ks>-1e9", "abcd"),
        ("rate=3e-4", "a"),
        ("at=[2]", "b"),
        ("at=2", "b"),
        ("at!=[2, 3]", "abd"),
        ("on=true", "ac"),
        ("on=false", "b"),
        ("on!=true", "bd"),
        ("on=null", "d"),
        ("loss=null", "c"),
        ("loss=.nan", "d"),
        ("loss<1", "ab"),
        ("loss>=.nan", ""),
        ("x=7", "b"),
        ("x<100", "bc"),
        ("x>=a", "a"),
    ],
)
def test_where_of_values_of_every_kind(condition: str, kept: str) -> None:
    assert names(filter_rows(MIXED, condition)) == kept


@pytest.mark.parametrize("condition", ["", "a b=cnn", "3<ks", "mixer~cnn"])
def test_conditions_that_are_none(condition: str) -> None:
    with pytest.raises(ArgumentError, match=f"^where: '{condition}' must be a key, one of ="):
        filter_rows(MIXED, condition)


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        pytest.param("ks=true", "", id="true is not 1"),
        pytest.param("on=1", "", id="1 is not true"),
        pytest.param("mixer<null", "", id="nothing is below null"),
    ],
)
def test_where_tells_kinds_apart(condition: str, kept: str) -> None:
    assert names(filter_rows(MIXED, condition)) == kept


@pytest.mark.parametrize("condition", ["ks==3", "ks=>3", "ks=<3", "ks<>3", "ks>>3"])
def test_signs_that_are_none(condition: str) -> None:
    with pytest.raises(ArgumentError, match="must be a key, one of = != < <= > >=, and a value"):
        filter_rows(MIXED, condition)


@pytest.mark.parametrize(
    ("key", "order"),
    [
        ("-ks", "dcba"),
        ("rate", "abdc"),
        ("-mixer", "cbad"),
        ("loss", "bacd"),
        ("-loss", "abcd"),
        ("on", "bacd"),
        ("x", "bcad"),
        ("-x", "acbd"),
    ],
)
def test_order_of_values_of_every_kind(key: str, order: str) -> None:
    before = list(MIXED)
    assert names(sort_rows(MIXED, key)) == order
    assert before == MIXED


@pytest.mark.parametrize("values", [[1, 0, 1, 0, 1], ["b", "a", "b", "a", "b"]])
def test_ties_keep_their_order_both_ways(values: list[Any]) -> None:
    rows = [{"run": run, "key": value} for run, value in zip("pqrst", values, strict=True)]
    assert names(sort_rows(rows, "key")) == "qsprt"
    assert names(sort_rows(rows, "-key")) == "prtqs"


def test_average_over_any_axis_keeps_the_others_apart() -> None:
    rows = average_rows(ROWS[:3], ["mixer", "at", "seed"], "mixer")
    assert [(row["at"], row["seed"], row["n"]) for row in rows] == [
        ([], 0, 1),
        ([2, 3], 1, 1),
        ([2, 3], 0, 1),
    ]
    rows = average_rows(ROWS, ["mixer", "at", "seed"], "seed")
    assert [(row["mixer"], row["at"], row["n"]) for row in rows] == [
        ("cnn", [], 1), ("cnn", [2, 3], 1), ("mlp", [2, 3], 1), ("mlp", [], 0),
    ]  # fmt: skip


def test_means_are_of_what_there_is() -> None:
    """A run too short has no throughput; a difference to the article goes along."""
    rows = [{**row, "difference": difference} for row, difference in zip(ROWS[:2], (0.25, None), strict=True)]
    rows[0]["throughput"] = None
    [row] = average_rows(rows, ["mixer", "seed"], "seed")
    assert (row["throughput"], row["difference"]) == (20, 0.25)
    assert "best_validation_loss" not in row
