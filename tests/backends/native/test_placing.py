"""Where elements lie after a movement, and the orders in which copies are made."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixcoder.backends.native.placing import dense_place, order_for_reshape


@pytest.mark.parametrize(
    ("shape", "order", "result", "copied"),
    [
        ((8, 3, 2, 2, 5, 7), (4, 2, 5, 3, 1, 0), (8, 12, 5, 7), (4, 5, 1, 2, 3, 0)),  # pixels to channels
        ((8, 3, 5, 2, 7, 2), (2, 4, 1, 3, 5, 0), (8, 3, 10, 14), (2, 3, 4, 5, 1, 0)),  # and back
        ((8, 3, 5, 7), (2, 3, 1, 0), (8, 105), (1, 2, 3, 0)),  # images stay side by side
        ((8, 4, 9), (1, 0, 2), (8, 36), (0, 1, 2)),  # and vectors together
    ],
)
def test_a_copy_for_a_reshape_keeps_the_order(
    shape: tuple[int, ...], order: tuple[int, ...], result: tuple[int, ...], copied: tuple[int, ...]
) -> None:
    place = dense_place(0, shape, order)
    assert place.reshaped(result) is None
    assert order_for_reshape(place, result) == copied


@given(st.data())
def test_a_copy_can_be_reshaped(data: st.DataObject) -> None:
    factors = data.draw(st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=7))

    def grouped() -> tuple[int, ...]:
        cuts = sorted(data.draw(st.sets(st.integers(1, len(factors)), max_size=4)))
        ends = [0, *cuts, len(factors)]
        return tuple(math.prod(factors[a:b]) for a, b in itertools.pairwise(ends))

    shape, result = grouped(), grouped()
    order = data.draw(st.permutations(range(len(shape))))
    copied = order_for_reshape(dense_place(0, shape, order), result)
    assert sorted(copied) == list(range(len(shape)))
    assert dense_place(0, shape, copied).reshaped(result) is not None
