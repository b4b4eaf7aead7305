"""Plots as files: loss curves, and what the loss costs.

records ─┬─ chart_data ──▶ ChartRun ──▶ loss_curves ─┬─▶ Figure ─▶ save_figure
         └─ cost_points ─▶ CostPoint ─▶ pareto_plot ─┘
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox

from mixcoder.errors import ArgumentError
from mixcoder.experiments.results.records import Record, title_of
from mixcoder.io.atomic_file import write_atomically
from mixcoder.measures import COSTS
from mixcoder.report.chart_data import (
    COST_MARGIN,
    LABEL_PLACES,
    LOSS_MARGIN,
    ChartRun,
    Points,
    chart_runs,
    is_drawable,
    join_limits,
    pareto_front,
    spread,
)
from mixcoder.report.cost_points import EACH_RUN, CostOptions, CostPoint, cost_points, mark_legend
from mixcoder.text.sanitize import sanitize

_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#b0b0b0",
    "axes.labelcolor": "#444444",
    "xtick.color": "#666666",
    "ytick.color": "#666666",
    "svg.fonttype": "none",
    "svg.hashsalt": "mixcoder",
    "text.parse_math": False,
}
_LABEL_INCHES = 0.17
_LEADER = {"arrowstyle": "-", "color": "#c8c8c8", "lw": 0.6, "shrinkA": 0}
"""The line from a name to what it names."""
_HALO = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.6}
"""Behind a name. A stroke around its letters would write them as outlines: ten times as long, and no text."""
_FAR_PLACES = tuple(
    (side * far, height * far)
    for far in (20, 34, 48, 62)
    for side in (0.7, -0.7)
    for height in (0.7, -0.7, 0.0, 1.4, -1.4)
)
"""Where a dot's name may stand with a line that leads to it; points to the right and up. First to the right,
as a line to the right comes from the frontier."""


def loss_curves(records: Sequence[Record]) -> Figure:
    """Returns training and validation loss of all runs over inputs, side by side, each run named at its end.

    Raises:
        ArgumentError: none of the runs has been trained at all.
    """
    runs = [run for run in chart_runs(records) if run.curves.training]
    if not runs:
        raise ArgumentError("runs", "nothing has been trained yet; mixcoder run does it")
    with matplotlib.rc_context(_STYLE):
        figure = _new_figure(records, 11, max(4.0, _LABEL_INCHES * len(runs) + 1.1))
        left, right = figure.subplots(1, 2, sharey=True)
        for run in runs:
            left.plot(*zip(*run.curves.training, strict=True), color=run.colour, lw=1.2)
            if run.curves.validation:
                right.plot(*zip(*run.curves.validation, strict=True), color=run.colour, lw=1.5)
        left.set(ylabel="loss", xlabel="inputs", title="training loss (means of 1 % of the run)")
        right.set(xlabel="inputs", title="validation loss")
        for axes in (left, right):
            _style_axes(axes)
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.title.set(fontsize=9, color="#444444")
        right.set_ylim(*join_limits(run.curves.limits for run in runs if run.curves.limits))
        _label_ends(right, [run for run in runs if run.curves.validation])
        return figure


def draw_losses(training: Points, validation: Points) -> Figure:
    """Returns the training and the validation loss of one training over inputs."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6, 3.5), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        curves = ((training, "#9aa5b1", "training"), (validation, "#2563c9", "validation"))
        for points, colour, label in curves:
            drawn = [(inputs, loss) for inputs, loss in points if is_drawable(loss)]
            if drawn:
                axes.plot(*zip(*drawn, strict=True), color=colour, lw=1.5, label=label)
        axes.set(xlabel="inputs", ylabel="loss")
        _style_axes(axes)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.legend(frameon=False)
        return figure


def _new_figure(records: Sequence[Record], width: float, height: float) -> Figure:
    """Returns an empty figure with its title; sizes are in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title_of(records), x=0.01, ha="left", fontweight="bold")
    return figure


def _style_axes(axes: Axes) -> None:
    """Gives axes a logarithmic loss with readable numbers, and a quiet grid."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9), numticks=12))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y", color="#ececec", lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=3, which="both")


