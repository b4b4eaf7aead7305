"""Slices of a vector, cut into blocks and with each other."""

from __future__ import annotations


def blocks(whole: slice, size: int) -> list[slice]:
    """Returns consecutive slices of at most `size` elements."""
    return [slice(start, min(start + size, whole.stop)) for start in range(whole.start, whole.stop, size)]


def intersection(one: slice, other: slice) -> slice:
    """Returns the elements in both slices; where there are none, its stop is before its start."""
    return slice(max(one.start, other.start), min(one.stop, other.stop))
