"""The article's figures, for tables and plots to compare ours with.

Source: the seven tables of "MLP-Mixer re-invented for auto-encoding", and the two figures that it gives
after 6,000,000 inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib.resources import files
from typing import Any

from ruamel.yaml import YAML

from mixcoder.errors import ArgumentError, MixcoderError
from mixcoder.experiments.file.spec import Run
from mixcoder.experiments.results.records import Record
from mixcoder.training.recipe import Recipe

_SOURCES = {(1, 28, 28): "mnist", (3, 96, 96): "unsplash"}
_PLAIN: dict[str, dict[str, Any]] = {
    "mixer": {"activation": "gelu", "norm": "none"},
    "cnn": {"activation": "relu"},
    "script": {"activation": "relu6"},
}
_RECIPE = {
    "weight_decay": None,
    "batch_size": 64,
    "optimizer": "adamw",
    "schedule": "cosine",
    "loss": "mse",
    "clip_norm": None,
    "ema": None,
}


@cache
def article_tables() -> dict[str, list[dict[str, Any]]]:
    """Returns the rows of each table by its name.

    A row has model, params, learning_rate, inputs and validation_loss, and most have a throughput; `madds`
    are counted here.
    """
    text = (files("mixcoder.experiments.results") / "article.yml").read_text(encoding="utf-8")
    tables: dict[str, list[dict[str, Any]]] = YAML(typ="safe", pure=True).load(text)
    return tables


def article_row(run: Run) -> dict[str, Any] | None:
    """Returns the article's row for the same model, data and recipe; of several the nearest in length.

    Whether the encoder's mixing layers and the last layer have an activation, on which its listings, its
    tables and its code do not agree, makes no difference here.
    """
    similar = [row for rows in article_tables().values() for row in rows if _fits(run, row)]
    if not similar:
        return None
    distances = [abs(row["inputs"] - _inputs(run)) for row in similar]
    return similar[distances.index(min(distances))]


def rows_beside(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Returns the article's rows of the data of some finished runs, after as many inputs, to a hundredth.

    Whatever their model and recipe: losses compare on the same validation images after equal inputs.

    Raises:
        ArgumentError: there is none.
    """
    trained = {
        (record.run.data[0], record.result.get("inputs") or _inputs(record.run))
        for record in records
        if record.run and record.state == "done" and not record.run.data[1].get("search_holdout")
    }
    every = [row for table in article_tables().values() for row in table]
    rows = [
        row
        for row in every
        if any(_source(row) == name and _is_as_long(inputs, row) for name, inputs in trained)
    ]
    if not rows:
        right = "its rows are of mnist after 1,000,000 or 6,000,000 inputs, and of unsplash after 1,000,000"
        raise ArgumentError("against", f"the article has no row of the same data and inputs; {right}")
    return rows


def row_kind(row: dict[str, Any]) -> str:
    """Returns the mixing layer of a row's network, or its type of model where it has none."""
    return str(row["model"].get("mixer", row["model"]["type"]))


def row_name(row: dict[str, Any]) -> str:
    """Returns a short name of a row's network, such as "cnn2df k7" or "mlp at 2,3,4"."""
    model = row["model"]
    if model["type"] == "script":
        return str(model["script"])
    if model["type"] == "cnn":
        return f"CNN k{model['kernel_size']}"
    places = ",".join(map(str, model["mixer_at"])) or "none"
    kernel = "" if model["mixer"] == "mlp" else f" k{model['kernel_size']}"
    return f"{model['mixer']}{kernel} at {places}"


def row_costs(row: dict[str, Any]) -> dict[str, int]:
    """Returns parameters and multiply-adds of a row's network, by the keys of their measures."""
    counted: dict[str, int] = row["madds"]
    whole = counted["encode_madds"] + counted["decode_madds"]
    return {"params": row["params"], "madds": whole, **counted}


def article_run(row: dict[str, Any]) -> Run:
    """Returns the run of a row, as an experiment file would state it."""
    arguments = {key: value for key, value in row["model"].items() if key not in ("type", "image_shape")}
    kind = row["model"]["type"]
    stated = {**_RECIPE, "learning_rate": row["learning_rate"], "inputs": row["inputs"]}
    recipe = Recipe.model_validate(stated)
    return Run("article", {}, (_source(row), {}), (kind, _PLAIN[kind] | arguments), recipe)


def add_article(rows: Sequence[dict[str, Any]], records: Sequence[Record]) -> None:
    """Adds `article_validation_loss` and `difference`, ours by its less one, to the rows of `records`.

    Both are None where the article has no such row. The difference is also None for a run that is not
    done, or was trained on a number of images that is not the article's, to a hundredth: such losses do
    not compare.
    """
    for row, record in zip(rows, records, strict=True):
        row["article_validation_loss"] = row["difference"] = None
        if record.run is not None:
            with suppress(MixcoderError):  # without the data, the number of images in an epoch is unknown
                row |= _compared(record.run, record.result.get("validation_loss"))


def _compared(run: Run, ours: float | None) -> dict[str, Any]:
    """Returns the article's loss and the difference, as far as there are any."""
    theirs = article_row(run)
    if theirs is None:
        return {}
    loss = theirs["validation_loss"]
    if ours is None or not _is_as_long(_inputs(run), theirs):
        return {"article_validation_loss": loss}
    return {"article_validation_loss": loss, "difference": ours / loss - 1}


def _fits(run: Run, row: dict[str, Any]) -> bool:
    theirs = dict(row["model"])
    source = _source(row)
    theirs.pop("image_shape")
    name, arguments = run.model
    return (
        run.data[0] == source
        and not run.data[1].get("search_holdout")
        and run.data[1].get("search_holdout") is None  # such a loss is none on the article's images
        and theirs.pop("type") == name
        and all(arguments.get(key) == value for key, value in (_PLAIN[name] | theirs).items())
        and arguments.get("encoder_mixer_activation") in (None, "none", "gelu")
        and arguments.get("output_activation", "none") in ("none", "gelu")
        and run.recipe.learning_rate == row["learning_rate"]
        and all(getattr(run.recipe, key) == value for key, value in _RECIPE.items())
    )


def _source(row: dict[str, Any]) -> str:
    return _SOURCES[tuple(row["model"]["image_shape"])]


def _is_as_long(inputs: int, row: dict[str, Any]) -> bool:
    """Returns whether so many inputs are as many as a row's, to a hundredth."""
    return bool(abs(inputs / row["inputs"] - 1) < 0.01)


def _inputs(run: Run) -> int:
    return run.total_steps * run.recipe.batch_size
