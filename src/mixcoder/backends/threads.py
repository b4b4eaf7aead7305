"""How many threads torch's operations use, and work for the threads that they leave free."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from functools import cache, partial
from typing import TypeVar

import torch

Result = TypeVar("Result")

_WORTH_A_THREAD = 2**18
"""Elements, below which a thread takes longer to be called than to work through them (1 MiB)."""
CACHE_LINE = 16
"""Elements of 4 bytes."""
_free_threads = 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Context in which torch's operations run on one thread; the others are left to `run_in_parallel`."""
    global _free_threads
    threads, free = torch.get_num_threads(), _free_threads
    torch.set_num_threads(1)
    _free_threads = max(threads, free)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _free_threads = free


def run_in_parallel(
    jobs: Sequence[Callable[[], Result]], on_error: Callable[[], object] | None = None
) -> list[Result]:
    """Runs the first job in this thread and each other in one of its own; returns their results in order.

    Torch's operations in these threads run on one thread each.

    Args:
        jobs: at least one.
        on_error: called when a job fails, or Ctrl-C comes: it lets jobs return that wait for another.

    Raises:
        BaseException: of the first job that failed, once all have returned.
    """
    pending: list[Future[Result]] = []
    try:
        pending.extend(_threads().submit(job) for job in jobs[1:])
        return [jobs[0](), *(future.result() for future in pending)]
    except BaseException:
        if on_error:
            on_error()
        _wait_for_all(pending)
        raise


def for_each_slice(length: int, work: Callable[[slice], object]) -> None:
    """Calls `work` in parallel for slices of `length` elements, as many as `one_thread` left threads."""
    count = _free_threads if length >= _WORTH_A_THREAD else 1
    run_in_parallel([partial(work, place) for place in split_evenly(length, count)])


def split_evenly(length: int, count: int) -> list[slice]:
    """Returns `count` slices of a vector, equal but for rounding to cache lines; the last may be empty."""
    size = -(-length // count // CACHE_LINE) * CACHE_LINE
    return [slice(min(size * i, length), min(size * (i + 1), length)) for i in range(count)]


def _wait_for_all(pending: Sequence[Future[Result]]) -> None:
    """Waits for jobs that return soon; a second Ctrl-C does not break it off."""
    while not all(future.done() for future in pending):
        with suppress(KeyboardInterrupt):
            wait(pending)


@cache
def _threads() -> ThreadPoolExecutor:
    """Returns a pool with a thread for every job: jobs may wait for each other."""
    return ThreadPoolExecutor(1_000, initializer=torch.set_num_threads, initargs=(1,))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)  # a child has none of its parent's threads
