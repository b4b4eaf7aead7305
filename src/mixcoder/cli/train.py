"""Commands that train an experiment, or say what that takes: run, plan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.console import Console

from mixcoder.cli.options import DeviceOption, ExperimentArgument, Format, FormatOption, RunsOption
from mixcoder.cli.output import print_note, print_rows, print_text
from mixcoder.cli.place import Place, check_place, create_workers
from mixcoder.cli.progress import data_progress, sweep_progress, training_progress
from mixcoder.cli.streams import ignore_failures
from mixcoder.errors import RunInterruptedError, TrainingError
from mixcoder.experiments.file.spec import Experiment, Run, read_experiment
from mixcoder.experiments.plans.plan import PLAN_COLUMNS, plan_rows, plan_summary, plan_values
from mixcoder.experiments.results.columns import value_columns
from mixcoder.experiments.results.listing import list_results
from mixcoder.experiments.results.records import records_in, records_of
from mixcoder.experiments.runs.preparing import compare_images, prepare_images
from mixcoder.experiments.runs.stop_requests import watch_sweep
from mixcoder.experiments.runs.training_run import train_run
from mixcoder.experiments.sweeps.sweep import run_sweep
from mixcoder.io.interrupts import check_interrupted


def run(
    context: typer.Context,
    file: ExperimentArgument,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="such as training.inputs=50_000")
    ] = None,
    runs: RunsOption = Path("runs"),
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", min=1, help="runs side by side; 1, or all of them with --cluster"),
    ] = None,
    device: DeviceOption = "auto",
    cluster: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="train on a Ray cluster: HOST:PORT, or auto")
    ] = None,
    cpus: Annotated[float | None, typer.Option(min=0, help="cores of a run on the cluster; 1")] = None,
    gpus: Annotated[
        float | None, typer.Option(min=0, help="GPUs of a run on the cluster, also 0.25; 0")
    ] = None,
    launcher: Annotated[
        str | None, typer.Option(metavar="COMMAND", help="put before the command of each run: 'srun -n1'")
    ] = None,
    format: FormatOption = Format.text,
) -> None:
    """Train what of an experiment file is not done yet, and print the result table."""
    place = Place(jobs, device, cluster, cpus, gpus, launcher)
    check_place(place)
    options = _RunOptions(runs, place, format, context.obj)
    try:
        with ignore_failures("stdout", BrokenPipeError):
            _run(read_experiment(file, overrides or []), options)
    except KeyboardInterrupt:
        raise RunInterruptedError("interrupted; the same command goes on from there") from None


def plan(
    file: ExperimentArgument,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None,
    runs: RunsOption = Path("runs"),
    format: FormatOption = Format.text,
) -> None:
    """Show every run of an experiment file with its size, cost and time; train nothing."""
    experiment = read_experiment(file, overrides or [])
    rows = plan_rows(experiment, runs)
    print_rows(rows, [*value_columns(plan_values(experiment)), *PLAN_COLUMNS], format)
    if format is Format.text:
        print_text(plan_summary(rows))


class _RunOptions(NamedTuple):
    """A choice of where runs and their directories are, and of the format of their table."""

    runs: Path
    place: Place
    format: Format
    plugins: Sequence[str]


def _run(experiment: Experiment, options: _RunOptions) -> None:
    """Trains what is not done yet: one run in this process, several or one elsewhere in workers."""
    watch_sweep()
    _prepare_data(experiment, options)
    check_interrupted()
    if len(experiment.runs) == 1 and options.place.is_here:
        _run_here(experiment.runs[0], options)
    else:
        _run_sweep(experiment, options)


def _prepare_data(experiment: Experiment, options: _RunOptions) -> None:
    """Checks that earlier results are of the images that are here; fetches and packs those of the other runs.

    On a cluster each node prepares its images itself.
    """
    with data_progress(Console(stderr=True)) as progress:
        notes = compare_images(experiment.runs, options.runs, progress)
        if not options.place.cluster:
            notes += prepare_images(experiment.runs, options.runs, progress)
    for note in notes:
        print_note(note)


def _run_here(run: Run, options: _RunOptions) -> None:
    with training_progress(Console(stderr=True)) as observer:
        directory = train_run(run, options.runs, observer, options.place.device)
    print_rows(*list_results(records_in(directory.path)), options.format)
    if options.format is Format.text:
        print_text(directory.path)


def _run_sweep(experiment: Experiment, options: _RunOptions) -> None:
    with sweep_progress(Console(stderr=True)) as observer:
        workers = create_workers(options.place, options.runs, options.plugins)
        states = run_sweep(experiment, options.runs, observer, workers)
    print_rows(*list_results(records_of(experiment, options.runs)), options.format)
    failed = [state for state in states if state.state == "failed"]
    if failed:
        reasons = "".join(f"\n  {state.name}: {state.reason}" for state in failed)
        raise TrainingError(f"{len(failed)} of {len(states)} runs failed:{reasons}")