def _label_ends(axes: Axes, runs: Sequence[ChartRun]) -> None:
    """Names every curve at its right end, the names spread so that none covers another."""
    bottom, top = (math.log(limit) for limit in axes.get_ylim())
    ends = [run.curves.validation[-1] for run in runs]
    heights = [(math.log(loss) - bottom) / (top - bottom) for _, loss in ends]
    figure = axes.get_figure()
    inches = figure.get_size_inches()[1] if isinstance(figure, Figure) else 4.0
    gap = _LABEL_INCHES / max(1.0, inches - 1.0)
    places = spread([min(1.0, max(0.0, height)) for height in heights], gap, 0.0, 1.0)
    for run, (inputs, loss), place in zip(runs, ends, places, strict=True):
        text = f"{loss:.5f}  {run.name}"
        axes.text(1.06, place, text, transform=axes.transAxes, va="center", fontsize=8, color=run.colour)
        leader = {**_LEADER, "shrinkB": 2}
        axes.annotate("", (inputs, loss), (1.05, place), textcoords="axes fraction", arrowprops=leader)


class _Dot(NamedTuple):
    """A mark in a plot of costs."""

    cost: float
    loss: float
    name: str
    point: CostPoint
    is_front: bool


def pareto_plot(records: Sequence[Record], cost: str, options: CostOptions = EACH_RUN) -> Figure:
    """Returns validation loss over a cost, with the line of the networks that no other one beats in both.

    Args:
        records: those that are done are shown.
        cost: the name of a cost: one of `mixcoder.measures.COSTS`, such as "params" or "time" (of training).
        options: what the marks are: runs or means of runs, with the article's networks or without.

    Raises:
        ArgumentError: no run is done, or the options do not fit.
    """
    dots = _dots(records, cost, options)
    front = sorted((dot for dot in dots if dot.is_front), key=_cost_of)
    with matplotlib.rc_context(_STYLE):
        figure = _new_figure(records, 9, 6)
        axes = figure.subplots()
        _style_axes(axes)
        axes.set_xscale("log")
        axes.margins(COST_MARGIN, LOSS_MARGIN)
        costs, losses = zip(*(dot[:2] for dot in front), strict=True)
        axes.step(costs, losses, where="post", color="#999999", lw=1, ls="--")
        for dot in dots:
            if not dot.point.is_published:
                _draw_dot(axes, dot)
        for is_front in (True, False):
            _draw_published(
                axes, [dot for dot in dots if dot.point.is_published and dot.is_front == is_front]
            )
        axes.set(xlabel=COSTS[cost].cost_axis, ylabel="validation loss")
        legend = sanitize(mark_legend([dot.point for dot in dots], options), limit=None)
        axes.set_title(legend, loc="left", fontsize=8, color="#444444")
        _style_costs(axes, [dot.cost for dot in dots])
        _label_dots(figure, axes, [*front, *(dot for dot in dots if not dot.is_front)])
        return figure


def _cost_of(dot: _Dot) -> float:
    return dot.cost


def _draw_dot(axes: Axes, dot: _Dot) -> None:
    """Draws a dot of ours, with its standard deviation."""
    colour, std = dot.point.colour, dot.point.std
    if std is not None:
        axes.errorbar(dot.cost, dot.loss, std, color=colour, lw=1, capsize=3, zorder=3)
    size, alpha = _look(dot)
    axes.scatter(dot.cost, dot.loss, s=size, color=colour, alpha=alpha, zorder=3)


def _draw_published(axes: Axes, dots: Sequence[_Dot]) -> None:
    """Draws diamonds of one look, at once: each by itself would take ten times the room in a file."""
    if dots:
        costs, losses = zip(*(dot[:2] for dot in dots), strict=True)
        size, alpha = _look(dots[0])
        colour = dots[0].point.colour
        axes.scatter(costs, losses, s=size / 3, color=colour, marker="D", alpha=alpha, zorder=2)


def _look(dot: _Dot) -> tuple[int, float]:
    """Returns size and opacity of a dot."""
    return (70, 1.0) if dot.is_front else (34, 0.55)


