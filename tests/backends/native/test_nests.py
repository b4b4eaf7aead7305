"""Loops of groups: their order, which axes they join, and the sizes of blocks."""

from __future__ import annotations

import itertools

import pytest

from mixcoder.backends.native.graph import steps_of
from mixcoder.backends.native.nests import arrange
from mixcoder.backends.step import UnsupportedError

SHAPE = (6, 5, 32)
PLAIN = steps_of(SHAPE)
BIAS = (0, 0, 1)
PATCH_MAJOR = (32, 6 * 32, 1)
CHANNEL_MAJOR = (5, 1, 6 * 5)


def test_equal_arrays_are_one_loop() -> None:
    nest = arrange(SHAPE, [PLAIN, PLAIN], [], ())
    assert nest.joined == ((0, 1, 2),)
    assert nest.sizes == (1, 1, 1, 1, 1, 6 * 5 * 32)


def test_a_bias_ends_a_loop() -> None:
    nest = arrange(SHAPE, [PLAIN, BIAS], [], ())
    assert nest.joined == ((0, 1), (2,))
    assert nest.steps(BIAS) == (0, 0, 0, 0, 0, 1)


def test_most_arrays_decide() -> None:
    nest = arrange(SHAPE, [CHANNEL_MAJOR, PATCH_MAJOR, PATCH_MAJOR], [], ())
    assert nest.joined[-1] == (2,)
    assert nest.joined[-2] == (1,)  # which lies side by side in the other one
    assert nest.least_rows([nest.steps(CHANNEL_MAJOR)], []) == 16


def test_sums_of_rows_are_within_a_block() -> None:
    nest = arrange(SHAPE, [PLAIN], [], (2,))
    assert nest.summed == "columns"
    assert nest.block(10_000, 1) == (1, 32)


def test_rows_are_summed_where_others_lie_side_by_side() -> None:
    nest = arrange(SHAPE, [PATCH_MAJOR], [], (1,))
    assert nest.summed == "rows"
    rows, columns = nest.block(8, 1)
    assert (rows, columns) == (5, 32)


def test_a_sum_keeps_its_axis_apart() -> None:
    nest = arrange(SHAPE, [PLAIN], [BIAS], ())
    assert nest.joined == ((0, 1), (2,))
    assert nest.least_rows([nest.steps(PLAIN)], [nest.steps(BIAS)]) == 8


def test_seven_loops_are_too_many() -> None:
    shape = (2,) * 7
    some, other = itertools.islice(itertools.permutations(steps_of(shape)), 0, 5000, 4000)
    with pytest.raises(UnsupportedError):
        arrange(shape, [some, other], [], ())
