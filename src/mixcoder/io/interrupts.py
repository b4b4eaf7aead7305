"""Ctrl-C that is never lost, also where a library catches its KeyboardInterrupt.

    noting_interrupts ─▶ SIGINT ─▶ noted, KeyboardInterrupt ─┬▶ reaches the command
                                                             └▶ is caught ─▶ check_interrupted

`check_interrupted` is called at the next step.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_noted = False


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
