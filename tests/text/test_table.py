"""Tables for people and for programs."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from io import StringIO

import pytest
from rich.console import Console
from rich.text import Text

from mixcoder.text.table import Column, print_table, to_csv, to_json, to_markdown
from mixcoder.text.values import format_count

ROWS = [{"name": "a|b", "params": 1234567}, {"name": "[red]c", "params": 5}]
COLUMNS = [Column("name", "model"), Column("params", "model params", format_count, is_number=True)]


def test_markdown() -> None:
    assert to_markdown(ROWS, COLUMNS).splitlines() == [
        "| model | model params |",
        "|:---|---:|",
        "| a\\|b | 1,234,567 |",
        "| \\[red\\]c | 5 |",
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
    assert list(csv.reader(StringIO(text, newline=""))) == [["name", "params"], ["a\\rb", "1"]]


def test_csv_of_a_formula_and_of_numbers() -> None:
    rows: list[dict[str, object]] = [
        {"name": "=HYPERLINK(A1)", "params": -2, "loss": -1.5},
        {"name": "-1.5", "params": None, "loss": 1e-9},
    ]
    columns = [Column("name", "name"), Column("params", "params"), Column("loss", "loss")]
    assert list(csv.reader(StringIO(to_csv(rows, columns))))[1:] == [
        ["'=HYPERLINK(A1)", "-2", "-1.5"],
        ["-1.5", "", "1e-09"],
    ]


def test_json_holds_no_nan() -> None:
    text = to_json([{"psnr": math.inf, "loss": math.nan, "at": [1.0, -math.inf], "n": 3}])
    assert json.loads(text, parse_constant=pytest.fail) == [
        {"psnr": None, "loss": None, "at": [1.0, None], "n": 3}
    ]


HOSTILE_NAME = "\x1b]0;owned\x07[red]a[/]\u202eb\rc\udcff|d"


@pytest.mark.parametrize("to_text", [to_csv, to_markdown])
def test_no_table_holds_what_steers_a_terminal(to_text: Callable[..., str]) -> None:
    text = to_text([{"name": HOSTILE_NAME, "params": 1}], COLUMNS)
    assert all(line.isprintable() for line in text.split("\n"))
    assert "\\x1b]0;owned\\x07" in text.replace("\\\\", "\\").replace("\\]", "]")


def test_a_terminal_is_not_steered() -> None:
    out = StringIO()
    console = Console(file=out, width=120, force_terminal=True)
    print_table([{"name": HOSTILE_NAME, "params": 1}], [Column("name", HOSTILE_NAME), COLUMNS[1]], console)
    text = Text.from_ansi(out.getvalue()).plain
    assert all(line.isprintable() for line in text.split("\n"))
    assert text.count(r"\x1b]0;owned\x07[red]a[/]\u202eb\rc\udcff|d") == 2


def printed(rows: list[dict[str, object]], columns: list[Column], width: int) -> str:
    out = StringIO()
    print_table(rows, columns, Console(file=out, width=width))
    return out.getvalue()


def test_every_number_shown_is_whole() -> None:
    rows: list[dict[str, object]] = [{f"n{i}": 10**i for i in range(12)}]
    columns = [Column(f"n{i}", f"n{i}", format_count, is_number=True) for i in range(12)]
    for width in range(20, 120, 7):
        text = printed(rows, columns, width)
        table, _, missing = text.partition("no room for")
        for i in range(12):
            assert (f"{10**i:,}" in table.split()) != (
                f"n{i}" in missing.replace(",", " ").replace(";", " ").split()
            )
