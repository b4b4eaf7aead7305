"""The charts of an experiment, computed once for plots (matplotlib) and for the page (its script).

records ─┬─ metrics.jsonl ─▶ curves, their limits ─┐
         ├─ values ────────▶ names, colours ───────┼─▶ ChartRun ─▶ figures, page
         └─ result.json ───▶ loss ─────────────────┘
                               └─▶ cost_points ─▶ pareto_order ─▶ pareto_front

The page shows any choice of runs, in a window of any width. What depends on neither is here: the script joins
the limits of the runs that it shows, and takes from `pareto_order` those that no other of them beats. Names
stand where sizes in pixels are known: placed by matplotlib, and by the script with the same `spread`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mixcoder.errors import RunDirectoryError
from mixcoder.experiments.results.records import Record, short_names
from mixcoder.report.colours import run_colours
from mixcoder.text.sanitize import sanitize
from mixcoder.text.values import is_number

BINS = 100
"""A training curve has at most so many points."""
COST_MARGIN, LOSS_MARGIN = 0.12, 0.08
"""Room around the dots of a plot of costs, by the extent of its logarithmic axes."""
LABEL_PLACES = ((6, 8), (8, 0), (6, -8), (-6, 8), (-8, 0), (-6, -8))
"""Where a dot's name may begin, or end left of it: points to the right and up, the best place first."""

_LARGEST = 1e30
"""The largest loss and the largest cost drawn; the smallest is its inverse."""
_COUNTS = range(2**53)
"""Numbers of images that floats, and so plots, can tell apart."""
_STEEP_PART = 20
"""The losses before this part of a curve are off the axis: the first fall would take all the room."""

Points = list[tuple[int, float]]
"""(inputs, loss), inputs rising."""
Limits = tuple[float, float]
"""The lowest and the highest value of an axis."""


@dataclass(frozen=True)
class Curves:
    """A run's losses over the images it has seen."""

    training: Points
    validation: Points

    @property
    def limits(self) -> Limits | None:
        """The axis on which all but the first steep fall is seen; None of a run without losses."""
        losses = [loss for points in (self.training, self.validation) for loss in _settled(points)]
        if not losses:
            return None
        low, high = min(losses), max(losses)
        return low * 0.97, max(high, low * 1.05) * 1.03


@dataclass(frozen=True)
class ChartRun:
    """A run as charts show it.

    Attributes:
        name: the values that not all runs share, safe and perhaps cut.
        colour: as #rrggbb.
        curves: its losses while it trained.
        loss: of its result; None where no axis can show it.
    """

    name: str
    colour: str
    curves: Curves
    loss: float | None


def chart_runs(records: Sequence[Record]) -> list[ChartRun]:
    """Returns what charts show of each record."""
    return [
        ChartRun(
            name=sanitize(name),
            colour=colour,
            curves=curve_points(record),
            loss=drawable(record.result.get("validation_loss")),
        )
        for record, name, colour in zip(records, short_names(records), run_colours(records), strict=True)
    ]


def curve_points(record: Record) -> Curves:
    """Returns the curves of a run so far, without losses that a logarithmic axis cannot show.

    The training loss is averaged within hundredths of the run, so that many runs can be compared.
    """
    rows: list[dict[str, Any]] = []
    with suppress(RunDirectoryError):  # metrics that are no plain file: a run without curves
        rows = [row for row in record.directory.read_metrics() if row["inputs"] in _COUNTS]
    width = max(1, _total_inputs(record, rows) / BINS)
    bins: dict[int, Points] = {}
    for row in rows:
        if is_drawable(row["training_loss"]):
            index = math.ceil(row["inputs"] / width)
            bins.setdefault(index, []).append((row["inputs"], row["training_loss"]))
    training = [
        (points[-1][0], math.fsum(loss for _, loss in points) / len(points)) for points in bins.values()
    ]
    validation = [
        (row["inputs"], row["validation_loss"]) for row in rows if is_drawable(row.get("validation_loss"))
    ]
    return Curves(training, validation)


def is_drawable(value: Any) -> bool:
    """Returns whether a logarithmic axis can show a value: a number that is finite and above zero."""
    return is_number(value) and 1 / _LARGEST <= value <= _LARGEST


def drawable(value: Any) -> Any:
    """Returns a value that a logarithmic axis can show, or None."""
    return value if is_drawable(value) else None


def _total_inputs(record: Record, rows: Sequence[Mapping[str, Any]]) -> float:
    """Returns how long a run is or will be, in images, as far as that is known without its data."""
    run, seen = record.run, record.result.get("inputs")
    if seen is not None and seen in _COUNTS:
        return float(seen)
    if run is not None and run.recipe.epochs is None:
        return run.total_steps * run.recipe.batch_size
    return rows[-1]["inputs"] if rows else 0


def _settled(points: Points) -> list[float]:
    start = points[-1][0] / _STEEP_PART if points else 0
    return [loss for inputs, loss in points if inputs >= start]


def join_limits(limits: Iterable[Limits]) -> Limits:
    """Returns the limits of an axis that shows several runs, at least one."""
    lows, highs = zip(*limits, strict=True)
    return min(lows), max(highs)


def pareto_order(points: Sequence[tuple[float | None, float | None]]) -> list[int]:
    """Returns the indices of points (cost, loss), the cheapest first; of equal costs the best first.

    Points without a cost or a loss, or with one that is not a number, are left out. In this order, a point is
    on the frontier of any choice of points just where its loss is below that of each chosen one before it.
    """
    usable = [
        (cost, loss, i)
        for i, (cost, loss) in enumerate(points)
        if cost is not None and loss is not None and not (math.isnan(cost) or math.isnan(loss))
    ]
    return [i for _, _, i in sorted(usable)]


def pareto_front(points: Sequence[tuple[float | None, float | None]]) -> list[int]:
    """Returns the indices of the points (cost, loss) that no other one beats, the cheapest first.

    A point beats one that costs as much or more and is worse, or costs more and is as good. Of equal points
    the first is taken.
    """
    front: list[int] = []
    lowest = math.inf
    for i in pareto_order(points):
        loss = points[i][1]
        if loss is not None and (loss < lowest or not front):
            front.append(i)
            lowest = loss
    return front


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Returns positions moved apart to at least `gap`, in their order, between `low` and `high`.

    They move as little as possible. Where there is not room for all at that gap, they are spaced evenly.
    """
    count = len(positions)
    gap = min(gap, (high - low) / max(1, count - 1))
    order = sorted(range(count), key=positions.__getitem__)
    # Less the gaps below it, a position need only not fall: the nearest such ones are known.
    levels = nearest_rising([positions[i] - rank * gap for rank, i in enumerate(order)])
    placed = [0.0] * count
    for rank, (i, level) in enumerate(zip(order, levels, strict=True)):
        placed[i] = min(max(level, low), high - (count - 1) * gap) + rank * gap
    return placed


def nearest_rising(values: Sequence[float]) -> list[float]:
    """Returns the numbers that never fall and are nearest to `values` in the sum of squared differences.

    Neighbours that fall are pooled into their mean until none does (isotonic regression).
    """
    pools: list[tuple[float, int]] = []  # (mean, count), means rising
    for value in values:
        mean, count = float(value), 1
        while pools and pools[-1][0] > mean:
            before, size = pools.pop()
            mean, count = (before * size + mean * count) / (size + count), size + count
        pools.append((mean, count))
    return [mean for mean, count in pools for _ in range(count)]
