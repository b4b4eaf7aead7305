"""Bounds on how long something takes, told in a measure that a slow or busy machine stretches as well."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager


def yardstick() -> float:
    """Processor seconds that a fixed piece of plain Python takes: about a tenth of one."""
    start = time.process_time()
    assert sum(i * i % 7 for i in range(1_000_000)) > 0
    return time.process_time() - start


_first_yardstick = functools.cache(yardstick)


@contextmanager
def at_most(yardsticks: float) -> Iterator[None]:
    """Fails where the block takes the processor longer than this many yardsticks, measured beside it."""
    start = time.process_time()
    try:
        yield
    finally:
        spent = time.process_time() - start
        if spent > yardsticks * _first_yardstick():
            assert spent <= yardsticks * yardstick()
