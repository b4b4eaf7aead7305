"""The columns of a table of results."""

from __future__ import annotations

from collections.abc import Sequence

from mixcoder.experiments.file.matrix import Values
from mixcoder.text.table import Column, Row
from mixcoder.text.values import format_count, format_shape, format_value, is_number


def _loss(loss: float) -> str:
    return f"{loss:.7f}"


def format_ratio(ratio: float) -> str:
    """Returns 12.25 as it is, and never more than four digits."""
    return f"{ratio:.4g}"


def value_columns(rows: Sequence[Values]) -> list[Column]:
    """A column for each of the values that tell runs apart, such as the axes of a matrix."""
    return [
        Column(
            axis, axis, format_value, is_number=all(map(is_number, (values.get(axis, 0) for values in rows)))
        )
        for axis in axes_of(rows)
    ]


def axes_of(rows: Sequence[Values]) -> list[str]:
    """The names of the values that tell runs apart."""
    return list(dict.fromkeys(axis for values in rows for axis in values))


RESULT_COLUMNS = (
    Column("run", "run"),
    Column("n", "n", format_count, is_number=True),
    Column("validation_loss", "validation loss", _loss, is_number=True, is_vital=True),
    Column("validation_loss_std", "std", _loss, is_number=True),
    Column("best_validation_loss", "best validation loss", _loss, is_number=True),
    Column("article_validation_loss", "the article's", _loss, is_number=True),
    Column("difference", "difference", lambda share: f"{share:+.1%}", is_number=True),
    Column("psnr", "PSNR (dB)", lambda decibels: f"{decibels:.2f}", is_number=True),
    Column("ssim", "SSIM", lambda similarity: f"{similarity:.4f}", is_number=True),
    Column("inputs", "inputs", format_count, is_number=True),
    Column("params", "model params", format_count, is_number=True),
    Column("madds", "multiply-adds", format_count, is_number=True),
    Column("latent_shape", "latent shape", format_shape),
    Column("compression_ratio", "ratio", format_ratio, is_number=True),
    Column("train_minutes", "train time (minutes)", lambda minutes: f"{minutes:.2f}", is_number=True),
    Column("throughput", "throughput", lambda speed: f"{speed:,.0f}/s", is_number=True),
    Column("state", "state", is_vital=True),
    Column("reason", "reason"),
)
"""All that a row of results can hold besides what tells it from the others."""

_DETAILS = {"run", "best_validation_loss", "madds", "latent_shape", "compression_ratio", "reason"}
_LATER = {"psnr", "ssim"}
"""What the results of earlier versions lack; and small images have no SSIM."""


def default_keys(rows: Sequence[Row], values: Sequence[Values]) -> list[str]:
    """What a table of results shows unless told otherwise: the article's columns, and what there is to add.

    Args:
        rows: of results, perhaps averaged or with the article's figures.
        values: what tells the runs apart.
    """
    there = {key for row in rows for key in row}
    axes = [axis for axis in axes_of(values) if axis in there]
    hidden = {"state", *_DETAILS} if all(row["state"] == "done" for row in rows) else _DETAILS
    if any(row["state"] == "unreadable" for row in rows):
        hidden = hidden - {"run", "reason"}
    hidden = hidden | {key for key in _LATER if not any(row.get(key) is not None for row in rows)}
    figures = [it.key for it in RESULT_COLUMNS if it.key in there and it.key not in hidden]
    return list(dict.fromkeys([*(axes or ["run"]), *figures]))


def columns_of(keys: Sequence[str], values: Sequence[Values]) -> list[Column]:
    """The columns for `keys` of result rows whose runs are told apart by `values`."""
    by_key = {column.key: column for column in (*RESULT_COLUMNS, *value_columns(values))}
    return [by_key[key] for key in keys]
