"""Commands that draw what runs have found: plot, report."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mixcoder.cli.options import OpenDataOption, RunsOption, SourceArgument, WhereOption
from mixcoder.cli.output import print_text
from mixcoder.cli.selection import select_records
from mixcoder.experiments.runs.run_data import allow_all, allow_local
from mixcoder.report.figures import loss_curves, pareto_plot, save_figure
from mixcoder.report.page import write_page


class CostName(StrEnum):
    """A cost of a measure in `mixcoder.measures`, for the axis of a plot."""

    params = "params"
    time = "time"
    madds = "madds"
    encode_madds = "encode_madds"
    decode_madds = "decode_madds"
    train_madds = "train_madds"


def plot(
    source: SourceArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="picture to write: .svg, .png or .pdf")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None,
    runs: RunsOption = Path("runs"),
    where: WhereOption = None,
    pareto: Annotated[CostName | None, typer.Option(help="validation loss against this cost instead")] = None,
) -> None:
    """Draw training and validation loss of all runs, or what the loss costs."""
    records = select_records(source, overrides, runs, where)
    save_figure(pareto_plot(records, pareto.value) if pareto else loss_curves(records), output)
    print_text(output)


def report(
    source: SourceArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="page to write: .html")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None,
    runs: RunsOption = Path("runs"),
    where: WhereOption = None,
    open_data: OpenDataOption = False,
) -> None:
    """Write one page, which works offline, with all that is known of an experiment."""
    may_open = allow_local if source.is_dir() and not open_data else allow_all
    write_page(select_records(source, overrides, runs, where), output, may_open)
    print_text(output)
