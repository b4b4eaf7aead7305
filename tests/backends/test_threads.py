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
from mixcoder.backends.threads import for_each_slice, one_thread, run_in_parallel


def test_jobs_run_at_a_time_and_give_their_results_in_order() -> None:
    barrier = threading.Barrier(3, timeout=60)  # nobody passes alone
    assert run_in_parallel([lambda it=it: (barrier.wait(), it)[1] for it in range(3)]) == [0, 1, 2]  # type: ignore[misc]


def test_a_forked_process_has_threads_of_its_own() -> None:
    assert run_in_parallel([int, int]) == [0, 0]
    child = multiprocessing.get_context("fork").Process(target=run_in_parallel, args=([int, int],))
    child.start()
    child.join(60)
    child.kill()
    assert child.exitcode == 0


def test_a_job_s_error_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        run_in_parallel([lambda: 1, lambda: 1 // 0])


def test_after_an_error_all_jobs_have_returned() -> None:
    is_released, returned = threading.Event(), threading.Event()

    def waiting() -> None:
        assert is_released.wait(60)
        returned.set()

    with pytest.raises(ZeroDivisionError):
        run_in_parallel([lambda: 1 // 0, waiting], on_error=is_released.set)
    assert returned.is_set()


@given(length=st.integers(0, 3 * 2**18), free=st.integers(1, 5))
def test_slices_are_the_whole(length: int, free: int) -> None:
    slices: list[slice] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(threads, "_free_threads", free)
        for_each_slice(length, slices.append)
    numbers = np.zeros(length)
    for place in slices:
        numbers[place] += 1
    assert (numbers == 1).all()
    assert len(slices) == (free if length >= 2**18 else 1)
    assert all(place.start % 16 == 0 for place in slices)


def test_one_thread_leaves_the_others_and_gives_them_back() -> None:
    before = torch.get_num_threads()
    slices: list[slice] = []
    torch.set_num_threads(3)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
            for_each_slice(2**20, slices.append)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert len(slices) == 3
    for_each_slice(2**20, slices.append)
    assert len(slices) == 4
