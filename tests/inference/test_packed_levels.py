"""Levels lie as bits without gaps, and come back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mixcoder.inference.packed_levels import bytes_of_code, pack_levels, unpack_levels


@pytest.mark.parametrize(
    ("levels", "bits", "expected"),
    [
        ([[1, 2], [255, 0]], 8, [[1, 2], [255, 0]]),
        ([[258]], 16, [[1, 2]]),
        ([[5, 1, 7]], 3, [[0b101_001_11, 0b1_0000000]]),
        ([[1, 0, 1]], 1, [[0b101_00000]]),
    ],
)
def test_the_highest_bit_comes_first(levels: list[list[int]], bits: int, expected: list[list[int]]) -> None:
    assert pack_levels(np.array(levels, np.int32), bits).tolist() == expected


def test_sixteen_numbers_of_eight_bits_are_sixteen_bytes() -> None:
    assert [bytes_of_code(16, bits) for bits in (1, 4, 5, 6, 8, 12, 16)] == [2, 8, 10, 12, 16, 24, 32]


@given(data=st.data(), bits=st.integers(1, 16), count=st.integers(1, 5), numbers=st.integers(1, 9))
def test_there_and_back(data: st.DataObject, bits: int, count: int, numbers: int) -> None:
    levels = data.draw(arrays(np.int32, (count, numbers), elements=st.integers(0, 2**bits - 1)))
    rows = pack_levels(levels, bits)
    assert rows.shape == (count, bytes_of_code(numbers, bits))
    assert np.array_equal(unpack_levels(rows, numbers, bits), levels)