def _dots(records: Sequence[Record], cost: str, options: CostOptions) -> list[_Dot]:
    """Returns the marks that have a loss and a cost.

    Raises:
        ArgumentError: there is none of a run.
    """
    points = cost_points(records, options)
    front = pareto_front([(point.costs[cost], point.loss) for point in points])
    dots = [
        _Dot(point.costs[cost] or 0.0, point.loss or 0.0, sanitize(point.name), point, i in front)
        for i, point in enumerate(points)
        if point.costs[cost] is not None and point.loss is not None
    ]
    if all(dot.point.is_published for dot in dots):
        missing = "no run is done yet"
        if any(record.result for record in records):
            missing = f"no result states a loss and '{COSTS[cost].key}' above zero"
        raise ArgumentError("runs", f"{missing}; mixcoder run finishes them")
    if options.has_article and not any(dot.point.is_published for dot in dots):
        right = "--times takes a file of python -m benchmarks.step_times, which measures them here"
        raise ArgumentError("against", f"the article's networks have no {COSTS[cost].cost_axis}; {right}")
    return dots


def _style_costs(axes: Axes, costs: Sequence[float]) -> None:
    """Gives the axis of costs ticks at 1, 2 and 5, or even ones where those would leave it bare."""
    is_narrow = max(costs) < 3 * min(costs)
    axes.xaxis.set_major_locator(MaxNLocator(5) if is_narrow else LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def short_number(value: float) -> str:
    """Returns a number on an axis: 1500 as 1.5k, one below a thousand as it is: 0.5, not 500m."""
    return EngFormatter(sep="")(value) if value >= 1000 else f"{value:.6g}"


def _label_dots(figure: Figure, axes: Axes, dots: Sequence[_Dot]) -> None:
    """Names the dots, the first ones first, each where its name covers no dot and no other name.

    A name also stands nearer to its own dot than to any other, or else a line leads to the dot.
    """
    figure.draw_without_rendering()  # only now are places and sizes in pixels known
    room = axes.get_window_extent().padded(4)
    centres = [(float(x), float(y)) for x, y in axes.transData.transform([dot[:2] for dot in dots])]
    taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in centres]
    places = [(place, False) for place in LABEL_PLACES] + [(place, True) for place in _FAR_PLACES]
    for dot, centre in zip(dots, centres, strict=True):
        if not (dot.is_front or dot.point.is_named):
            continue
        for place, is_far in places:
            label = _dot_label(axes, dot, place, is_far)
            label.get_window_extent()  # only now has the text a place
            box = Text.get_window_extent(label)  # without the line
            is_inside = room.contains(box.x0, box.y0) and room.contains(box.x1, box.y1)
            is_clear = is_inside and not box.count_overlaps(taken)
            if is_clear and (is_far or nearest(centres, box) == centre):
                taken.append(box)
                break
            label.remove()


def _dot_label(axes: Axes, dot: _Dot, place: tuple[float, float], is_far: bool) -> Annotation:
    """Returns a dot's name at a place beside it (points to the right and up), with a line where it is far."""
    label = axes.annotate(
        dot.name,
        (dot.cost, dot.loss),
        place,
        textcoords="offset points",
        fontsize=8,
        ha="left" if place[0] > 0 else "right",
        arrowprops={**_LEADER, "shrinkB": 3} if is_far else None,
    )
    label.set(va="center", color=dot.point.colour, bbox=_HALO, in_layout=False)  # the dots stay in place
    return label


def nearest(centres: Sequence[tuple[float, float]], box: Bbox) -> tuple[float, float]:
    """Returns the point (x, y) of some that is nearest to a box."""
    distances = [
        math.hypot(max(box.x0 - x, 0, x - box.x1), max(box.y0 - y, 0, y - box.y1)) for x, y in centres
    ]
    return centres[distances.index(min(distances))]


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure as .svg, .png or .pdf, whole or not at all; the same figure gives the same bytes.

    Raises:
        ArgumentError: another ending.
        WriteError: it cannot be written.
    """
    picture_format = path.suffix.lower().removeprefix(".")
    if picture_format not in ("svg", "png", "pdf"):
        raise ArgumentError("output", f"'{path}' does not end in .svg, .png or .pdf")
    write_atomically(path, render_figure(figure, picture_format))


def render_figure(figure: Figure, picture_format: str) -> bytes:
    """Returns a figure as the content of a file, of "svg", "png" or "pdf"."""
    undated: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
    content = BytesIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(content, format=picture_format, dpi=200, metadata=undated[picture_format])
    return content.getvalue()
