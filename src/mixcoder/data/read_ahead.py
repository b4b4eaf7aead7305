"""Work done ahead by a few threads, its results in order."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

_MAX_WORKERS = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yields `function` of each item, in their order; computed ahead, but not far: memory is bounded.

    A caller that stops early, or is interrupted, waits for nothing: threads finish their item unheeded.
    """
    workers = min(_MAX_WORKERS, os.cpu_count() or 1)
    waiting: deque[Future[Result]] = deque()
    tasks: SimpleQueue[tuple[Future[Result], Item] | None] = SimpleQueue()

    def work() -> None:
        while task := tasks.get():
            _complete(function, *task)

    for _ in range(workers):
        threading.Thread(target=work, daemon=True).start()
    try:
        for item in items:
            waiting.append(Future())
            tasks.put((waiting[-1], item))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        for _ in range(workers):
            tasks.put(None)


def _complete(function: Callable[[Item], Result], future: Future[Result], item: Item) -> None:
    """Gives a future its result, unless it was cancelled."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function(item))
    except BaseException as error:
        future.set_exception(error)
