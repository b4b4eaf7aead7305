"""What an experiment will be, before anything trains.

Experiment ─▶ every model on the meta device ─▶ shapes, parameters, multiply-adds, memory
           └▶ finished runs, or how fast this machine takes training steps ─▶ minutes
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mixcoder.backends.backend import choose_backend
from mixcoder.backends.speed import Work
from mixcoder.errors import MixcoderError, RunDirectoryError
from mixcoder.experiments.file.matrix import Values
from mixcoder.experiments.file.spec import Experiment, Run
from mixcoder.experiments.plans.estimates import UNKNOWN, FinishedRun, estimate_step_seconds, finished_runs
from mixcoder.experiments.results.columns import MEASURE_COLUMNS
from mixcoder.experiments.results.records import rename_measures
from mixcoder.experiments.results.step_times import COSTLESS
from mixcoder.experiments.runs.memory_check import check_memory
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.models.cost import cost_measures, count_costs
from mixcoder.models.dispatch import without_elements
from mixcoder.models.summary import count_parameters
from mixcoder.text.durations import format_duration
from mixcoder.text.table import Column
from mixcoder.training.memory_estimate import training_bytes
from mixcoder.training.optimizers import count_update_madds

PLAN_COLUMNS = (
    *(MEASURE_COLUMNS[key] for key in ("latent_shape", "compression_ratio", "params", "madds")),
    Column("memory_bytes", "memory (MB)", lambda size: f"{size / 1e6:,.1f}", is_number=True),
    Column("minutes", "time", format_duration, is_number=True),
    Column("minutes_from", "time from"),
    Column("done", "done", lambda done: "yes" if done else ""),
    *(MEASURE_COLUMNS[key] for key in ("encode_madds", "decode_madds", "train_madds")),
)
"""What a plan says of a run beside its values."""
PLAN_KEYS = tuple(column.key for column in PLAN_COLUMNS)


def plan_rows(experiment: Experiment, runs: Path) -> list[dict[str, Any]]:
    """Returns one row a run: its values of the matrix, its size, its cost, and how long it takes or took.

    Args:
        experiment: every run of it has been checked.
        runs: the folder of all runs, for those that are done.

    Returns:
        Rows with the values and `PLAN_KEYS`: `minutes` are those of the finished run or an estimate, None
        where the number of images is unknown, and `minutes_from` says which.

    Raises:
        ArgumentError: this machine has not the memory for one of them.
    """
    finished = finished_runs(runs)
    planned: dict[str, dict[str, Any]] = {}
    rows = []
    directories = RunDirectory.of_all(experiment.runs, runs)
    for run, values, directory in zip(experiment.runs, plan_values(experiment), directories, strict=True):
        key = _plan_key(run)
        if key not in planned:
            planned[key] = plan_row(run, finished)
        rows.append({**values, **planned[key], **_finished_figures(directory)})
    return rows


def plan_values(experiment: Experiment) -> list[Values]:
    """Returns the runs' values of the matrix, with the whole key of an axis named as one of `PLAN_KEYS`."""
    return [rename_measures(run.values, PLAN_KEYS) for run in experiment.runs]


def plan_summary(rows: Sequence[dict[str, Any]]) -> str:
    """Returns one line on all rows of a plan."""
    done = sum(row["done"] for row in rows)
    left = [row["minutes"] for row in rows if not row["done"]]
    known = [minutes for minutes in left if minutes is not None]
    rest = (
        f"about {format_duration(sum(known))} one after the other for the rest"
        if known
        else "no time is known"
    )
    unknown = f", without {len(left) - len(known)} of unknown time" if 0 < len(known) < len(left) else ""
    return f"{len(rows):,} runs, {done:,} done" + (f", {rest}{unknown}" if left else "")


def _plan_key(run: Run) -> str:
    """Returns a key that runs of equal size and time share, so that they are planned once."""
    return repr((run.data, run.root, run.model, run.recipe.model_dump(exclude=COSTLESS)))


def plan_row(run: Run, finished: list[FinishedRun]) -> dict[str, Any]:
    """Returns the row of a run before it begins."""
    with without_elements():
        model = run.create_model()
    memory_bytes = training_bytes(run.create_model, run.recipe)
    check_memory(run, torch.device("cpu"), memory_bytes)
    update_madds = count_update_madds(run.recipe.optimizer, model)
    costs = count_costs(model)
    work = Work(costs, count_parameters(model), run.recipe.batch_size, update_madds)
    row = {
        "latent_shape": list(model.latent_shape),
        "compression_ratio": model.compression_ratio,
        "params": work.parameters,
        **cost_measures(costs),
        "memory_bytes": memory_bytes,
        "done": False,
    }
    try:
        steps = run.total_steps
    except MixcoderError:  # without the images, their number in an epoch is unknown
        return {**row, "minutes": None, "minutes_from": UNKNOWN}
    workload = run.recipe.workload(model, costs.madds, steps * work.batch_size, torch.device("cpu"))
    what = run.model[0], run.recipe.optimizer
    seconds, source = estimate_step_seconds(what, choose_backend(workload), work, finished)
    return {**row, "minutes": steps * seconds / 60, "minutes_from": source}


def _finished_figures(directory: RunDirectory) -> dict[str, Any]:
    """Returns the figures of a finished run; none of one that is not done, or whose result is damaged."""
    try:
        result = directory.read_result()
    except RunDirectoryError:
        return {}
    if result is None:
        return {}
    return {"minutes": result.get("train_minutes"), "minutes_from": "finished run", "done": True}
