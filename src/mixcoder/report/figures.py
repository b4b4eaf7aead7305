"""Pictures of results: loss curves, and what the loss costs.

Record ─┬─ metrics.jsonl ─▶ Curves ─▶ loss_curves ─┐
        └─ result.json ─────────────▶ pareto_plot ─┴─▶ Figure ─▶ save_figure
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation, Text
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox

from mixcoder.errors import ArgumentError, RunDirectoryError
from mixcoder.experiments.results.records import Record, short_names
from mixcoder.io.atomic_file import write_atomically
from mixcoder.text.sanitize import sanitize
from mixcoder.text.values import format_value

BINS = 100
"""A training curve has at most so many points."""

_LARGEST = 1e30
"""No loss and no cost is larger; what claims to be is not drawn, nor what is as small."""
_COUNTS = range(2**53)
"""Numbers of images that floats, and so plots, can tell apart."""

Points = list[tuple[int, float]]
"""(inputs, loss), inputs rising."""

_COSTS = {
    "params": ("params", "parameters"),
    "time": ("train_minutes", "minutes of training"),
    "madds": ("madds", "multiply-adds of one image"),
}
_HUES = (0.60, 0.07, 0.42, 0.90, 0.13, 0.76)
"""Blue, orange, green, magenta, yellow, violet: told apart by most eyes, in this order."""
_SPECTRUM = LinearSegmentedColormap.from_list(
    "spectrum", ["#3b5bdb", "#0c8599", "#2f9e44", "#e08600", "#e03131", "#ae3ec9"]
)
_MOST_HUES = len(_HUES)
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


@dataclass(frozen=True)
class Curves:
    """The losses of one run over the images it has seen."""

    training: Points
    validation: Points


def curve_points(record: Record) -> Curves:
    """The curves of a run as far as it has got; what a logarithmic axis cannot show is left out.

    The training loss is averaged within hundredths of the run, so that many runs can be compared.
    """
    rows: list[dict[str, Any]] = []
    with suppress(RunDirectoryError):  # whose metrics are no file has no curve, and hides no other
        rows = [row for row in record.directory.read_metrics() if row["inputs"] in _COUNTS]
    width = max(1, _inputs_to_come(record, rows) / BINS)
    bins: dict[int, list[tuple[int, float]]] = {}
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
    """Whether a logarithmic axis can show a value of a result: a number that is finite and above zero."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 1 / _LARGEST <= value <= _LARGEST


def _inputs_to_come(record: Record, rows: Sequence[Mapping[str, Any]]) -> float:
    """How long a run is or will be, in images, as far as that can be told without its data."""
    run, seen = record.run, record.result.get("inputs")
    if seen is not None and seen in _COUNTS:
        return float(seen)
    if run is not None and run.recipe.epochs is None:
        return run.total_steps * run.recipe.batch_size
    return rows[-1]["inputs"] if rows else 0


def run_colours(records: Sequence[Record]) -> list[str]:
    """A colour (#rrggbb) for each run, of middling lightness so that it reads on white and on black.

    Where the runs differ in several things, the hue tells one of them, in words if possible, and the
    lightness the order of the others. Where they differ in one, few words have hues of their own and
    anything else runs through a spectrum in its order.
    """
    values = [{axis: format_value(value) for axis, value in record.values.items()} for record in records]
    axes = list(dict.fromkeys(axis for it in values for axis in it))
    kinds = {axis: list(dict.fromkeys(it.get(axis, "") for it in values)) for axis in axes}
    varying = {axis: kind for axis, kind in kinds.items() if len(kind) > 1}
    hue_axes = [axis for axis, kind in varying.items() if len(kind) <= _MOST_HUES]
    if not hue_axes or (len(varying) == 1 and _are_numbers(varying[hue_axes[0]])):
        return [_spectral(i, len(records)) for i in range(len(records))]
    chosen = min(hue_axes, key=lambda axis: (_are_numbers(varying[axis]), len(varying[axis])))
    groups: dict[str, list[int]] = {}
    for i, it in enumerate(values):
        groups.setdefault(it.get(chosen, ""), []).append(i)
    colours = [""] * len(records)
    for hue, members in zip(_HUES, groups.values(), strict=False):
        for rank, i in enumerate(members):
            colours[i] = _shade(hue, rank, len(members))
    return colours


def _are_numbers(texts: Iterable[str]) -> bool:
    return all(text.replace(".", "", 1).replace("e-", "", 1).isdigit() for text in texts)


def _shade(hue: float, rank: int, count: int) -> str:
    """From deep to pale within one hue; one alone is in the middle."""
    share = rank / (count - 1) if count > 1 else 0.5
    return to_hex(colorsys.hsv_to_rgb(hue, 0.95 - 0.35 * share, 0.55 + 0.3 * share))


def _spectral(rank: int, count: int) -> str:
    """From blue over green and amber to magenta; one alone is blue."""
    return to_hex(_SPECTRUM(rank / max(1, count - 1)))


