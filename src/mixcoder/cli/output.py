"""How commands print."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from mixcoder.cli.options import Format
from mixcoder.text.sanitize import sanitize_lines

if TYPE_CHECKING:
    from mixcoder.text.table import Column


def print_rows(rows: Sequence[dict[str, Any]], columns: Sequence[Column], format: Format) -> None:
    """Prints a listing as the user wants it."""
    from mixcoder.text.table import print_table, to_csv, to_json, to_markdown

    if format is Format.json:
        print(to_json(rows))
    elif format is Format.csv:
        print(to_csv(rows, columns))
    elif format is Format.md:
        print(to_markdown(rows, columns))
    else:
        print_table(rows, columns, Console(width=None if sys.stdout.isatty() else 200))


def print_text(text: object) -> None:
    """Prints what a command has to say, such as the path of what it wrote."""
    print(sanitize_lines(str(text)))


def print_note(text: object) -> None:
    """Prints beside a command's output what went wrong, or what to know of it."""
    print(sanitize_lines(str(text)), file=sys.stderr)
