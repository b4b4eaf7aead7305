"""The marks in a plot of costs: runs, means of runs, and published networks beside them.

records ─▶ groups that differ in one axis alone ─▶ means ─┐
the article's rows ─▶ counted costs ──────────────────────┴─▶ CostPoint ─▶ figures, page
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mixcoder.experiments.results.article import article_run, row_costs, row_kind, row_name, rows_beside
from mixcoder.experiments.results.columns import axes_of
from mixcoder.experiments.results.query import groups_over
from mixcoder.experiments.results.records import Record, short_names
from mixcoder.experiments.results.step_times import StepTimes
from mixcoder.measures import COSTS
from mixcoder.report.chart_data import drawable
from mixcoder.report.colours import run_colours

_PUBLISHED_COLOUR = "#8a8a8a"
_TIME = "time"
"""The cost that an article's row has only where it was measured here."""


@dataclass(frozen=True)
class CostOptions:
    """A choice of marks in a plot of costs.

    Attributes:
        average: the axis to average over, such as seed; None for one mark a run.
        has_article: whether the article's networks stand beside ours.
        times: measured seconds of steps, in place of the minutes that runs state; None where there are none.
    """

    average: str | None = None
    has_article: bool = False
    times: StepTimes | None = None


EACH_RUN = CostOptions()
"""One mark a run."""


@dataclass(frozen=True)
class CostPoint:
    """A mark in a plot of costs.

    Attributes:
        name: as somebody may have written it.
        colour: as #rrggbb.
        loss: of a run, or the mean of several; None where no axis can show it.
        std: of several; None of one.
        costs: by their names, likewise.
        runs: which of the records these are, by their place; none of a published network.
        is_named: whether its name stands beside it: of the article's many, the best of each kind.
    """

    name: str
    colour: str
    loss: float | None
    std: float | None
    costs: dict[str, float | None]
    runs: tuple[int, ...] = ()
    is_named: bool = True

    @property
    def is_published(self) -> bool:
        """Whether it is a network of the article."""
        return not self.runs


def cost_points(records: Sequence[Record], options: CostOptions = EACH_RUN) -> list[CostPoint]:
    """Returns the marks of runs, in their order, then those of the article's networks.

    Raises:
        ArgumentError: an option names an axis that there is not, or asks for figures that there are not.
    """
    groups = _groups(records, options.average)
    firsts = [_without_axis(records[group[0]], options.average) for group in groups]
    names, colours = _names(firsts, options.average is not None), run_colours(firsts)
    ours = [
        CostPoint(name, colour, *_mean_figures([records[i] for i in group], options.times), group)
        for group, name, colour in zip(groups, names, colours, strict=True)
    ]
    return ours + (_article_points(records, options.times) if options.has_article else [])


def mark_legend(points: Sequence[CostPoint], options: CostOptions) -> str:
    """Returns what the marks of a plot are; nothing where they are just runs."""
    published = sum(point.is_published for point in points)
    ours = f"● mean ± std over {options.average}" if options.average else "● runs"
    theirs = f"◆ the article's {published} networks, one seed each" if published else ""
    return "    ".join(filter(None, (ours, theirs))) if options.average or published else ""


def _groups(records: Sequence[Record], average: str | None) -> list[tuple[int, ...]]:
    """Returns the places of records that differ in one axis alone, a group after the other."""
    if average is None:
        return [(i,) for i in range(len(records))]
    values = [record.values for record in records]
    readable = [i for i, record in enumerate(records) if record.run]
    groups = groups_over([values[i] for i in readable], axes_of(values), average)
    unreadable = [(i,) for i, record in enumerate(records) if not record.run]
    return [tuple(readable[j] for j in group) for group in groups] + unreadable


def _without_axis(record: Record, axis: str | None) -> Record:
    return replace(record, values={key: value for key, value in record.values.items() if key != axis})


def _names(records: Sequence[Record], is_averaged: bool) -> list[str]:
    """Returns names of marks: means have that of their experiment, where each is of another one."""
    experiments = [record.run.experiment for record in records if record.run]
    if is_averaged and len(records) == len(set(experiments)):
        return experiments
    return short_names(records)


def _mean_figures(
    records: Sequence[Record], times: StepTimes | None
) -> tuple[float | None, float | None, dict[str, float | None]]:
    """Returns the mean loss of records, its standard deviation, and the mean of each cost."""
    results = [record.result for record in records if record.result]
    losses = [result["validation_loss"] for result in results]
    loss = drawable(_mean(losses))
    costs = {
        cost: drawable(_mean([result.get(measure.key) for result in results]))
        for cost, measure in COSTS.items()
    }
    if times is not None and results:
        costs[_TIME] = _mean([times.minutes(record.run) for record in records if record.run])
    std = statistics.stdev(losses) if loss is not None and len(losses) > 1 else None
    return loss, std, costs


def _mean(values: Sequence[Any]) -> Any:
    """Returns the mean of the values that are known; of a single one the value itself."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) > 1 else next(iter(known), None)


def _article_points(records: Sequence[Record], times: StepTimes | None) -> list[CostPoint]:
    """Returns the marks of the article's networks; time is a cost of theirs where it was measured here."""
    points, rows = [], rows_beside(records)
    lowest = {row_kind(row): row["validation_loss"] for row in sorted(rows, key=_loss_of, reverse=True)}
    for row in rows:
        counted = row_costs(row)
        costs: dict[str, float | None] = {cost: counted.get(measure.key) for cost, measure in COSTS.items()}
        if times is not None:
            costs[_TIME] = times.minutes(article_run(row))
        loss, name = row["validation_loss"], row_name(row)
        is_best = loss == lowest[row_kind(row)]
        points.append(CostPoint(name, _PUBLISHED_COLOUR, loss, None, costs, is_named=is_best))
    return points


def _loss_of(row: dict[str, Any]) -> float:
    return float(row["validation_loss"])
