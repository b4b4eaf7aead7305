"""Commands that train an experiment, or say what that takes: run, plan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from mixcoder.cli.options import (
    DeviceOption,
    ExperimentArgument,
    Format,
    FormatOption,
    OverridesArgument,
    RunsOption,
)
from mixcoder.cli.outcome import RunOptions, check_images, prepare_data, print_run, print_runs
from mixcoder.cli.output import print_rows, print_text
from mixcoder.cli.place import RunPlace, check_place, create_workers
from mixcoder.cli.progress import sweep_progress
from mixcoder.cli.searching import print_search_plan, run_search
from mixcoder.cli.selection import split_sources
from mixcoder.cli.streams import ignore_failures
from mixcoder.cli.torchrun import run_together
from mixcoder.errors import ArgumentError, RunInterruptedError
from mixcoder.experiments.file.matrix import Values
from mixcoder.experiments.file.spec import Experiment, Run, read_experiment
from mixcoder.experiments.plans.plan import PLAN_COLUMNS, plan_rows, plan_summary, plan_values
from mixcoder.experiments.results.columns import value_columns
from mixcoder.experiments.results.records import tell_apart, with_experiment
from mixcoder.experiments.runs.stop_requests import watch_sweep
from mixcoder.experiments.runs.training_run import train_run
from mixcoder.experiments.sweeps.run_order import longest_first
from mixcoder.experiments.sweeps.sweep import run_sweep
from mixcoder.io.interrupts import check_interrupted
from mixcoder.programs.training_lines import training_progress
from mixcoder.training.ranks import is_under_torchrun


def run(
    context: typer.Context,
    file: ExperimentArgument,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="such as training.inputs=50_000")
    ] = None,
    runs: RunsOption = Path("runs"),
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", min=1, help="runs side by side (1; with --cluster, all)"),
    ] = None,
    device: DeviceOption = "auto",
    cluster: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="train on a Ray cluster: HOST:PORT, or auto")
    ] = None,
    cpus: Annotated[float | None, typer.Option(min=0, help="with --cluster, cores of a run (1)")] = None,
    gpus: Annotated[
        float | None, typer.Option(min=0, help="with --cluster, GPUs of a run, also 0.25 (0)")
    ] = None,
    launcher: Annotated[
        str | None, typer.Option(metavar="COMMAND", help="put before the command of each run: 'srun -n1'")
    ] = None,
    format: FormatOption = Format.text,
) -> None:
    """Train what of an experiment file is not done yet, and print the result table."""
    place = RunPlace(jobs, device, cluster, cpus, gpus, launcher)
    options = RunOptions(runs, place, format, context.obj)
    try:
        with ignore_failures("stdout", BrokenPipeError):
            if is_under_torchrun():
                run_together(file, overrides or [], options)
            else:
                check_place(place)
                _run(read_experiment(file, overrides or []), options)
    except KeyboardInterrupt:
        raise RunInterruptedError("interrupted; the same command goes on from there") from None


def plan(
    file: ExperimentArgument,
    overrides: OverridesArgument = None,
    runs: RunsOption = Path("runs"),
    format: FormatOption = Format.text,
) -> None:
    """Show every run of experiment files with its size, cost and time; train nothing."""
    files, assignments = split_sources(file, overrides)
    experiments = {each: read_experiment(each, assignments) for each in files}
    searches = {each: experiment.search for each, experiment in experiments.items() if experiment.search}
    if searches and len(files) > 1 and format in (Format.csv, Format.json):
        raise ArgumentError(
            "file", f"{min(searches)} states a search, whose plan has other columns; plan it alone"
        )
    matrices = {each: experiments[each] for each in files if each not in searches}
    if matrices:
        _print_plan(matrices, runs, format)
    for search in searches.values():
        if len(files) > 1:
            print_text(f"\n{search.name}:\n")
        print_search_plan(search, runs, format)


def _print_plan(experiments: Mapping[Path, Experiment], runs: Path, format: Format) -> None:
    """Prints the runs of experiment files as one table."""
    rows, values = _plan_all(experiments, runs)
    print_rows(rows, [*value_columns(values), *PLAN_COLUMNS], format)
    if format is Format.text:
        print_text(plan_summary(rows))


def _plan_all(
    experiments: Mapping[Path, Experiment], runs: Path
) -> tuple[list[dict[str, Any]], list[Values]]:
    """Returns the plan of several files: its rows, and the values of each; of one file its own."""
    names = tell_apart(list(experiments), [experiment.name for experiment in experiments.values()])
    rows: list[dict[str, Any]] = []
    values: list[Values] = []
    for name, experiment in zip(names, experiments.values(), strict=True):
        own_rows, own_values = plan_rows(experiment, runs), plan_values(experiment)
        if len(experiments) > 1:
            own_rows = [with_experiment(name, row) for row in own_rows]
            own_values = [with_experiment(name, each) for each in own_values]
        rows += own_rows
        values += own_values
    return rows, values


def _run(experiment: Experiment, options: RunOptions) -> None:
    """Trains what is not done yet: one run in this process, several or one elsewhere in workers."""
    watch_sweep()
    if experiment.search:
        run_search(experiment.search, options)
        return
    prepare_data(experiment, options)
    check_interrupted()
    if len(experiment.runs) == 1 and options.place.is_here:
        _run_here(experiment.runs[0], options)
    else:
        _run_sweep(experiment, options)


def _run_here(run: Run, options: RunOptions) -> None:
    with training_progress(Console(stderr=True)) as observer:
        directory = train_run(run, options.runs, observer, options.place.device)
    print_run(directory, options)


def _run_sweep(experiment: Experiment, options: RunOptions) -> None:
    with sweep_progress(Console(stderr=True)) as observer:
        workers = create_workers(options.place, options.runs, options.plugins)
        order = list if options.place.is_here else longest_first
        states = run_sweep(experiment, options.runs, observer, workers, order)
    if options.place.cluster is not None:  # each node has read images of its own
        check_images(experiment, options.runs)
    print_runs(experiment, options, {state.name: state.reason for state in states if state.state == "failed"})
