"""`mixcoder run` as one of the processes of torchrun, which train each run together.

torchrun ─▶ process ─▶ run_together ─▶ ranks ─▶ one run after the other ─▶ the first prints the table
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.console import Console

import mixcoder
from mixcoder.cli.outcome import RunOptions, prepare_data, print_run, print_runs
from mixcoder.cli.output import print_note
from mixcoder.cli.place import check_under_torchrun
from mixcoder.errors import DivergenceError, ExperimentError, MixcoderWarning, ReportedError, TrainingError
from mixcoder.experiments.file.matrix import label
from mixcoder.experiments.file.spec import Experiment, read_experiment
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.runs.stop_requests import SWEEP_VARIABLE, watch_sweep
from mixcoder.experiments.runs.training_run import Observer, train_run
from mixcoder.io.interrupts import check_interrupted
from mixcoder.programs.training_lines import training_progress
from mixcoder.training.ranks import Ranks
from mixcoder.training.training_loop import Progress, TrainingLoop

if TYPE_CHECKING:
    from mixcoder.training.process_group import ProcessGroup


def run_together(file: Path, overrides: list[str], options: RunOptions) -> None:
    """Trains what is not done yet as one of the processes of torchrun, of which the first one prints.

    Raises:
        ReportedError: another process reports the error, or the Ctrl-C.
        MixcoderError: the experiment, its data or this process are not in order, or runs have failed.
    """
    try:
        _run_as_rank(file, overrides, options)
    except KeyboardInterrupt:
        if os.environ["RANK"] != "0":
            raise ReportedError(1) from None
        raise


def _run_as_rank(file: Path, overrides: list[str], options: RunOptions) -> None:
    """Trains what is not done yet as one of the processes of torchrun, of which the first one prints."""
    from mixcoder.training.process_group import join_ranks  # imports torch.distributed

    os.environ[SWEEP_VARIABLE] = str(os.getppid())  # a killed torchrun leaves no process behind
    watch_sweep()
    with join_ranks(options.place.device) as ranks:
        if not ranks.is_first:
            warnings.simplefilter("ignore", MixcoderWarning)
        _check_versions(ranks)
        with ranks.together():
            check_under_torchrun(options.place)
            experiment = read_experiment(file, overrides)
            if experiment.search:
                raise ExperimentError([f"{file}: search does not go with torchrun; use -j, or a cluster"])
            _check_batch_sizes(experiment, ranks)
        has_same_runs = ranks.is_same(" ".join(run.digest for run in experiment.runs))
        with ranks.together():
            if not has_same_runs:
                raise ExperimentError([f"{file}: states other runs here than where the first process runs"])
            if ranks.is_first:
                prepare_data(experiment, options)
        check_interrupted()
        failed = _train_in_turn(experiment, options.runs, ranks)
        with ranks.together():
            if ranks.is_first:
                _print_outcome(experiment, options, failed)


def _check_versions(ranks: Ranks) -> None:
    """Checks that all ranks compute with the same libraries.

    Raises:
        TrainingError: this one has other versions than the first.
        ReportedError: another one has.
    """
    versions = f"Mixcoder {mixcoder.__version__} and PyTorch {torch.__version__.partition('+')[0]}"
    is_same = ranks.is_same(versions)
    with ranks.together():
        if not is_same:
            raise TrainingError(f"here are {versions}, the first process has others; install the same")


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


def _show_nothing(loop: TrainingLoop, progress: Progress) -> None:
    """Shows nothing, as an observer."""


def _print_outcome(
    experiment: Experiment, options: RunOptions, failed: Mapping[str, DivergenceError]
) -> None:
    """Prints the table of one run, or of several.

    Raises:
        TrainingError: runs have failed.
    """
    if len(experiment.runs) > 1:
        print_runs(experiment, options, failed)
        return
    for error in failed.values():
        raise error
    print_run(RunDirectory.of(experiment.runs[0], options.runs), options)
