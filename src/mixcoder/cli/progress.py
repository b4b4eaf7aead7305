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
    from mixcoder.experiments.sweeps.sweep import RunState
    from mixcoder.training.trainer import Progress, Trainer

_SHORTEST_PAUSE = 5.0
_LONGEST_PAUSE = 60.0
_LINES_A_RUN = 20


@contextmanager
def training_progress(console: Console) -> Iterator[Callable[[Trainer, Progress], None]]:
    """Gives an observer that shows inputs, losses, images/s and time left on `console`."""
    if not console.is_terminal:
        yield _telling_of_execution(console, _PlainLines(console))
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

        yield _telling_of_execution(live.console, show)


def _telling_of_execution(
    console: Console, observer: Callable[[Trainer, Progress], None]
) -> Callable[[Trainer, Progress], None]:
    """The same observer, which first says in a line how the run computes."""
    is_told = False

    def observe(trainer: Trainer, progress: Progress) -> None:
        nonlocal is_told
        if not is_told:
            _print_line(console, str(trainer.execution))
            is_told = True
        observer(trainer, progress)

    return observe


@contextmanager
def sweep_progress(console: Console) -> Iterator[Callable[[Sequence[RunState]], None]]:
    """Gives an observer that shows all runs of a sweep: how many are done, and how those that run stand."""
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
                    live.update(tasks[state.name], completed=seen, text=_standing(state))
                elif state.name in tasks:
                    live.remove_task(tasks.pop(state.name))

        yield show


class _PlainSweep:
    """An observer that prints a line when a run starts and when it ends."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.shown: dict[str, tuple[str, str]] = {}

    def __call__(self, states: Sequence[RunState]) -> None:
        for state in states:
            now = (state.state, state.reason)
            if now == self.shown.get(state.name, ("waiting", "")):
                continue
            self.shown[state.name] = now
            reason = f" ({state.reason})" if state.reason else ""
            _print_line(self.console, f"{state.state}: {state.name}{reason}")


@contextmanager
def data_progress(console: Console) -> Iterator[StartTask]:
    """Gives a maker of progress callbacks that show how much is done, how fast, and the time left."""
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

            def show(so_far: int, in_all: int | None) -> None:
                amount = _amount(so_far, in_all, unit, rate_of(so_far))
                live.update(task, completed=so_far, total=in_all, amount=amount)

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

    def __call__(self, so_far: int, in_all: int | None) -> None:
        now = time.monotonic()
        rate = self.rate_of(so_far)
        if now - self.last < _LONGEST_PAUSE:
            return
        self.last = now
        left = f" · {_clock((in_all - so_far) / rate)} left" if in_all and rate else ""
        _print_line(self.console, f"{self.what}: {_amount(so_far, in_all, self.unit, rate)}{left}")


def _print_line(console: Console, text: str) -> None:
    console.print(sanitize_lines(text), soft_wrap=True, highlight=False, markup=False)


class _Rate:
    """What comes in a second. What was there at the start, as after a restart, does not count."""

    def __init__(self) -> None:
        self.first: tuple[float, int] | None = None

    def __call__(self, so_far: int) -> float:
        now = time.monotonic()
        self.first = self.first or (now, so_far)
        start, had = self.first
        return (so_far - had) / max(now - start, 1e-3)


def _amount(so_far: int, in_all: int | None, unit: str, rate: float) -> str:
    if unit == "bytes":
        total = f"/{in_all / 1e6:,.1f}" if in_all else ""
        return f"{so_far / 1e6:,.1f}{total} MB · {rate / 1e6:,.1f} MB/s"
    total = f"/{in_all:,}" if in_all else ""
    return f"{so_far:,}{total} {unit} · {rate:,.0f}/s"


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
    """The training loss of now and the last validation loss, as a text."""

    def __init__(self) -> None:
        self.validation: float | None = None

    def text(self, progress: Progress) -> str:
        if progress.validation_loss is not None:
            self.validation = progress.validation_loss
        text = f"loss {progress.training_loss:.5f}"
        return text if self.validation is None else f"{text} · validation {self.validation:.5f}"


def _standing(state: RunState) -> str:
    if not state.metrics:
        return "getting ready"
    inputs, loss = state.metrics["inputs"], state.metrics["training_loss"]
    return f"{inputs:,}/{state.total_inputs:,} inputs · loss {loss:.5f}"


def _time_left(trainer: Trainer, progress: Progress) -> str:
    if not progress.throughput:
        return ""
    return f"{_clock((trainer.total_inputs - progress.inputs) / progress.throughput)} left"


def _clock(seconds: float) -> str:
    """3:05 for minutes and seconds, 12:03:05 with hours before them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
