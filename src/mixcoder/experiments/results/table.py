"""Rows of named values as a table for people or for programs."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from mixcoder.experiments.file.matrix import Values
from mixcoder.io.json_file import strict_json
from mixcoder.text.durations import duration
from mixcoder.text.sanitize import csv_cell, markdown_text, sanitize, sanitize_lines
from mixcoder.text.values import format_value

Row = Mapping[str, Any]

_WRAPPED_TEXT = 12
"""Characters a line that a column of texts has at least, where some text is as long."""
_BETWEEN_COLUMNS, _EDGES = 3, 2
"""Characters between two columns of a table for a terminal, and at its two sides."""


@dataclass(frozen=True)
class Column:
    """A column of a table: the row's key, the heading, and how a value reads.

    Attributes:
        key: of a row.
        heading: above the column.
        show: a value, which is never None, as a text.
        is_number: stands to the right, and is never cut.
        is_vital: stays where a terminal has no room for all.
    """

    key: str
    heading: str
    show: Callable[[Any], str] = str
    is_number: bool = False
    is_vital: bool = False

    def text(self, row: Row) -> str:
        """How the row's value reads; empty where there is none."""
        return known(self.show)(row.get(self.key))


def to_json(rows: Sequence[Row]) -> str:
    """A JSON list of objects, numbers as numbers; null for what is not finite, which JSON cannot hold."""
    return json.dumps(strict_json([dict(row) for row in rows]), indent=2, allow_nan=False)


def to_csv(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """Comma-separated values with the rows' keys above; numbers in full, nothing where there is none."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(csv_cell(column.key) for column in columns)
    for row in rows:
        cells = (row.get(column.key) for column in columns)
        writer.writerow(
            cell
            if isinstance(cell, int | float) and not isinstance(cell, bool)
            else csv_cell(known(format_value)(cell))
            for cell in cells
        )
    return text.getvalue().rstrip("\n")


def to_markdown(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """A Markdown table that shows the rows' texts as they are, numbers to the right."""
    return markdown_table([[markdown_text(column.text(row)) for column in columns] for row in rows], columns)


def markdown_table(cells: Iterable[Sequence[str]], columns: Sequence[Column]) -> str:
    """A Markdown table of rows of cells that are Markdown themselves."""
    lines = [
        "| " + " | ".join(column.heading for column in columns) + " |",
        "|" + "|".join("---:" if column.is_number else ":---" for column in columns) + "|",
    ]
    for row in cells:
        lines.append("| " + " | ".join(it.replace("|", "\\|").replace("\n", "<br>") for it in row) + " |")
    return "\n".join(lines)


def print_table(rows: Sequence[Row], columns: Sequence[Column], console: Console) -> None:
    """Prints a table for a terminal.

    Texts wrap where they must and numbers stay whole. Columns for which there is no room are left out and
    named below, the last first; those that are vital stay.
    """
    texts = {column: [sanitize_lines(column.text(row)) for row in rows] for column in columns}
    least = {column: _least_width(column, texts[column]) for column in columns}
    kept = _fitting(columns, least, console.width)
    full = {column: _full_width(column, texts[column]) for column in kept}
    widths = _shared_out(kept, least, full, console.width)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in kept:
        heading = Text(sanitize(column.heading, limit=None))
        justify: JustifyMethod = "right" if column.is_number else "left"
        table.add_column(heading, justify=justify, width=widths[column], overflow="fold")
    for row in zip(*(texts[column] for column in kept), strict=True):
        table.add_row(*map(Text, row))
    console.print(table)
    if missing := [column.heading for column in columns if column not in kept]:
        note = f"no room for: {', '.join(missing)}; a wider terminal shows them, and --format md, csv or json"
        console.print(Text(sanitize(note, limit=None)))


def _fitting(columns: Sequence[Column], least: Mapping[Column, int], room: int) -> list[Column]:
    """The columns that have room side by side, vital ones first, in the order given."""
    kept: list[Column] = []
    for column in sorted(columns, key=lambda column: not column.is_vital):
        if column.is_vital or _table_width([*kept, column], least) <= room:
            kept.append(column)
    return [column for column in columns if column in kept]


def _shared_out(
    columns: Sequence[Column], least: Mapping[Column, int], full: Mapping[Column, int], room: int
) -> dict[Column, int]:
    """Widths of columns that share what room is left, none taking more than it can fill."""
    spare = max(0, room - _table_width(columns, least))
    widths = dict(least)
    by_want = sorted(columns, key=lambda column: full[column] - least[column])
    for i, column in enumerate(by_want):
        extra = min(full[column] - least[column], spare // (len(by_want) - i))
        widths[column] += extra
        spare -= extra
    return widths


def _table_width(columns: Sequence[Column], widths: Mapping[Column, int]) -> int:
    return sum(widths[column] for column in columns) + _BETWEEN_COLUMNS * (len(columns) - 1) + _EDGES


def _least_width(column: Column, texts: Sequence[str]) -> int:
    """Characters that a column cannot do without: its longest number, or a readable part of its texts."""
    heading = _longest(column.heading.split())
    if column.is_number:
        return max(heading, _longest(texts))
    return min(_WRAPPED_TEXT, max(heading, _full_width(column, texts)))


def _full_width(column: Column, texts: Sequence[str]) -> int:
    return max(cell_len(column.heading), _longest(line for text in texts for line in text.split("\n")))


def _longest(texts: Iterable[str]) -> int:
    return max(map(cell_len, texts), default=1)


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
        Column(
            axis, axis, format_value, is_number=all(map(_is_number, (values.get(axis, 0) for values in rows)))
        )
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
    Column("minutes", "time", duration, is_number=True),
    Column("minutes_from", "time from"),
    Column("done", "done", lambda done: "yes" if done else ""),
)
"""What a run will be, beside its values of the matrix."""


RESULT_COLUMNS = (
    Column("run", "run"),
    Column("n", "n", count, is_number=True),
    Column("validation_loss", "validation loss", _loss, is_number=True, is_vital=True),
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
