"""Ctrl-C that is never lost, also where a library catches its KeyboardInterrupt.

    noting_interrupts ─▶ SIGINT ─▶ noted, KeyboardInterrupt ─┬▶ reaches the command
                                                             └▶ is caught ─▶ check_interrupted

`check_interrupted` is called at the next step. `interrupting_on_end` treats requests to end as a Ctrl-C.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_noted = False
_END_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def noting_interrupts() -> Iterator[None]:
    """Context in which a Ctrl-C is noted, besides raising KeyboardInterrupt."""
    global _noted
    _noted = False
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def interrupting_on_end() -> Iterator[None]:
    """Context in which SIGTERM and SIGHUP, of a queue or a closed terminal, interrupt as a Ctrl-C does."""
    numbers = [number for number in _END_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread():  # the only one to get signals
        numbers = []
    before = {number: signal.signal(number, _note) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _note(signum: int, frame: FrameType | None) -> None:
    global _noted
    _noted = True
    raise KeyboardInterrupt


def is_interrupted() -> bool:
    """Returns whether there was a Ctrl-C that `noting_interrupts` has noted."""
    return _noted


def check_interrupted() -> None:
    """Raises the KeyboardInterrupt of a noted Ctrl-C again."""
    if _noted:
        raise KeyboardInterrupt
