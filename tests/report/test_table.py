"""Tables for people and for programs."""

from __future__ import annotations

import csv
import json
from io import StringIO

from rich.console import Console

from mixcoder.report.table import Column, count, print_table, to_csv, to_json, to_markdown

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


def test_csv_reads_back_as_it_was() -> None:
    rows: list[dict[str, object]] = [
        {"name": 'a, "b"\nc', "params": 1234567, "loss": 0.1 + 0.2, "at": [2, 3], "on": True},
        {"name": "", "params": None, "loss": 1e-12, "at": []},
    ]
    columns = [
        Column(key, f"the {key}", str.upper, is_number=True) for key in ("name", "loss", "params", "at", "on")
    ]
    text = to_csv(rows, columns)
    assert not text.endswith("\n")
    heading, first, second = csv.reader(StringIO(text, newline=""))
    assert heading == ["name", "loss", "params", "at", "on"]
    assert first == ['a, "b"\nc', repr(0.1 + 0.2), "1234567", "2,3", "true"]
    assert second == ["", "1e-12", "", "none", ""]
    assert float(first[1]) == 0.1 + 0.2


def test_csv_of_nothing() -> None:
    assert to_csv([], COLUMNS) == "name,params"
    assert list(csv.reader(to_csv([{"params": 1}] * 2, COLUMNS[:1]).splitlines())) == [["name"], [""], [""]]


def test_csv_of_a_carriage_return() -> None:
    """Which Python's csv does not quote, and readers take for the end of a row."""
    text = to_csv([{"name": "a\rb", "params": 1}], COLUMNS)
    assert list(csv.reader(StringIO(text, newline=""))) == [["name", "params"], ["a b", "1"]]
