"""Buffers share memory only where no operation can tell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mixcoder.backends.native.buffers import Buffers

SIZES = [64, 100, 100, 4096, 4096, 4096, 64, 1]


def placed(uses: Sequence[Sequence[int]]) -> tuple[np.ndarray, int]:
    """Where buffers of `SIZES` lie that operations use, for each operation, and how much memory they take."""
    buffers = Buffers()
    starts = [buffers.new(size) for size in SIZES]
    addresses = np.array([[starts[it] for it in used] for used in uses], dtype=np.uint64)
    memory = buffers.place(addresses)
    return addresses - np.uint64(memory.data_ptr()), len(memory)


@given(
    uses=st.lists(st.lists(st.integers(0, len(SIZES) - 1), min_size=3, max_size=3), min_size=1, max_size=20)
)
def test_buffers_that_live_at_a_time_do_not_overlap(uses: list[list[int]]) -> None:
    places, memory = placed(uses)
    where = {
        it: int(place)
        for row, used in zip(places, uses, strict=True)
        for it, place in zip(used, row, strict=True)
    }
    for row, used in zip(places, uses, strict=True):
        assert [where[it] for it in used] == row.tolist()  # each stays where it is
    lives = {it: [i for i, used in enumerate(uses) if it in used] for it in where}
    for one in where:
        assert 0 <= where[one] <= memory - SIZES[one]
        for other in set(where) - {one}:
            if lives[one][0] <= lives[other][-1] and lives[other][0] <= lives[one][-1]:
                assert where[one] + SIZES[one] <= where[other] or where[other] + SIZES[other] <= where[one]


def test_memory_is_used_again() -> None:
    places, memory = placed([[3, 0], [3, 4], [4, 5], [5, 6]])
    assert places[2, 1] == places[0, 0]
    assert memory == 2 * 4096 + 64


def test_addresses_within_a_buffer_and_of_other_memory() -> None:
    buffers = Buffers()
    start = buffers.new(1000)
    other = np.zeros(4)
    addresses = np.array([[start, start + 999, other.ctypes.data, 0]], dtype=np.uint64)
    memory = buffers.place(addresses)
    assert (addresses - np.uint64(memory.data_ptr()))[0, :2].tolist() == [0, 999]
    assert addresses[0, 2:].tolist() == [other.ctypes.data, 0]
