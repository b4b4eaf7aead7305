"""How many threads torch's operations use, and work for those that they leave."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from typing import TypeVar

import torch

Result = TypeVar("Result")

_WORTH_A_THREAD = 2**18
"""Numbers, below which a thread takes longer to be called than to work through them."""
CACHE_LINE = 16
"""Numbers."""
_free_threads = 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Within it, an operation does not spread over threads, which are left to `side_by_side`."""
    global _free_threads
    threads, free = torch.get_num_threads(), _free_threads
    torch.set_num_threads(1)
    _free_threads = max(threads, free)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _free_threads = free


def side_by_side(jobs: Sequence[Callable[[], Result]]) -> list[Result]:
    """What each of the jobs returns, each done in a thread whose operations do not spread over others."""
    mine, *others = jobs
    pending = [_threads().submit(job) for job in others]
    return [mine(), *(job.result() for job in pending)]


def over_parts(length: int, work: Callable[[slice], object]) -> None:
    """Calls `work` for parts of so many numbers side by side, as many as `one_thread` left threads."""
    count = _free_threads if length >= _WORTH_A_THREAD else 1
    side_by_side([partial(work, part) for part in equal_parts(length, count)])


def equal_parts(length: int, count: int) -> list[slice]:
    """So many parts of a vector, equal but for rounding to whole cache lines; the last ones may be empty."""
    size = -(-length // count // CACHE_LINE) * CACHE_LINE
    return [slice(min(size * i, length), min(size * (i + 1), length)) for i in range(count)]


@cache
def _threads() -> ThreadPoolExecutor:
    """As many as are asked for: jobs may wait for each other."""
    return ThreadPoolExecutor(1_000, initializer=torch.set_num_threads, initargs=(1,))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)  # a child has none of its parent's
