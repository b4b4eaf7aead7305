"""Tables for people and for programs."""

from __future__ import annotations

import json
from io import StringIO

from rich.console import Console

from mixcoder.report.table import Column, count, print_table, to_json, to_markdown

ROWS = [{"name": "a|b", "params": 1234567}, {"name": "[red]c", "params": 5}]
COLUMNS = [Column("name", "model"), Column("params", "model params", count, is_number=True)]


def test_markdown() -> None:
    assert to_markdown(ROWS, COLUMNS).splitlines() == [
        "| model | model params |",
        "|:---|---:|",
        "| a\\|b | 1,234,567 |",
        "| [red]c | 5 |",
    ]


def test_json_keeps_numbers() -> None:
    assert json.loads(to_json(ROWS)) == ROWS


def test_terminal_shows_names_as_they_are() -> None:
    out = StringIO()
    print_table(ROWS, COLUMNS, Console(file=out, width=80))
    assert "[red]c" in out.getvalue()
    assert "1,234,567" in out.getvalue()
