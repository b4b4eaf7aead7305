"""Commands that draw what runs have found: plot, report."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mixcoder.cli.options import (
    Against,
    AgainstOption,
    AverageOption,
    OpenDataOption,
    OverridesArgument,
    RunsOption,
    SourceArgument,
    WhereOption,
)
from mixcoder.cli.output import print_text
from mixcoder.cli.selection import select_records, split_sources
from mixcoder.errors import ArgumentError
from mixcoder.experiments.file.spec import read_experiment
from mixcoder.experiments.results.records import Record
from mixcoder.experiments.results.step_times import read_step_times
from mixcoder.experiments.runs.run_data import allow_all, allow_local
from mixcoder.experiments.searches.trial_losses import read_asked
from mixcoder.report.cost_points import CostOptions
from mixcoder.report.figures import loss_curves, pareto_plot, save_figure
from mixcoder.report.page import write_page
from mixcoder.report.search_story import SearchStory, tell_search


class CostName(StrEnum):
    """A cost of a measure in `mixcoder.measures`, for the axis of a plot."""

    params = "params"
    time = "time"
    madds = "madds"
    encode_madds = "encode_madds"
    decode_madds = "decode_madds"
    train_madds = "train_madds"


TimesOption = Annotated[
    Path | None,
    typer.Option(help="file of times of steps, in place of the minutes that runs state"),
]


def plot(
    source: SourceArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="picture to write: .svg, .png or .pdf")],
    overrides: OverridesArgument = None,
    runs: RunsOption = Path("runs"),
    where: WhereOption = None,
    pareto: Annotated[CostName | None, typer.Option(help="validation loss against this cost instead")] = None,
    average: AverageOption = None,
    against: AgainstOption = None,
    times: TimesOption = None,
) -> None:
    """Draw training and validation loss of all runs, or what the loss costs."""
    options = _cost_options(average, against, times)
    if pareto is None and options != CostOptions():
        raise ArgumentError("plot", "--average, --against and --times go with --pareto; state a cost")
    records = select_records(split_sources(source, overrides), runs, where)
    figure = pareto_plot(records, pareto.value, options) if pareto else loss_curves(records)
    save_figure(figure, output)
    print_text(output)


def report(
    source: SourceArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="page to write: .html")],
    overrides: OverridesArgument = None,
    runs: RunsOption = Path("runs"),
    where: WhereOption = None,
    open_data: OpenDataOption = False,
    average: AverageOption = None,
    against: AgainstOption = None,
    times: TimesOption = None,
) -> None:
    """Write one page, which works offline, with all that is known of an experiment.

    --average, --against and --times are for its plots of costs.
    """
    sources = split_sources(source, overrides)
    has_folder = any(each.is_dir() for each in sources[0])
    may_open = allow_local if has_folder and not open_data else allow_all
    options = _cost_options(average, against, times)
    records = select_records(sources, runs, where)
    write_page(records, output, may_open, options, _story(sources, runs, records))
    print_text(output)


def _cost_options(average: str | None, against: Against | None, times: Path | None) -> CostOptions:
    """Returns what the marks in plots of costs are."""
    return CostOptions(average, against is not None, read_step_times(times) if times else None)


def _story(
    sources: tuple[Sequence[Path], Sequence[str]], runs: Path, records: Sequence[Record]
) -> SearchStory | None:
    """Returns what there is to say of the search of an experiment file; None of any other sources."""
    [source, *others], overrides = sources
    search = None if source.is_dir() or others else read_experiment(source, overrides).search
    return tell_search(search, read_asked(search, runs), records) if search else None
