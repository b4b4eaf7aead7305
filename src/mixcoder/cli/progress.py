"""Progress for people: live lines on a terminal, a plain line now and then elsewhere.

    sweep_progress ─▶ _LiveSweep or _PlainSweep   called with the states of all runs
    data_progress ──▶ _LiveTasks or _PlainTasks   called with a long task of a data source

A live display is shown and removed by the context that yields it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Live

from mixcoder.text.durations import format_clock
from mixcoder.text.plain_lines import print_line
from mixcoder.text.sanitize import sanitize

if TYPE_CHECKING:
    from mixcoder.data.fetch_progress import StartTask, UpdateTask
    from mixcoder.experiments.sweeps.run_state import RunState

_LONGEST_PAUSE = 60.0
"""Seconds between two plain lines: a log stays short, and still shows that something happens."""
_MOST_BARS = 20
"""Runs shown on a terminal at a time: a cluster may train a thousand, whose bars take minutes to draw."""


@contextmanager
def sweep_progress(console: Console) -> Iterator[Callable[[Sequence[RunState]], None]]:
    """Yields an observer that shows the runs of a sweep: how many are done, and how far the others are."""
    if not console.is_terminal:
        yield _PlainSweep(console)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[text]}"),
    )
    with Live(*columns, console=console) as live:
        yield _LiveSweep(live)


@contextmanager
def data_progress(console: Console) -> Iterator[StartTask]:
    """Yields a function that starts a task, and shows how much of it is done, how fast, and the time left."""
    if not console.is_terminal:
        yield _PlainTasks(console)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[amount]}"),
        TimeRemainingColumn(),
    )
    with Live(*columns, console=console) as live:
        yield _LiveTasks(live)


class _LiveSweep:
    """An observer that shows a bar for all runs, and one for each of the first that are trained now."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._total = live.add_task("all runs", text="")
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, states: Sequence[RunState]) -> None:
        ended = sum(state.has_ended for state in states)
        failed = sum(state.state == "failed" for state in states)
        running = [state for state in states if state.state == "running"]
        text = f"{ended - failed} of {len(states)} done" + (f", {failed} failed" if failed else "")
        if len(running) > _MOST_BARS:
            text += f", {len(running)} running"
        self._live.update(self._total, total=len(states), completed=ended, text=text)
        shown = {state.name: state for state in running[:_MOST_BARS]}
        for name in self._tasks.keys() - shown.keys():
            self._live.remove_task(self._tasks.pop(name))
        for state in shown.values():
            self._show(state)

    def _show(self, state: RunState) -> None:
        if state.name not in self._tasks:
            name = sanitize(state.name)
            self._tasks[state.name] = self._live.add_task(name, total=state.total_inputs, text="")
        text = "getting ready"
        if state.metrics:
            inputs, loss = state.metrics["inputs"], state.metrics["training_loss"]
            total = "" if state.total_inputs is None else f"/{state.total_inputs:,}"
            text = f"{inputs:,}{total} inputs · loss {loss:.5f}"
        self._live.update(self._tasks[state.name], completed=state.metrics.get("inputs", 0), text=text)


class _PlainSweep:
    """An observer that prints a line when a run starts and when it ends."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._printed: dict[str, tuple[str, str]] = {}

    def __call__(self, states: Sequence[RunState]) -> None:
        for state in states:
            now = (state.state, state.reason)
            if now == self._printed.get(state.name, ("waiting", "")):
                continue
            self._printed[state.name] = now
            reason = f" ({state.reason})" if state.reason else ""
            print_line(self._console, f"{state.state}: {state.name}{reason}")


class _LiveTasks:
    """A StartTask that shows each task as a line with a bar."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def __call__(self, what: str, unit: str) -> UpdateTask:
        return _LiveTask(self._live, what, unit)


class _LiveTask:
    """An UpdateTask that updates a line with a bar."""

    def __init__(self, live: Live, what: str, unit: str) -> None:
        self._live = live
        self._unit = unit
        self._task = live.add_task(sanitize(what), total=None, amount="")
        self._rate = _Rate()

    def __call__(self, so_far: int, total: int | None) -> None:
        amount = _amount(so_far, total, self._unit, self._rate.update(so_far))
        self._live.update(self._task, completed=so_far, total=total, amount=amount)


class _PlainTasks:
    """A StartTask that prints a line for each task, and one for every minute that it takes."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __call__(self, what: str, unit: str) -> UpdateTask:
        return _PlainTask(self._console, what, unit)


class _PlainTask:
    """An UpdateTask that prints a line at the start, and one every minute."""

    def __init__(self, console: Console, what: str, unit: str) -> None:
        self._console = console
        self._what = what
        self._unit = unit
        self._last = time.monotonic()
        self._rate = _Rate()
        print_line(console, what)

    def __call__(self, so_far: int, total: int | None) -> None:
        now = time.monotonic()
        rate = self._rate.update(so_far)
        if now - self._last < _LONGEST_PAUSE:
            return
        self._last = now
        left = f" · {format_clock((total - so_far) / rate)} left" if total and rate else ""
        print_line(self._console, f"{self._what}: {_amount(so_far, total, self._unit, rate)}{left}")


class _Rate:
    """An amount per second, without what was there at the start, as after a restart."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def update(self, so_far: int) -> float:
        """Returns the rate up to now."""
        now = time.monotonic()
        self._first = self._first or (now, so_far)
        start, had = self._first
        return (so_far - had) / max(now - start, 1e-3)


def _amount(so_far: int, total: int | None, unit: str, rate: float) -> str:
    """Returns "12.3/45.6 MB · 7.8 MB/s" for bytes, "1,234/5,678 images · 90/s" for what is counted."""
    if unit == "bytes":
        of_total = f"/{total / 1e6:,.1f}" if total else ""
        return f"{so_far / 1e6:,.1f}{of_total} MB · {rate / 1e6:,.1f} MB/s"
    of_total = f"/{total:,}" if total else ""
    return f"{so_far:,}{of_total} {unit} · {rate:,.0f}/s"
