"""Requests to end a training run: signals, and the end of the sweep that a worker belongs to.

    Ctrl-C, SIGTERM, SIGHUP ─▶ StopRequests ─┬▶ before the first step: ends the process at once
                                             └▶ later: waits for the end of a step, and for its checkpoint

So no work is lost.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any

from mixcoder.errors import RunInterruptedError
from mixcoder.io.interrupts import is_interrupted
from mixcoder.training.ranks import is_under_torchrun

SWEEP_VARIABLE = "MIXCODER_SWEEP"
"""The environment variable that tells a sweep's workers the id of the sweep's process, their parent."""
_WATCH_SECONDS = 0.5
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Of Ctrl-C, of a machine or a queue that ends a process, of a terminal that is closed."""


def has_lost_sweep() -> bool:
    """Returns whether this process is the worker of a sweep that has ended."""
    sweep = os.environ.get(SWEEP_VARIABLE)
    return sweep is not None and sweep != str(os.getppid())


def watch_sweep() -> None:
    """Sends this process SIGTERM once the sweep that it is a worker of has ended.

    So it also ends while it fetches images, or compiles.
    """
    if SWEEP_VARIABLE in os.environ:
        threading.Thread(target=_wait_for_lost_sweep, daemon=True).start()


def _wait_for_lost_sweep() -> None:
    while not has_lost_sweep():
        time.sleep(_WATCH_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def check_sweep() -> None:
    """Checks, during a validation, which may take long, that the sweep of this worker has not ended.

    Raises:
        RunInterruptedError: the sweep has ended.
    """
    if has_lost_sweep():
        raise RunInterruptedError(
            "interrupted after its sweep had ended; the same command goes on from the last checkpoint"
        )


class StopRequests:
    """A context that, from `defer` on, remembers signals to end until the training has come to a whole step.

    Before that there is nothing to lose, and a signal ends the process at once. So does a second Ctrl-C; the
    signal that a sweep or torchrun sends to its processes after a Ctrl-C that they have received themselves
    does not.

    Args:
        signals: their numbers; by default all that end a process.
    """

    def __init__(self, signals: Sequence[int] = _SIGNALS) -> None:
        self._signals = signals
        self._is_remembered = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequests:
        return self

    @property
    def is_pending(self) -> bool:
        """Returns whether the run is to end: for a signal, even one that a library took, or for its sweep."""
        return self._is_remembered or is_interrupted() or has_lost_sweep()

    def defer(self) -> None:
        """Remembers signals from now on; a second call changes nothing."""
        is_first = not self._before
        if is_first and threading.current_thread() is threading.main_thread():  # the only one to get signals
            self._before = {number: signal.getsignal(number) for number in self._signals}
            for number, handler in self._before.items():
                if handler is not signal.SIG_IGN:  # a background job leaves Ctrl-C to its parent
                    signal.signal(number, self._remember)

    def _remember(self, signum: int, frame: FrameType | None) -> None:
        self._is_remembered = True
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN and not is_under_torchrun():
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
