"""Progress for people: a live line on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Live

from mixcoder.text.sanitize import sanitize, sanitize_lines

if TYPE_CHECKING:
    from mixcoder.data.fetch_progress import StartTask
    from mixcoder.experiments.sweeps.run_state import RunState
    from mixcoder.training.trainer import Progress, Trainer

_SHORTEST_PAUSE = 5.0
_LONGEST_PAUSE = 60.0
_LINES_A_RUN = 20


@contextmanager
def training_progress(console: Console) -> Iterator[Callable[[Trainer, Progress], None]]:
    """Yields an observer that shows inputs, losses, images/s and time left on `console`."""
    if not console.is_terminal:
        yield _print_backend_first(console, _PlainLines(console))
        return
    columns = (
        TextColumn("{task.fields[inputs]}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[losses]}"),
        TextColumn("{task.fields[speed]}"),
        TextColumn("{task.fields[left]}"),
    )
    with Live(*columns, console=console) as live:
        task = live.add_task("", inputs="getting ready", losses="", speed="", left="", total=None)
        losses = _Losses()

        def show(trainer: Trainer, progress: Progress) -> None:
            live.update(
                task,
                total=trainer.total_steps,
                completed=progress.step,
                inputs=f"{progress.inputs:,}/{trainer.total_inputs:,} inputs",
                losses=losses.text(progress),
                speed=f"{progress.throughput:,.0f} images/s",
                left=_time_left(trainer, progress),
            )

        yield _print_backend_first(live.console, show)


def _print_backend_first(
    console: Console, observer: Callable[[Trainer, Progress], None]
) -> Callable[[Trainer, Progress], None]:
    """Returns an observer that first prints a line on how steps are computed, and then calls `observer`."""
    is_printed = False

    def observe(trainer: Trainer, progress: Progress) -> None:
        nonlocal is_printed
        if not is_printed:
            _print_line(console, str(trainer.backend))
            is_printed = True
        observer(trainer, progress)

    return observe


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
        total = live.add_task("all runs", text="")
        tasks: dict[str, TaskID] = {}

        def show(states: Sequence[RunState]) -> None:
            ended = [state for state in states if state.state in ("done", "failed")]
            failed = sum(state.state == "failed" for state in ended)
            text = f"{len(ended) - failed} of {len(states)} done" + (f", {failed} failed" if failed else "")
            live.update(total, total=len(states), completed=len(ended), text=text)
            for state in states:
                if state.state == "running":
                    if state.name not in tasks:
                        tasks[state.name] = live.add_task(
                            sanitize(state.name), total=state.total_inputs, text=""
                        )
                    seen = state.metrics.get("inputs", 0)
                    live.update(tasks[state.name], completed=seen, text=_run_progress(state))
                elif state.name in tasks:
                    live.remove_task(tasks.pop(state.name))

        yield show


class _PlainSweep:
    """An observer that prints a line when a run starts and when it ends."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._printed: dict[str, tuple[str, str]] = {}

    def __call__(self, states: Sequence[RunState]) -> None:
        for state in states:
            now = (state.state, state.reason)
            if now == self._printed.get(state.name, ("waiting", "")):
                continue
            self._printed[state.name] = now
            reason = f" ({state.reason})" if state.reason else ""
            _print_line(self.console, f"{state.state}: {state.name}{reason}")


