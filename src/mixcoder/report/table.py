"""Rows of named values as a table for people or for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A column of a table: the row's key, the heading, and how a value reads."""

    key: str
    heading: str
    show: Callable[[Any], str] = str
    is_number: bool = False


def to_json(rows: Sequence[Row]) -> str:
    """A JSON list of objects, numbers as numbers."""
    return json.dumps([dict(row) for row in rows], indent=2)


def to_markdown(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """A Markdown table, numbers to the right."""
    lines = [
        "| " + " | ".join(column.heading for column in columns) + " |",
        "|" + "|".join("---:" if column.is_number else ":---" for column in columns) + "|",
    ]
    for row in rows:
        cells = (column.show(row[column.key]).replace("|", "\\|") for column in columns)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def print_table(rows: Sequence[Row], columns: Sequence[Column], console: Console) -> None:
    """A table for the terminal."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column.heading, justify="right" if column.is_number else "left")
    for row in rows:
        table.add_row(*(Text(column.show(row[column.key])) for column in columns))
    console.print(table)


def count(number: int) -> str:
    """1234567 as 1,234,567."""
    return f"{number:,}"


def shape(sizes: Sequence[int]) -> str:
    """(16, 4, 4) as 16 x 4 x 4."""
    return " x ".join(map(str, sizes))


def plain(value: Any) -> str:
    """A value of a matrix as an experiment file would have it, without brackets."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={plain(part)}" for key, part in value.items())
    if isinstance(value, list):
        return ",".join(map(plain, value))
    return str(value)


def value_columns(values: Mapping[str, Any]) -> list[Column]:
    """A column for each axis of a matrix."""
    return [
        Column(axis, axis, plain, is_number=isinstance(value, int | float) and not isinstance(value, bool))
        for axis, value in values.items()
    ]


PLAN_COLUMNS = (
    Column("latent_shape", "latent shape", shape),
    Column("compression_ratio", "ratio", lambda ratio: f"{ratio:.4g}", is_number=True),
    Column("params", "model params", count, is_number=True),
    Column("madds", "multiply-adds", count, is_number=True),
    Column("memory_bytes", "memory (MB)", lambda size: f"{size / 1e6:,.1f}", is_number=True),
    Column("minutes", "minutes", lambda minutes: f"{minutes:.1f}", is_number=True),
    Column("done", "done", lambda done: "yes" if done else ""),
)
"""What a run will be, beside its values of the matrix."""


def known(show: Callable[[Any], str]) -> Callable[[Any], str]:
    """Shows a value by `show`, and nothing where there is none."""
    return lambda value: "" if value is None else show(value)


_FIGURES = (
    Column("validation_loss", "validation loss", known(lambda loss: f"{loss:.7f}"), is_number=True),
    Column("inputs", "inputs", known(count), is_number=True),
    Column("params", "model params", known(count), is_number=True),
    Column("compression_ratio", "ratio", known(lambda ratio: f"{ratio:.4g}"), is_number=True),
    Column("train_minutes", "train time (minutes)", known(lambda minutes: f"{minutes:.2f}"), is_number=True),
    Column("throughput", "throughput", known(lambda speed: f"{speed:,.0f}/s"), is_number=True),
)
RESULT_COLUMNS = (Column("run", "run"), *_FIGURES)
"""The article's columns, for a single run."""

SWEEP_COLUMNS = (Column("state", "state"), *_FIGURES)
"""The article's columns, beside the values of a matrix."""
