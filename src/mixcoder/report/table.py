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


RESULT_COLUMNS = (
    Column("run", "run"),
    Column("validation_loss", "validation loss", lambda loss: f"{loss:.7f}", is_number=True),
    Column("inputs", "inputs", count, is_number=True),
    Column("params", "model params", count, is_number=True),
    Column("compression_ratio", "ratio", lambda ratio: f"{ratio:.4g}", is_number=True),
    Column("train_minutes", "train time (minutes)", lambda minutes: f"{minutes:.2f}", is_number=True),
    Column("throughput", "throughput", lambda speed: f"{speed:,.0f}/s", is_number=True),
)
"""The article's columns."""
