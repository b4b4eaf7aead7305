"""Work over threads is whole, and threads are given back."""

from __future__ import annotations

import multiprocessing
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mixcoder.backends import threads
from mixcoder.backends.threads import one_thread, over_parts, side_by_side


def test_jobs_run_at_a_time_and_give_their_results_in_order() -> None:
    meeting = threading.Barrier(3, timeout=60)  # nobody passes alone
    assert side_by_side([lambda it=it: (meeting.wait(), it)[1] for it in range(3)]) == [0, 1, 2]  # type: ignore[misc]


def test_a_forked_process_has_threads_of_its_own() -> None:
    assert side_by_side([int, int]) == [0, 0]
    child = multiprocessing.get_context("fork").Process(target=side_by_side, args=([int, int],))
    child.start()
    child.join(60)
    child.kill()
    assert child.exitcode == 0


def test_a_job_s_error_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        side_by_side([lambda: 1, lambda: 1 // 0])


@given(length=st.integers(0, 3 * 2**18), free=st.integers(1, 5))
def test_parts_are_the_whole(length: int, free: int) -> None:
    parts: list[slice] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(threads, "_free_threads", free)
        over_parts(length, parts.append)
    numbers = np.zeros(length)
    for part in parts:
        numbers[part] += 1
    assert (numbers == 1).all()
    assert len(parts) == (free if length >= 2**18 else 1)
    assert all(part.start % 16 == 0 for part in parts)


def test_one_thread_leaves_the_others_and_gives_them_back() -> None:
    before = torch.get_num_threads()
    parts: list[slice] = []
    torch.set_num_threads(3)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
            over_parts(2**20, parts.append)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert len(parts) == 3
    over_parts(2**20, parts.append)
    assert len(parts) == 4
