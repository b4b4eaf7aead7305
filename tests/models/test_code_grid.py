"""Codes of few bits: the nearest of evenly spaced levels, the ends to the bit, and rounded codes stay."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from mixcoder.errors import ArgumentError
from mixcoder.models.code_grid import MOST_BITS, CodeGrid, CodeRange, check_bits

BITS = st.integers(1, MOST_BITS)
NUMBERS = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=12)


def grid_of(latents: torch.Tensor, bits: int) -> CodeGrid:
    found = CodeRange()
    found.include(latents)
    return found.grid(bits)


def test_two_bits_are_four_levels() -> None:
    latents = torch.tensor([[-1.0, 5.0], [2.0, 5.0], [-0.1, 5.0], [0.6, 5.0]])
    grid = grid_of(latents, 2)  # -1, 0, 1, 2; and a constant
    assert grid.levels(latents).tolist() == [[0, 0], [3, 0], [1, 0], [2, 0]]
    expected = torch.tensor([[-1.0, 5.0], [2.0, 5.0], [0.0, 5.0], [1.0, 5.0]])
    torch.testing.assert_close(grid.rounded(latents), expected)


@given(numbers=NUMBERS, bits=BITS)
@example(numbers=[-3.4028234663852886e38, 3.4028234663852886e38, 0.0], bits=16)
@example(numbers=[1.0, 1.0000001192092896], bits=16)
@example(numbers=[0.0, 1e-45], bits=3)
def test_rounding_errs_by_half_a_level_at_most_and_only_once(numbers: list[float], bits: int) -> None:
    latents = torch.tensor(numbers, dtype=torch.float32)[:, None]
    grid = grid_of(latents, bits)
    rounded = grid.rounded(latents)
    assert rounded.isfinite().all()
    assert rounded.amin() == latents.amin()
    assert rounded.amax() == latents.amax()
    half = (latents.amax().item() - latents.amin().item()) / (2**bits - 1) / 2
    for before, after in zip(latents.flatten().tolist(), rounded.flatten().tolist(), strict=True):
        spacing = max(1.5e-45, math.ulp(max(abs(before), abs(after))) * 2**29)  # of float32
        assert abs(after - before) <= half * (1 + 1e-9) + spacing
    assert torch.equal(grid_of(rounded, bits).rounded(rounded), rounded)
    assert torch.equal(grid.latents(grid.levels(latents)), rounded)
    assert set(grid.levels(latents).flatten().tolist()) <= set(range(2**bits))


def test_a_range_is_that_of_all_batches() -> None:
    latents = torch.randn(20, 2, 3)
    found = CodeRange()
    for batch in torch.split(latents, 7):
        found.include(batch)
    grid = found.grid(8)
    assert torch.equal(grid.lowest, latents.amin(0))
    assert torch.equal(grid.highest, latents.amax(0))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_codes_that_are_not_finite_have_no_levels(number: float) -> None:
    with pytest.raises(ArgumentError, match="finite"):
        grid_of(torch.tensor([[1.0, 2.0], [number, 3.0]]), 8)


@pytest.mark.parametrize("bits", [0, 17, -1, 8.0, "8", True])
def test_other_bits_are_refused(bits: object) -> None:
    with pytest.raises(ArgumentError, match="bits.*whole number from 1 to 16"):
        check_bits(bits)


def test_rounding_keeps_the_type_of_codes() -> None:
    latents = torch.randn(5, 4, dtype=torch.float64)
    assert grid_of(latents, 8).rounded(latents).dtype == torch.float64
