"""A search on the command line: it runs, and the table of its finalists is printed.

Search ─▶ lock ─▶ images ─▶ sweep, whose next run the results decide ─▶ finalists
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mixcoder.cli.options import Format
from mixcoder.cli.outcome import RunOptions, check_images, prepare_data
from mixcoder.cli.output import print_note, print_rows, print_text
from mixcoder.cli.place import create_workers
from mixcoder.cli.progress import sweep_progress
from mixcoder.errors import TrainingError
from mixcoder.experiments.file.search_section import Search
from mixcoder.experiments.file.spec import Experiment, Run
from mixcoder.experiments.plans.search_plan import (
    STAGE_COLUMNS,
    plan_stages,
    stages_summary,
    unreached_rung,
)
from mixcoder.experiments.results.listing import ListingOptions, list_results
from mixcoder.experiments.results.records import finalist_records
from mixcoder.experiments.searches.proposals import check_optuna
from mixcoder.experiments.searches.search_runs import SearchRuns, search_lock
from mixcoder.experiments.searches.trial_runs import FINAL, finalist_run, trial_run
from mixcoder.experiments.searches.trials import Trial
from mixcoder.experiments.sweeps.run_order import longest_first
from mixcoder.experiments.sweeps.run_state import RunState
from mixcoder.experiments.sweeps.sweep import run_sweep
from mixcoder.io.interrupts import check_interrupted


def run_search(search: Search, options: RunOptions) -> None:
    """Tries what is not tried yet, trains the finalists, and prints their table.

    Raises:
        ArgumentError: Optuna is not installed, or no combination is within the limits.
        RunLockedError: another process runs the search.
        TrainingError: runs of finalists, or all of the trials, have failed.
    """
    check_optuna()
    with search_lock(search, options.runs):
        source = SearchRuns(search, options.runs)
        before = source.asked_before()
        prepare_data(Experiment(search.name, (*before, *_examples(search))), options)
        check_interrupted()
        with sweep_progress(Console(stderr=True)) as observer:
            workers = create_workers(options.place, options.runs, options.plugins)
            order = list if options.place.is_here else longest_first
            states = run_sweep(
                Experiment(search.name, tuple(before)),
                options.runs,
                observer,
                workers,
                order,
                source.next_run,
            )
        if options.place.cluster is not None:
            check_images(Experiment(search.name, tuple(state.run for state in states)), options.runs)
    _print_finalists(search, states, options)


def print_search_plan(search: Search, runs: Path, format: Format) -> None:
    """Prints what each rung of a search, and its finalists, will take."""
    stages = plan_stages(search, runs)
    print_rows(stages, STAGE_COLUMNS, format)
    if format is Format.text:
        print_text(stages_summary(search, stages))
    unreached = unreached_rung(search.section)
    if unreached:
        print_note(unreached)


def _examples(search: Search) -> list[Run]:
    """Returns a run on the images of trials and one on those of finalists: all that a search needs."""
    trial = Trial(search.probes()[0])
    return [trial_run(search, trial, 0), finalist_run(search, trial, search.section.seeds[0])]


def _print_finalists(search: Search, states: Sequence[RunState], options: RunOptions) -> None:
    """Prints the table of the finalists, the best first, each averaged over its seeds.

    Raises:
        TrainingError: runs of finalists, or all of the trials, have failed; says why.
    """
    failed = [state for state in states if state.state == "failed"]
    finals = [state for state in failed if state.run.values["rung"] == FINAL]
    records = finalist_records(search, options.runs)
    if records:
        listing = ListingOptions(average="seed", sort="validation_loss")
        print_rows(*list_results(records, listing), options.format)
    if finals or not records:
        reasons = "".join(f"\n  {state.name}: {state.reason}" for state in finals or failed)
        what = "runs of finalists" if finals else "trials, which are all,"
        raise TrainingError(f"{len(finals or failed)} {what} have failed:{reasons}")
    if failed:
        print_note(
            f"{len(failed)} runs of trials have failed; the first: {failed[0].name}: {failed[0].reason}"
        )
