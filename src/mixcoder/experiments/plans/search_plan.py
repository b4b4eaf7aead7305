"""What a search will take, before anything trains.

    random combinations within the limits ─▶ mean time of an input ─┐
    halving with random losses ─▶ about how many trials go on ──────┴▶ a row a rung, and one of the finalists

How many go on depends on the order of the losses: a trial that comes late and is the best goes on, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from mixcoder.errors import ArgumentError
from mixcoder.experiments.file.search_section import Search, SearchSection
from mixcoder.experiments.file.spec import Run
from mixcoder.experiments.plans.estimates import FinishedRun, finished_runs
from mixcoder.experiments.plans.plan import plan_row
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.searches.examination import examine, nearest_reason
from mixcoder.experiments.searches.halving import (
    choose_finalists,
    is_over,
    most_on_rung,
    next_promotion,
    trials_for_rung,
)
from mixcoder.experiments.searches.trial_losses import read_asked
from mixcoder.experiments.searches.trial_runs import FINAL, finalist_run, finalist_runs
from mixcoder.experiments.searches.trials import Trial
from mixcoder.text.durations import format_duration
from mixcoder.text.table import Column
from mixcoder.text.values import format_count, format_value

STAGE_COLUMNS = (
    Column("rung", "rung", format_value),
    Column("runs", "runs, about", format_count, is_number=True),
    Column("most_runs", "at most", format_count, is_number=True),
    Column("inputs", "inputs a run", format_count, is_number=True),
    Column("total_inputs", "inputs, about", format_count, is_number=True),
    Column("minutes", "time, about", format_duration, is_number=True),
    Column("done", "done", format_count, is_number=True),
)
"""What a plan says of each rung of a search, and of its finalists."""
_EXAMPLES, _MOST_DRAWS = 4, 200
"""Combinations whose time is estimated, and how many are drawn to find those."""
_GAMES, _MOST_PLAYERS = 20, 200
"""Searches with random losses, and the most trials of one; more are scaled."""


def plan_stages(search: Search, runs: Path) -> list[dict[str, Any]]:
    """Returns one row a rung, and one of the finalists, with the keys of `STAGE_COLUMNS`.

    Raises:
        ArgumentError: no combination is within the limits.
        RunDirectoryError: the file of trials is damaged, or of another search.
    """
    section = search.section
    finals = [finalist_run(search, trial, section.seeds[0]) for trial in _draw_examples(search)]
    inputs, minutes = _mean_time(finals, finished_runs(runs))
    an_input = None if minutes is None or inputs is None else minutes / inputs
    rows = [
        _row(rung + 1, (count, most_on_rung(section, rung)), section.inputs[rung], an_input)
        for rung, count in enumerate(_count_promotions(section))
    ]
    count = min(section.finalists, section.trials) * len(section.seeds)
    rows.append(_row(FINAL, (count, count), inputs, an_input))
    return [{**row, "done": done} for row, done in zip(rows, _count_done(search, runs), strict=True)]


def stages_summary(search: Search, rows: Sequence[dict[str, Any]]) -> str:
    """Returns one line on all rows of a search's plan."""
    known = [row["minutes"] for row in rows if row["minutes"] is not None]
    time = f"about {format_duration(sum(known))} one after the other" if known else "no time is known"
    section, runs = search.section, sum(row["runs"] for row in rows)
    inputs = sum(row["total_inputs"] or 0 for row in rows)
    return (
        f"{section.trials:,} trials on {len(section.inputs)} rungs, {runs:,} runs of about {inputs:,} inputs "
        f"together, {time}"
    )


def unreached_rung(section: SearchSection) -> str:
    """Returns one sentence on the first rung that perhaps no trial reaches; empty where there is none."""
    for rung in range(len(section.inputs)):
        needed = trials_for_rung(section, rung)
        if section.trials < needed:
            who = "perhaps none does" if most_on_rung(section, rung) else "no trial can"
            return (
                f"rung {rung + 1} needs {needed:,} trials, or a larger keep, for one to be sure to reach it; "
                f"with {section.trials:,}, {who}"
            )
    return ""


def _count_done(search: Search, runs: Path) -> list[int]:
    """Returns how many trainings of each rung, and of the finalists, have ended.

    Raises:
        RunDirectoryError: the file of trials is damaged, or of another search.
    """
    asked = read_asked(search, runs)
    counts = [
        sum(rung in trial.losses for trial in asked.trained) for rung in range(len(search.section.inputs))
    ]
    if not is_over(search.section, asked):
        return [*counts, 0]
    finals = finalist_runs(search, choose_finalists(search.section, asked.trained))
    return [*counts, sum(directory.is_done() for directory in RunDirectory.of_all(finals, runs))]


def _mean_time(runs: Sequence[Run], finished: list[FinishedRun]) -> tuple[int | None, float | None]:
    """Returns the images that each of some runs trains on, and their mean minutes; None where unknown."""
    minutes = [plan_row(run, finished)["minutes"] for run in runs]
    known = [each for each in minutes if each is not None]
    if not known:
        return None, None
    return max(run.total_steps * run.recipe.batch_size for run in runs), fmean(known)


def _row(
    rung: int | str, counts: tuple[int, int], inputs: int | None, minutes_an_input: float | None
) -> dict[str, Any]:
    """Returns the row of as many runs as are likely and, at most, possible."""
    total = None if inputs is None else inputs * counts[0]
    return {
        "rung": rung,
        "runs": counts[0],
        "most_runs": counts[1],
        "inputs": inputs,
        "total_inputs": total,
        "minutes": None if total is None or minutes_an_input is None else total * minutes_an_input,
    }


def _draw_examples(search: Search) -> list[Trial]:
    """Returns some combinations within the limits, always the same.

    Raises:
        ArgumentError: none of those drawn is.
    """
    generator = np.random.default_rng(search.section.seed)
    found: list[Trial] = []
    drawn: list[Trial] = []
    while len(found) < _EXAMPLES and len(drawn) < _MOST_DRAWS:
        values = {name: space.draw(generator) for name, space in search.spaces.items()}
        drawn.append(examine(search, values))
        if not drawn[-1].excess:
            found.append(drawn[-1])
    if not found:
        raise ArgumentError(
            "search",
            f"none of {len(drawn)} random combinations can be trained; the nearest: {nearest_reason(drawn)}",
        )
    return found


def _count_promotions(section: SearchSection) -> list[int]:
    """Returns about how many trials train on each rung."""
    players = min(section.trials, _MOST_PLAYERS)
    games = [_play(section, players, np.random.default_rng(seed)) for seed in range(_GAMES)]
    means = [fmean(counts) for counts in zip(*games, strict=True)]
    return [math.ceil(mean * section.trials / players) for mean in means]


def _play(section: SearchSection, players: int, generator: np.random.Generator) -> list[int]:
    """Returns how many trials of random losses train on each rung, one after the other."""
    trials: list[Trial] = []
    losses = generator.random(players)
    while True:
        trial = next_promotion(section, trials)
        if trial is not None:
            trial.rung += 1
        elif len(trials) < players:
            trial = Trial({}, number=len(trials) + 1)
            trials.append(trial)
        else:
            return [sum(trial.rung >= rung for trial in trials) for rung in range(len(section.inputs))]
        trial.losses[trial.rung] = float(losses[trial.number - 1])
