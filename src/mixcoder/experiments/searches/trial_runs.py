"""The runs of a search: an ordinary run for each rung of each trial, and for each seed of each finalist.

A rung is a run of its own, trained anew: the schedule of a short run, which ends at a rate of zero, is not
the beginning of that of a longer one. So each loss is that of a whole training, and each run is found,
resumed and shown as any other.
"""

from __future__ import annotations

from collections.abc import Sequence

from mixcoder.errors import ExperimentError
from mixcoder.experiments.file.checks import RunCheck
from mixcoder.experiments.file.matrix import Values
from mixcoder.experiments.file.search_section import Search
from mixcoder.experiments.file.spec import Run
from mixcoder.experiments.file.yaml_file import Document
from mixcoder.experiments.searches.trials import Trial

FINAL = "final"
"""The rung of a finalist, in tables."""


def trial_run(search: Search, trial: Trial, rung: int) -> Run:
    """Returns the run of a trial on a rung, from 0.

    Raises:
        ExperimentError: its values do not fit together.
    """
    labels = {"trial": trial.number, "rung": rung + 1, **trial.values}
    return _run(search, search.trial_document(trial.values, rung), labels)


def finalist_run(search: Search, trial: Trial, seed: int) -> Run:
    """Returns the run of a finalist with a seed.

    Raises:
        ExperimentError: its values do not fit together.
    """
    labels = {"trial": trial.number, "rung": FINAL, **trial.values, "seed": seed}
    return _run(search, search.finalist_document(trial.values, seed), labels)


def asked_runs(search: Search, trials: Sequence[Trial]) -> list[tuple[Trial, int, Run]]:
    """Returns the runs that were asked for, each with its trial and its rung, rung by rung."""
    return [
        (trial, rung, trial_run(search, trial, rung))
        for rung in range(len(search.section.inputs))
        for trial in trials
        if rung <= trial.rung
    ]


def finalist_runs(search: Search, finalists: Sequence[Trial]) -> list[Run]:
    """Returns the runs of the finalists, seed by seed."""
    return [finalist_run(search, trial, seed) for seed in search.section.seeds for trial in finalists]


def _run(search: Search, document: Document, labels: Values) -> Run:
    check = RunCheck(document, search.document, search.checked)
    parts = check.parts()
    if parts is None:
        raise ExperimentError(check.problems)
    return Run(search.name, labels, *parts, search.image_counts)
