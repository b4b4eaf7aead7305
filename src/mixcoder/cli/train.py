"""Commands that train an experiment, or say what that takes: run, plan."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from rich.console import Console

from mixcoder.cli.options import DeviceOption, ExperimentArgument, Format, FormatOption, RunsOption
from mixcoder.cli.output import print_note, print_rows, print_text
from mixcoder.cli.place import Place, check_place, check_under_torchrun, create_workers
from mixcoder.cli.progress import data_progress, sweep_progress, training_progress
from mixcoder.cli.streams import ignore_failures
from mixcoder.errors import (
    DivergenceError,
    ExperimentError,
    MixcoderWarning,
    RunInterruptedError,
    TrainingError,
)
from mixcoder.experiments.file.matrix import label
from mixcoder.experiments.file.spec import Experiment, Run, read_experiment
from mixcoder.experiments.plans.plan import PLAN_COLUMNS, plan_rows, plan_summary, plan_values
from mixcoder.experiments.results.columns import value_columns
from mixcoder.experiments.results.listing import list_results
from mixcoder.experiments.results.records import records_in, records_of
from mixcoder.experiments.runs.preparing import compare_images, prepare_images
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.runs.stop_requests import SWEEP_VARIABLE, watch_sweep
from mixcoder.experiments.runs.training_run import Observer, train_run
from mixcoder.experiments.sweeps.run_order import longest_first
from mixcoder.experiments.sweeps.sweep import run_sweep
from mixcoder.io.interrupts import check_interrupted
from mixcoder.training.ranks import Ranks, is_under_torchrun
from mixcoder.training.trainer import Progress, Trainer

if TYPE_CHECKING:
    from mixcoder.training.process_group import ProcessGroup


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
    place = Place(jobs, device, cluster, cpus, gpus, launcher)
    options = _RunOptions(runs, place, format, context.obj)
    try:
        with ignore_failures("stdout", BrokenPipeError):
            if is_under_torchrun():
                _run_together(file, overrides or [], options)
            else:
                check_place(place)
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
    """Compares the images of earlier results with those here; fetches and packs the images of other runs.

    On a cluster each node prepares its images itself.
    """
    _compare_images(experiment, options.runs)
    if options.place.cluster is None:
        with data_progress(Console(stderr=True)) as progress:
            notes = prepare_images(experiment.runs, options.runs, progress)
        for note in notes:
            print_note(note)


def _compare_images(experiment: Experiment, runs: Path) -> None:
    """Checks that results are of the images that are here."""
    with data_progress(Console(stderr=True)) as progress:
        notes = compare_images(experiment.runs, runs, progress)
    for note in notes:
        print_note(note)


def _run_here(run: Run, options: _RunOptions) -> None:
    with training_progress(Console(stderr=True)) as observer:
        directory = train_run(run, options.runs, observer, options.place.device)
    _print_run(directory, options)


def _run_sweep(experiment: Experiment, options: _RunOptions) -> None:
    with sweep_progress(Console(stderr=True)) as observer:
        workers = create_workers(options.place, options.runs, options.plugins)
        order = list if options.place.is_here else longest_first
        states = run_sweep(experiment, options.runs, observer, workers, order)
    if options.place.cluster is not None:  # each node has read images of its own
        _compare_images(experiment, options.runs)
    _print_runs(
        experiment, options, {state.name: state.reason for state in states if state.state == "failed"}
    )


def _print_run(directory: RunDirectory, options: _RunOptions) -> None:
    print_rows(*list_results(records_in(directory.path)), options.format)
    if options.format is Format.text:
        print_text(directory.path)


def _print_runs(experiment: Experiment, options: _RunOptions, failed: Mapping[str, object]) -> None:
    """Prints the table of all runs.

    Raises:
        TrainingError: some runs have failed; says why.
    """
    print_rows(*list_results(records_of(experiment, options.runs)), options.format)
    if failed:
        reasons = "".join(f"\n  {name}: {reason}" for name, reason in failed.items())
        raise TrainingError(f"{len(failed)} of {len(experiment.runs)} runs failed:{reasons}")


def _run_together(file: Path, overrides: list[str], options: _RunOptions) -> None:
    """Trains what is not done yet as one of the processes of torchrun, of which the first one prints."""
    from mixcoder.training.process_group import join_ranks  # imports torch.distributed

    os.environ[SWEEP_VARIABLE] = str(os.getppid())  # a killed torchrun leaves no process behind
    watch_sweep()
    with join_ranks(options.place.device) as ranks:
        if not ranks.is_first:
            warnings.simplefilter("ignore", MixcoderWarning)
        with ranks.together():
            check_under_torchrun(options.place)
            experiment = read_experiment(file, overrides)
            _check_batch_sizes(experiment, ranks)
        has_same_runs = ranks.is_same(" ".join(run.digest for run in experiment.runs))
        with ranks.together():
            if not has_same_runs:
                raise ExperimentError([f"{file}: states other runs here than where the first process runs"])
            if ranks.is_first:
                _prepare_data(experiment, options)
        check_interrupted()
        failed = _train_in_turn(experiment, options.runs, ranks)
        with ranks.together():
            if ranks.is_first:
                _print_outcome(experiment, options, failed)


def _check_batch_sizes(experiment: Experiment, ranks: Ranks) -> None:
    """Checks that every rank gets an image of each batch.

    Raises:
        ExperimentError: a batch has too few images.
    """
    smallest = min(run.recipe.batch_size for run in experiment.runs)
    if smallest < ranks.count:
        problem = f"{smallest} images are too few for {ranks.count} processes, each needs one or more"
        raise ExperimentError([f"training.batch_size: {problem}"])


def _train_in_turn(experiment: Experiment, runs: Path, ranks: ProcessGroup) -> dict[str, DivergenceError]:
    """Trains one run after the other; returns the errors of those whose loss did not stay finite."""
    failed = {}
    for run in experiment.runs:
        name = label(run.values)
        try:
            if ranks.is_first and name and not RunDirectory.of(run, runs).is_done():
                print_note(f"running: {name}")
            with _progress(ranks) as observer:
                train_run(run, runs, observer, str(ranks.device), ranks)
        except DivergenceError as error:
            failed[name] = error
    return failed


def _progress(ranks: Ranks) -> AbstractContextManager[Observer]:
    """Returns a context that shows the progress of a run, or nothing where another process does."""
    if not ranks.is_first:
        return nullcontext(_show_nothing)
    return training_progress(Console(stderr=True))


def _show_nothing(trainer: Trainer, progress: Progress) -> None:
    """Shows nothing, as an observer."""


def _print_outcome(
    experiment: Experiment, options: _RunOptions, failed: Mapping[str, DivergenceError]
) -> None:
    """Prints the table of one run, or of several.

    Raises:
        TrainingError: runs have failed.
    """
    if len(experiment.runs) > 1:
        _print_runs(experiment, options, failed)
        return
    for error in failed.values():
        raise error
    _print_run(RunDirectory.of(experiment.runs[0], options.runs), options)
