"""Rows of named values as a table for people or for programs.

    rows, columns ─┬─▶ to_json, to_csv            numbers as numbers
                   └─▶ to_markdown, print_table   texts, as each column formats its values

A column states how its values are formatted.
"""

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

from mixcoder.text.sanitize import csv_cell, markdown_text, sanitize, sanitize_lines
from mixcoder.text.values import format_value, is_number, strict_json

Row = Mapping[str, Any]

_WRAPPED_TEXT = 12
"""Characters a line that a column of texts has at least, where some text is as long."""
_BETWEEN_COLUMNS, _EDGES = 3, 2
"""Characters between two columns of a table for a terminal, and at its two sides."""


@dataclass(frozen=True)
class Column:
    """A column of a table: the row's key, the heading, and how a value is formatted.

    Attributes:
        key: of a row.
        heading: above the column.
        format: returns a value, which is never None, as a text.
        is_number: stands to the right, and is never cut.
        is_vital: stays where a terminal has no room for all.
    """

    key: str
    heading: str
    format: Callable[[Any], str] = str
    is_number: bool = False
    is_vital: bool = False

    def text(self, row: Row) -> str:
        """Returns the row's value as a text; an empty one where there is no value."""
        value = row.get(self.key)
        return "" if value is None else self.format(value)


def to_json(rows: Sequence[Row]) -> str:
    """Returns a JSON list of objects, numbers as numbers; null for one that JSON cannot hold."""
    return json.dumps(strict_json([dict(row) for row in rows]), indent=2, allow_nan=False)


def to_csv(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """Returns comma-separated values below the rows' keys; numbers in full, an empty cell for no value."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(csv_cell(column.key) for column in columns)
    for row in rows:
        writer.writerow(_csv_value(row.get(column.key)) for column in columns)
    return text.getvalue().rstrip("\n")


def _csv_value(value: Any) -> Any:
    if is_number(value):
        return value
    return csv_cell("" if value is None else format_value(value))


def to_markdown(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """Returns a Markdown table that shows the rows' texts as they are, numbers to the right."""
    return markdown_table([[markdown_text(column.text(row)) for column in columns] for row in rows], columns)


def markdown_table(cells: Iterable[Sequence[str]], columns: Sequence[Column]) -> str:
    """Returns a Markdown table of rows of cells that are Markdown themselves."""
    lines = [
        "| " + " | ".join(column.heading for column in columns) + " |",
        "|" + "|".join("---:" if column.is_number else ":---" for column in columns) + "|",
    ]
    for row in cells:
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", "<br>") for cell in row) + " |")
    return "\n".join(lines)


def print_table(rows: Sequence[Row], columns: Sequence[Column], console: Console) -> None:
    """Prints a table for a terminal.

    Texts wrap where they must and numbers stay whole. Columns for which there is no room are left out and
    named below, the last first; those that are vital stay.
    """
    texts = {column: [sanitize_lines(column.text(row)) for row in rows] for column in columns}
    least = {column: _least_width(column, texts[column]) for column in columns}
    kept = _columns_with_room(columns, least, console.width)
    full = {column: _full_width(column, texts[column]) for column in kept}
    widths = _column_widths(kept, least, full, console.width)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in kept:
        heading = Text(sanitize(column.heading, limit=None))
        justify: JustifyMethod = "right" if column.is_number else "left"
        table.add_column(heading, justify=justify, width=widths[column], overflow="fold")
    for row in zip(*(texts[column] for column in kept), strict=True):
        table.add_row(*map(Text, row))
    console.print(table)
    missing = [column.heading for column in columns if column not in kept]
    if missing:
        note = f"no room for: {', '.join(missing)}; a wider terminal shows them, and --format md, csv or json"
        console.print(Text(sanitize(note, limit=None)))


def _columns_with_room(columns: Sequence[Column], least: Mapping[Column, int], room: int) -> list[Column]:
    """Returns the columns that have room side by side, vital ones first, in the order given."""
    kept: list[Column] = []
    for column in sorted(columns, key=lambda column: not column.is_vital):
        if column.is_vital or _table_width([*kept, column], least) <= room:
            kept.append(column)
    return [column for column in columns if column in kept]


def _column_widths(
    columns: Sequence[Column], least: Mapping[Column, int], full: Mapping[Column, int], room: int
) -> dict[Column, int]:
    """Returns widths of columns that share the room left over, none taking more than it can fill."""
    spare = max(0, room - _table_width(columns, least))
    widths = dict(least)
    wanted = {column: full[column] - least[column] for column in columns}
    for i, column in enumerate(sorted(wanted, key=wanted.__getitem__)):
        extra = min(wanted[column], spare // (len(wanted) - i))
        widths[column] += extra
        spare -= extra
    return widths


def _table_width(columns: Sequence[Column], widths: Mapping[Column, int]) -> int:
    return sum(widths[column] for column in columns) + _BETWEEN_COLUMNS * (len(columns) - 1) + _EDGES


def _least_width(column: Column, texts: Sequence[str]) -> int:
    """Returns the fewest characters of a column: its longest number, or a readable part of its texts."""
    heading = _longest(column.heading.split())
    if column.is_number:
        return max(heading, _longest(texts))
    return min(_WRAPPED_TEXT, max(heading, _full_width(column, texts)))


def _full_width(column: Column, texts: Sequence[str]) -> int:
    return max(cell_len(column.heading), _longest(line for text in texts for line in text.split("\n")))


def _longest(texts: Iterable[str]) -> int:
    return max(map(cell_len, texts), default=1)
