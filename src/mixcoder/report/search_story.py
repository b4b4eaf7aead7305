"""What a search tried and why its winner won, for the page.

records of trials, finalists ─┬─ losses by rung ─▶ points of the charts, one chart a value
                              ├─ means of seeds ─▶ the finalists, the winner first
                              └─ Optuna ─────────▶ how much each value matters, where it is installed
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mixcoder.experiments.file.matrix import Values
from mixcoder.experiments.file.search_section import Search
from mixcoder.experiments.file.spaces import ChoiceSpace, Space
from mixcoder.experiments.results.records import Record
from mixcoder.experiments.searches.halving import choose_finalists
from mixcoder.experiments.searches.proposals import importances
from mixcoder.experiments.searches.trial_runs import FINAL
from mixcoder.experiments.searches.trials import AskedTrials, Trial
from mixcoder.measures import measure
from mixcoder.report.chart_data import is_drawable
from mixcoder.report.colours import spectrum
from mixcoder.text.sanitize import sanitize_page
from mixcoder.text.values import format_value

_Json = dict[str, Any]
_NEXT_BEST = 3
"""Trials behind the finalists that the table shows."""


@dataclass(frozen=True)
class SearchStory:
    """What the page says of a search.

    Attributes:
        counts: how many trials were trained on each rung, and how many combinations never were.
        headings: of the table of finalists and those behind them.
        finalists: its rows, texts; the winner first, and behind the finalists the best of the other trials.
        verdict: a sentence on the winner; empty before there is one, and where the page lacks some of the
            finalists' seeds.
        charts: for the page's script: a chart for each value, and the points of all.
        best: the number of the record of the winner with its lowest loss; None before there is one.
        examined: the numbers of the records whose models are looked at: of finalists, or before there are
            any, of the best trials on the highest rung. Those of all trials would take long.
    """

    counts: str
    headings: list[str]
    finalists: list[list[str]]
    verdict: str
    charts: _Json
    best: int | None
    examined: frozenset[int]


@dataclass(frozen=True)
class _Finalist:
    """A finalist, and how its trainings ended.

    Attributes:
        trial: that is trained with each seed.
        losses: on the validation set by the numbers of their records; infinite of a training that failed.
        seeds: how many losses it has in the end.
    """

    trial: Trial
    losses: dict[int, float]
    seeds: int

    @property
    def has_ended(self) -> bool:
        """Returns whether no seed is missing, so that its mean is one to compare."""
        return len(self.losses) == self.seeds

    @property
    def mean(self) -> float:
        """Returns the mean loss; infinite where a training failed, or none has ended."""
        return statistics.fmean(self.losses.values()) if self.losses else math.inf

    @property
    def spread(self) -> str:
        """Mean and standard deviation of the seeds that did not fail, in words."""
        known = [loss for loss in self.losses.values() if math.isfinite(loss)]
        failed = len(self.losses) - len(known)
        parts = [f"{failed} failed"] if failed else []
        if known:
            seeds = f"{len(known)}" if len(known) == self.seeds else f"{len(known)} of {self.seeds}"
            parts.insert(0, f"{_spread(known)} ({seeds} seed{'s' if self.seeds != 1 else ''})")
        return ", ".join(parts)


def _spread(losses: Sequence[float]) -> str:
    """Returns the mean and the standard deviation of the sample, in words."""
    text = measure("validation_loss").format(statistics.fmean(losses))
    if len(losses) > 1:
        text += f" ± {measure('validation_loss').format(statistics.stdev(losses))}"
    return text


def tell_search(search: Search, asked: AskedTrials, records: Sequence[Record]) -> SearchStory:
    """Returns what the page says of a search.

    Args:
        search: that the file states.
        asked: the trials so far, with their losses.
        records: of trials and finalists that the page shows, in its order.
    """
    finalists = _rank_finalists(search, asked, records)
    winner = _winner(search, asked, finalists)
    rows = [_row(search, each.trial, each.spread, records) for each in finalists]
    if finalists:
        others = _next_best(search, asked, [each.trial for each in finalists])
        rows += [_row(search, trial, "", records) for trial in others]
    losses = (f"loss after {inputs:,}" for inputs in search.section.inputs)
    best = min(winner.losses, key=winner.losses.__getitem__) if winner else None
    return SearchStory(
        _describe_counts(search, asked),
        ["trial", *search.spaces, *losses, "validation loss", "parameters"],
        rows,
        _verdict(winner, finalists[1:]) if winner else "",
        _charts(search, asked, records),
        best,
        _examined(search, asked, records),
    )


def _row(search: Search, trial: Trial, validation_loss: str, records: Sequence[Record]) -> list[str]:
    """Returns what the table says of a trial."""
    results = (record.result for record in records if record.values["trial"] == trial.number)
    params = next((result["params"] for result in results if result.get("params") is not None), None)
    return [
        str(trial.number),
        *(format_value(trial.values[name]) for name in search.spaces),
        *(_format_loss(trial.losses.get(rung)) for rung in range(len(search.section.inputs))),
        validation_loss,
        "" if params is None else f"{params:,}",
    ]


def _next_best(search: Search, asked: AskedTrials, finalists: Sequence[Trial]) -> list[Trial]:
    """Returns the best trials that are no finalists, so many that the winner can be compared."""
    more = search.section.model_copy(update={"finalists": len(finalists) + _NEXT_BEST})
    return [trial for trial in choose_finalists(more, asked.trained) if trial not in finalists][:_NEXT_BEST]


def _rank_finalists(search: Search, asked: AskedTrials, records: Sequence[Record]) -> list[_Finalist]:
    """Returns the finalists: those with all their seeds first, and of these the lowest mean loss."""
    trials = {trial.number: trial for trial in asked.trained}
    losses: dict[int, dict[int, float]] = {}
    for i, record in enumerate(records):
        if record.values.get("rung") == FINAL:
            of_seeds = losses.setdefault(record.values["trial"], {})
            if record.state in ("done", "failed"):
                of_seeds[i] = _final_loss(record)
    seeds = len(search.section.seeds)
    found = [_Finalist(trials[number], of_seeds, seeds) for number, of_seeds in losses.items()]
    order = sorted((not each.has_ended, each.mean, each.trial.number, i) for i, each in enumerate(found))
    return [found[i] for *_, i in order]


def _final_loss(record: Record) -> float:
    """Returns the loss of a training that has ended; infinite where it failed, or gave no number."""
    loss = record.result.get("validation_loss")
    return loss if loss is not None and math.isfinite(loss) else math.inf


def _winner(search: Search, asked: AskedTrials, finalists: Sequence[_Finalist]) -> _Finalist | None:
    """Returns the finalist of the lowest mean loss; None before all seeds of all finalists have ended."""
    chosen = {trial.number for trial in choose_finalists(search.section, asked.trained)}
    shown = {each.trial.number for each in finalists if each.has_ended}
    is_decided = chosen and chosen == shown and math.isfinite(finalists[0].mean)
    return finalists[0] if is_decided else None


def _examined(search: Search, asked: AskedTrials, records: Sequence[Record]) -> frozenset[int]:
    """Returns the numbers of the records whose models are looked at."""
    finals = [i for i, record in enumerate(records) if record.values["rung"] == FINAL]
    if finals:
        return frozenset(finals)
    best = {trial.number: max(trial.losses) + 1 for trial in choose_finalists(search.section, asked.trained)}
    return frozenset(
        i for i, record in enumerate(records) if best.get(record.values["trial"]) == record.values["rung"]
    )


def _describe_counts(search: Search, asked: AskedTrials) -> str:
    counts = [
        f"{sum(trial.rung >= rung for trial in asked.trained):,} on {inputs:,} images"
        for rung, inputs in enumerate(search.section.inputs)
    ]
    never = len(asked.proposed) - len(asked.trained)
    text = f"Trials were trained on rungs: {', '.join(counts)}."
    return f"{text} {never:,} combinations beyond the limits were never trained." if never else text


def _verdict(winner: _Finalist, others: Sequence[_Finalist]) -> str:
    """Returns a sentence on the winner, given the other finalists from the second on."""
    if not others:
        return f"Trial {winner.trial.number} is the only finalist: {winner.spread}."
    values = [name for name, value in winner.trial.values.items() if others[0].trial.values[name] != value]
    differing = f"; it differs from the second in {', '.join(values)}" if values else ""
    return (
        f"Trial {winner.trial.number} won: its mean validation loss is the lowest of {len(others) + 1} "
        f"finalists, {_distance(winner, others[0])}{differing}."
    )


def _distance(winner: _Finalist, second: _Finalist) -> str:
    """Returns how far the winner is ahead, in words."""
    if math.isinf(second.mean):
        return f"and trainings of trial {second.trial.number}, the second, failed"
    if winner.mean == second.mean:
        return f"and equal to that of trial {second.trial.number}"
    return f"{1 - winner.mean / second.mean:.1%} below that of trial {second.trial.number}"


def _charts(search: Search, asked: AskedTrials, records: Sequence[Record]) -> _Json:
    """Returns what the page's script draws: for each value a chart of all losses."""
    rungs = [f"{inputs:,} images" for inputs in search.section.inputs] + ["finalists"]
    colours = spectrum(len(rungs))
    weights = importances(search, asked.trained)
    points = [
        {
            "run": i,
            "rung": len(rungs) - 1 if record.values["rung"] == FINAL else record.values["rung"] - 1,
            "loss": record.result["validation_loss"],
            "at": [_place(space, _trial_values(record)[name]) for name, space in search.spaces.items()],
        }
        for i, record in enumerate(records)
        if is_drawable(record.result.get("validation_loss"))
    ]
    return {
        "rungs": [{"name": name, "colour": colour} for name, colour in zip(rungs, colours, strict=True)],
        "axes": [_axis(name, space, weights.get(name)) for name, space in search.spaces.items()],
        "points": points,
    }


def _trial_values(record: Record) -> Values:
    """Returns the values of a record's run by their own names, which tables may not use."""
    assert record.run is not None
    return record.run.values


def _axis(name: str, space: Space, weight: float | None) -> _Json:
    title = name if weight is None else f"{name}: {weight:.0%} of the importance"
    if isinstance(space, ChoiceSpace):
        options = [sanitize_page(format_value(option)) for option in space.options]
        return {"title": sanitize_page(title), "options": options}
    return {"title": sanitize_page(title), "log": space.is_log, "range": [space.low, space.high]}


def _place(space: Space, value: Any) -> float:
    """Returns where a value stands on its axis."""
    return space.index(value) if isinstance(space, ChoiceSpace) else value


def _format_loss(loss: float | None) -> str:
    if loss is None:
        return ""
    return measure("validation_loss").format(loss) if math.isfinite(loss) else "failed"
