"""How commands print."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from mixcoder.cli.options import Format
from mixcoder.text.sanitize import sanitize_lines
from mixcoder.text.table import Column, print_table, to_csv, to_json, to_markdown


def print_rows(rows: Sequence[dict[str, Any]], columns: Sequence[Column], format: Format) -> None:
    """Prints a listing in a format."""
    if format is Format.json:
        print(to_json(rows))
    elif format is Format.csv:
        print(to_csv(rows, columns))
    elif format is Format.md:
        print(to_markdown(rows, columns))
    else:
        print_table(rows, columns, Console(width=None if sys.stdout.isatty() else 200))


def print_text(text: object) -> None:
    """Prints a line of a command's result, such as the path of a written file."""
    print(sanitize_lines(str(text)))


def print_note(text: object) -> None:
    """Prints to stderr what a user should know beside a command's result."""
    print(sanitize_lines(str(text)), file=sys.stderr)
