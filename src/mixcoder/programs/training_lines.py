"""Progress of a training for people: a live line on a terminal, a plain line now and then elsewhere.

    training_progress ─▶ _LiveTraining or _PlainTraining   called with each Progress

A live display is shown and removed by the context that yields it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Live

from mixcoder.text.durations import format_clock
from mixcoder.text.plain_lines import print_line

if TYPE_CHECKING:
    from mixcoder.training.training_loop import Progress, TrainingLoop

_SHORTEST_PAUSE, _LONGEST_PAUSE = 5.0, 60.0
"""Seconds between two plain lines: a log stays short, and still shows that something happens."""
_LINES_A_RUN = 20
"""Plain lines of a run, where the pauses allow it."""


@contextmanager
def training_progress(console: Console) -> Iterator[Callable[[TrainingLoop, Progress], None]]:
    """Yields an observer that shows inputs, losses, images/s and time left on `console`."""
    if not console.is_terminal:
        yield _PlainTraining(console)
        return
    fields = ("inputs", "losses", "speed", "left")
    first, *others = (TextColumn(f"{{task.fields[{field}]}}") for field in fields)
    with Live(first, BarColumn(bar_width=24), *others, console=console) as live:
        yield _LiveTraining(live)


@contextmanager
def program_progress(show: bool | None) -> Iterator[Callable[[TrainingLoop, Progress], None]]:
    """Yields an observer that shows a training to the user of a program.

    Args:
        show: whether it does; None where there is a terminal or a notebook.
    """
    console = Console(stderr=True)
    if show or (show is None and (console.is_terminal or console.is_jupyter)):
        with training_progress(console) as observer:
            yield observer
    else:
        yield _ignore


def _ignore(loop: TrainingLoop, progress: Progress) -> None:
    """Shows nothing."""


class _LiveTraining:
    """An observer that shows a run as one line with a bar."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._task = live.add_task("", inputs="getting ready", losses="", speed="", left="", total=None)
        self._backend = _BackendLine(live.console)
        self._losses = _Losses()

    def __call__(self, trainer: TrainingLoop, progress: Progress) -> None:
        self._backend.print_once(trainer)
        self._live.update(
            self._task,
            total=trainer.total_steps,
            completed=progress.step,
            inputs=f"{progress.inputs:,}/{trainer.total_inputs:,} inputs",
            losses=self._losses.text(progress),
            speed=f"{progress.throughput:,.0f} images/s",
            left=_time_left(trainer, progress),
        )


class _PlainTraining:
    """An observer that prints a line about every twentieth of the run, and one at its end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._backend = _BackendLine(console)
        self._losses = _Losses()
        self._last_time = time.monotonic()
        self._last_step = 0

    def __call__(self, trainer: TrainingLoop, progress: Progress) -> None:
        self._backend.print_once(trainer)
        losses = self._losses.text(progress)
        if not self._is_due(trainer, progress):
            return
        self._last_time, self._last_step = time.monotonic(), progress.step
        print_line(
            self._console,
            f"{progress.inputs:,}/{trainer.total_inputs:,} inputs · {losses} · "
            f"{progress.throughput:,.0f} images/s · {_time_left(trainer, progress)}",
        )

    def _is_due(self, trainer: TrainingLoop, progress: Progress) -> bool:
        pause = time.monotonic() - self._last_time
        steps = progress.step - self._last_step
        return (
            progress.step == trainer.total_steps
            or pause > _LONGEST_PAUSE
            or (pause > _SHORTEST_PAUSE and steps * _LINES_A_RUN >= trainer.total_steps)
        )


class _BackendLine:
    """A line on how steps are computed, printed once."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._is_printed = False

    def print_once(self, trainer: TrainingLoop) -> None:
        """Prints the line, unless it is there."""
        if not self._is_printed:
            print_line(self._console, str(trainer.backend))
            self._is_printed = True


class _Losses:
    """A text of the present training loss and the last validation loss."""

    def __init__(self) -> None:
        self._validation: float | None = None

    def text(self, progress: Progress) -> str:
        """Returns the text after a Progress."""
        if progress.validation_loss is not None:
            self._validation = progress.validation_loss
        text = f"loss {progress.training_loss:.5f}"
        return text if self._validation is None else f"{text} · validation {self._validation:.5f}"


def _time_left(trainer: TrainingLoop, progress: Progress) -> str:
    if not progress.throughput:
        return ""
    return f"{format_clock((trainer.total_inputs - progress.inputs) / progress.throughput)} left"