def loss_curves(records: Sequence[Record]) -> Figure:
    """Training and validation loss of all runs over inputs, side by side, every run labelled at its end.

    Raises:
        ArgumentError: none of the runs has been trained at all.
    """
    drawn = [
        (name, colour, curve_points(record))
        for record, name, colour in zip(records, _labels(records), run_colours(records), strict=True)
    ]
    drawn = [it for it in drawn if it[2].training]
    if not drawn:
        raise ArgumentError("runs", "nothing has been trained yet; mixcoder run does it")
    with matplotlib.rc_context(_STYLE):
        height = max(4.0, _LABEL_INCHES * len(drawn) + 1.1)
        figure = Figure(figsize=(11, height), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2, sharey=True)
        figure.suptitle(title_of(records), x=0.01, ha="left", fontweight="bold")
        for _, colour, curves in drawn:
            left.plot(*zip(*curves.training, strict=True), color=colour, lw=1.2)
            if curves.validation:
                right.plot(*zip(*curves.validation, strict=True), color=colour, lw=1.5)
        left.set(ylabel="loss", xlabel="inputs", title="training loss (means of 1 % of the run)")
        right.set(xlabel="inputs", title="validation loss")
        for axes in (left, right):
            _style_axes(axes)
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.title.set(fontsize=9, color="#444444")
        right.set_ylim(*_loss_limits(curves for _, _, curves in drawn))
        _label_ends(right, [it for it in drawn if it[2].validation])
        return figure


def title_of(records: Sequence[Record]) -> str:
    """The names of the experiments; of runs that are all unreadable, those of their folders."""
    names = [record.run.experiment for record in records if record.run]
    names = names or [record.directory.path.parent.name for record in records]
    return " · ".join(sanitize(name, limit=None) for name in dict.fromkeys(names))


def _labels(records: Sequence[Record]) -> list[str]:
    """What names the runs in a picture, cut where it is of dozens of settings."""
    return list(map(sanitize, short_names(records)))


def _style_axes(axes: Axes) -> None:
    """A logarithmic loss axis with readable numbers, and a quiet grid."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9), numticks=12))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y", color="#ececec", lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=3, which="both")


def _loss_limits(curves: Iterable[Curves]) -> tuple[float, float]:
    """Room for all that follows the first steep fall: the first twentieth of each curve."""
    losses = []
    for it in curves:
        for points in (it.training, it.validation):
            start = points[-1][0] / 20 if points else 0
            losses += [loss for inputs, loss in points if inputs >= start]
    low, high = min(losses), max(losses)
    return low * 0.97, max(high, low * 1.05) * 1.03


def _label_ends(axes: Axes, drawn: Sequence[tuple[str, str, Curves]]) -> None:
    """Names every curve at its right end, the names spread so that none covers another."""
    bottom, top = (math.log(limit) for limit in axes.get_ylim())
    ends = [curves.validation[-1] for _, _, curves in drawn]
    heights = [(math.log(loss) - bottom) / (top - bottom) for _, loss in ends]
    figure = axes.get_figure()
    inches = figure.get_size_inches()[1] if isinstance(figure, Figure) else 4.0
    gap = _LABEL_INCHES / max(1.0, inches - 1.0)
    places = spread([min(1.0, max(0.0, it)) for it in heights], gap, 0.0, 1.0)
    for (name, colour, _), (inputs, loss), place in zip(drawn, ends, places, strict=True):
        text = f"{loss:.5f}  {name}"
        axes.text(1.06, place, text, transform=axes.transAxes, va="center", fontsize=8, color=colour)
        leader = {"arrowstyle": "-", "color": "#c8c8c8", "lw": 0.6, "shrinkA": 0, "shrinkB": 2}
        axes.annotate("", (inputs, loss), (1.05, place), textcoords="axes fraction", arrowprops=leader)


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions moved apart to at least `gap`, in their order, within `low` and `high`, and no further.

    Where there is not room for all at that gap, they are spaced evenly.
    """
    count = len(positions)
    if not count:
        return []
    gap = min(gap, (high - low) / max(1, count - 1))
    order = sorted(range(count), key=lambda i: positions[i])
    # Less its rank's share of the gaps, a position need only not fall: the nearest such ones are known.
    levels = nearest_rising([positions[i] - rank * gap for rank, i in enumerate(order)])
    placed = [0.0] * count
    for rank, (i, level) in enumerate(zip(order, levels, strict=True)):
        placed[i] = min(max(float(level), low), high - (count - 1) * gap) + rank * gap
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


