"""What comes before the training of an experiment, and after it: its images, and the table of its runs.

Experiment ─▶ prepare_data ─▶ training ─┬▶ print_run
└▶ print_runs, and why some have failed
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from mixcoder.cli.options import Format
from mixcoder.cli.output import print_note, print_rows, print_text
from mixcoder.cli.place import RunPlace
from mixcoder.cli.progress import data_progress
from mixcoder.data.fetch_progress import StartTask
from mixcoder.errors import TrainingError
from mixcoder.experiments.file.spec import Experiment
from mixcoder.experiments.results.listing import list_results
from mixcoder.experiments.results.records import records_in, records_of
from mixcoder.experiments.runs.preparing import (
    SharedImages,
    compare_images,
    group_by_images,
    prepare_images,
)
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.measures import format_loss, was_better_before


class RunOptions(NamedTuple):
    """A choice of where runs and their directories are, and of the format of their table."""

    runs: Path
    place: RunPlace
    format: Format
    plugins: Sequence[str]


def prepare_data(experiment: Experiment, options: RunOptions) -> None:
    """Compares the images of earlier results with those here; fetches and packs the images of other runs.

    On a cluster each node prepares its images itself.
    """
    groups = group_by_images(experiment.runs, options.runs)
    _show(compare_images, groups)
    if options.place.cluster is None:
        _show(prepare_images, groups)


def check_images(experiment: Experiment, runs: Path) -> None:
    """Checks that results are of the images that are here."""
    _show(compare_images, group_by_images(experiment.runs, runs))


def _show(
    work: Callable[[Sequence[SharedImages], StartTask], list[str]], groups: Sequence[SharedImages]
) -> None:
    """Works on images, shows how that goes, and prints its notes."""
    with data_progress(Console(stderr=True)) as progress:
        notes = work(groups, progress)
    for note in notes:
        print_note(note)


def print_run(directory: RunDirectory, options: RunOptions) -> None:
    """Prints the table of one run, and where it is."""
    print_rows(*list_results(records_in(directory.path)), options.format)
    if note := _describe_best(directory):
        print_note(note)
    if options.format is Format.text:
        print_text(directory.path)


def _describe_best(directory: RunDirectory) -> str:
    """Returns when a run was better than at its end, if it was by more than a hundredth; else nothing."""
    result = directory.read_result() or {}
    if not was_better_before(result):
        return ""
    best, inputs = result["best_validation_loss"], result["best_inputs"]
    training = {row["inputs"]: row["training_loss"] for row in directory.read_metrics()}
    over_fits = training.get(result["inputs"], math.inf) < training.get(inputs, 0.0)
    after = f"after {inputs:,} of {result['inputs']:,} inputs"
    then = ", and then the run over-fits" if over_fits else ""
    right = "with --weights best, commands take the model of that moment"
    return f"the validation loss was lowest, {format_loss(best)}, {after}{then}; {right}"


def print_runs(experiment: Experiment, options: RunOptions, failed: Mapping[str, object]) -> None:
    """Prints the table of all runs.

    Raises:
        TrainingError: some runs have failed; says why.
    """
    print_rows(*list_results(records_of(experiment, options.runs)), options.format)
    if failed:
        reasons = "".join(f"\n  {name}: {reason}" for name, reason in failed.items())
        raise TrainingError(f"{len(failed)} of {len(experiment.runs)} runs failed:{reasons}")
