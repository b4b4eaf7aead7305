"""Rows of named values as a table for people or for programs."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mixcoder.experiments.matrix import Values, written

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A column of a table: the row's key, the heading, and how a value reads."""

    key: str
    heading: str
    show: Callable[[Any], str] = str
    is_number: bool = False

    def text(self, row: Row) -> str:
        """How the row's value reads; empty where there is none."""
        return known(self.show)(row.get(self.key))


def to_json(rows: Sequence[Row]) -> str:
    """A JSON list of objects, numbers as numbers."""
    return json.dumps([dict(row) for row in rows], indent=2)


def to_csv(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """Comma-separated values with the rows' keys above; numbers in full, nothing where there is none."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(column.key for column in columns)
    for row in rows:
        cells = (row.get(column.key) for column in columns)
        texts = (cell if isinstance(cell, float) else known(written)(cell) for cell in cells)
        writer.writerow(text if isinstance(text, float) else text.replace("\r", " ") for text in texts)
    return text.getvalue().rstrip("\n")


def to_markdown(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """A Markdown table, numbers to the right."""
    lines = [
        "| " + " | ".join(column.heading for column in columns) + " |",
        "|" + "|".join("---:" if column.is_number else ":---" for column in columns) + "|",
    ]
    for row in rows:
        cells = (column.text(row).replace("|", "\\|") for column in columns)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def print_table(rows: Sequence[Row], columns: Sequence[Column], console: Console) -> None:
    """A table for the terminal."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column.heading, justify="right" if column.is_number else "left")
    for row in rows:
        table.add_row(*(Text(column.text(row)) for column in columns))
    console.print(table)


def known(show: Callable[[Any], str]) -> Callable[[Any], str]:
    """Shows a value by `show`, and nothing where there is none."""
    return lambda value: "" if value is None else show(value)


def count(number: int) -> str:
    """1234567 as 1,234,567."""
    return f"{number:,}"


def shape(sizes: Sequence[int]) -> str:
    """(16, 4, 4) as 16 x 4 x 4."""
    return " x ".join(map(str, sizes))


def _loss(loss: float) -> str:
    return f"{loss:.7f}"


def _ratio(ratio: float) -> str:
    return f"{ratio:.4g}"


def value_columns(rows: Sequence[Values]) -> list[Column]:
    """A column for each of the values that tell runs apart, such as the axes of a matrix."""
    return [
        Column(axis, axis, written, is_number=all(map(_is_number, (values.get(axis, 0) for values in rows))))
        for axis in axes_of(rows)
    ]


def axes_of(rows: Sequence[Values]) -> list[str]:
    """The names of the values that tell runs apart."""
    return list(dict.fromkeys(axis for values in rows for axis in values))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


PLAN_COLUMNS = (
    Column("latent_shape", "latent shape", shape),
    Column("compression_ratio", "ratio", _ratio, is_number=True),
    Column("params", "model params", count, is_number=True),
    Column("madds", "multiply-adds", count, is_number=True),
    Column("memory_bytes", "memory (MB)", lambda size: f"{size / 1e6:,.1f}", is_number=True),
    Column("minutes", "minutes", lambda minutes: f"{minutes:.1f}", is_number=True),
    Column("done", "done", lambda done: "yes" if done else ""),
)
"""What a run will be, beside its values of the matrix."""


RESULT_COLUMNS = (
    Column("run", "run"),
    Column("n", "n", count, is_number=True),
    Column("validation_loss", "validation loss", _loss, is_number=True),
    Column("validation_loss_std", "std", _loss, is_number=True),
    Column("best_validation_loss", "best validation loss", _loss, is_number=True),
    Column("article_validation_loss", "the article's", _loss, is_number=True),
    Column("difference", "difference", lambda share: f"{share:+.1%}", is_number=True),
    Column("psnr", "PSNR (dB)", lambda decibels: f"{decibels:.2f}", is_number=True),
    Column("ssim", "SSIM", lambda similarity: f"{similarity:.4f}", is_number=True),
    Column("inputs", "inputs", count, is_number=True),
    Column("params", "model params", count, is_number=True),
    Column("madds", "multiply-adds", count, is_number=True),
    Column("latent_shape", "latent shape", shape),
    Column("compression_ratio", "ratio", _ratio, is_number=True),
    Column("train_minutes", "train time (minutes)", lambda minutes: f"{minutes:.2f}", is_number=True),
    Column("throughput", "throughput", lambda speed: f"{speed:,.0f}/s", is_number=True),
    Column("state", "state"),
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
    hidden = hidden | {key for key in _LATER if not any(row.get(key) is not None for row in rows)}
    figures = [it.key for it in RESULT_COLUMNS if it.key in there and it.key not in hidden]
    return list(dict.fromkeys([*(axes or ["run"]), *figures]))


def columns_of(keys: Sequence[str], values: Sequence[Values]) -> list[Column]:
    """The columns for `keys` of result rows whose runs are told apart by `values`."""
    by_key = {column.key: column for column in (*RESULT_COLUMNS, *value_columns(values))}
    return [by_key[key] for key in keys]