@contextmanager
def data_progress(console: Console) -> Iterator[StartTask]:
    """Yields a function that starts a task, and shows how much of it is done, how fast, and the time left."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[amount]}"),
        TimeRemainingColumn(),
    )
    with Live(*columns, console=console, disable=not console.is_terminal) as live:

        def start(what: str, unit: str) -> Callable[[int, int | None], None]:
            if not console.is_terminal:
                return _PlainAmounts(console, what, unit)
            task = live.add_task(sanitize(what), total=None, amount="")
            rate_of = _Rate()

            def show(so_far: int, total: int | None) -> None:
                amount = _amount(so_far, total, unit, rate_of(so_far))
                live.update(task, completed=so_far, total=total, amount=amount)

            return show

        yield start


class _PlainAmounts:
    """A progress callback that prints a line at the start, and one every minute."""

    def __init__(self, console: Console, what: str, unit: str) -> None:
        self.console = console
        self.what = what
        self.unit = unit
        self.last = time.monotonic()
        self.rate_of = _Rate()
        _print_line(console, what)

    def __call__(self, so_far: int, total: int | None) -> None:
        now = time.monotonic()
        rate = self.rate_of(so_far)
        if now - self.last < _LONGEST_PAUSE:
            return
        self.last = now
        left = f" · {_clock((total - so_far) / rate)} left" if total and rate else ""
        _print_line(self.console, f"{self.what}: {_amount(so_far, total, self.unit, rate)}{left}")


def _print_line(console: Console, text: str) -> None:
    console.print(sanitize_lines(text), soft_wrap=True, highlight=False, markup=False)


class _Rate:
    """An amount per second, without what was there at the start, as after a restart."""

    def __init__(self) -> None:
        self.first: tuple[float, int] | None = None

    def __call__(self, so_far: int) -> float:
        now = time.monotonic()
        self.first = self.first or (now, so_far)
        start, had = self.first
        return (so_far - had) / max(now - start, 1e-3)


def _amount(so_far: int, total: int | None, unit: str, rate: float) -> str:
    """Returns "12.3/45.6 MB · 7.8 MB/s" for bytes, "1,234/5,678 images · 90/s" for what is counted."""
    if unit == "bytes":
        of_total = f"/{total / 1e6:,.1f}" if total else ""
        return f"{so_far / 1e6:,.1f}{of_total} MB · {rate / 1e6:,.1f} MB/s"
    of_total = f"/{total:,}" if total else ""
    return f"{so_far:,}{of_total} {unit} · {rate:,.0f}/s"


class _PlainLines:
    """An observer that prints a line about every twentieth of the run, and one at its end."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.losses = _Losses()
        self.last_time = time.monotonic()
        self.last_step = 0

    def __call__(self, trainer: Trainer, progress: Progress) -> None:
        text = self.losses.text(progress)
        if not self._is_time(trainer, progress):
            return
        self.last_time, self.last_step = time.monotonic(), progress.step
        self.console.print(
            f"{progress.inputs:,}/{trainer.total_inputs:,} inputs · {text} · "
            f"{progress.throughput:,.0f} images/s · {_time_left(trainer, progress)}",
            soft_wrap=True,
            highlight=False,
        )

    def _is_time(self, trainer: Trainer, progress: Progress) -> bool:
        pause = time.monotonic() - self.last_time
        steps = progress.step - self.last_step
        return (
            progress.step == trainer.total_steps
            or pause > _LONGEST_PAUSE
            or (pause > _SHORTEST_PAUSE and steps * _LINES_A_RUN >= trainer.total_steps)
        )


class _Losses:
    """A text of the present training loss and the last validation loss."""

    def __init__(self) -> None:
        self.validation: float | None = None

    def text(self, progress: Progress) -> str:
        if progress.validation_loss is not None:
            self.validation = progress.validation_loss
        text = f"loss {progress.training_loss:.5f}"
        return text if self.validation is None else f"{text} · validation {self.validation:.5f}"


def _run_progress(state: RunState) -> str:
    if not state.metrics:
        return "getting ready"
    inputs, loss = state.metrics["inputs"], state.metrics["training_loss"]
    return f"{inputs:,}/{state.total_inputs:,} inputs · loss {loss:.5f}"


def _time_left(trainer: Trainer, progress: Progress) -> str:
    if not progress.throughput:
        return ""
    return f"{_clock((trainer.total_inputs - progress.inputs) / progress.throughput)} left"


def _clock(seconds: float) -> str:
    """Returns a duration as 3:05 for minutes and seconds, 12:03:05 with hours."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