def pareto_plot(records: Sequence[Record], cost: str) -> Figure:
    """Validation loss over what it costs, with the line of the runs that no other run beats in both.

    Args:
        records: those that are done are shown.
        cost: "params", "time" (minutes of training) or "madds" (multiply-adds of one image).

    Raises:
        ArgumentError: no run is done.
    """
    key, axis_label = _COSTS[cost]
    shown = [
        (record.result[key], record.result["validation_loss"], name, colour)
        for record, name, colour in zip(records, _labels(records), run_colours(records), strict=True)
        if is_drawable(record.result.get(key)) and is_drawable(record.result.get("validation_loss"))
    ]
    if not shown:
        is_done = any(record.result for record in records)
        missing = f"no result states a loss and '{key}' above zero" if is_done else "no run is done yet"
        raise ArgumentError("runs", f"{missing}; mixcoder run finishes them")
    front = pareto_front([(it[0], it[1]) for it in shown])
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9, 6), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        figure.suptitle(title_of(records), x=0.01, ha="left", fontweight="bold")
        _style_axes(axes)
        axes.set_xscale("log")
        axes.margins(0.12, 0.08)
        axes.step(
            *zip(*(shown[i][:2] for i in front), strict=True), where="post", color="#999999", lw=1, ls="--"
        )
        for i, (x, y, _, colour) in enumerate(shown):
            axes.scatter(
                x, y, s=70 if i in front else 34, color=colour, alpha=1 if i in front else 0.55, zorder=3
            )
        axes.set(xlabel=axis_label, ylabel="validation loss")
        costs = [it[0] for it in shown]
        is_narrow = max(costs) < 3 * min(costs)  # where 1, 2 and 5 would leave the axis bare
        axes.xaxis.set_major_locator(MaxNLocator(5) if is_narrow else LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        _label_dots(figure, axes, shown, front)
        return figure


def short_number(value: float) -> str:
    """A number on an axis: 1500 as 1.5k, and below a thousand as it is, as half a minute is not 500m."""
    return EngFormatter(sep="")(value) if value >= 1000 else f"{value:.6g}"


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which of the points (cost, loss) no other one beats: as cheap and better, or cheaper and as good.

    Returns:
        Indices, the cheapest first. Of equal points the first one is taken; one that is not a number is
        never on the frontier.
    """
    usable = [i for i, point in enumerate(points) if not any(map(math.isnan, point))]
    front: list[int] = []
    for i in sorted(usable, key=lambda i: points[i]):
        if not front or points[i][1] < points[front[-1]][1]:
            front.append(i)
    return front


def _label_dots(figure: Figure, axes: Axes, shown: Sequence[tuple[Any, ...]], front: Sequence[int]) -> None:
    """Names the dots, those of the frontier first, each where its name covers no dot and no other name.

    A name also stands nearer to its own dot than to any other, or else a line leads to it.
    """
    figure.draw_without_rendering()  # only now are places and sizes in pixels known
    room = axes.get_window_extent().padded(4)
    centres = [(float(x), float(y)) for x, y in axes.transData.transform([it[:2] for it in shown])]
    taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in centres]
    for i in [*front, *(i for i in range(len(shown)) if i not in front)]:
        for is_near, offset in _LABEL_PLACES:
            label = _dot_label(axes, shown[i], offset, is_led=not is_near)
            label.get_window_extent()  # only now has the text a place
            box = Text.get_window_extent(label)  # without the line
            is_inside = room.contains(box.x0, box.y0) and room.contains(box.x1, box.y1)
            is_clear = is_inside and not box.count_overlaps(taken)
            if is_clear and not (is_near and nearest(centres, box) != centres[i]):
                taken.append(box)
                break
            label.remove()


def _dot_label(axes: Axes, dot: tuple[Any, ...], offset: tuple[float, float], is_led: bool) -> Annotation:
    x, y, name, colour = dot
    leader = (
        {"arrowstyle": "-", "color": "#c8c8c8", "lw": 0.6, "shrinkA": 0, "shrinkB": 3} if is_led else None
    )
    side = "left" if offset[0] > 0 else "right"
    label = axes.annotate(
        name,
        (x, y),
        offset,
        textcoords="offset points",
        fontsize=8,
        ha=side,
        arrowprops=leader if is_led else None,
    )
    halo = [withStroke(linewidth=2.5, foreground="white")]
    label.set(va="center", color=colour, path_effects=halo, in_layout=False)  # the dots stay in place
    return label


def nearest(centres: Iterable[tuple[float, float]], box: Bbox) -> tuple[float, float]:
    """The one of some points (x, y) that is nearest to a box."""

    def distance(centre: tuple[float, float]) -> float:
        x, y = centre
        return math.hypot(max(box.x0 - x, 0, x - box.x1), max(box.y0 - y, 0, y - box.y1))

    return min(centres, key=distance)


_LABEL_PLACES = (
    *((True, offset) for offset in ((6, 8), (8, 0), (6, -8), (-6, 8), (-8, 0), (-6, -8))),
    *(
        (False, (side * far, height * far))
        for far in (20, 34, 48, 62)
        for side in (0.7, -0.7)
        for height in (0.7, -0.7, 0.0, 1.4, -1.4)
    ),
)
"""Where a dot's name may stand: whether beside it, and how far from it in points; first to the right, as a
line to the right comes from the frontier."""


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure as .svg, .png or .pdf, whole or not at all; the same figure gives the same bytes.

    Raises:
        ArgumentError: another ending.
        WriteError: it cannot be written.
    """
    picture_format = path.suffix.lower().removeprefix(".")
    if picture_format not in ("svg", "png", "pdf"):
        raise ArgumentError("output", f"'{path}' does not end in .svg, .png or .pdf")
    undated: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
    content = BytesIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(content, format=picture_format, dpi=200, metadata=undated[picture_format])
    write_atomically(path, content.getvalue())
