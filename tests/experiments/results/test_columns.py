"""Columns of results: the ones shown unasked, and whole at any width."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from mixcoder.experiments.results.columns import columns_of, default_keys, measures_markdown
from mixcoder.measures import COMPARISONS, MEASURES
from mixcoder.text.table import print_table

WIDE_ROW: dict[str, object] = {
    "run": "a-very-long-name-of-a-run-that-goes-on",
    "mixer": "x" * 40,
    "validation_loss": 0.0123456789,
    "inputs": 6_000_000,
    "params": 123_456_789,
    "train_minutes": 1234.5,
    "throughput": 98_765.4,
    "state": "failed",
    "reason": "one two three " * 9,
}


@pytest.mark.parametrize("width", [26, 40, 80, 200])
def test_the_loss_is_whole_at_any_width(width: int) -> None:
    """Texts wrap and other columns go, and are named, before a digit of the loss does."""
    columns = columns_of(list(WIDE_ROW), [{"mixer": "x" * 40}])
    out = StringIO()
    print_table([WIDE_ROW], columns, Console(file=out, width=width))
    text = out.getvalue()
    assert "0.0123457" in text
    assert "…" not in text
    said = "".join(text.split())
    assert "failed" in said
    for column in columns:
        assert all(word in said for word in column.heading.split())
    if width >= 80:
        assert all(len(line) <= width for line in text.splitlines())
    assert ("noroomfor" in said) == (width < 200)


def row(**figures: Any) -> dict[str, Any]:
    measures = dict.fromkeys(measure.key for measure in MEASURES)
    return {"run": "a", "state": "done", "reason": "", **measures, **figures}


def test_what_is_shown_unasked() -> None:
    usual = ["seed", "validation_loss", "inputs", "params", "train_minutes", "throughput"]
    assert default_keys([row(seed=1)], [{"seed": 1}]) == usual
    assert default_keys([row()], [{}]) == ["run", *usual[1:]]
    assert "ssim" in default_keys([row(ssim=0.5)], [{}])
    assert "psnr" not in default_keys([row(ssim=0.5)], [{}])
    assert default_keys([row(state="failed")], [{}])[-1] == "state"
    assert default_keys([row(state="unreadable")], [{}])[-2:] == ["state", "reason"]
    assert "difference" in default_keys([row(difference=None)], [{}])


def test_the_documents_name_every_measure() -> None:
    lines = measures_markdown().splitlines()[2:]
    assert [line.split("`")[1] for line in lines] == [measure.key for measure in (*MEASURES, *COMPARISONS)]
